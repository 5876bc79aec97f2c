import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cloudEvent,
  encodeTelemetry,
  eventToRecord,
  isEvent,
  loadModel,
  LOG_TOPICS,
  recordToEvent,
  signalSet,
  type CloudEvent,
  type ModelManifest,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { startRegistry, type RegistryService } from '../../src/distribution/start-registry.ts';
import { RegistryClient } from '../../src/registry-client.ts';
import { modelName, Trainer, trainModel, type TrainerOptions } from '../../src/trainer/trainer.ts';
import { readTrainingData } from '../../src/trainer/training-data.ts';

const SET = signalSet(['a', 'b', 'c'].map((name) => ({ name, unit: '' })));
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

/** Rows of correlated signals: b follows a, c is their sum, with a little that looks like noise. */
async function drive(vehicle: string, first: number, rows: number, signalSetId = SET.id) {
  const values = new Float32Array(rows * 3);
  for (let row = 0; row < rows; row++) {
    const t = first + row + vehicle.charCodeAt(1) * 7;
    const a = Math.sin(t / 17) + 0.5 * Math.sin(t / 5.3);
    values.set(
      [a + 0.02 * Math.sin(t * 12.9), 2 * a + 0.02 * Math.sin(t * 78.2), 3 * a + 0.02 * Math.sin(t * 37.7)],
      row * 3,
    );
  }
  const value = encodeTelemetry({
    signalSet: signalSetId,
    epoch: 9,
    firstSequence: first,
    times: Float64Array.from({ length: rows }, (_, row) => (first + row) * 1000),
    values,
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  });
  await log.append('telemetry', [{ key: vehicle, value, timestamp: (first + rows - 1) * 1000 }]);
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
    for (const record of records) if (found(recordToEvent(record))) return recordToEvent(record);
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
