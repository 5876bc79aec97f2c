import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { symmetricEigen } from '../../src/trainer/symmetric-eigen.ts';
import {
  crossFitTrivial,
  fitTrivial,
  TRIVIAL,
  TrivialDetectors,
  type Trivial,
} from '../../src/trainer/trivial-detectors.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';
import type { Span } from '../../src/trainer/split.ts';
import { Turns } from '../../src/trainer/turns.ts';

/** Made by trivial-vectors.py, of NumPy and scikit-learn. */
const vectors = JSON.parse(readFileSync(new URL('trivial-vectors.json', import.meta.url), 'utf8')) as {
  width: number;
  rows: number[][];
  covariance: number[][];
  eigenvalues: number[];
} & Record<Trivial, number[]>;
const { width } = vectors;
const rows = Float32Array.from(vectors.rows.flat());
const turns = new Turns(undefined);

test('eigenvalues are those of NumPy, and vectors give the matrix back', async () => {
  const matrix = Float64Array.from(vectors.covariance.flat());
  const { values, vectors: found } = await symmetricEigen(matrix, width, turns);
  values.forEach((value, i) => {
    expect(value).toBeCloseTo(vectors.eigenvalues[i]!, 10);
  });
  for (let i = 0; i < width; i++)
    for (let j = 0; j < width; j++) {
      let [element, product] = [0, 0];
      for (let k = 0; k < width; k++) {
        element += values[k]! * found[k * width + i]! * found[k * width + j]!;
        product += found[i * width + k]! * found[j * width + k]!;
      }
      expect(element).toBeCloseTo(matrix[i * width + j]!, 10);
      expect(product).toBeCloseTo(i === j ? 1 : 0, 10);
    }
});

test('max |z|, Mahalanobis and T²+Q of each row are those of NumPy and scikit-learn', async () => {
  const detectors = await TrivialDetectors.of(rows, width, turns);
  for (let row = 0; row < vectors.rows.length; row++) {
    const scores = detectors.scores(rows, row * width);
    for (const name of TRIVIAL) expect(scores[name]).toBeCloseTo(vectors[name][row]!, 6);
  }
  // One row in a hundred is over the limit.
  for (const name of TRIVIAL)
    expect(vectors[name].filter((score) => score > detectors.limits[name] + 1e-6)).toHaveLength(2);
});

test('with too many inputs for directions there is max |z| alone', async () => {
  const wide = 300;
  const random = new SeededRandom(1);
  const detectors = await TrivialDetectors.of(
    Float32Array.from({ length: 50 * wide }, () => random.normal()),
    wide,
    turns,
  );
  expect(detectors.names).toEqual(['max_z']);
});

test('a copy of a signal, and one that hardly moves, give finite scores', async () => {
  const random = new SeededRandom(1);
  const copied = Float32Array.from({ length: 300 }, () => 0);
  for (let row = 0; row < 100; row++) {
    copied[3 * row] = copied[3 * row + 1] = random.normal();
    copied[3 * row + 2] = 5;
  }
  const detectors = await TrivialDetectors.of(copied, 3, turns);
  for (const name of ['mahalanobis', 't2_q'] as const)
    expect(detectors.scores([0, 1, 5])[name]).toBeGreaterThan(5 * detectors.limits[name]);
  for (const name of TRIVIAL) expect(Number.isFinite(detectors.scores([9, -9, 9])[name])).toBe(true);
});

const FEATURES = {
  windowRows: 1,
  gapMs: 5000,
  inputs: [0, 1].map((signal) => ({ signal, statistic: 'mean' as const, center: 0, scale: 1 })),
  clip: 5,
};

/** Two signals that are nearly the same, or not. */
function drive(seed: number, apart: number, count = 2000): Span {
  const random = new SeededRandom(seed);
  const values = new Float32Array(2 * count);
  for (let row = 0; row < count; row++) {
    values[2 * row] = random.normal();
    values[2 * row + 1] = values[2 * row]! + 0.1 * random.normal() + apart;
  }
  return { times: Float64Array.from({ length: count }, (_, row) => 1000 * row), values };
}

test('on held-back rows that are as the others about one in a hundred is over the limit', async () => {
  const parts = [1, 2, 3, 4].map((seed) => [drive(seed, 0)]);
  const { metrics } = await crossFitTrivial(parts, 2, FEATURES, turns);
  for (const name of TRIVIAL) {
    expect(metrics[`${name}_alarm_rate`]).toBeGreaterThan(0.004);
    expect(metrics[`${name}_alarm_rate`]).toBeLessThan(0.02);
  }
  expect(await crossFitTrivial(parts, 2, FEATURES, turns)).toMatchObject({ metrics });
});

test('rows in which signals do not go together are seen by those that know of correlation only', async () => {
  const { metrics } = await fitTrivial([drive(1, 0)], [drive(2, 0.6)], 2, FEATURES, turns);
  expect(metrics.max_z_alarm_rate).toBeLessThan(0.1);
  expect(metrics.mahalanobis_alarm_rate).toBeGreaterThan(0.9);
  expect(metrics.t2_q_alarm_rate).toBeGreaterThan(0.9);
});

test('of a long span they see a part, spread over all of it', async () => {
  // What changes is in the second half.
  const [calm, moved] = [drive(3, 0, 30_000), drive(4, 0.6, 30_000)];
  const both: Span = {
    times: Float64Array.from({ length: 60_000 }, (_, row) => 1000 * row),
    values: Float32Array.from([...calm.values, ...moved.values]),
  };
  const { metrics } = await fitTrivial([drive(1, 0)], [both], 2, FEATURES, turns);
  expect(metrics.mahalanobis_alarm_rate).toBeGreaterThan(0.45);
  expect(metrics.mahalanobis_alarm_rate).toBeLessThan(0.55);
});
