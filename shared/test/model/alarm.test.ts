import { expect, test } from 'vitest';
import { Alarm, type AlarmSpec } from '../../src/index.ts';

const SPEC: AlarmSpec = { threshold: 4, raiseAfterRows: 3, clearBelow: 3, clearAfterRows: 2 };

function changes(scores: number[], alarm = new Alarm(SPEC)): (string | null)[] {
  return scores.map((score) => alarm.push(score));
}

test('rows in succession over the threshold raise it once', () => {
  expect(changes([5, 5, 5, 5, 9])).toEqual([null, null, 'raised', null, null]);
});

test('a row that is not over it starts the count anew; the threshold itself is not over it', () => {
  expect(changes([5, 5, 4, 5, 5])).toEqual([null, null, null, null, null]);
});

test('between the two limits an alarm stays as it is', () => {
  expect(changes([5, 5, 5, 3.5, 3.5, 3.5, 2, 3, 2, 2])).toEqual([
    ...[null, null, 'raised', null, null, null, null, null, null],
    'cleared',
  ]);
});

test('NaN neither counts nor breaks a succession', () => {
  expect(changes([5, NaN, 5, NaN, NaN, 5])).toEqual([null, null, null, null, null, 'raised']);
});

test('it can begin active, as that of the model before', () => {
  const alarm = new Alarm(SPEC, true);
  expect(alarm.active).toBe(true);
  expect(changes([2, 2], alarm)).toEqual([null, 'cleared']);
  expect(alarm.active).toBe(false);
});
