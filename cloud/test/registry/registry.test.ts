import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { cloudEvent, eventToRecord, recordToEvent } from '@cardan/shared';
import { type EventLog, SqliteEventLog } from '@cardan/shared/event-log';
import { Registry } from '../../src/registry/registry.ts';
import { COLUMNS, OTHER_COLUMNS, sha256, type TestModel, testModel } from './model-fixture.ts';
import { removeTempDirs, tempDir } from './registry-fixture.ts';

const DAY_MS = 86_400_000;
const START = Date.parse('2026-03-01T00:00:00Z');

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  removeTempDirs();
});

async function openLog(dir: string): Promise<EventLog> {
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closing.push(() => log.close());
  return log;
}

async function openRegistry(log: EventLog, dir: string, clock = () => START): Promise<Registry> {
  const registry = await Registry.open({
    log,
    dir: join(dir, 'registry'),
    clock,
    newId: () => 'training-1',
    onProblem: (error) => {
      throw error;
    },
  });
  closing.push(() => registry.close());
  return registry;
}

async function publish(registry: Registry, model: TestModel): Promise<void> {
  for (const bytes of [model.modelBytes, model.weightsBytes])
    await registry.blobs.put(sha256(bytes), [bytes]);
  await registry.publish(model.manifest.name, model.manifestBytes);
}

async function history(log: EventLog): Promise<string[]> {
  const types: string[] = [];
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    types.push(...records.map((record) => recordToEvent(record).type));
  return types;
}

interface Metadata {
  signed: { version: number; expires: string; targets: Record<string, unknown> };
}
function metadata(dir: string, file: string): Metadata {
  return JSON.parse(readFileSync(join(dir, 'registry', 'tuf', file), 'utf8')) as Metadata;
}
function versions(dir: string, role: string): number[] {
  return readdirSync(join(dir, 'registry', 'tuf'))
    .filter((name) => name.endsWith(`.${role}.json`))
    .map((name) => Number.parseInt(name))
    .sort((a, b) => a - b);
}

test('after a restart everything is as before, and nothing is signed anew', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const first = await openRegistry(log, dir);
  await publish(first, testModel('1'));
  await publish(first, testModel('2'));
  await publish(first, testModel('1', { name: 'other', columns: OTHER_COLUMNS }));
  const timestamp = metadata(dir, 'timestamp.json').signed;
  await first.close();

  const second = await openRegistry(log, dir);
  expect(second.versions('anomaly').map(({ manifest }) => manifest.version)).toEqual(['1', '2']);
  expect(second.desired(COLUMNS.id)).toEqual({ generation: 2, active: { name: 'anomaly', version: '2' } });
  expect(second.desired(OTHER_COLUMNS.id)).toEqual({
    generation: 3,
    active: { name: 'other', version: '1' },
  });
  expect(metadata(dir, 'timestamp.json').signed).toEqual(timestamp);
  await publish(second, testModel('3'));
  expect(second.desired(COLUMNS.id).generation).toBe(4);
});

test('two registries on one log come to the same state', async () => {
  const [dir, otherDir] = [tempDir(), tempDir()];
  const log = await openLog(dir);
  const one = await openRegistry(log, dir);
  const other = await openRegistry(await openLog(dir), otherDir);
  const told = new Promise<void>((resolve) => {
    other.onChange(() => {
      if (other.desired(COLUMNS.id).generation === 1) resolve();
    });
  });
  await publish(one, testModel('1'));
  await told;
  expect(other.names()).toEqual(one.names());
  // Only one of them has the files: the other one does not sign what it cannot serve, and says so.
  expect(one.missing).toEqual([]);
  expect(other.missing).toEqual([{ name: 'anomaly', version: '1' }]);
});

test('who hears of a change finds it signed', async () => {
  const dir = tempDir();
  const registry = await openRegistry(await openLog(dir), dir);
  const seen: [number, number][] = [];
  registry.onChange(() => {
    const newest = Math.max(...versions(dir, 'models'));
    const targets = Object.keys(metadata(dir, `${newest}.models.json`).signed.targets);
    seen.push([registry.desired(COLUMNS.id).generation, targets.length]);
  });
  await publish(registry, testModel('1'));
  await publish(registry, testModel('2'));
  expect(seen).toEqual([
    [0, 3],
    [1, 3],
    [1, 6],
    [2, 6],
  ]);
});

test('a crash after publication and before the decision is made good at the next start', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const first = await openRegistry(log, dir);
  const model = testModel('1');
  for (const bytes of [model.modelBytes, model.weightsBytes, model.manifestBytes])
    await first.blobs.put(sha256(bytes), [bytes]);
  await first.close();
  const published = cloudEvent(
    'io.cardan.model.published',
    { source: '/services/registry', id: 'published-anomaly-1', time: START },
    { manifest: model.manifest, manifestSha256: sha256(model.manifestBytes) },
  );
  await log.append('models', [eventToRecord('anomaly', published)]);

  const second = await openRegistry(log, dir);
  expect(second.desired(COLUMNS.id)).toEqual({ generation: 1, active: { name: 'anomaly', version: '1' } });
  expect(await history(log)).toEqual(['io.cardan.model.published', 'io.cardan.rollout.decided']);
  expect(Object.keys(metadata(dir, '2.models.json').signed.targets)).toHaveLength(3);
});

test('records that are no events are passed over and counted', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const registry = await openRegistry(log, dir);
  const attributes = { source: '/services/other', id: '1', time: START };
  const { manifest } = testModel('9');
  const manifestSha256 = '../keys/root.pem';
  await log.append('models', [
    { key: null, value: Buffer.from('?'), timestamp: START },
    eventToRecord('x', cloudEvent('io.cardan.model.published', attributes, { manifest, manifestSha256 })),
    eventToRecord('x', cloudEvent('io.cardan.rollout.decided', attributes, { generation: 7 } as never)),
  ]);
  await publish(registry, testModel('1'));
  expect(registry.malformed).toBe(3);
  expect(registry.names()).toEqual(['anomaly']);
});

test('signatures are renewed at half of their life, and versions only grow', async () => {
  const dir = tempDir();
  let now = START;
  const registry = await openRegistry(await openLog(dir), dir, () => now);
  const all = () => ['root', 'targets', 'models', 'snapshot'].map((role) => versions(dir, role).at(-1));
  expect(await registry.tuf.renew()).toBe(false);
  for (const [days, expected] of [
    [0.5, [1, 1, 1, 1]],
    [3.5, [1, 1, 1, 2]],
    [45, [1, 1, 2, 3]],
    [183, [2, 2, 3, 4]],
  ] as const) {
    const before = metadata(dir, 'timestamp.json').signed.version;
    now = START + days * DAY_MS;
    expect(await registry.tuf.renew()).toBe(true);
    expect(all()).toEqual(expected);
    expect(metadata(dir, 'timestamp.json').signed.version).toBe(before + 1);
    expect(Date.parse(metadata(dir, 'timestamp.json').signed.expires)).toBe(now + DAY_MS);
  }
  expect(readdirSync(join(dir, 'registry', 'tuf'))).toContain('1.root.json');
});

test('old metadata goes, the roots stay', async () => {
  const dir = tempDir();
  const registry = await openRegistry(await openLog(dir), dir);
  for (let version = 1; version <= 20; version++) await publish(registry, testModel(String(version)));
  expect(versions(dir, 'models')).toEqual(Array.from({ length: 17 }, (_, i) => i + 5));
  expect(versions(dir, 'root')).toEqual([1]);
});

test('a lost or truncated file of its own is signed anew, with a higher version', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const registry = await openRegistry(log, dir);
  await publish(registry, testModel('1'));
  await registry.close();
  const tuf = join(dir, 'registry', 'tuf');
  truncateSync(join(tuf, '2.models.json'), 100);
  writeFileSync(join(tuf, 'timestamp.json'), '');
  await openRegistry(log, dir);
  expect(versions(dir, 'models')).toEqual([1, 2, 3]);
  expect(versions(dir, 'snapshot')).toEqual([1, 2, 3]);
  // Its version is not known any more; cars refuse a lower one.
  expect(metadata(dir, 'timestamp.json').signed.version).toBe(START / 1000);
});

test('keys are for the owner only, and those of another registry are refused', async () => {
  const dir = tempDir();
  const log = await openLog(dir);
  const registry = await openRegistry(log, dir);
  await registry.close();
  const keys = join(dir, 'registry', 'keys');
  expect(readdirSync(keys).map((name) => statSync(join(keys, name)).mode & 0o777)).toEqual(
    Array(10).fill(0o600),
  );
  rmSync(join(keys, 'timestamp.pem'));
  await expect(openRegistry(log, dir)).rejects.toMatchObject({ code: 'TUF_SIGNATURE' });
});
