import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { httpGet } from '../../src/updater/http-get.ts';

let server: Server;
async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
afterEach(() => {
  server.closeAllConnections();
  server.close();
});
const signal = new AbortController().signal;
async function text(url: string, headers = {}): Promise<[number, string]> {
  const { status, body } = await httpGet(url, { headers, signal });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  return [status, Buffer.concat(chunks).toString()];
}

describe('httpGet', () => {
  it('gives status and body, and sends the headers', async () => {
    const url = await serve(({ headers }, response) => response.writeHead(206).end(`part ${headers.range}`));
    expect(await text(url, { range: 'bytes=5-' })).toEqual([206, 'part bytes=5-']);
  });

  it('goes where it is sent, with its headers, but not for ever', async () => {
    const url = await serve(({ url: path, headers }, response) => {
      const steps = Number(path?.slice(1));
      if (steps === 0) response.end(`there, ${headers.range}`);
      else response.writeHead(302, { location: `/${steps - 1}` }).end();
    });
    expect(await text(`${url}/5`, { range: 'bytes=1-' })).toEqual([200, 'there, bytes=1-']);
    await expect(text(`${url}/6`)).rejects.toThrow('more than 5 redirects');
  });

  it('does not go to where there is no HTTP', async () => {
    const url = await serve((_, response) =>
      response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
    );
    await expect(text(url)).rejects.toThrow('a redirect from');
  });

  it('fails when the body ends before its length, and when it is aborted', async () => {
    const url = await serve(({ url: path }, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('ten bytes.');
      if (path === '/cut') response.destroy();
    });
    await expect(text(`${url}/cut`)).rejects.toMatchObject({ code: 'ECONNRESET' });
    const stop = new AbortController();
    const { body } = await httpGet(url, { headers: {}, signal: stop.signal });
    await expect(
      (async () => {
        for await (const chunk of body ?? []) if (chunk.length > 0) stop.abort();
      })(),
    ).rejects.toThrow('aborted');
  });

  it('fails where nobody listens', async () => {
    const url = await serve(() => undefined);
    await new Promise((resolve) => server.close(resolve));
    await expect(text(url)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});
