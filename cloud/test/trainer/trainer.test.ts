import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextLook } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cloudEvent,
  eventToRecord,
  isEvent,
  loadModel,
  LOG_TOPICS,
  parseManifest,
  recordToEvent,
  serializeManifest,
  type CloudEvent,
  type ModelManifest,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { startRegistry, type RegistryService } from '../../src/distribution/start-registry.ts';
import { reproduce } from '../../src/models/reproduce.ts';
import { RegistryClient } from '../../src/registry-client.ts';
import { Trainer, type TrainerOptions } from '../../src/trainer/trainer.ts';
import { modelEvents, modelName, trainModel } from '../../src/trainer/training.ts';
import { trainOnce, type TrainOnceOptions } from '../../src/trainer/train-once.ts';
import { readTrainingData } from '../../src/trainer/training-data.ts';
import { drive as telemetry, SET } from './telemetry-fixture.ts';

const ROWS = 400;
let dir: string;
let log: EventLog;
const open: { close: () => Promise<void> }[] = [];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'trainer-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  for (const [topic, config] of Object.entries(LOG_TOPICS)) await log.createTopic(topic, config);
  const event = cloudEvent('io.cardan.signal-set', { source: '/vehicles/v0', id: '1', time: 0 }, SET);
  await log.append('signal-sets', [eventToRecord(SET.id, event)]);
});
afterEach(async () => {
  for (const service of open.splice(0).reverse()) await service.close();
  await log.close();
  rmSync(dir, { recursive: true });
});

async function drive(vehicle: string, first: number, rows: number, signalSetId = SET.id) {
  await log.append('telemetry', [telemetry(vehicle, first, rows, { signalSetId })]);
}
async function alarm(vehicle: string, state: 'raised' | 'cleared', atS: number) {
  const data = {
    state,
    alarm: `${vehicle}-1`,
    model: { name: 'm', version: '1' },
    score: 2,
    threshold: 1,
    signals: [],
  };
  const event = cloudEvent(
    'io.cardan.vehicle.anomaly',
    { source: `/vehicles/${vehicle}`, id: randomUUID(), time: atS * 1000 },
    data,
  );
  await log.append('vehicle-events', [eventToRecord(vehicle, event)]);
}
async function query(rowsMax = 1e6) {
  const ranges = async (topic: string) =>
    Object.fromEntries(
      (await log.offsets(topic)).map(({ partition, earliest, latest }) => [
        partition,
        { from: earliest, to: latest },
      ]),
    );
  return {
    signalSet: SET.id,
    offsets: await ranges('telemetry'),
    eventOffsets: await ranges('vehicle-events'),
    rowsMax,
  };
}
async function awaitEvent(found: (event: CloudEvent) => boolean): Promise<CloudEvent> {
  for await (const { records } of log.read('models', { from: 'earliest' }))
    for (const event of modelEvents(records, () => undefined)) if (found(event)) return event;
  throw new Error('the log was closed');
}
async function registry(): Promise<RegistryService> {
  const service = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:9',
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    onProblem: () => undefined,
  });
  open.push(service);
  return service;
}
async function trainer(
  options: Partial<TrainerOptions> & Pick<TrainerOptions, 'registry'>,
): Promise<Trainer> {
  const made = await Trainer.start({ log, retrain: true, rowsPerVehicleMin: ROWS, ...options });
  open.push(made);
  return made;
}

describe('readTrainingData', () => {
  it('drops copies, other signal sets, and rows around alarms; and counts what it leaves out', async () => {
    await drive('v1', 1, 100);
    await drive('v1', 51, 100); // 50 copies
    await drive('v2', 1, 3000);
    await drive('v3', 1, 10, 'another');
    await alarm('v2', 'raised', 1500); // from ten minutes before …
    await alarm('v2', 'cleared', 1600); // … to two after
    const data = await readTrainingData(log, await query());
    expect(data.vehicles.map(({ vehicle, times }) => [vehicle, times.length])).toEqual([
      ['v1', 150],
      ['v2', 3000 - (1600 + 120 - (1500 - 600) + 1)],
    ]);
    expect(data).toMatchObject({
      duplicatesDropped: 50,
      rowsExcluded: 821,
      span: { from: 1000, to: 3_000_000 },
    });
  });

  it('leaves everything after an alarm out that has not been cleared', async () => {
    await drive('v1', 1, 2000);
    await alarm('v1', 'raised', 1000);
    expect((await readTrainingData(log, await query())).rows).toBe(399);
  });

  it('takes the newest rows of each vehicle when there are too many', async () => {
    await drive('v1', 1, 300);
    await drive('v2', 1, 50);
    const { vehicles, rowsOverMax } = await readTrainingData(log, await query(200));
    expect(vehicles.map(({ times }) => [times[0], times.length])).toEqual([
      [201_000, 100],
      [1000, 50],
    ]);
    expect(rowsOverMax).toBe(200);
  });

  it('takes the same rows of a long span as of all of it at once, and holds no more than it may', async () => {
    for (let first = 1; first < 3000; first += 50)
      for (const vehicle of ['v1', 'v2', 'v3']) await drive(vehicle, first, 50);
    await drive('v4', 1, 20); // comes last, and lessens what the others may give
    const { vehicles, rows, rowsOverMax } = await readTrainingData(log, await query(400));
    expect(vehicles.map(({ times }) => [times[0], times.length])).toEqual([
      [2_901_000, 100],
      [2_901_000, 100],
      [2_901_000, 100],
      [1000, 20],
    ]);
    expect(rows + rowsOverMax).toBe(3 * 3000 + 20);
  });

  it('takes only rows of the times that it is asked for, also those that came late', async () => {
    await drive('v1', 101, 200);
    await drive('v1', 1, 100); // from a tunnel
    const times = { from: 50_000, to: 251_000 };
    const { vehicles, span } = await readTrainingData(log, { ...(await query()), times });
    expect(vehicles[0]!.times).toHaveLength(201);
    expect(span).toEqual({ from: 50_000, to: 250_000 });
  });

  it('reads no further than the pinned offsets', async () => {
    await drive('v1', 1, 100);
    const pinned = await query();
    await drive('v1', 101, 100);
    expect((await readTrainingData(log, pinned)).rows).toBe(100);
  });
});

describe('Trainer', () => {
  it('trains by itself when there are enough rows, publishes, and the lineage gives the same bytes again', async () => {
    const { url } = await registry();
    await trainer({ registry: new RegistryClient(url), rowsPerVehicleMin: 3 * ROWS });
    for (const vehicle of ['v1', 'v2', 'v3']) await drive(vehicle, 1, 3 * ROWS); // enough with the last one
    const event = await awaitEvent(({ type }) => type === 'io.cardan.model.published');
    const { manifest, manifestSha256 } = (
      isEvent(event, 'io.cardan.model.published') ? event.data : undefined
    ) as { manifest: ModelManifest; manifestSha256: string };
    expect(manifest).toMatchObject({
      name: modelName(SET.id),
      version: '1',
      lineage: { parent: null },
    });
    const files = await new RegistryClient(url).download(manifest, manifestSha256);
    expect(loadModel(files).manifest).toEqual(manifest);

    const { lineage } = manifest;
    await drive('v1', 3 * ROWS + 1, 100); // what came later does not matter
    const again = await trainModel(log, {
      query: {
        signalSet: SET.id,
        offsets: lineage.offsets,
        eventOffsets: lineage.eventOffsets,
        rowsMax: Number(lineage.hyperParameters.rowsMax),
      },
      signalSet: SET,
      name: manifest.name,
      version: manifest.version,
      parent: lineage.parent,
      createdAt: manifest.createdAt,
      seed: lineage.seed,
    });
    expect(again.files.weights.equals(files.weights)).toBe(true);
    expect(again.files.model.equals(files.model)).toBe(true);
    expect(again.files.manifest.equals(files.manifest)).toBe(true);
  });

  it('says why a training failed, and goes on', async () => {
    const { url } = await registry();
    const client = new RegistryClient(url);
    await trainer({ registry: client, rowsPerVehicleMin: 1e9 });
    await drive('v1', 1, 20);
    const training = await client.requestTraining({ signalSet: SET.id });
    const failed = await awaitEvent(({ type }) => type === 'io.cardan.training.failed');
    expect(failed.data).toMatchObject({ training, code: 'TRAINING_DATA_INSUFFICIENT' });
    await drive('v1', 21, 2 * ROWS);
    await client.requestTraining({ signalSet: SET.id });
    await awaitEvent(({ type }) => type === 'io.cardan.training.completed');
  });

  it('passes over a record that is no telemetry, says so, and trains on the rest', async () => {
    const { url } = await registry();
    const problems: string[] = [];
    await log.append('telemetry', [{ key: 'v1', value: Buffer.from('nonsense'), timestamp: 0 }]);
    await drive('v1', 1, 2 * ROWS);
    await trainer({ registry: new RegistryClient(url), onProblem: ({ code }) => problems.push(code) });
    await awaitEvent(({ type }) => type === 'io.cardan.training.completed');
    expect(problems).toEqual(['TELEMETRY_MALFORMED']);
    expect(await readTrainingData(log, await query())).toMatchObject({ malformed: 1, rows: 2 * ROWS });
  });

  it('takes a request up again that a trainer before it did not finish', async () => {
    const { url } = await registry();
    await drive('v1', 1, 2 * ROWS);
    const training = await new RegistryClient(url).requestTraining({ signalSet: SET.id });
    await trainer({ registry: new RegistryClient(url), rowsPerVehicleMin: 1e9 });
    const completed = await awaitEvent(({ type }) => type === 'io.cardan.training.completed');
    expect(completed.data).toMatchObject({ training, version: '1' });
  });
});

describe('trainOnce', () => {
  const once = (url: string, span: TrainOnceOptions['span'], more: Partial<TrainOnceOptions> = {}) =>
    trainOnce({
      log,
      registry: new RegistryClient(url),
      span,
      signal: new AbortController().signal,
      ...more,
    });

  it('trains on a span of time, says so in the lineage, and goes on from the version before', async () => {
    const { url } = await registry();
    await drive('v1', 1, 3 * ROWS);
    await drive('v2', 1, 3 * ROWS);
    const [all] = await once(url, { from: 'earliest', to: 'latest' });
    expect(all).toMatchObject({ version: '1', lineage: { rows: 6 * ROWS, parent: null } });
    expect(all!.lineage.times).toBeUndefined();
    const [from, to] = [new Date(ROWS * 1000), new Date(2 * ROWS * 1000)];
    const [part] = await once(url, { from, to });
    expect(part).toMatchObject({
      version: '2',
      lineage: {
        rows: 2 * ROWS,
        span: { from: from.toISOString(), to: new Date((2 * ROWS - 1) * 1000).toISOString() },
        times: { from: from.toISOString(), to: to.toISOString() },
        parent: { version: '1' },
      },
    });
  });

  it('takes the next free version when others were published during the training', async () => {
    const { url } = await registry();
    const client = new RegistryClient(url);
    await drive('v1', 1, 3 * ROWS);
    const span = { from: 'earliest', to: 'latest' } as const;
    const [first] = await once(url, span);
    const firstFiles = await client.filesOf(first!);
    const others = ['2', '3'].map((version) => serializeManifest({ ...first!, version }));
    const problems: string[] = [];
    const [model] = await once(url, span, {
      registry: {
        async publish(files, name, options) {
          for (const manifest of others.splice(0)) await client.publish({ ...firstFiles, manifest }, name);
          await client.publish(files, name, options);
        },
      },
      onProblem: ({ code }) => problems.push(code),
    });
    expect(problems).toEqual(['MODEL_EXISTS', 'MODEL_EXISTS']);
    expect(model).toMatchObject({ version: '4', lineage: { parent: { version: '1' } } });
    const published = await client.manifest({ name: model!.name, version: '4' });
    expect(parseManifest(published)).toEqual(model);
    expect(loadModel({ manifest: published, ...(await client.filesOf(model!)) }).manifest).toEqual(model);
    expect(await reproduce(log, published, model!)).toMatchObject({ equal: true });
    const completed = await awaitEvent(
      ({ type, data }) =>
        type === 'io.cardan.training.completed' && (data as { version: string }).version !== '1',
    );
    expect(completed.data).toMatchObject({ version: '4' });
    const { versions } = (await client.models())[0]!;
    expect(versions.map(({ version }) => version)).toEqual(['1', '2', '3', '4']);
  });

  it('counts on from numbers, also where somebody gave a version a name', async () => {
    const { url } = await registry();
    const client = new RegistryClient(url);
    await drive('v1', 1, 3 * ROWS);
    const span = { from: 'earliest', to: 'latest' } as const;
    await once(url, span, {
      registry: {
        publish(files, name, options) {
          const manifest = serializeManifest({ ...parseManifest(files.manifest), version: 'spring' });
          return client.publish({ ...files, manifest }, name, options);
        },
      },
    });
    const [model] = await once(url, span);
    expect(model).toMatchObject({ version: '1', lineage: { parent: null } });
  });

  it('trains on some partitions only, and on ranges of offsets', async () => {
    const { url } = await registry();
    const vehicles = ['v1', 'v2', 'v3', 'v4', 'v5', 'v6', 'v7', 'v8'];
    for (const vehicle of vehicles) {
      await drive(vehicle, 1, ROWS);
      await drive(vehicle, ROWS + 1, ROWS);
    }
    const ends = (await log.offsets('telemetry')).filter(({ latest }) => latest > 0);
    const { partition, latest } = ends[0]!;
    const [model] = await once(url, { from: 'earliest', to: 'latest', partitions: [partition] });
    expect(model!.lineage).toMatchObject({
      offsets: { [partition]: { from: 0, to: latest } },
      rows: latest * ROWS,
    });
    expect(Object.keys(model!.lineage.offsets)).toEqual([String(partition)]);
    const [half] = await once(url, {
      from: { [partition]: 1 },
      to: { [partition]: 2 },
      partitions: [partition],
    });
    expect(half!.lineage).toMatchObject({ offsets: { [partition]: { from: 1, to: 2 } }, rows: ROWS });
  });

  it('judges a model by the repairs in the log, and trains on none of them', async () => {
    const { url } = await registry();
    await drive('v1', 1, 3 * ROWS);
    await drive('v2', 1, 3 * ROWS);
    const [plain] = await once(url, { from: 'earliest', to: 'latest' });
    await expect(once(url, { from: 'earliest', to: 'latest' }, { repairs: true })).rejects.toEqual(
      expect.objectContaining({ code: 'TOPIC_UNKNOWN' }),
    );
    // v1 breaks afterwards: b no longer follows a. It is repaired an hour later; v2 is repaired out of the blue.
    const broken = telemetry('v1', 3 * ROWS + 1, ROWS, { broken: true });
    await log.append('telemetry', [broken]);
    await alarm('v1', 'raised', 3 * ROWS + 1); // its agent notices, so these rows are not trained on
    await log.createTopic('repairs', { partitions: 1 });
    const lines = [
      'vehicle,time,component,action,odometer_km,note',
      `v1,${isoS(4 * ROWS + 3600)},sensor b,replaced,1000,`,
      `v2,${isoS(3 * ROWS + 10)},battery,replaced,,`,
      `v9,${isoS(10)},battery,replaced,,never seen here`,
    ];
    await log.append(
      'repairs',
      lines.map((line) => ({ key: null, value: Buffer.from(line), timestamp: 0 })),
    );
    const [judged] = await once(
      url,
      { from: 'earliest', to: new Date((4 * ROWS + 1) * 1000) },
      { repairs: true },
    );
    expect(judged!.metrics).toMatchObject({
      repairs: 2,
      repairs_foretold: 1,
      alarms: 1,
      alarms_without_repair: 0,
    });
    expect(judged!.metrics.repair_lead_hours).toBeGreaterThan(1);
    expect(judged!.lineage.labels).toEqual({ topic: 'repairs', offsets: { 0: { from: 0, to: 4 } } });
    expect(plain!.lineage.labels).toBeUndefined();
  });

  it('says so when the span is empty, has no such partition or offset', async () => {
    const { url } = await registry();
    await drive('v1', 1, ROWS);
    const code = (name: string) => expect.objectContaining({ code: name }) as unknown;
    const to = 'latest';
    await expect(once(url, { from: new Date(9e12), to })).rejects.toEqual(code('TRAINING_DATA_INSUFFICIENT'));
    await expect(once(url, { from: 'earliest', to, partitions: [6] })).rejects.toEqual(code('USAGE'));
    await expect(once(url, { from: { 0: 0 }, to: { 0: 99 }, partitions: [0] })).rejects.toEqual(
      code('OFFSET_OUT_OF_RANGE'),
    );
  });
});

describe('a Trainer that is told what to read', () => {
  it('learns only from what comes, when it begins at the end', async () => {
    const { url } = await registry();
    await drive('v1', 1, ROWS);
    await trainer({ registry: new RegistryClient(url), span: { from: 'latest' } });
    await drive('v1', ROWS + 1, 2 * ROWS);
    const event = await awaitEvent(({ type }) => type === 'io.cardan.model.published');
    const { manifest } = event.data as { manifest: ModelManifest };
    expect(manifest.lineage).toMatchObject({ rows: 2 * ROWS, span: { from: isoS(ROWS + 1) } });
  });

  it('shows its lag, and falls behind at its own pace while others do not', async () => {
    const { url } = await registry();
    const slow = await trainer({
      registry: new RegistryClient(url),
      rowsPerVehicleMin: 1e9,
      rowsPerSecond: 100,
      group: 'slow',
    });
    await trainer({ registry: new RegistryClient(url), rowsPerVehicleMin: 1e9, group: 'quick' });
    for (let i = 0; i < 20; i++) await drive('v1', 1 + i * 50, 50);
    const lag = async (group: string) =>
      (await log.lag(group)).reduce((sum, { lag: behind }) => sum + behind, 0);
    while ((await lag('quick')) > 0) await nextLook();
    await slow.close();
    expect(await lag('slow')).toBeGreaterThan(0);
    await trainer({ registry: new RegistryClient(url), rowsPerVehicleMin: 1e9, group: 'slow' });
    while ((await lag('slow')) > 0) await nextLook();
  });

  it('leaves requests to the trainer that they are for', async () => {
    const { url } = await registry();
    await drive('v1', 1, 2 * ROWS);
    await trainer({ registry: new RegistryClient(url), rowsPerVehicleMin: 1e9, group: 'other' });
    const training = await new RegistryClient(url).requestTraining({ signalSet: SET.id });
    await trainer({ registry: new RegistryClient(url), rowsPerVehicleMin: 1e9 });
    await awaitEvent(({ type }) => type === 'io.cardan.training.completed');
    const started: unknown[] = [];
    for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
      for (const { type, data } of records.map(recordToEvent))
        if (type === 'io.cardan.training.started') started.push((data as { training: string }).training);
    expect(started).toEqual([training]);
  });

  it('passes over what is no event in models', async () => {
    const { url } = await registry();
    await log.append('models', [{ key: 'm', value: Buffer.from('nonsense'), timestamp: 0 }]);
    const problems: string[] = [];
    await trainer({ registry: new RegistryClient(url), onProblem: ({ code }) => problems.push(code) });
    await drive('v1', 1, 2 * ROWS);
    await awaitEvent(({ type, data }) => {
      expect(data).toBeDefined();
      return type === 'io.cardan.training.completed';
    });
    expect(problems).toContain('EVENT_MALFORMED');
  });
});

function isoS(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
