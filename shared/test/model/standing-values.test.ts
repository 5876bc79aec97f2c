import { describe, expect, test } from 'vitest';
import { loadModel, Scorer, StandingValues } from '../../src/index.ts';
import { changedJson, drive, modelFiles } from './model-fixture.ts';

/** Windows of 4 rows, averages over 6: a score depends on 9 rows, of which 8 can be the same as the one before. */
const COUNT_MAX = 8;
// Far over what these drives score without it.
const standstill = { afterRows: [4, 0, 4], weight: 100 };
const files = modelFiles((manifest) => {
  manifest.score.standstill = standstill;
});
const model = loadModel(files);
const without = loadModel(modelFiles());

/** A drive in which a signal sticks from row 20 up to row 40. */
function stuck(signal: number) {
  const rows = drive(60);
  for (let row = 21; row < 40; row++) rows.values[row * 3 + signal] = rows.values[20 * 3 + signal]!;
  return rows;
}

describe('a signal that stands still', () => {
  test('scores once it has stood for long enough, more with each row, and takes all of the blame', () => {
    const { times, values } = stuck(2);
    const [scorer, other] = [new Scorer(model), new Scorer(without)];
    for (let row = 0; row < 60; row++) {
      const score = scorer.push(times[row]!, values, row * 3);
      const usual = other.push(times[row]!, values, row * 3);
      const stood = row < 20 || row >= 40 ? 0 : Math.min(COUNT_MAX, row - 20);
      if (stood < 4) expect(score).toEqual(usual);
      else expect(score).toBe((100 * stood) / 4);
      if (stood === COUNT_MAX) expect([...scorer.contributions()]).toEqual([0, 0, 1]);
    }
  });

  test('does not score when it is one that may', () => {
    const { times, values } = stuck(1);
    expect(new Scorer(model).pushRows(times, values)).toEqual(new Scorer(without).pushRows(times, values));
  });

  test('gives the same bits to who has only seen the rows that a score depends on', () => {
    const { times, values } = stuck(2);
    const car = new Scorer(model).pushRows(times, values);
    for (let from = 1; from < 40; from++) {
      const cloud = new Scorer(model).pushRows(times.subarray(from), values.subarray(from * 3));
      expect(cloud.subarray(COUNT_MAX)).toEqual(car.subarray(from + COUNT_MAX));
    }
  });

  test('shares the blame with others that do', () => {
    const counts = new StandingValues({ afterRows: [2, 4], weight: 1 }, COUNT_MAX);
    const row = Float32Array.of(5, 7);
    const scores = Array.from({ length: 6 }, () => counts.push(row, 0));
    expect(scores).toEqual([0, 0, 1, 1.5, 2, 2.5]);
    expect([...counts.parts]).toEqual([2.5, 1.25]);
  });
});

test('a silent signal does not stand still, and nothing does across a gap', () => {
  const counts = new StandingValues({ afterRows: [2], weight: 1 }, COUNT_MAX);
  const push = (value: number) => counts.push(Float32Array.of(value), 0);
  expect([Number.NaN, Number.NaN, Number.NaN, Number.NaN].map(push)).toEqual([0, 0, 0, 0]);
  expect([5, 5, 5].map(push)).toEqual([0, 0, 1]);
  counts.restart();
  expect([5, 5, 5].map(push)).toEqual([0, 0, 1]);
});

test('a signal does not stand while it is at rest', () => {
  const counts = new StandingValues({ afterRows: [2, 2], restAt: [0, null], weight: 1 }, COUNT_MAX);
  const push = (value: number) => counts.push(Float32Array.of(value, Number.NaN), 0);
  expect([0, 0, 0, 0].map(push)).toEqual([0, 0, 0, 0]);
  expect([5, 5, 5].map(push)).toEqual([0, 0, 1]);
});

test('a network whose output is not finite has an infinite score, whatever stands still', () => {
  const { times, values } = stuck(2);
  const output = new Float32Array(4).fill(Number.NaN);
  const scorer = new Scorer({ ...model, network: { inputs: 4, outputs: 4, run: () => output } });
  expect(scorer.pushRows(times, values).subarray(COUNT_MAX)).toEqual(new Float32Array(52).fill(Infinity));
});

test.each<[string, unknown, RegExp]>([
  ['afterRows.0', 1.5, /afterRows\[0\] must be a whole number up to 8/],
  ['afterRows.0', 9, /afterRows\[0\] must be a whole number up to 8/],
  ['afterRows', [1, 2], /afterRows/],
  ['restAt', [1, 2], /restAt/],
  ['restAt', ['0', null, null], /restAt\[0\]/],
  ['weight', 0, /weight/],
])('a manifest whose standstill has a wrong %s (%j) is refused', (path, value, message) => {
  const manifest = changedJson(files.manifest, `score.standstill.${path}`, value);
  expect(() => loadModel({ ...files, manifest })).toThrow(message);
  expect(() => loadModel({ ...files, manifest })).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
});
