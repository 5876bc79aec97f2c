import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { publish, sha256, testModel } from '../registry/model-fixture.ts';
import { removeTempDirs, type TestRegistry, testRegistry } from '../registry/registry-fixture.ts';

let registry: TestRegistry | undefined;
afterEach(async () => {
  await registry?.close();
  registry = undefined;
  removeTempDirs();
});

/** What a problem must be by RFC 9457, whatever went wrong. */
async function problem(answer: Response): Promise<string> {
  expect(answer.headers.get('content-type')).toContain('application/problem+json');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  const body = (await answer.json()) as Record<string, unknown>;
  expect(body).toEqual({
    type: 'about:blank',
    title: expect.any(String) as string,
    status: answer.status,
    detail: expect.any(String) as string,
    code: expect.stringMatching(/^[A-Z_]+$/) as string,
  });
  return `${answer.status} ${String(body.code)}`;
}

test('whatever fails is problem details with a stable code', async () => {
  registry = await testRegistry();
  const { url } = registry;
  const send = (method: string, path: string, body?: string, type = 'application/json') =>
    fetch(url + path, { method, ...(body === undefined ? {} : { body, headers: { 'content-type': type } }) });
  expect(await problem(await send('GET', '/v2/models'))).toBe('404 ROUTE_UNKNOWN');
  expect(await problem(await send('GET', '/v1/models/none/versions/1'))).toBe('404 MODEL_UNKNOWN');
  expect(await problem(await send('POST', '/v1/trainings', '{'))).toBe('400 REQUEST_INVALID');
  expect(await problem(await send('POST', '/v1/trainings', ''))).toBe('400 REQUEST_INVALID');
  expect(await problem(await send('POST', '/v1/trainings', '[]'))).toBe('400 REQUEST_INVALID');
  // A body says itself what is a number; nothing is made to fit.
  expect(await problem(await send('POST', '/v1/trainings', '{"reason":5}'))).toBe('400 REQUEST_INVALID');
  expect(await problem(await send('PUT', `/v1/blobs/${'0'.repeat(64)}`))).toBe('422 BLOB_HASH_MISMATCH');
  expect(await problem(await send('POST', '/v1/trainings', '{}', 'text/xml'))).toBe(
    '415 MEDIA_TYPE_UNSUPPORTED',
  );
  expect(await problem(await send('POST', '/v1/campaigns', `"${'x'.repeat(1024 * 1024)}"`))).toBe(
    '413 BODY_TOO_LARGE',
  );
  expect(await problem(await send('GET', '/v1/campaigns?limit=0'))).toBe('400 REQUEST_INVALID');
  expect(await problem(await send('GET', '/v1/campaigns?nonsense=1'))).toBe('400 REQUEST_INVALID');
  expect(await problem(await send('GET', '/v1/campaigns?cursor=nonsense'))).toBe('400 CURSOR_INVALID');
  expect(await problem(await send('GET', '/v1/models/%'))).toBe('400 REQUEST_INVALID');
  expect(await problem(await send('GET', `/v1/blobs/${'x'.repeat(500)}`))).toMatch(/^4/);
});

test('another method than those of the path is 405, and Allow names them', async () => {
  registry = await testRegistry();
  const { url } = registry;
  const answer = await fetch(`${url}/v1/campaigns/speed`, { method: 'POST' });
  expect(answer.headers.get('allow')).toBe('DELETE');
  expect(await problem(answer)).toBe('405 METHOD_NOT_ALLOWED');
  const deleted = await fetch(`${url}/v1/targets/models/a/b`, { method: 'DELETE' });
  expect([deleted.status, deleted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  // No page of another origin may call it, so there is nothing to ask beforehand.
  expect((await fetch(`${url}/v1/models`, { method: 'OPTIONS' })).status).toBe(405);
});

test('a range behind the end of a file is 416, and nobody may keep that answer', async () => {
  registry = await testRegistry();
  const model = testModel('1');
  await publish(registry.url, model);
  const hash = sha256(model.weightsBytes);
  const target = `${registry.url}/v1/targets/models/anomaly/1/${hash}.weights.bin`;
  const answer = await fetch(target, { headers: { range: 'bytes=20000000-' } });
  expect(answer.headers.get('content-range')).toBe(`bytes */${model.weightsBytes.length}`);
  expect(answer.headers.get('etag')).toBeNull();
  expect(await problem(answer)).toBe('416 RANGE_NOT_SATISFIABLE');
  const etag = (await fetch(target)).headers.get('etag') ?? '';
  const part = await fetch(target, { headers: { range: 'bytes=0-3', 'if-range': etag } });
  expect(part.status).toBe(206);
  const whole = await fetch(target, { headers: { range: 'bytes=0-3', 'if-range': '"another"' } });
  expect(whole.status).toBe(200);
  const none = await fetch(target, { headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' } });
  expect(none.status).toBe(304);
});

test('what is no HTTP is answered with problem details, too', async () => {
  registry = await testRegistry();
  const { port } = new URL(registry.url);
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1', () => socket.end('NONSENSE\r\n\r\n'));
    let text = '';
    socket.on('data', (data: Buffer) => (text += data.toString('utf8')));
    socket.on('end', () => resolve(text)).on('error', reject);
  });
  expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request\r\nContent-Type: application\/problem\+json\r\n/);
  expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({ code: 'REQUEST_INVALID' });
});

test('every answer tells browsers that it is data', async () => {
  registry = await testRegistry();
  for (const path of ['/health', '/v1/models', '/nowhere', '/v1/tuf/timestamp.json']) {
    const { headers } = await fetch(registry.url + path);
    expect(headers.get('x-content-type-options'), path).toBe('nosniff');
    expect(headers.get('content-security-policy'), path).toContain("default-src 'none'");
    expect(headers.get('access-control-allow-origin'), path).toBeNull();
  }
});

test('pages of the origins that were named may call it, no others', async () => {
  registry = await testRegistry({ token: 'secret', api: { corsOrigins: ['https://fleet.example'] } });
  const { url } = registry;
  const preflight = (origin: string) =>
    fetch(`${url}/v1/campaigns`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      },
    });
  const allowed = await preflight('https://fleet.example');
  expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([
    204,
    'https://fleet.example',
  ]);
  expect(allowed.headers.get('access-control-allow-headers')).toContain('Authorization');
  expect(allowed.headers.get('vary')).toBe('Origin');
  const list = await fetch(`${url}/v1/vehicles`, { headers: { authorization: 'Bearer secret' } });
  expect(list.headers.get('vary')).toBe('Accept, Origin');
  const refused = await preflight('https://other.example');
  expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([405, null]);
  // Also of an answer that is an error, so that a page can read why.
  const answer = await fetch(`${url}/v1/models`, { headers: { origin: 'https://fleet.example' } });
  expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([
    401,
    'https://fleet.example',
  ]);
});
