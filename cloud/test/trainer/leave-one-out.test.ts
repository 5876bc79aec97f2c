import { expect, test } from 'vitest';
import { DenseExecutor } from '@cardan/shared';
import { DenseTraining } from '../../src/trainer/dense-training.ts';
import { leaveOneOut, unitsThatFit } from '../../src/trainer/leave-one-out.ts';
import { LeaveOneOutTraining } from '../../src/trainer/leave-one-out-training.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';
import { Turns } from '../../src/trainer/turns.ts';

/** Two statistics of signal 0, then signals 1 to 4; what hangs together how is different for each. */
const GROUPS = [0, 0, 1, 2, 3, 4];
const WIDTH = GROUPS.length;

function rows(count: number, seed: number): Float32Array {
  const random = new SeededRandom(seed);
  const values = new Float32Array(count * WIDTH);
  for (let row = 0; row < count; row++) {
    const [x, y] = [random.normal(), random.normal()];
    const noise = () => 0.1 * random.normal();
    values.set(
      [x + noise(), 0.5 * x + noise(), x + y + noise(), y * y - 1 + noise(), y + noise(), random.normal()],
      row * WIDTH,
    );
  }
  return values;
}

/** Weights of the ridge regression of one column on those of other signals, from the normal equations, by elimination. */
function regression(values: Float32Array, output: number): number[] {
  const inputs = [...GROUPS.keys()].filter((i) => GROUPS[i] !== GROUPS[output]);
  const count = values.length / WIDTH;
  const column = (i: number) => Array.from({ length: count }, (_, row) => values[row * WIDTH + i]!);
  const mean = (of: number[]) => of.reduce((sum, value) => sum + value, 0) / count;
  const covariance = (a: number[], b: number[]) => mean(a.map((v, i) => (v - mean(a)) * (b[i]! - mean(b))));
  const system = inputs.map((i) => [
    ...inputs.map((j) => covariance(column(i), column(j)) + (i === j ? 0.1 : 0)),
    covariance(column(i), column(output)),
  ]);
  for (const [k, pivot] of system.entries())
    for (const [i, line] of system.entries())
      if (i !== k) {
        const times = line[k]! / pivot[k]!;
        line.forEach((_, j) => (line[j]! -= times * pivot[j]!));
      }
  const weights = new Array<number>(WIDTH).fill(0);
  system.forEach((line, k) => (weights[inputs[k]!] = line[inputs.length]! / line[k]!));
  return weights;
}

test('a linear network is ridge regression on the other signals', () => {
  const values = rows(200, 1);
  const { layers } = leaveOneOut(values, GROUPS, 1, new SeededRandom(1));
  expect(layers).toHaveLength(1);
  for (let output = 0; output < WIDTH; output++)
    for (const [input, weight] of regression(values, output).entries())
      expect(layers[0]!.kernel[input * WIDTH + output]).toBeCloseTo(weight, 5);
});

test('with hidden units it begins as regression, within what is linear', () => {
  const values = rows(200, 1);
  const linear = new DenseExecutor(leaveOneOut(values, GROUPS, 1, new SeededRandom(1)).layers);
  const network = new DenseExecutor(leaveOneOut(values, GROUPS, 4, new SeededRandom(1)).layers);
  for (let row = 0; row < 200; row++) {
    const input = values.slice(row * WIDTH, (row + 1) * WIDTH);
    const expected = Array.from(linear.run(input));
    Array.from(network.run(input)).forEach((value, i) => {
      expect(Math.abs(value - expected[i]!)).toBeLessThan(0.01);
    });
  }
});

test('no output sees its own signal, before and after training; and training learns what is not linear', async () => {
  const values = rows(2000, 2);
  const unseen = rows(500, 3);
  const turns = new Turns(undefined);
  const training = new LeaveOneOutTraining(values, GROUPS, {
    units: 4,
    batchRows: 50,
    maskChance: 0,
    noise: 0.1,
    seed: 1,
  });
  const blind = () => {
    const network = new DenseExecutor(training.layers());
    const input = values.slice(0, WIDTH);
    const before = Float64Array.from(network.run(input));
    for (let signal = 0; signal < 5; signal++) {
      const changed = input.map((value, i) => (GROUPS[i] === signal ? value + 3 : value));
      const after = network.run(changed);
      for (let i = 0; i < WIDTH; i++) if (GROUPS[i] === signal) expect(after[i]).toBe(before[i]);
    }
  };
  blind();
  const begun = await training.validationError(unseen, 0.006, turns);
  for (let epoch = 0; epoch < 15; epoch++) await training.epoch(0.006, turns);
  blind();
  // y² from y, which regression knows nothing of.
  expect(await training.validationError(unseen, 0.006, turns)).toBeLessThan(0.85 * begun);
});

test('what must not change does not; what may has the gradient of a training in which all may', () => {
  const values = rows(64, 4);
  const { layers, trained } = leaveOneOut(values, GROUPS, 3, new SeededRandom(1));
  // Some effect of every unit, so that there is a gradient everywhere.
  layers[1]!.kernel.forEach((weight, i) => {
    if (weight === 0 && trained[1]![i] === 1) layers[1]!.kernel[i] = 0.3;
  });
  const some = new DenseTraining(layers, {}, trained).gradient(values, values, 64);
  const all = new DenseTraining(layers).gradient(values, values, 64);
  for (const [layer, { kernel, bias }] of some.entries()) {
    const may = trained[layer]!;
    kernel.forEach((value, i) => {
      expect(value).toBeCloseTo(may[i] === 1 ? all[layer]!.kernel[i]! : 0, 12);
    });
    bias.forEach((value, i) => {
      expect(value).toBeCloseTo(may[kernel.length + i] === 1 ? all[layer]!.bias[i]! : 0, 12);
    });
  }
});

test('a network of default size has at most 5,000 weights, as long as signals are not very many', () => {
  for (const width of [2, 8, 18, 24, 34]) {
    const units = unitsThatFit(width);
    expect(units).toBeGreaterThan(1);
    expect(2 * width * width * units + width * units + width).toBeLessThanOrEqual(5000);
  }
  expect(unitsThatFit(70)).toBe(1);
});
