import { expect, test } from 'vitest';
import { Probation } from '../../src/scoring/probation.ts';

const steps = (probation: Probation, times: number[]) => times.map((time) => probation.push(time));
const seconds = (rows: number, every = 1) => Array.from({ length: rows }, (_, row) => 1000 * every * row);

test('a model is calm after a minute of rows, and good after its time', () => {
  const told = steps(new Probation(300_000, 5000), seconds(400));
  expect(told.indexOf('calm')).toBe(60);
  expect(told.indexOf('good')).toBe(300);
  expect(told.filter((step) => step !== undefined)).toEqual(['calm', 'good']);
});

test('a night in the garage, a clock that is set, or a few rows prove nothing', () => {
  const probation = new Probation(300_000, 5000);
  expect(steps(probation, [0, 1000, 8 * 3_600_000, 1.7e12, 5, 6])).toEqual(Array.from({ length: 6 }));
  // One row every 30 seconds, in a model that takes minutes for a gap.
  const slow = steps(new Probation(300_000, 150_000), seconds(40, 30));
  expect(slow.indexOf('good')).toBe(29);
});
