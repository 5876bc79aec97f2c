import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Alarm,
  encodeTelemetry,
  loadModel,
  parseManifest,
  Scorer,
  serializeManifest,
  STATISTICS,
  writeDense,
  type Model,
  type ModelManifest,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { RegistryClient } from '@cardan/cloud';
import { modelFiles, randomLayers, sha256 } from '../../shared/test/model/model-fixture.ts';
import { registryOnKafka } from '../../cloud/test/registry-on-kafka.ts';
import { CAR_COLUMNS, recordCar, type CarRows } from '../../bench/parts/quality/car-rows.ts';
import { trainOnce } from '../../cloud/src/trainer/train-once.ts';
import { exportOnnx } from '../../cloud/src/onnx/export-model.ts';
import { Car } from '../src/car.ts';
import { Random } from '../src/random.ts';

/** examples/python as its README says, on a real Kafka, with rows of simulated cars; and Cardan’s scores of the same rows. */
const ROOT = resolve(import.meta.dirname, '../..');
const CLOUD = join(ROOT, 'cloud/bin/cardan-cloud.js');
const { set } = CAR_COLUMNS;
const NAME = `anomaly-${set.id}`;
const BEGIN = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;
const BATCH_ROWS = 50;
/** Enough for a model that finds a broken car; all of it is scored in Python several times. */
const TRAINED_MINUTES = 8;

const PYTHON = hasPython();

/** Whether Python is here with what the example needs. In CI it must be. */
function hasPython(): boolean {
  const needed = 'confluent_kafka, google.protobuf, numpy, sklearn, skl2onnx, onnxruntime';
  const found = spawnSync('python3', ['-c', `import ${needed}`]).status === 0;
  if (!found && process.env.CI) throw new Error(`CI needs Python with ${needed}`);
  if (!found) console.log('skipped: no Python with the packages of examples/python/requirements.txt here');
  return found;
}

const closing: (() => unknown)[] = [];
let log: EventLog;
let client: RegistryClient;
let url: string;
let dir: string;
let env: NodeJS.ProcessEnv;
/** Everything that the cars send, before and after the training. */
const drives = new Map<string, CarRows>();

beforeAll(async () => {
  if (!PYTHON) return;
  const kafka = await registryOnKafka('car-1', set);
  closing.push(() => kafka.close());
  ({ log, url, dir } = kafka);
  client = new RegistryClient(url);
  env = { ...kafka.env, PYTHONDONTWRITEBYTECODE: '1' };
  cpSync(join(ROOT, 'examples/python'), join(dir, 'example'), { recursive: true });
  await run('protoc', '-I', join(ROOT, 'shared/proto'), `--python_out=${dir}/example`, 'telemetry.proto');
  for (let n = 1; n <= 5; n++) {
    const car = new Car({ id: `car-${n}`, seed: n, startTime: BEGIN });
    drives.set(car.id, recordCar(car, BEGIN, BEGIN + TRAINED_MINUTES * MINUTE));
  }
  drives.set('car-0', patchy(drives.get('car-1')!));
  for (const [vehicle, rows] of drives) await send(vehicle, rows);
});
afterAll(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function run(command: string, ...args: string[]): Promise<string> {
  const child = spawn(command, args, { cwd: join(dir, 'example'), env, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, problems, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number]>,
  ]);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${problems}`);
  return out;
}
const cloud = (...args: string[]) => run(process.execPath, CLOUD, ...args);

/** A drive with values that were not seen, and with a silence in it. */
function patchy({ times, values }: CarRows): CarRows {
  const random = new Random(3, 'patchy');
  return {
    times: times.map((time, row) => (row < times.length / 2 ? time : time + MINUTE)),
    values: values.map((value) => (random.chance(0.1) ? Number.NaN : value)),
  };
}

/** As a car does: batch by batch, one of them twice, and one that a campaign asked for. */
async function send(vehicle: string, { times, values }: CarRows, first = 0): Promise<void> {
  const width = set.signals.length;
  const batch = (from: number, campaign?: string) =>
    encodeTelemetry({
      signalSet: set.id,
      epoch: campaign === undefined ? 7 : 8,
      firstSequence: first + from,
      times: times.slice(from, from + BATCH_ROWS),
      values: values.slice(from * width, (from + BATCH_ROWS) * width),
      scores: new Float32Array(0),
      modelName: '',
      modelVersion: '',
      ...(campaign === undefined ? {} : { campaign }),
    });
  const records = [];
  for (let from = 0; from < times.length; from += BATCH_ROWS)
    records.push({ key: vehicle, value: batch(from), timestamp: times[from]! });
  records.splice(3, 0, records[2]!, { ...records[0]!, value: batch(0, 'braking') });
  await log.append('telemetry', records);
}

/** What a car downloads. */
async function published(version: string): Promise<Model> {
  const bytes = await client.manifest({ name: NAME, version });
  const files = await client.filesOf(JSON.parse(bytes.toString('utf8')) as Model['manifest']);
  return loadModel({ ...files, manifest: bytes });
}

interface Line {
  vehicle: string;
  time: number;
  score: number | null;
  alarm: boolean;
}

/** Runs the predictor on all that is in Kafka, and compares each of its lines with a car of this model. */
async function comparePredictor(folder: string, model: Model): Promise<{ rows: number; largest: number }> {
  const lines = (await run('python3', 'predict.py', '--model', folder, '--rows', '--to-end'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  let [largest, rows] = [0, 0];
  for (const [vehicle, { times, values }] of drives) {
    const scorer = new Scorer(model);
    const alarm = new Alarm(model.manifest.alarm);
    const found = lines.filter((line) => line.vehicle === vehicle);
    expect(found.map(({ time }) => time)).toEqual([...times]);
    found.forEach(({ score, alarm: active }, row) => {
      const expected = scorer.push(times[row]!, values, row * set.signals.length);
      alarm.push(expected);
      expect(score === null).toBe(Number.isNaN(expected));
      expect(active).toBe(alarm.active);
      if (score === null) return;
      largest = Math.max(largest, Math.abs(score - expected) / Math.max(1, expected));
      rows++;
    });
  }
  return { rows, largest };
}

describe.runIf(PYTHON)('a model', () => {
  it('trained in Python on what is in Kafka scores in the car as it does in Python', async () => {
    const said = await run('python3', 'train.py', '--out', 'model');
    expect(said).toMatch(/^6 vehicles, 2\d\d\d rows, \d\d inputs/);
    const told = await cloud('models', 'import', 'model/model.onnx', '--manifest', 'model/manifest.json');
    const { version, scoreDifference } = JSON.parse(told) as { version: string; scoreDifference: number };
    expect(scoreDifference).toBeLessThan(1e-5);

    // The registry has all cars with these signals run it.
    const desired = await fetch(`${url}/v1/vehicles/car-1/desired?signalSet=${set.id}`);
    expect(await desired.json()).toMatchObject({ active: { name: NAME, version } });
    const model = await published(version);
    const { lineage } = model.manifest;
    const end = await log.resolve('telemetry', 'latest');
    for (const [partition, { from, to }] of Object.entries(lineage.offsets))
      expect([from, to]).toEqual([0, end[Number(partition)]]);
    expect(lineage).toMatchObject({
      rows: [...drives.values()].reduce((sum, { times }) => sum + times.length, 0),
      vehicles: 6,
      duplicatesDropped: 6 * BATCH_ROWS,
      codeVersion: expect.stringMatching(/^scikit-learn \d/) as string,
    });
    expect(Object.keys(lineage.offsets).length).toBeGreaterThan(1);

    // One car more drives, and breaks.
    const broken = new Car({ id: 'car-9', seed: 9, startTime: BEGIN });
    broken.inject({ kind: 'coolant-leak', onset: BEGIN + 3 * MINUTE, severity: 1, growthMs: 3 * MINUTE });
    drives.set(broken.id, recordCar(broken, BEGIN, BEGIN + 12 * MINUTE));
    await send(broken.id, drives.get(broken.id)!);
    const [{ rows, largest }, alarms] = await Promise.all([
      comparePredictor('model', model),
      run('python3', 'predict.py', '--model', 'model', '--group', 'alarms', '--to-end'),
    ]);
    expect(rows).toBeGreaterThan(2500);
    expect(largest).toBeLessThan(1e-5);
    expect(alarms).toMatch(/"vehicle": "car-9".*"alarm": true/);
  });

  it('trained by Cardan scores in Python as it does in the car', async () => {
    // As `cardan-cloud trainer --from earliest --to now` does it, but shown few rows: what counts is how it scores.
    const [{ version }] = (await trainOnce({
      log,
      registry: client,
      span: { from: 'earliest', to: 'latest' },
      hyperParameters: { rowsShown: 10_000 },
      signal: new AbortController().signal,
    })) as [ModelManifest];
    mkdirSync(join(dir, 'example/cardan'));
    await cloud('models', 'export', NAME, version, '--onnx', 'cardan/model.onnx');
    writeFileSync(join(dir, 'example/cardan/manifest.json'), await client.manifest({ name: NAME, version }));
    const { rows, largest } = await comparePredictor('cardan', await published(version));
    expect(rows).toBeGreaterThan(2500);
    expect(largest).toBeLessThan(1e-5);
  });

  it('with every statistic of the features scores in Python as in the car', async () => {
    const inputs = STATISTICS.flatMap((statistic) =>
      [1, 4, 7, 12].map((signal) => ({
        signal,
        statistic,
        ...(statistic === 'value' ? { lag: signal % 3 } : {}),
        ...(statistic === 'ratio' ? { over: signal + 1 } : {}),
        center: statistic === 'mean' || statistic === 'value' ? 20 : 1,
        scale: 5 + signal,
      })),
    );
    const layers = randomLayers([inputs.length, 9, inputs.length], 5);
    const { modelJson, weights } = writeDense(layers);
    const manifest = parseManifest(modelFiles().manifest);
    manifest.signalSet = set;
    manifest.features = { windowRows: 6, gapMs: 3000, inputs, clip: 4 };
    const all = (value: number) => inputs.map(() => value);
    manifest.score = {
      order: 8,
      smoothingRows: 12,
      residualCenter: all(0.1),
      residualScale: all(0.4),
      residualScaleBelow: all(0.5),
      shift: { smoothingRows: 8, center: all(-0.1), scale: all(0.9), scaleBelow: all(0.7), weight: 0.8 },
    };
    manifest.files = {
      'model.json': { sha256: sha256(modelJson), length: modelJson.length },
      'weights.bin': { sha256: sha256(weights), length: weights.length },
    };
    delete manifest.selfTest;
    const files = { manifest: serializeManifest(manifest), model: modelJson, weights };
    mkdirSync(join(dir, 'example/every'));
    writeFileSync(join(dir, 'example/every/manifest.json'), files.manifest);
    writeFileSync(join(dir, 'example/every/model.onnx'), exportOnnx(files));
    const { rows, largest } = await comparePredictor('every', loadModel(files));
    expect(rows).toBeGreaterThan(2500);
    expect(largest).toBeLessThan(1e-5);
  });

  it('has every package of the example at the version that was tested', () => {
    const wanted = readFileSync(join(ROOT, 'examples/python/requirements.txt'), 'utf8');
    const code = 'import sys, importlib.metadata as m\nfor p in sys.argv[1:]: print(f"{p}=={m.version(p)}")';
    const packages = [...wanted.matchAll(/^([a-z0-9-]+)==/gm)].map(([, name]) => name!);
    const { stdout } = spawnSync('python3', ['-c', code, ...packages], { encoding: 'utf8' });
    expect(stdout.trimEnd().split('\n')).toEqual(wanted.split('\n').filter((line) => /^[a-z]/.test(line)));
  });
});
