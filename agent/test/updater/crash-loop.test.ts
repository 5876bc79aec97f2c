import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import mqtt, { type MqttClient } from 'mqtt';
import {
  decodeTelemetry,
  loadModel,
  parseCloudEvent,
  parseManifest,
  selfTestOf,
  serializeManifest,
  writeDense,
  type CloudEvent,
  type VehicleReported,
} from '@cardan/shared';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startAedes, type AedesBroker } from '../../../bridge/test/aedes-broker.ts';
import { publish } from '../../../cloud/test/registry/model-fixture.ts';
import { testRegistry, type TestRegistry } from '../../../cloud/test/registry/registry-fixture.ts';
import { modelFiles, randomLayers, sha256 } from '../../../shared/test/model/model-fixture.ts';
import { parseDbc } from '../../src/dbc/index.ts';
import type { Trial } from '../../src/updater/trials.ts';
import { mapAllSignals } from '../../src/vss.ts';

/* Agents as processes of their own, killed while a new model is on trial. */

const AGENT = fileURLToPath(new URL('../../bin/cardan-agent.js', import.meta.url));
const DBC = [
  'BO_ 256 Car: 8 ECU',
  ' SG_ Speed : 0|8@1+ (1,0) [0|0] "km/h" X',
  ' SG_ Load : 8|8@1+ (1,0) [0|0] "%" X',
].join('\n');
const COLUMNS = mapAllSignals(parseDbc(Buffer.from(DBC), 'car.dbc')).set;
const NOON_S = Date.UTC(2026, 5, 1, 12) / 1000;

function model(version: string, change = (scores: number[]) => scores) {
  const { modelJson, weights } = writeDense(randomLayers([2, 2, 2], Number(version)));
  const manifest = parseManifest(modelFiles().manifest);
  Object.assign(manifest, { name: 'car', version, signalSet: COLUMNS });
  manifest.lineage.parent = null;
  manifest.features.inputs = [50, 40].map((center, signal) => ({
    signal,
    statistic: 'mean',
    center,
    scale: 5,
  }));
  manifest.score = { smoothingRows: 6, residualCenter: [0, 0], residualScale: [1, 1] };
  manifest.files = {
    'model.json': { sha256: sha256(modelJson), length: modelJson.length },
    'weights.bin': { sha256: sha256(weights), length: weights.length },
  };
  const files = { model: modelJson, weights };
  const { seed, scores } = selfTestOf(loadModel({ manifest: serializeManifest(manifest), ...files }), 1);
  manifest.selfTest = { seed, scores: change(scores) };
  const manifestBytes = serializeManifest(manifest);
  return { manifest, manifestBytes, modelBytes: modelJson, weightsBytes: weights };
}

interface Pointer {
  current: { ref: { version: string }; good?: true } | null;
  trials: Trial[];
}

let dir: string;
let broker: AedesBroker;
let registry: TestRegistry;
let cloud: MqttClient;
let agent: ChildProcess | undefined;
let stderr: string;
let row: number;
let events: CloudEvent[];
let reports: VehicleReported[];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-crash-loop-'));
  writeFileSync(join(dir, 'car.dbc'), DBC);
  row = 0;
  await online();
});
afterEach(async () => {
  if (agent !== undefined) await kill();
  await offline();
  rmSync(dir, { recursive: true, force: true });
});

/** Broker and registry, and a bridge in its simplest form: what comes is taken, and acknowledged. */
async function online(): Promise<void> {
  [broker, registry] = await Promise.all([startAedes(), testRegistry({ dir })]);
  events = [];
  reports = [];
  cloud = await mqtt.connectAsync(broker.url, { protocolVersion: 4 });
  cloud.on('message', (topic, payload) => {
    const ack = (kind: 'rows' | 'events', epoch: number, range: [number, number]) =>
      cloud.publish('cardan/v1/van-1/ack', JSON.stringify({ epoch, rows: [], events: [], [kind]: [range] }));
    if (topic.endsWith('/reported')) reports.push(JSON.parse(payload.toString()) as VehicleReported);
    else if (topic.endsWith('/event')) {
      const event = parseCloudEvent(payload);
      const [epoch, sequence] = event.id.split('-').map(Number);
      events.push(event);
      ack('events', epoch!, [sequence!, sequence!]);
    } else {
      const { epoch, firstSequence, times } = decodeTelemetry(payload);
      ack('rows', epoch, [firstSequence, firstSequence + times.length - 1]);
    }
  });
  await cloud.subscribeAsync(['telemetry', 'event', 'reported'].map((end) => `cardan/v1/van-1/${end}`));
}

async function offline(): Promise<void> {
  await cloud.endAsync(true);
  await registry.close();
  await broker.close();
}

function start(): void {
  const options = {
    can: 'candump:-',
    dbc: join(dir, 'car.dbc'),
    vehicle: 'van-1',
    data: join(dir, 'car'),
    mqtt: broker.url,
    registry: registry.url,
    root: registry.rootPath,
    // As fast as the frames come.
    speed: '0',
  };
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  agent = spawn(process.execPath, [AGENT, 'run', ...flags], { stdio: ['pipe', 'ignore', 'pipe'] });
  stderr = '';
  agent.stderr!.on('data', (text: Buffer) => (stderr += text.toString()));
  agent.stdin!.on('error', () => undefined);
}

/** One frame a second, and so one row. */
function drive(rows: number): void {
  for (let i = 0; i < rows; i++)
    agent!.stdin!.write(`(${NOON_S + row++}.000000) can0 100#${i % 2 === 0 ? '32' : '33'}28000000000000\n`);
}

async function end(signal: NodeJS.Signals): Promise<void> {
  const ending = agent!;
  agent = undefined;
  const exited = once(ending, 'exit');
  ending.kill(signal);
  await exited;
}
const kill = () => end('SIGKILL');

/** The pointer file, as soon as it is so. */
async function stored(is: (pointer: Pointer) => boolean): Promise<Pointer> {
  const path = join(dir, 'car', 'van-1', 'updates', 'models', 'current.json');
  for (;;) {
    try {
      const pointer = JSON.parse(readFileSync(path, 'utf8')) as Pointer;
      if (is(pointer)) return pointer;
    } catch {
      // Not there yet.
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function until<T>(find: () => T | undefined): Promise<T> {
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function want(generation: number, version: string): Promise<void> {
  const desired = { generation, active: { name: 'car', version } };
  await cloud.publishAsync('cardan/v1/van-1/desired', JSON.stringify(desired), { qos: 1, retain: true });
}

/** A car in which version 1 has proved itself and version 2 is on trial. */
async function carWithNewModel(): Promise<void> {
  await publish(registry.url, model('1'));
  start();
  await want(100, '1');
  await stored(({ current }) => current?.ref.version === '1');
  drive(400);
  expect(await stored(({ current }) => current?.good === true)).toMatchObject({ trials: [] });
  await publish(registry.url, model('2'));
  await want(101, '2');
  await stored(({ current }) => current?.ref.version === '2');
}
const onTrial = (deaths: number) =>
  stored(({ trials: [trial] }) => trial?.running === true && trial.deaths === deaths);

test('an agent that is killed three times with a new model goes back by itself, without any network, and tells of it', async () => {
  await carWithNewModel();
  drive(20);
  await onTrial(0);
  await kill();
  await offline();
  for (const deaths of [1, 2]) {
    start();
    await onTrial(deaths);
    drive(20);
    await kill();
  }
  start();
  expect(await stored(({ current }) => current?.ref.version === '1')).toMatchObject({
    current: { good: true },
    trials: [],
  });
  await until(() => (stderr.includes('MODEL_CRASH_LOOP: Model car 2 is given up') ? true : undefined));
  await kill();

  await online();
  start();
  await want(102, '2');
  const error = {
    code: 'MODEL_CRASH_LOOP',
    message: 'Model car 2 is given up: the agent died 3 times while it was on trial.',
  };
  expect(
    await until(() =>
      reports.find(({ phase, observedGeneration }) => phase === 'failed' && observedGeneration === 102),
    ),
  ).toMatchObject({
    active: { name: 'car', version: '1' },
    observedGeneration: 102,
    error,
  });
  const told = await until(() => events.find(({ type }) => type === 'io.cardan.vehicle.model-stopped'));
  expect(told.data).toEqual({ model: { name: 'car', version: '2' }, role: 'active', ...error });
});

test('restarts are no crashes, and a model that has proved itself is not given up', async () => {
  await carWithNewModel();
  await onTrial(0);
  await kill();
  start();
  await onTrial(1);
  await kill();
  start();
  await onTrial(2);
  await end('SIGTERM');
  start();
  await onTrial(0);
  drive(400);
  await stored(({ current }) => current?.good === true);
  for (let kills = 0; kills < 4; kills++) {
    await kill();
    start();
    await until(() => (stderr.includes('signals (set') ? true : undefined));
  }
  expect(await stored(() => true)).toMatchObject({ current: { ref: { version: '2' } }, trials: [] });
});

test('a model that gives other scores here than its manifest says is not taken', async () => {
  await publish(registry.url, model('1'));
  start();
  await want(100, '1');
  await stored(({ current }) => current?.ref.version === '1');
  await publish(
    registry.url,
    model('2', (scores) => scores.map((score) => score * 1.001)),
  );
  await want(101, '2');
  expect(await until(() => reports.find((report) => report.phase === 'failed'))).toMatchObject({
    active: { version: '1' },
    error: { code: 'SELF_TEST_FAILED' },
  });
  expect(
    await until(() => events.find(({ type }) => type === 'io.cardan.vehicle.model-stopped')),
  ).toMatchObject({ data: { model: { version: '2' }, code: 'SELF_TEST_FAILED' } });
});
