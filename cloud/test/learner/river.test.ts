import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Adwin } from '../../src/learner/adwin.ts';
import { HalfSpaceTrees } from '../../src/learner/half-space-trees.ts';
import { PageHinkley, type PageHinkleyOptions } from '../../src/learner/page-hinkley.ts';
import { SequentialKMeans } from '../../src/learner/sequential-k-means.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

interface Vectors {
  adwin: {
    seed: number;
    options: Record<'delta' | 'clock' | 'max_buckets' | 'min_window_length' | 'grace_period', number>;
    values: number;
    detections: number[];
    widths: number[];
    total: number;
  }[];
  pageHinkley: { seed: number; threshold: number; delta: number; mode: string; detections: number[] }[];
  kMeans: { seed: number; rate: number; assigned: number[]; centers: number[][] }[];
  halfSpaceTrees: {
    seed: number;
    trees: number;
    height: number;
    window: number;
    columns: number[];
    thresholds: number[];
    scores: number[];
  }[];
}

// Written by river-vectors.py, which stands beside this file.
const VECTORS = JSON.parse(readFileSync(new URL('river-vectors.json', import.meta.url), 'utf8')) as Vectors;
const WIDTH = 5;

function levels(seed: number, rounded: boolean): number[] {
  const random = new SeededRandom(seed);
  const values: number[] = [];
  for (let part = 0; part < 6; part++) {
    const mean = random.uniform() * 6 - 3;
    const spread = [0.05, 0.5, 2][Math.floor(random.uniform() * 3)]!;
    const count = 200 + Math.floor(random.uniform() * 2000);
    for (let i = 0; i < count; i++) {
      const value = mean + spread * random.normal();
      values.push(rounded ? Math.floor(value * 2 + 0.5) / 2 : value);
    }
  }
  return values;
}

function blobs(random: SeededRandom): Float64Array {
  const blob = Math.floor(random.uniform() * 3);
  return Float64Array.from(
    { length: WIDTH },
    (_, i) => 2 * Math.sin(1 + blob * 2.5 + i) + 0.4 * random.normal(),
  );
}

describe('ADWIN beside River', () => {
  it.each(VECTORS.adwin)('cuts at the same values: seed $seed, $options', (vector) => {
    const { options, seed } = vector;
    const adwin = new Adwin({
      delta: options.delta,
      clock: options.clock,
      bucketsMax: options.max_buckets,
      sideMin: options.min_window_length,
      grace: options.grace_period,
    });
    const values = levels(seed, seed % 3 === 0);
    const detections: number[] = [];
    const widths: number[] = [];
    for (const [i, value] of values.entries()) {
      if (adwin.update(value)) detections.push(i);
      if (i % 101 === 0) widths.push(adwin.width);
    }
    expect(values).toHaveLength(vector.values);
    expect(vector.detections.length).toBeGreaterThan(0);
    expect(detections).toEqual(vector.detections);
    expect(widths).toEqual(vector.widths);
    expect(adwin.mean * adwin.width).toBeCloseTo(vector.total, 6);
  });
});

describe('Page-Hinkley beside River', () => {
  it.each(VECTORS.pageHinkley)('tells at the same values: seed $seed, $mode', (vector) => {
    const { seed, threshold, delta, mode } = vector;
    const test = new PageHinkley({
      threshold,
      delta,
      direction: mode as PageHinkleyOptions['direction'],
    });
    const detections = [...levels(seed, false).entries()].flatMap(([i, value]) =>
      test.update(value) ? [i] : [],
    );
    expect(vector.detections.length).toBeGreaterThan(0);
    expect(detections).toEqual(vector.detections);
  });
});

describe('k-means beside River', () => {
  it.each(VECTORS.kMeans)('moves given centers in the same way: rate $rate', ({ seed, rate, ...river }) => {
    const random = new SeededRandom(seed);
    const centers = Array.from({ length: 3 * WIDTH }, () => random.normal());
    const learner = SequentialKMeans.from({
      // River's rate is that of a center which has had very many rows: one part in the weight that it stays at.
      options: { width: WIDTH, clusters: 3, halfLife: -1 / Math.log2(1 - rate), seedRows: 3, seed: 1 },
      waiting: [],
      centers,
      weights: [1 / rate, 1 / rate, 1 / rate],
    });
    const assigned = river.assigned.map(() => learner.learn(blobs(random)));
    expect(assigned).toEqual(river.assigned);
    const { centers: moved } = learner.clusters;
    for (const [i, value] of river.centers.flat().entries()) expect(moved[i]).toBeCloseTo(value, 12);
  });
});

describe('half-space trees beside River', () => {
  it.each(VECTORS.halfSpaceTrees)('score the same with its trees: seed $seed', (vector) => {
    const { seed, trees, height, window, columns, thresholds } = vector;
    const learner = new HalfSpaceTrees(
      { width: WIDTH, trees, height, windowRows: window },
      { columns, thresholds },
    );
    const random = new SeededRandom(seed);
    const scores = vector.scores.map((_, i) => {
      const row = blobs(random);
      return learner.learn(i % 40 === 39 ? row.map((value) => value + 3) : row);
    });
    expect(scores).toEqual(vector.scores);
    expect(Math.max(...scores)).toBeGreaterThan(0.7);
  });
});
