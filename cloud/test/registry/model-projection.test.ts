import { randomUUID } from 'node:crypto';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cloudEvent, ensureLogTopics, eventToRecord, type EventData } from '@cardan/shared';
import { type EventLog, SqliteEventLog } from '@cardan/shared/event-log';
import { ModelProjection, MODELS_TOPIC, SIGNED_VERSIONS_MAX } from '../../src/registry/model-projection.ts';
import { COLUMNS, sha256, testModel } from './model-fixture.ts';
import { removeTempDirs, tempDir } from './registry-fixture.ts';

let dir: string;
let log: EventLog;
const open: ModelProjection[] = [];

beforeEach(async () => {
  dir = tempDir();
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  await ensureLogTopics(log, [MODELS_TOPIC]);
});
afterEach(async () => {
  for (const projection of open.splice(0)) projection.close();
  await log.close();
  removeTempDirs();
});

async function append<K extends keyof EventData>(type: K, ...data: EventData[K][]): Promise<void> {
  await log.append(
    MODELS_TOPIC,
    data.map((each) =>
      eventToRecord('anomaly', cloudEvent(type, { source: '/test', id: randomUUID(), time: 1.7e12 }, each)),
    ),
  );
}

function published(version: string): EventData['io.cardan.model.published'] {
  const { manifest, manifestBytes } = testModel(version);
  return { manifest, manifestSha256: sha256(manifestBytes) };
}

/** Opens the file and takes in what is new in the log; how many records that were comes with it. */
async function projection(path = join(dir, 'models.db')): Promise<{ models: ModelProjection; read: number }> {
  const models = await ModelProjection.open({ path, log });
  open.push(models);
  let read = 0;
  for await (const batch of log.read(MODELS_TOPIC, { from: models.position(), to: 'latest' })) {
    models.apply(batch);
    read += batch.records.length;
  }
  return { models, read };
}

/** Everything that it says. */
function state(models: ModelProjection) {
  return {
    names: models.names(),
    versions: models.names().map((name) => [...models.published(name, 0)]),
    aliases: models.names().map((name) => models.aliases(name)),
    manifests: models.names().map((name) => models.versions(name)),
    decisions: models.allDecisions(),
    undecided: models.undecided(),
    signed: models.signedVersions(),
    generation: models.generation,
  };
}

async function history(): Promise<void> {
  const actor = 'token:anna';
  await append('io.cardan.model.published', published('1'), published('2'));
  const decided = (generation: number, version: string) => ({
    generation,
    signalSet: COLUMNS.id,
    active: { name: 'anomaly', version },
  });
  await append('io.cardan.rollout.decided', decided(1, '1'), decided(2, '2'));
  await append(
    'io.cardan.model.alias-set',
    { name: 'anomaly', alias: 'candidate', version: '1', actor },
    { name: 'anomaly', alias: 'summer', version: '1', actor },
    { name: 'anomaly', alias: 'candidate', version: null, actor },
  );
  await append(
    'io.cardan.model.tagged',
    { name: 'anomaly', version: '1', tags: { reviewed: 'yes', by: 'anna' }, actor },
    { name: 'anomaly', version: '1', tags: { by: null }, actor },
  );
  await append('io.cardan.model.published', published('3'));
}

test('versions, aliases, tags and decisions are what the log says', async () => {
  await history();
  const { models } = await projection();
  expect(models.aliases('anomaly')).toEqual({ candidate: '3', champion: '2', summer: '1' });
  expect(models.tags({ name: 'anomaly', version: '1' })).toEqual({ reviewed: 'yes' });
  expect(models.newest('anomaly', 2).map(({ version, aliases }) => [version, aliases])).toEqual([
    ['2', ['champion']],
    ['3', ['candidate']],
  ]);
  expect(models.undecided().map(({ manifest }) => manifest.version)).toEqual(['3']);
  expect(models.desired(COLUMNS.id)).toEqual({
    generation: 2,
    active: { name: 'anomaly', version: '2' },
  });
  for (const [word, version] of [
    ['1', '1'],
    ['latest', '3'],
    ['champion', '2'],
    ['summer', '1'],
    ['candidate', '3'],
    ['winter', undefined],
    ['constructor', undefined],
  ] as const)
    expect(models.resolve('anomaly', word)).toBe(version);
});

test('it goes on where it was, and a file that was deleted, damaged or is of another log is made anew', async () => {
  await history();
  const { models, read } = await projection();
  const before = state(models);
  models.close();
  open.pop();
  expect((await projection()).read).toBe(0);
  expect(state(open[0]!)).toEqual(before);
  open.pop()!.close();

  const path = join(dir, 'models.db');
  for (const name of readdirSync(dir)) if (name.startsWith('models.db')) rmSync(join(dir, name));
  const again = await projection();
  expect(again.read).toBe(read);
  expect(state(again.models)).toEqual(before);
  open.pop()!.close();

  writeFileSync(path, 'no database');
  expect(state((await projection()).models)).toEqual(before);
  open.pop()!.close();

  const other = await SqliteEventLog.open({ path: join(dir, 'other.db') });
  await ensureLogTopics(other, [MODELS_TOPIC]);
  const ofOther = await ModelProjection.open({ path, log: other });
  expect(ofOther.names()).toEqual([]);
  ofOther.close();
  await other.close();
});

test('what cannot be read is passed over and counted; the same records again change nothing', async () => {
  await history();
  const { models } = await projection();
  const before = state(models);
  for await (const batch of log.read(MODELS_TOPIC, { from: 'earliest', to: 'latest' })) models.apply(batch);
  expect(state(models)).toEqual(before);
  const actor = 'nobody';
  await append('io.cardan.model.alias-set', { name: 'anomaly', alias: '../x', version: '1', actor });
  await append('io.cardan.model.tagged', {
    name: 'anomaly',
    version: '1',
    tags: { a: 1 } as unknown as Record<string, string>,
    actor,
  });
  await append('io.cardan.model.published', { ...published('4'), manifestSha256: 'none' });
  await log.append(MODELS_TOPIC, [{ key: 'anomaly', value: Buffer.from('{'), timestamp: 0 }]);
  for await (const batch of log.read(MODELS_TOPIC, { from: models.position(), to: 'latest' }))
    models.apply(batch);
  expect(models.malformed).toBe(4);
  expect(state(models)).toEqual(before);
});

test('of ten thousand versions it signs the newest and the named ones, and lists all in pages', async () => {
  const many = 10_000;
  for (let first = 1; first <= many; first += 500)
    await append(
      'io.cardan.model.published',
      ...Array.from({ length: 500 }, (_, i) => published(String(first + i))),
    );
  await append('io.cardan.model.alias-set', {
    name: 'anomaly',
    alias: 'summer',
    version: '7',
    actor: 'token:anna',
  });
  const { models } = await projection();
  models.close();
  open.pop();
  const again = await projection();
  expect(again.read).toBe(0);
  const signed = again.models.signedVersions([
    { name: 'anomaly', version: '9' },
    { name: 'anomaly', version: '10000' },
  ]);
  expect(signed.map(({ version }) => Number(version))).toEqual([
    7,
    ...Array.from({ length: SIGNED_VERSIONS_MAX }, (_, i) => many - SIGNED_VERSIONS_MAX + 1 + i),
    9,
  ]);
  let n = 0;
  for (const { version } of again.models.published('anomaly', 0)) expect(version).toBe(String(++n));
  expect(n).toBe(many);
});
