import { afterEach, expect, test } from 'vitest';
import { eventToRecord, cloudEvent, recordToEvent } from '@cardan/shared';
import { startRegistry } from '../../src/distribution/start-registry.ts';
import { COLUMNS, OTHER_COLUMNS, publish, sha256, testModel } from '../registry/model-fixture.ts';
import { closeRegistries, openRegistry } from '../registry/registry-fixture.ts';

afterEach(closeRegistries);

async function problem(answer: Response): Promise<{ status: number; code: string }> {
  expect(answer.headers.get('content-type')).toContain('application/problem+json');
  const { code } = (await answer.json()) as { code: string };
  return { status: answer.status, code };
}
const octets = { 'content-type': 'application/octet-stream' };
const json = { 'content-type': 'application/json' };

test('a blob is stored once, and only under its own hash', async () => {
  const { url } = await openRegistry();
  const bytes = Buffer.from('weights');
  const put = (hash: string) =>
    fetch(`${url}/v1/blobs/${hash}`, { method: 'PUT', body: bytes, headers: octets });
  expect((await put(sha256(bytes))).status).toBe(201);
  expect((await put(sha256(bytes))).status).toBe(200);
  expect(await problem(await put(sha256(Buffer.from('other'))))).toEqual({
    status: 422,
    code: 'BLOB_HASH_MISMATCH',
  });
  expect((await put('..%2f..%2fetc%2fpasswd')).status).toBe(400);

  const got = await fetch(`${url}/v1/blobs/${sha256(bytes)}`);
  expect(await got.text()).toBe('weights');
  const etag = got.headers.get('etag') ?? '';
  const again = await fetch(`${url}/v1/blobs/${sha256(bytes)}`, {
    headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' },
  });
  expect(again.status).toBe(304);
  const part = await fetch(`${url}/v1/blobs/${sha256(bytes)}`, { headers: { range: 'bytes=2-4' } });
  expect([part.status, await part.text()]).toEqual([206, 'igh']);
  expect(await problem(await fetch(`${url}/v1/blobs/${'0'.repeat(64)}`))).toEqual({
    status: 404,
    code: 'BLOB_UNKNOWN',
  });
});

test('an upload may be large, but one that does not end is cut off at 64 MiB', async () => {
  const { url } = await openRegistry();
  const large = Buffer.alloc(5_000_000, 'x');
  const put = await fetch(`${url}/v1/blobs/${sha256(large)}`, {
    method: 'PUT',
    body: large,
    headers: octets,
  });
  expect(put.status).toBe(201);
  const chunk = new Uint8Array(4 * 1024 * 1024);
  const stream = () =>
    new ReadableStream({
      pull: (controller) => controller.enqueue(chunk), // never ends
    });
  const endless = fetch(`${url}/v1/blobs/${'0'.repeat(64)}`, {
    method: 'PUT',
    body: stream(),
    headers: octets,
    duplex: 'half',
  }).then(
    (answer) => answer.status,
    () => 'cut off',
  );
  expect([413, 'cut off']).toContain(await endless);
  expect((await fetch(`${url}/health`)).status).toBe(200);
});

test('publishing makes the version known, signed and decided', async () => {
  const { url } = await openRegistry();
  const model = testModel('1');
  expect(await publish(url, model)).toBe(201);

  const list = (await (await fetch(`${url}/v1/models`)).json()) as object;
  expect(list).toEqual({
    models: [
      {
        name: 'anomaly',
        aliases: { champion: '1' },
        versions: [
          {
            version: '1',
            createdAt: model.manifest.createdAt,
            publishedAt: expect.any(String) as string,
            signalSet: COLUMNS.id,
            manifestSha256: sha256(model.manifestBytes),
            rows: 3600,
            threshold: 4,
            aliases: ['champion'],
            tags: {},
          },
        ],
      },
    ],
    next: null,
    decisions: [{ generation: 1, signalSet: COLUMNS.id, active: { name: 'anomaly', version: '1' } }],
  });
  for (const version of ['1', 'latest']) {
    const got = await fetch(`${url}/v1/models/anomaly/versions/${version}`);
    expect(Buffer.from(await got.arrayBuffer())).toEqual(model.manifestBytes);
  }
  const targets = (await (await fetch(`${url}/v1/tuf/2.models.json`)).json()) as {
    signed: { targets: Record<string, object> };
  };
  expect(Object.keys(targets.signed.targets).sort()).toEqual([
    'models/anomaly/1/manifest.json',
    'models/anomaly/1/model.json',
    'models/anomaly/1/weights.bin',
  ]);
  expect(targets.signed.targets['models/anomaly/1/weights.bin']).toEqual({
    length: model.weightsBytes.length,
    hashes: { sha256: sha256(model.weightsBytes) },
    custom: {
      model: 'anomaly',
      version: '1',
      signalSet: COLUMNS.id,
      engine: 'dense',
      features: 1,
      operations: 5000,
    },
  });
});

test('a version never changes: the same bytes again are fine, others are not', async () => {
  const { url } = await openRegistry();
  const model = testModel('1');
  expect(await publish(url, model)).toBe(201);
  expect(await publish(url, model)).toBe(200);
  expect(
    await publish(url, { ...model, manifestBytes: Buffer.concat([model.manifestBytes, Buffer.from('\n')]) }),
  ).toBe(409);
  const { decisions } = (await (await fetch(`${url}/v1/models`)).json()) as {
    decisions: { generation: number }[];
  };
  expect(decisions.map(({ generation }) => generation)).toEqual([1]);
});

test('what cannot be a version is refused with a code', async () => {
  const { url } = await openRegistry();
  const { manifestBytes } = testModel('1');
  const post = (body: Buffer | string, name = 'anomaly') =>
    fetch(`${url}/v1/models/${name}/versions`, { method: 'POST', body, headers: json });
  expect(await problem(await post(manifestBytes))).toEqual({ status: 404, code: 'BLOB_UNKNOWN' });
  expect(await problem(await post(manifestBytes, 'other'))).toEqual({ status: 422, code: 'MODEL_INVALID' });
  expect(await problem(await post('{"schema":1}'))).toEqual({ status: 422, code: 'MODEL_INVALID' });
  expect(await problem(await post('no json'))).toEqual({ status: 422, code: 'MODEL_INVALID' });
  expect(await problem(await fetch(`${url}/v1/models/anomaly/versions/1`))).toEqual({
    status: 404,
    code: 'MODEL_UNKNOWN',
  });
});

test('only signed files can be fetched as targets, by their hashed names', async () => {
  const { url } = await openRegistry();
  const model = testModel('1');
  await publish(url, model);
  const hash = sha256(model.weightsBytes);
  const target = (path: string) => fetch(`${url}/v1/targets/${path}`);
  const whole = await target(`models/anomaly/1/${hash}.weights.bin`);
  expect(Buffer.from(await whole.arrayBuffer())).toEqual(model.weightsBytes);
  expect(whole.headers.get('cache-control')).toContain('immutable');
  const rest = await fetch(`${url}/v1/targets/models/anomaly/1/${hash}.weights.bin`, {
    headers: { range: 'bytes=19990-' },
  });
  expect(rest.status).toBe(206);
  expect(Buffer.from(await rest.arrayBuffer())).toEqual(model.weightsBytes.subarray(19_990));
  for (const path of [
    'models/anomaly/1/weights.bin',
    `models/anomaly/2/${hash}.weights.bin`,
    `models/anomaly/1/${hash}.model.json`,
    '..%2f..%2fkeys%2froot.pem',
    `models/anomaly/1/..%2f..%2f..%2fkeys%2froot.pem`,
  ])
    expect((await target(path)).status, path).toBe(404);
});

test('metadata: numbered files may be cached for ever, the timestamp never, and nothing else is served', async () => {
  const { url } = await openRegistry();
  const get = (file: string) => fetch(`${url}/v1/tuf/${file}`);
  expect((await get('1.root.json')).headers.get('cache-control')).toContain('immutable');
  expect((await get('timestamp.json')).headers.get('cache-control')).toBe('no-cache');
  const missing = await get('2.root.json');
  expect([missing.status, missing.headers.get('cache-control')]).toEqual([404, 'no-store']);
  for (const file of ['..%2fkeys%2froot.pem', 'root.json', '01.root.json', '.json'])
    expect((await get(file)).status, file).toBe(404);
});

test('a vehicle polls for what it should run; an unchanged answer has no body', async () => {
  const { url, log } = await openRegistry();
  const desired = (vehicle: string, query = '', headers = {}) =>
    fetch(`${url}/v1/vehicles/${vehicle}/desired${query}`, { headers });
  expect(await (await desired('car-1')).json()).toEqual({ generation: 0, active: null });
  await publish(url, testModel('1'));
  const expected = { generation: 1, active: { name: 'anomaly', version: '1' } };
  // A car says for which columns it asks …
  const answer = await desired('car-1', `?signalSet=${COLUMNS.id}`);
  expect(await answer.json()).toEqual(expected);
  const headers = { 'if-none-match': answer.headers.get('etag') };
  expect((await desired('car-1', `?signalSet=${COLUMNS.id}`, headers)).status).toBe(304);
  expect(await (await desired('car-1', `?signalSet=${OTHER_COLUMNS.id}`)).json()).toEqual({
    generation: 0,
    active: null,
  });
  expect((await desired('car 1')).status).toBe(400);
  // … or the log knows from its boot.
  const boot = cloudEvent(
    'io.cardan.vehicle.boot',
    { source: '/vehicles/car-1', id: '1-1', time: 0 },
    { agent: '0', signalSet: COLUMNS.id },
  );
  await log.append('vehicle-events', [eventToRecord('car-1', boot)]);
  await expect.poll(async () => (await desired('car-1')).json()).toEqual(expected);
});

test('a training is requested through the log', async () => {
  const { url, log } = await openRegistry();
  const post = (body: string) => fetch(`${url}/v1/trainings`, { method: 'POST', body, headers: json });
  const answer = await post(JSON.stringify({ signalSet: COLUMNS.id, reason: 'drift' }));
  expect(answer.status).toBe(202);
  const { training } = (await answer.json()) as { training: string };
  expect((await post('{}')).status).toBe(202);
  expect((await post('{"signalSet":"x"}')).status).toBe(400);
  const events = [];
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    events.push(...records.map(recordToEvent));
  expect(events.map(({ type }) => type)).toEqual(Array(2).fill('io.cardan.training.requested'));
  expect(events[0]?.data).toEqual({
    training,
    signalSet: COLUMNS.id,
    reason: 'drift',
    actor: 'anonymous',
  });
  expect(events[1]?.data).toMatchObject({ signalSet: null });
});

test('with a token whoever manages needs it, and nothing is taken in without', async () => {
  const { url } = await openRegistry({ token: 'secret' });
  const bytes = Buffer.from('weights');
  const put = (headers: Record<string, string>) =>
    fetch(`${url}/v1/blobs/${sha256(bytes)}`, {
      method: 'PUT',
      body: bytes,
      headers: { ...octets, ...headers },
    });
  expect(await problem(await put({}))).toEqual({ status: 401, code: 'UNAUTHORIZED' });
  expect(await problem(await put({ authorization: 'Bearer secre' }))).toEqual({
    status: 401,
    code: 'UNAUTHORIZED',
  });
  for (const path of ['/v1/models/anomaly/versions', '/v1/trainings'])
    expect((await fetch(url + path, { method: 'POST', body: '{}', headers: json })).status).toBe(401);
  expect((await put({ authorization: 'Bearer secret' })).status).toBe(201);
  expect(await problem(await fetch(`${url}/v1/models`))).toEqual({ status: 401, code: 'UNAUTHORIZED' });
  // What cars read is signed, and for anyone.
  expect((await fetch(`${url}/v1/tuf/timestamp.json`)).status).toBe(200);
  expect((await fetch(`${url}/v1/vehicles/car-1/desired`)).status).toBe(200);
});

test('it does not listen to the network without a token', async () => {
  const { log, dir } = await openRegistry();
  const start = startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:1',
    dir,
    host: '0.0.0.0',
    port: 0,
    onProblem: () => {},
  });
  await expect(start).rejects.toMatchObject({
    code: 'TOKEN_REQUIRED',
    message: expect.stringContaining('--token-file') as string,
  });
});

test('a port that is taken is said, and nothing is left running', async () => {
  const { log, dir, url } = await openRegistry();
  const start = startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:1',
    dir,
    host: '127.0.0.1',
    port: Number(new URL(url).port),
    onProblem: () => {},
  });
  await expect(start).rejects.toMatchObject({ code: 'PORT_IN_USE' });
});
