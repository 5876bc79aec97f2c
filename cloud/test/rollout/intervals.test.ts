import { describe, expect, test } from 'vitest';
import {
  differenceInterval,
  meanInterval,
  rateInterval,
  shareInterval,
  studentQuantile,
  wilsonInterval,
} from '../../src/rollout/intervals.ts';

/* The figures are of published tables, or solved for with sums of binomial and Poisson probabilities in Python. */

describe('shares, by Clopper and Pearson', () => {
  test.each([
    [0, 10, 0, 0.3084971],
    [1, 10, 0.002528579, 0.4450161],
    [5, 10, 0.187086, 0.812914],
    [10, 10, 0.6915029, 1],
  ])('%d of %d', (hits, n, low, high) => {
    const interval = shareInterval(hits, n, 0.95);
    expect(interval.low).toBeCloseTo(low, 6);
    expect(interval.high).toBeCloseTo(high, 6);
  });
});

describe('rates, by Garwood', () => {
  test.each([
    [0, 0, 3.688879],
    [1, 0.02531781, 5.571643],
    [10, 4.795389, 18.39036],
    [100, 81.363985, 121.626794],
  ])('%d events', (events, low, high) => {
    const interval = rateInterval(events, 2, 0.95);
    expect(interval.low * 2).toBeCloseTo(low, 4);
    expect(interval.high * 2).toBeCloseTo(high, 4);
  });

  test('without exposure everything is possible', () => {
    expect(rateInterval(0, 0, 0.95)).toEqual({ low: 0, high: Infinity });
  });

  test('a million events are no trouble', () => {
    const { low, high } = rateInterval(1e6, 1e6, 0.95);
    // The normal approximation is good there.
    expect(low).toBeCloseTo(1 - 1.96e-3, 5);
    expect(high).toBeCloseTo(1 + 1.96e-3, 5);
  });
});

test.each([
  [1, 12.7062],
  [10, 2.228139],
  [30, 2.042272],
  [Infinity, 1.959964],
])('quantile of Student, %d degrees of freedom', (freedom, expected) => {
  expect(studentQuantile(0.975, freedom)).toBeCloseTo(expected, 4);
});

test("Student's own data: hours of sleep that a drug brings", () => {
  const hours = [1.2, 2.4, 1.3, 1.3, 0, 1, 1.8, 0.8, 4.6, 1.4];
  const mean = hours.reduce((a, b) => a + b) / 10;
  const variance = hours.reduce((sum, hour) => sum + (hour - mean) ** 2, 0) / 10;
  const { low, high } = meanInterval({ n: 10, mean, variance }, 0.95);
  expect(low).toBeCloseTo(0.7001142, 6);
  expect(high).toBeCloseTo(2.4598858, 6);
});

test("differences of shares: the first example of Newcombe's paper", () => {
  const interval = differenceInterval(wilsonInterval(56, 70, 0.95), wilsonInterval(48, 80, 0.95));
  expect(interval.low).toBeCloseTo(0.0524, 4);
  expect(interval.high).toBeCloseTo(0.3339, 4);
});

test.each([
  [0.5, 0.5],
  [2, 2],
  [5, 1],
  [20, 12],
])('the interval of a difference of rates holds the true one as often as it promises: %d and %d', (a, b) => {
  let held = 0;
  for (let i = 0; i < 60; i++)
    for (let k = 0; k < 60; k++) {
      const { low, high } = differenceInterval(
        { value: i, ...rateInterval(i, 1, 0.95) },
        { value: k, ...rateInterval(k, 1, 0.95) },
      );
      if (low <= a - b && a - b <= high) held += poisson(i, a) * poisson(k, b);
    }
  expect(held).toBeGreaterThan(0.945);
});

function poisson(n: number, mean: number): number {
  let p = Math.exp(-mean);
  for (let i = 1; i <= n; i++) p *= mean / i;
  return p;
}
