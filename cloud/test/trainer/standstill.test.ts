import { expect, test } from 'vitest';
import { HYPER_PARAMETERS } from '../../src/trainer/hyper-parameters.ts';
import { scoringOf } from '../../src/trainer/scoring.ts';
import { standstillOf } from '../../src/trainer/standstill.ts';
import { Turns } from '../../src/trainer/turns.ts';

const GAP_MS = 5000;
const OPTIONS = { signals: 2, gapMs: GAP_MS, factor: 3, rowsMax: 122 };

/** Rows of two signals, one a second: one always moves, the other holds each value for `hold` rows. */
function span(rows: number, hold: number) {
  const times = Float64Array.from({ length: rows }, (_, row) => row * 1000);
  const values = new Float32Array(rows * 2);
  for (let row = 0; row < rows; row++) values.set([row % 7, Math.floor(row / hold) % 5], row * 2);
  return { times, values };
}
const of = async (spans: Parameters<typeof standstillOf>[0], options = OPTIONS) =>
  (await standstillOf(spans, options, new Turns(undefined))).afterRows;

test('a signal is stuck after three times its longest standstill, and never after less than twenty rows', async () => {
  // Ten rows of one value are nine that are the same as the one before.
  expect(await of([span(30_000, 10)])).toEqual([20, 27]);
  expect(await of([span(50_000, 10)], { ...OPTIONS, factor: 5 })).toEqual([20, 45]);
});

test('the longest standstill of any vehicle counts, but no gap does', async () => {
  const parked = span(40_000, 2);
  // As if the sensor had slept: a gap after each value, so that no two rows of it stand in succession.
  const slept = { ...parked, times: parked.times.map((time, row) => time + 10_000 * (row >> 1)) };
  expect(await of([span(90_000, 30), parked])).toEqual([20, 87]);
  expect(await of([slept])).toEqual([20, 20]);
});

test('a signal that stands for long, or was not watched for long enough, is not looked at', async () => {
  expect(await of([span(200_000, 42)])).toEqual([20, 0]);
  expect(await of([span(20_010, 10)])).toEqual([20, 0]);
  expect(await of([span(10_000, 1)])).toEqual([0, 0]);
});

test('a signal that stands at one value only is watched at all others', async () => {
  const rows = span(60_000, 1);
  // Parked for five minutes, again and again.
  for (let row = 0; row < 60_000; row++) if (row % 2000 < 300) rows.values[row * 2 + 1] = -0.1;
  const found = await standstillOf([rows], OPTIONS, new Turns(undefined));
  expect(found).toEqual({ afterRows: [20, 20], restAt: [null, Math.fround(-0.1)] });
});

test('rows in which a signal was not seen do not count', async () => {
  const rows = span(30_000, 1);
  for (let row = 0; row < 15_000; row++) rows.values[row * 2] = Number.NaN;
  expect(await of([rows])).toEqual([0, 20]);
});

test('a model watches the signals that never stand still, at a score like its threshold, unless it is told not to', async () => {
  const rows = span(30_000, 100);
  const means = new Float64Array(2);
  const network = { inputs: 2, outputs: 2, run: () => new Float32Array(2) };
  const scoring = (standstillFactor: number) =>
    scoringOf(
      [{ spans: [rows], network, means }],
      {
        signals: 2,
        features: {
          windowRows: 5,
          gapMs: GAP_MS,
          clip: 5,
          inputs: [0, 1].map((signal) => ({ signal, statistic: 'mean', center: 2, scale: 2 })),
        },
        parameters: { ...HYPER_PARAMETERS, standstillFactor },
        means,
        vehicles: 1,
      },
      new Turns(undefined),
    );
  const { score, alarm } = await scoring(3);
  expect(score.standstill).toEqual({
    afterRows: [20, 0],
    restAt: [null, null],
    weight: alarm.threshold,
  });
  expect((await scoring(0)).score.standstill).toBeUndefined();
});
