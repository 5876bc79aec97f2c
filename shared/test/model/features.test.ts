import { expect, test } from 'vitest';
import { FeatureExtractor, STATISTICS, type FeatureSpec } from '../../src/index.ts';
import { randomNumbers } from './model-fixture.ts';

const SPEC: FeatureSpec = {
  windowRows: 7,
  gapMs: 3000,
  clip: 2,
  inputs: [
    { signal: 2, statistic: 'deviation', center: 0.5, scale: 0.25 },
    { signal: 0, statistic: 'mean', center: 0.1, scale: 0.5 },
    { signal: 2, statistic: 'mean', center: 0, scale: 0.01 },
  ],
};

/** Rows of three signals, some not seen. */
function rows(count: number, seed: number): Float32Array {
  const random = randomNumbers(seed);
  return Float32Array.from({ length: count * 3 }, () => {
    const value = random();
    return value > 0.8 ? Number.NaN : value;
  });
}

test('features are the statistics of the window, by their definition', () => {
  const values = rows(60, 1);
  const extractor = new FeatureExtractor(SPEC);
  for (let row = 0; row < 60; row++) {
    const full = extractor.push(row * 1000, values, row * 3);
    expect(full).toBe(row >= 6);
    if (!full) continue;
    const seen = (signal: number) =>
      Array.from({ length: 7 }, (_, k) => values[(row - 6 + k) * 3 + signal]!).filter(
        (v) => !Number.isNaN(v),
      );
    const mean = (of: number[]) => of.reduce((a, b) => a + b, 0) / of.length;
    const deviation = (of: number[]) => Math.sqrt(mean(of.map((v) => (v - mean(of)) ** 2)));
    const expected = [(deviation(seen(2)) - 0.5) / 0.25, (mean(seen(0)) - 0.1) / 0.5, mean(seen(2)) / 0.01];
    expected.forEach((value, i) => {
      expect(extractor.standardised[i]).toBeCloseTo(value, 12);
      expect(extractor.clipped[i]).toBeCloseTo(Math.max(-2, Math.min(2, value)), 6);
    });
  }
});

const ALL: FeatureSpec = {
  ...SPEC,
  clip: 1e9,
  inputs: [0, 1, 2].flatMap((signal) =>
    STATISTICS.slice(0, STATISTICS.indexOf('value')).map((statistic) => ({
      signal,
      statistic,
      center: 0,
      scale: 1,
    })),
  ),
};

test('slope, min, max and range are those of the values seen in the window', () => {
  const values = rows(60, 4);
  const extractor = new FeatureExtractor(ALL);
  for (let row = 0; row < 60; row++) {
    if (!extractor.push(row * 1000, values, row * 3)) continue;
    for (const signal of [0, 1, 2]) {
      const seen = Array.from({ length: 7 }, (_, k) => [k, values[(row - 6 + k) * 3 + signal]!]).filter(
        ([, value]) => !Number.isNaN(value),
      ) as [number, number][];
      const all = seen.map(([, value]) => value);
      // The line of least squares by the normal equations: [n Σk; Σk Σk²] [intercept; slope] = [Σv; Σkv].
      const sum = (of: (k: number, value: number) => number) => seen.reduce((s, [k, v]) => s + of(k, v), 0);
      const [n, k, kk] = [seen.length, sum((k) => k), sum((k) => k * k)];
      const slope = (n * sum((k, v) => k * v) - k * sum((_, v) => v)) / (n * kk - k * k);
      const [min, max] = [Math.min(...all), Math.max(...all)];
      [slope, min, max, max - min].forEach((value, i) => {
        expect(extractor.standardised[signal * 6 + 2 + i]).toBeCloseTo(value, 10);
      });
    }
  }
});

test('a line has its own slope, in units per row, wherever the ring begins and whatever is missing', () => {
  const extractor = new FeatureExtractor({ ...ALL, inputs: [ALL.inputs[2]!] });
  for (let row = 0; row < 40; row++) {
    const value = row % 5 === 3 ? Number.NaN : 20 - 0.25 * row;
    if (extractor.push(row * 1000, Float32Array.of(value)))
      expect(extractor.standardised[0]).toBeCloseTo(-0.25, 14);
  }
});

test('a value is that of the row so many rows ago, whatever else is asked for of its signal', () => {
  const values = rows(60, 6);
  const lags = [6, 0, 3];
  const extractor = new FeatureExtractor({
    ...SPEC,
    clip: 1e9,
    inputs: [
      ...lags.map((lag) => ({ signal: 1, statistic: 'value' as const, lag, center: 0.5, scale: 2 })),
      { signal: 2, statistic: 'mean', center: 0, scale: 1 },
      { signal: 2, statistic: 'value', center: 0, scale: 1 },
    ],
  });
  const means = new FeatureExtractor({
    ...SPEC,
    inputs: [{ signal: 2, statistic: 'mean', center: 0, scale: 1 }],
  });
  for (let row = 0; row < 60; row++) {
    means.push(row * 1000, values, row * 3);
    if (!extractor.push(row * 1000, values, row * 3)) continue;
    lags.forEach((lag, i) => {
      const value = values[(row - lag) * 3 + 1]!;
      expect(extractor.seen[i]).toBe(Number(!Number.isNaN(value)));
      expect(extractor.standardised[i]).toBe(Number.isNaN(value) ? 0 : (value - 0.5) / 2);
    });
    expect(extractor.standardised[3]).toBe(means.standardised[0]);
    const newest = values[row * 3 + 2]!;
    expect(extractor.standardised[4]).toBe(Number.isNaN(newest) ? 0 : newest);
  }
});

test('one value has extremes and no slope; without a value there is none', () => {
  const extractor = new FeatureExtractor({ ...ALL, windowRows: 2 });
  extractor.push(0, Float32Array.of(Number.NaN, 0, 0.5));
  extractor.push(1000, Float32Array.of(Number.NaN, 0, Infinity));
  // mean, deviation, slope, min, max, range of each signal
  expect([...extractor.seen]).toEqual([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1]);
  expect([...extractor.standardised.subarray(12)]).toEqual([0.5, 0, 0, 0.5, 0.5, 0]);
});

test('two readers have the same bits once they have seen the same window, whatever came before', () => {
  const values = rows(200, 2);
  const early = new FeatureExtractor(ALL);
  const late = new FeatureExtractor(ALL);
  for (let row = 0; row < 200; row++) {
    early.push(row * 1000, values, row * 3);
    if (row < 101) continue;
    const full = late.push(row * 1000, values, row * 3);
    expect(full).toBe(row >= 107);
    if (full) expect(late.standardised).toEqual(early.standardised);
  }
});

test.each([
  ['a gap', 3001],
  ['a clock that goes back', -1],
])('%s empties the window', (_, step) => {
  const values = rows(30, 3);
  const extractor = new FeatureExtractor(SPEC);
  let time = 0;
  for (let row = 0; row < 20; row++) {
    time += row === 10 ? step : 1000;
    expect(extractor.push(time, values, row * 3)).toBe((row >= 6 && row < 10) || row >= 16);
    expect(extractor.restarted).toBe(row === 0 || row === 10);
  }
});

test('a window of one row is the row', () => {
  const extractor = new FeatureExtractor({ ...SPEC, windowRows: 1, inputs: [SPEC.inputs[1]!] });
  expect(extractor.push(0, Float32Array.of(0.6, 0, 0))).toBe(true);
  expect(extractor.standardised[0]).toBeCloseTo(1, 6);
  expect(extractor.restarted).toBe(true);
  extractor.push(1000, Float32Array.of(0.6, 0, 0));
  expect(extractor.restarted).toBe(false);
});

test('a signal that was not seen, or is not finite, has the feature 0 and is marked', () => {
  const extractor = new FeatureExtractor({ ...SPEC, windowRows: 2 });
  extractor.push(0, Float32Array.of(Number.NaN, 0, 0.5));
  extractor.push(1000, Float32Array.of(Number.NaN, 0, Infinity));
  // Of signal 2 there is one value: a mean, and no deviation.
  expect([...extractor.seen]).toEqual([0, 0, 1]);
  expect([...extractor.standardised]).toEqual([0, 0, 50]);
  expect([...extractor.clipped]).toEqual([0, 0, 2]);
});

test('a difference is from the oldest row of the window to the newest, a ratio that of two means', () => {
  const values = rows(60, 9);
  const extractor = new FeatureExtractor({
    ...SPEC,
    clip: 1e9,
    inputs: [
      { signal: 2, statistic: 'ratio', over: 1, center: 0, scale: 1 },
      { signal: 0, statistic: 'difference', center: 0.25, scale: 2 },
      { signal: 0, statistic: 'value', lag: 6, center: 0, scale: 1 },
    ],
  });
  for (let row = 0; row < 60; row++) {
    if (!extractor.push(row * 1000, values, row * 3)) continue;
    const column = (signal: number) =>
      Array.from({ length: 7 }, (_, k) => values[(row - 6 + k) * 3 + signal]!);
    const mean = (signal: number) => {
      const seen = column(signal).filter((value) => !Number.isNaN(value));
      return seen.reduce((a, b) => a + b, 0) / seen.length;
    };
    const [oldest, newest] = [column(0)[0]!, column(0)[6]!];
    const difference = (newest - oldest - 0.25) / 2;
    expect(extractor.standardised[0]).toBeCloseTo(mean(2) / mean(1), 10);
    expect(extractor.seen[1]).toBe(Number.isNaN(difference) ? 0 : 1);
    if (!Number.isNaN(difference)) expect(extractor.standardised[1]).toBeCloseTo(difference, 12);
    if (!Number.isNaN(oldest)) expect(extractor.standardised[2]).toBeCloseTo(oldest, 12);
  }
});

test('a ratio over nothing is not seen', () => {
  const extractor = new FeatureExtractor({
    ...SPEC,
    windowRows: 1,
    inputs: [{ signal: 0, statistic: 'ratio', over: 1, center: 0, scale: 1 }],
  });
  extractor.push(0, Float32Array.of(3, 0));
  expect(extractor.seen[0]).toBe(0);
  extractor.push(1000, Float32Array.of(3, 2));
  expect(extractor.standardised[0]).toBe(1.5);
});
