import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TargetFile } from '@tufjs/models';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Downloader } from '../../src/updater/download.ts';
import { httpGet } from '../../src/updater/http-get.ts';
import { TargetDownload } from '../../src/updater/target-download.ts';

const BYTES = randomBytes(1_000_000);
const TARGET = new TargetFile({
  path: 'models/a/1/weights.bin',
  length: BYTES.length,
  hashes: { sha256: createHash('sha256').update(BYTES).digest('hex') },
});

let dir: string;
let server: Server;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-target-'));
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(dir, { recursive: true });
});

async function download(listener: RequestListener): Promise<void> {
  server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new TargetDownload({
    downloader: new Downloader({ get: httpGet, stallMs: 10_000 }),
    targetsUrl: `http://127.0.0.1:${port}`,
    partialDir: join(dir, 'partial'),
  }).fetch(TARGET, join(dir, 'weights.bin'), true);
}

test('a connection that breaks again and again is taken up each time, and no byte comes twice', async () => {
  let sent = 0;
  const asked: number[] = [];
  await download((request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    asked.push(from);
    const part = BYTES.subarray(from, from + 150_000);
    const headers = {
      'content-range': `bytes ${from}-${BYTES.length - 1}/${BYTES.length}`,
      'content-length': BYTES.length - from,
    };
    response.writeHead(from > 0 ? 206 : 200, headers);
    sent += part.length;
    response.write(part, () => (from + part.length < BYTES.length ? response.destroy() : response.end()));
  });
  expect(readFileSync(join(dir, 'weights.bin')).equals(BYTES)).toBe(true);
  expect(asked.length).toBeGreaterThan(5);
  expect(asked).toEqual([...asked].sort((a, b) => a - b));
  expect(sent).toBeLessThan(2 * BYTES.length);
});

test('a server without ranges that always breaks off is not asked for ever', async () => {
  let asked = 0;
  const broken = download((_request, response) => {
    asked++;
    response.writeHead(200, { 'content-length': BYTES.length });
    response.write(BYTES.subarray(0, 150_000), () => response.destroy());
  });
  await expect(broken).rejects.toMatchObject({ code: 'HTTP_UNREACHABLE' });
  expect(asked).toBeLessThan(4);
});

test('a range that is not the one that was asked for is not taken', async () => {
  let asked = 0;
  const wrong = download((_request, response) => {
    asked++;
    if (asked === 1) {
      response.writeHead(200, { 'content-length': BYTES.length });
      response.write(BYTES.subarray(0, 150_000), () => response.destroy());
    } else if (asked === 2) response.writeHead(206, { 'content-range': 'bytes 5-9/10' }).end('01234');
    else response.writeHead(200).end(BYTES);
  });
  await expect(wrong).rejects.toMatchObject({ code: 'HTTP_STATUS' });
  expect(existsSync(join(dir, 'weights.bin'))).toBe(false);
});

test('bytes that were not signed leave nothing behind, however they come', async () => {
  const wrong = download((_request, response) => {
    response.writeHead(200).end(Buffer.from(BYTES).fill(0, 500_000));
  });
  await expect(wrong).rejects.toMatchObject({ code: 'TUF_HASH' });
  expect(existsSync(join(dir, 'weights.bin'))).toBe(false);
  expect(existsSync(join(dir, 'partial', TARGET.hashes.sha256!))).toBe(false);
});
