import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt, { type MqttClient } from 'mqtt';
import {
  decodeTelemetry,
  parseCloudEvent,
  parseManifest,
  serializeManifest,
  writeDense,
  type CloudEvent,
  type DenseLayer,
  type VehicleDesired,
  type VehicleReported,
  type VehicleShadow,
} from '@cardan/shared';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startAedes, type AedesBroker } from '../../../bridge/test/aedes-broker.ts';
import { publish } from '../../../cloud/test/registry/model-fixture.ts';
import { testRegistry, type TestRegistry } from '../../../cloud/test/registry/registry-fixture.ts';
import { modelFiles, randomLayers, sha256 } from '../../../shared/test/model/model-fixture.ts';
import { Agent } from '../../src/agent.ts';
import { parseDbc } from '../../src/dbc/index.ts';
import { mapAllSignals } from '../../src/vss.ts';
import { overflowingLayers } from './scoring-fixture.ts';

/* A whole agent on a real broker and a real registry: models come down, rows, events and reports go up. */

const DBC = parseDbc(
  Buffer.from(
    [
      'BO_ 256 Car: 8 ECU',
      ' SG_ Speed : 0|8@1+ (1,0) [0|0] "km/h" X',
      ' SG_ Load : 8|8@1+ (1,0) [0|0] "%" X',
      ' SG_ Temperature : 16|8@1+ (1,0) [0|0] "degC" X',
    ].join('\n'),
  ),
  'car.dbc',
);
const MAP = mapAllSignals(DBC);
const NOON = Date.UTC(2026, 5, 1, 12);
/** Calm driving: exactly what the models take as the middle. */
const CALM = [50, 40, 90];

/** A model of the means of the three signals, as the registry takes it. */
function model(version: string, layers: DenseLayer[]) {
  const { modelJson, weights } = writeDense(layers);
  const manifest = parseManifest(modelFiles().manifest);
  Object.assign(manifest, { name: 'car', version, signalSet: MAP.set });
  manifest.lineage.parent = null;
  manifest.features.inputs = CALM.map((center, signal) => ({ signal, statistic: 'mean', center, scale: 5 }));
  manifest.score = { smoothingRows: 6, residualCenter: [0, 0, 0], residualScale: [1, 1, 1] };
  manifest.files = {
    'model.json': { sha256: sha256(modelJson), length: modelJson.length },
    'weights.bin': { sha256: sha256(weights), length: weights.length },
  };
  const manifestBytes = serializeManifest(manifest);
  return { manifest, manifestBytes, modelBytes: modelJson, weightsBytes: weights };
}
/** Right as long as the car drives calmly, and infinite when it does not. */
const fragile = () =>
  overflowingLayers(3).map((layer) => ({ ...layer, bias: layer.bias.map(() => 0) }) satisfies DenseLayer);

let dir: string;
let broker: AedesBroker;
let registry: TestRegistry;
let cloud: MqttClient;
let agent: Agent;
let row: number;
let seen: { scoredBy: string[]; events: CloudEvent[]; reported: VehicleReported[] };

async function start(): Promise<void> {
  agent = await Agent.start({
    vehicle: 'van-1',
    dataDir: join(dir, 'car'),
    dbc: DBC,
    map: MAP,
    mqttUrl: broker.url,
    updates: { registryUrl: registry.url, rootPath: registry.rootPath },
    scoring: { shadowPeriodMs: 60_000 },
    now: () => NOON,
  });
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-scoring-'));
  [broker, registry] = await Promise.all([startAedes(), testRegistry({ dir })]);
  cloud = await mqtt.connectAsync(broker.url, { protocolVersion: 4 });
  row = 0;
  seen = { scoredBy: [], events: [], reported: [] };
  // A bridge in its simplest form: what comes is taken, and acknowledged.
  cloud.on('message', (topic, payload) => {
    const ack = (kind: 'rows' | 'events', epoch: number, range: [number, number]) =>
      cloud.publish('cardan/v1/van-1/ack', JSON.stringify({ epoch, rows: [], events: [], [kind]: [range] }));
    if (topic.endsWith('/reported')) seen.reported.push(JSON.parse(payload.toString()) as VehicleReported);
    else if (topic.endsWith('/event')) {
      const event = parseCloudEvent(payload);
      const [epoch, sequence] = event.id.split('-').map(Number);
      seen.events.push(event);
      ack('events', epoch!, [sequence!, sequence!]);
    } else {
      const batch = decodeTelemetry(payload);
      seen.scoredBy.push(...Array.from(batch.times, () => batch.modelVersion));
      ack('rows', batch.epoch, [batch.firstSequence, batch.firstSequence + batch.times.length - 1]);
    }
  });
  await cloud.subscribeAsync(['telemetry', 'event', 'reported'].map((end) => `cardan/v1/van-1/${end}`));
});
afterEach(async () => {
  await agent.stop();
  await cloud.endAsync(true);
  await registry.close();
  await broker.close();
  rmSync(dir, { recursive: true, force: true });
});

/** One frame a second, and so one row. */
function drive(rows: number, values = CALM): void {
  for (let i = 0; i < rows; i++)
    agent.accept({
      time: NOON + 1000 * row++,
      id: 256,
      extended: false,
      fd: false,
      data: Uint8Array.from([...values, 0, 0, 0, 0, 0]),
    });
}

async function want(
  desired: Omit<VehicleDesired, 'active' | 'candidate'>,
  active: string,
  candidate?: string,
) {
  const ref = (version: string) => ({ name: 'car', version });
  const payload = { ...desired, active: ref(active), ...(candidate ? { candidate: ref(candidate) } : {}) };
  await cloud.publishAsync('cardan/v1/van-1/desired', JSON.stringify(payload), { qos: 1, retain: true });
  return reported(
    ({ observedGeneration, phase }) => observedGeneration === desired.generation && phase !== 'updating',
  );
}

/** The report that fits, as soon as it has come. */
async function reported(fits: (report: VehicleReported) => boolean): Promise<VehicleReported> {
  for (;;) {
    const last = seen.reported.at(-1);
    if (last !== undefined && fits(last)) return last;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Without copies: what was not acknowledged before a stop is sent again. */
function dataOf(type: string): unknown[] {
  const events = new Map(seen.events.map((event) => [event.id, event]));
  return [...events.values()].filter((event) => event.type === type).map(({ data }) => data);
}

test('a model that breaks while it scores is stopped and reported; the last good one goes on, also after a restart', async () => {
  await publish(registry.url, model('1', randomLayers([3, 2, 3])));
  await publish(registry.url, model('2', fragile()));
  await start();
  expect(await want({ generation: 100 }, '1')).toMatchObject({ active: { version: '1' }, phase: 'idle' });
  drive(30);
  expect(await want({ generation: 101 }, '2')).toMatchObject({ active: { version: '2' }, phase: 'idle' });
  drive(30);
  expect(agent.activeModel).toEqual({ name: 'car', version: '2' });
  drive(10, [60, 40, 90]);
  expect(agent.activeModel).toEqual({ name: 'car', version: '1' });
  expect(agent.lastScore).toBeGreaterThan(0);
  const error = {
    code: 'MODEL_NOT_FINITE',
    message: 'Model car 2 gave a score that is no finite number.',
  };
  expect(await reported((report) => report.phase === 'failed')).toMatchObject({
    active: { name: 'car', version: '1' },
    candidate: null,
    observedGeneration: 101,
    error,
  });
  await agent.drain();
  expect(dataOf('io.cardan.vehicle.model-stopped')).toEqual([
    { model: { name: 'car', version: '2' }, role: 'active', ...error },
  ]);
  // One frame after another makes one row less; rows 60 and on are those of the other values.
  const byTwo = seen.scoredBy.flatMap((version, i) => (version === '2' ? [i] : []));
  expect([byTwo[0], byTwo.at(-1)]).toEqual([29, 59]);
  expect(new Set(seen.scoredBy.slice(60))).toEqual(new Set(['1']));

  await agent.stop();
  await start();
  expect(agent.activeModel).toEqual({ name: 'car', version: '1' });
});

test('a candidate scores silently: its statistics go up at the end of a period, at a change and at a stop', async () => {
  await publish(registry.url, model('1', randomLayers([3, 2, 3])));
  await publish(registry.url, model('2', randomLayers([3, 2, 3], 9)));
  await start();
  await want({ generation: 100 }, '1');
  drive(30);
  expect(await want({ generation: 101 }, '1', '2')).toMatchObject({
    active: { version: '1' },
    candidate: { name: 'car', version: '2' },
    phase: 'idle',
  });
  drive(100, [52, 41, 90]);
  expect(agent.shadowModel).toEqual({ name: 'car', version: '2' });
  expect(await want({ generation: 102 }, '2')).toMatchObject({ active: { version: '2' }, candidate: null });
  expect(await want({ generation: 103 }, '2', '1')).toMatchObject({ candidate: { version: '1' } });
  drive(7, [52, 41, 90]);
  await agent.stop();
  await start();
  await agent.drain();
  const shadows = dataOf('io.cardan.vehicle.shadow') as VehicleShadow[];
  expect(shadows.map(({ model, active, rows, nan }) => [model.version, active?.version, rows, nan])).toEqual([
    ['2', '1', 60, 0],
    ['2', '1', 40, 0],
    ['1', '2', 7, 0],
  ]);
  for (const { rows, score, difference } of shadows) expect([score.n, difference.n]).toEqual([rows, rows]);
  expect(shadows[0]!.difference.mean).not.toBe(0);
  expect(new Set(seen.scoredBy)).toEqual(new Set(['1', '2']));
  await reported((report) => report.candidate?.version === '1' && report.phase === 'idle');
});
