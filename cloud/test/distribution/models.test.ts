import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { isEvent, recordToEvent } from '@cardan/shared';
import { openAccessDatabase } from '../../src/distribution/access-database.ts';
import type { Role } from '../../src/distribution/access.ts';
import { TokenStore } from '../../src/distribution/token-store.ts';
import { COLUMNS, publish, testModel } from '../registry/model-fixture.ts';
import { type TestRegistry, closeRegistries, openRegistry } from '../registry/registry-fixture.ts';

async function registry(versions = 2): Promise<TestRegistry> {
  const service = await openRegistry();
  for (let version = 1; version <= versions; version++)
    await publish(service.url, testModel(String(version)));
  return service;
}
afterEach(closeRegistries);

async function json(url: string, init?: RequestInit): Promise<{ status: number; body: unknown }> {
  const answer = await fetch(url, init);
  const text = await answer.text();
  return { status: answer.status, body: text === '' ? null : (JSON.parse(text) as unknown) };
}
const put = (body: object, token?: string): RequestInit => ({
  method: 'PUT',
  body: JSON.stringify(body),
  headers: {
    'content-type': 'application/json',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  },
});

test('an alias names a version until it names another, or none; a version is found by it', async () => {
  const { url } = await registry();
  const alias = `${url}/v1/models/anomaly/aliases/summer`;
  expect((await json(alias, put({ version: '1' }))).status).toBe(204);
  expect((await json(`${url}/v1/models/anomaly`)).body).toMatchObject({
    aliases: { champion: '2', summer: '1' },
    versions: [
      { version: '1', aliases: ['summer'] },
      { version: '2', aliases: ['champion'] },
    ],
  });
  expect((await json(`${url}/v1/models/anomaly/versions/summer`)).body).toMatchObject({ version: '1' });
  await json(alias, put({ version: '2' }));
  expect((await json(`${url}/v1/models/anomaly/versions/summer/tags`)).body).toEqual({
    version: '2',
    aliases: ['champion', 'summer'],
    tags: {},
  });
  expect((await json(alias, { method: 'DELETE' })).status).toBe(204);
  expect((await json(`${url}/v1/models/anomaly/versions/summer`)).status).toBe(404);
  expect(await json(alias, { method: 'DELETE' })).toMatchObject({
    status: 404,
    body: { code: 'MODEL_UNKNOWN' },
  });
});

test('the champion is what the cars run: to set it is to decide it, and back again is a newer decision', async () => {
  const { url } = await registry();
  const desired = async () => (await json(`${url}/v1/vehicles/car-1/desired?signalSet=${COLUMNS.id}`)).body;
  expect(await desired()).toMatchObject({ generation: 2, active: { version: '2' } });
  const champion = `${url}/v1/models/anomaly/aliases/champion`;
  expect((await json(champion, put({ version: '1' }))).status).toBe(204);
  expect(await desired()).toMatchObject({ generation: 3, active: { version: '1' } });
  // The same again decides nothing.
  await json(champion, put({ version: '1' }));
  expect(await desired()).toMatchObject({ generation: 3 });
  expect(await json(champion, { method: 'DELETE' })).toMatchObject({
    status: 422,
    body: { code: 'LABEL_INVALID' },
  });
});

test('who may set what, and who it was, is in the log', async () => {
  const service = await registry();
  const db = openAccessDatabase(join(service.dir, 'registry'));
  const tokens = new TokenStore(db);
  const token = (name: string, ...roles: Role[]) => tokens.create({ name, roles }).token;
  const [viewer, operator, both] = [
    token('vera', 'viewer'),
    token('otto', 'operator'),
    token('bea', 'operator', 'approver'),
  ];
  db.close();
  const at = `${service.url}/v1/models/anomaly`;
  const status = async (path: string, init: RequestInit) => (await json(at + path, init)).status;
  expect(await status('/aliases/summer', put({ version: '1' }, viewer))).toBe(403);
  expect(await status('/aliases/summer', put({ version: '1' }, operator))).toBe(204);
  expect(await status('/aliases/champion', put({ version: '1' }, operator))).toBe(403);
  expect(await status('/aliases/champion', put({ version: '1' }, both))).toBe(204);
  expect(await status('/versions/1/tags', put({ reviewed: 'yes' }, operator))).toBe(204);
  const actors: string[] = [];
  for await (const { records } of service.log.read('models', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.model.alias-set')) actors.push(`${event.data.alias} ${event.data.actor}`);
      if (isEvent(event, 'io.cardan.model.tagged')) actors.push(`tag ${event.data.actor}`);
    }
  expect(actors).toEqual(['summer token:otto', 'champion token:bea', 'tag token:otto']);
});

test('tags are set one by one, and bounded', async () => {
  const { url } = await registry(1);
  const tags = `${url}/v1/models/anomaly/versions/1/tags`;
  await json(tags, put({ reviewed: 'yes', by: 'anna' }));
  await json(tags, put({ by: null, region: 'north' }));
  expect((await json(tags)).body).toMatchObject({ tags: { reviewed: 'yes', region: 'north' } });
  const many = (prefix: string) =>
    Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`${prefix}${i}`, 'x']));
  expect((await json(tags, put(many('a')))).status).toBe(204);
  expect(await json(tags, put(many('b')))).toMatchObject({ status: 422, body: { code: 'LABEL_INVALID' } });
  expect((await json(tags, put({ '../x': 'y' }))).status).toBe(400);
  expect((await json(tags, put({ long: 'x'.repeat(257) }))).status).toBe(400);
  expect((await json(`${url}/v1/models/anomaly/versions/2/tags`, put({ a: 'b' }))).status).toBe(404);
});

test('versions come in pages, or as lines', async () => {
  const { url } = await registry(5);
  const at = `${url}/v1/models/anomaly/versions`;
  const seen: string[] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const page = (await json(`${at}?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)).body as {
      versions: { version: string }[];
      next: string | null;
    };
    seen.push(page.versions.map(({ version }) => version).join());
    cursor = page.next;
  }
  expect(seen).toEqual(['1,2', '3,4', '5']);
  const lines = await fetch(at, { headers: { accept: 'application/x-ndjson' } });
  const read = (await lines.text()).trimEnd().split('\n');
  expect(read.map((line) => (JSON.parse(line) as { version: string }).version)).toEqual([
    '1',
    '2',
    '3',
    '4',
    '5',
  ]);
  const foreign = Buffer.from('["anomaly"]').toString('base64url');
  expect(await json(`${at}?cursor=${foreign}`)).toMatchObject({
    status: 400,
    body: { code: 'CURSOR_INVALID' },
  });
  expect((await json(`${url}/v1/models/none/versions`)).status).toBe(404);
});
