import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  Alarm,
  loadModel,
  Scorer,
  serializeManifest,
  signalSet,
  type Model,
  type ModelManifest,
} from '@cardan/shared';
import { fit, type Fit, type FitOptions } from '../../src/trainer/fit.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';
import type { VehicleRows } from '../../src/trainer/training-data.ts';

const SIGNALS = signalSet(
  ['speed', 'load', 'flow', 'temperature', 'pressure', 'vibration'].map((name) => ({ name, unit: '' })),
);
const WIDTH = SIGNALS.signals.length;
const FLOW = 2;

/**
 * A machine of six signals that hang together: two slow drives within limits (Ornstein-Uhlenbeck processes),
 * what follows from them, noise on all, and an offset of its own for each machine.
 */
function machine(vehicle: string, rows: number, seed: number, signals = WIDTH): VehicleRows {
  const random = new SeededRandom(seed);
  const times = Float64Array.from({ length: rows }, (_, row) => 1.7e12 + row * 1000);
  const values = new Float32Array(rows * signals);
  const offset = random.normal();
  let speed = random.normal();
  let load = random.normal();
  let heat = 0;
  for (let row = 0; row < rows; row++) {
    speed = within2(speed - 0.05 * speed + 0.3 * random.normal());
    load = within2(load - 0.1 * load + 0.4 * random.normal());
    heat += (load - heat) * 0.05;
    const noise = () => 0.05 * random.normal();
    values.set(
      [
        60 + 20 * (speed + noise()),
        0.5 + 0.1 * (load + noise()),
        10 + 3 * (speed + load + 0.3 * speed * load + noise()),
        90 + 2 * (heat + noise()),
        50 + 10 * (load + 0.3 * offset + noise()),
        2 + 0.5 * (speed + noise()),
      ].slice(0, signals),
      row * signals,
    );
  }
  return { vehicle, times, values };
}

function within2(value: number): number {
  return Math.max(-2, Math.min(2, value));
}

function fleet(vehicles: number, rows: number, seed = 1): VehicleRows[] {
  return Array.from({ length: vehicles }, (_, i) => machine(`m${i}`, rows, seed * 1000 + i));
}

function train(vehicles: VehicleRows[], more: Partial<FitOptions> = {}): Promise<Fit> {
  return fit({ signalSet: SIGNALS, vehicles, seed: 1, ...more });
}

/** Through manifest and files, as a car gets it. */
function load(result: Fit, set = SIGNALS): Model {
  const ref = (bytes: Buffer) => ({
    sha256: createHash('sha256').update(bytes).digest('hex'),
    length: bytes.length,
  });
  const manifest: ModelManifest = {
    schema: 1,
    name: 'test',
    version: '1',
    createdAt: '2026-01-01T00:00:00Z',
    signalSet: set,
    engine: 'dense',
    features: result.features,
    score: result.score,
    alarm: result.alarm,
    files: { 'model.json': ref(result.modelJson), 'weights.bin': ref(result.weights) },
    lineage: {
      topic: 'telemetry',
      offsets: {},
      eventOffsets: {},
      span: { from: '2026-01-01T00:00:00Z', to: '2026-01-01T00:00:00Z' },
      rows: 0,
      vehicles: 0,
      rowsExcluded: 0,
      duplicatesDropped: 0,
      seed: 1,
      hyperParameters: result.hyperParameters,
      codeVersion: '0',
      parent: null,
    },
    metrics: result.metrics,
  };
  return loadModel({
    manifest: serializeManifest(manifest),
    model: result.modelJson,
    weights: result.weights,
  });
}

/** Alarms on the rows, and what was blamed for the first. */
function alarms(
  model: Model,
  { times, values }: VehicleRows,
): { raised: number; blamed: string | undefined } {
  const scorer = new Scorer(model);
  const alarm = new Alarm(model.manifest.alarm);
  const signals = model.manifest.signalSet.signals;
  let raised = 0;
  let blamed: string | undefined;
  times.forEach((time, row) => {
    if (alarm.push(scorer.push(time, values, row * signals.length)) !== 'raised') return;
    raised++;
    const parts = scorer.contributions();
    blamed ??= signals[parts.indexOf(Math.max(...parts))]?.name;
  });
  return { raised, blamed };
}

/** From a row on the flow sensor shows a third: leak, or dirt. */
function leak(rows: VehicleRows, from: number): VehicleRows {
  const values = rows.values.slice();
  for (let row = from; row < rows.times.length; row++) values[row * WIDTH + FLOW]! /= 3;
  return { ...rows, values };
}

describe.each([
  ['ten vehicles, held back in parts', 10, 1200],
  ['three vehicles, held back one by one', 3, 800],
  ['one vehicle, held back in parts of its time', 1, 2000],
])('with %s', (_, vehicles, rows) => {
  test('a leak alarms and is mostly blamed right, and normal rows do not alarm', async () => {
    const model = load(await train(fleet(vehicles, rows, 2)));
    const blamed = Array.from({ length: vehicles }, (_, i) => {
      // The same machine later on: its offset is drawn first.
      const longer = machine(`m${i}`, rows + 1500, 2000 + i);
      const later = {
        ...longer,
        times: longer.times.subarray(rows),
        values: longer.values.subarray(rows * WIDTH),
      };
      expect(alarms(model, later).raised).toBe(0);
      return alarms(model, leak(later, 500)).blamed;
    });
    expect(blamed).not.toContain(undefined);
    expect(blamed.filter((name) => name === 'flow').length).toBeGreaterThan(vehicles / 2);
  });
});

test('the same vehicles and seed give the same bytes; another seed gives others', async () => {
  const [one, same, other] = [
    await train(fleet(4, 200)),
    await train(fleet(4, 200)),
    await train(fleet(4, 200), { seed: 2 }),
  ];
  expect(same).toEqual(one);
  expect(other.weights).not.toEqual(one.weights);
});

test('what is told of it: the epochs beforehand, then the losses, which fall', async () => {
  let announced = 0;
  const losses: number[] = [];
  const result = await train(fleet(4, 200), {
    onData: (epochs) => {
      announced = epochs;
    },
    onEpoch: ({ epoch, epochs, loss, validationLoss, rowsPerSecond }) => {
      expect(epochs).toBe(announced);
      expect(epoch).toBe(losses.length + 1);
      expect(rowsPerSecond).toBeGreaterThan(0);
      expect(loss).toBeGreaterThan(0);
      losses.push(validationLoss);
    },
  });
  expect(losses.length).toBeGreaterThan(4);
  expect(result.metrics.validation_loss).toBe(Math.min(...losses));
  expect(result.metrics.validation_loss).toBeLessThan(losses[0]!);
});

test('the event loop has its turns meanwhile', async () => {
  let turns = 0;
  let longest = 0;
  let running = true;
  const training = train(fleet(8, 600)).finally(() => {
    running = false;
  });
  let last = performance.now();
  while (running) {
    await turn();
    turns++;
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }
  await training;
  expect(turns).toBeGreaterThan(20);
  // Twelve milliseconds are aimed at; the rest is for a busy machine.
  expect(longest).toBeLessThan(250);
});

test('an abort ends it with the reason', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  await expect(
    train(fleet(8, 600), { signal: controller.signal, onEpoch: () => controller.abort(reason) }),
  ).rejects.toBe(reason);
});

test.each([
  ['no vehicles', []],
  ['too few rows', fleet(5, 40)],
  [
    'windows that never fill',
    fleet(5, 400).map((rows) => ({
      ...rows,
      times: rows.times.map((t, i) => t + Math.floor(i / 4) * 60_000),
    })),
  ],
])('%s: TRAINING_DATA_INSUFFICIENT', async (_, vehicles) => {
  await expect(train(vehicles)).rejects.toMatchObject({ code: 'TRAINING_DATA_INSUFFICIENT' });
});

test('nothing that moves: TRAINING_DATA_INSUFFICIENT', async () => {
  const parked = fleet(5, 400).map((rows) => ({ ...rows, values: rows.values.map(() => 7) }));
  await expect(train(parked)).rejects.toThrow(/None of the 6 signals moves/);
});

test('a learning rate without measure: TRAINING_DIVERGED', async () => {
  await expect(train(fleet(4, 200), { hyperParameters: { learningRate: 1e200 } })).rejects.toMatchObject({
    code: 'TRAINING_DIVERGED',
    message: expect.stringContaining('smaller learning rate') as string,
  });
});

test('constant and missing signals are left out and counted; half-seen ones and outliers do no harm', async () => {
  const spoilt = fleet(10, 400).map(({ vehicle, times, values }, v) => {
    const random = new SeededRandom(v);
    const changed = values.slice();
    for (let row = 0; row < times.length; row++) {
      changed[row * WIDTH + 0] = 42; // constant
      if (row % 20 !== 0) changed[row * WIDTH + 5] = Number.NaN; // in fewer than half of the windows
      if (row % 3 !== 0) changed[row * WIDTH + 1] = Number.NaN; // seen now and then
      if (random.uniform() < 0.001) changed[row * WIDTH + 3] = 3e38; // a sensor's glitch
    }
    return { vehicle, times, values: changed };
  });
  const result = await train(spoilt);
  expect(result.metrics).toMatchObject({ signals_used: 4, signals_constant: 1, signals_missing: 1 });
  expect(result.features.inputs.map(({ signal }) => signal)).toEqual([1, 2, 3, 4]);
  const temperature = result.features.inputs[2]!;
  expect(temperature.center).toBeCloseTo(90, 0);
  expect(temperature.scale).toBeLessThan(3);
  const model = load(result);
  for (const rows of spoilt) expect(alarms(model, rows).raised).toBe(0);
  expect(alarms(model, leak(machine('new', 2000, 77), 1000)).raised).toBeGreaterThan(0);
});

test('one vehicle that is broken already does not make its fault normal', async () => {
  const vehicles = fleet(12, 400);
  vehicles[3] = leak(vehicles[3]!, 0);
  const model = load(await train(vehicles));
  const found = [50, 51, 52, 53].map((seed) => alarms(model, leak(machine('new', 2000, seed), 500)));
  for (const { raised } of found) expect(raised).toBeGreaterThan(0);
});

test('signals by the hundred make a linear network', async () => {
  const set = signalSet(Array.from({ length: 120 }, (_, i) => ({ name: `s${i}`, unit: '' })));
  const random = new SeededRandom(1);
  const vehicles = Array.from({ length: 3 }, (_, v): VehicleRows => {
    const times = Float64Array.from({ length: 150 }, (_, row) => row * 1000);
    return {
      vehicle: `v${v}`,
      times,
      values: Float32Array.from({ length: 150 * 120 }, () => random.normal()),
    };
  });
  const result = await fit({ signalSet: set, vehicles, seed: 1, hyperParameters: { rowsShown: 2000 } });
  expect(result.metrics.signals_used).toBe(120);
  expect(result.metrics.multiply_adds).toBe(120 ** 2);
  load(result, set);
});
