import { describe, expect, it } from 'vitest';
import { signalSet, type DenseLayer, type Model } from '@cardan/shared';
import { boundFalseAlarms, boundText, type HeldBackRows } from '../../src/trainer/false-alarms.ts';
import { Turns } from '../../src/trainer/turns.ts';

/** One row a minute. */
const ROWS_PER_HOUR = 60;
const HOURS = 10;
/** Expects 0 whatever comes, so that the score of a row is how far its one signal is from 0. */
const NOTHING: DenseLayer = {
  name: 'nothing',
  inputs: 1,
  units: 1,
  kernel: new Float32Array(1),
  bias: new Float32Array(1),
  activation: 'linear',
};
const MODEL = {
  manifest: {
    signalSet: signalSet([{ name: 'a', unit: '' }]),
    features: {
      windowRows: 1,
      gapMs: 300_000,
      clip: 8,
      inputs: [{ signal: 0, statistic: 'mean', center: 0, scale: 1 }],
    },
    score: { smoothingRows: 1, residualCenter: [0], residualScale: [1] },
    alarm: { threshold: 2, raiseAfterRows: 3, clearBelow: 1.6, clearAfterRows: 3 },
  },
  layers: [NOTHING],
} as unknown as Model;

/** Ten hours of driving, in which the score rises once for five minutes. */
function trip(vehicle: string, height: number): HeldBackRows {
  const rows = HOURS * ROWS_PER_HOUR;
  const values = new Float32Array(rows).fill(0.1);
  values.fill(height, 100, 105);
  return { vehicle, times: Float64Array.from({ length: rows }, (_, row) => row * 60_000), values };
}

/** 400 vehicle-hours: one rises to 5, twenty to 3. */
const FLEET = Array.from({ length: 40 }, (_, i) => trip(`v${i}`, i === 0 ? 5 : i <= 20 ? 3 : 0.1));
const bound = (per100Hours: number, rows = FLEET, expected?: (vehicle: string, time: number) => boolean) =>
  boundFalseAlarms(MODEL, rows, per100Hours, new Turns(undefined), expected);

describe('a threshold by a bound of false alarms', () => {
  // Garwood's upper limits (1936, 95 % one-sided) for 0, 1 and 21 events: 2.996, 4.744, 30.240.
  it.each([
    [1, 0, 2.996, 22],
    [2, 1, 4.744, 10],
    [10, 21, 30.24, -16],
  ])('of %d in 100 hours is the lowest that shows it', async (per100Hours, alarms, upper, step) => {
    const { factor, metrics } = await bound(per100Hours);
    expect(factor).toBeCloseTo(2 ** (step / 16), 12);
    expect(metrics).toMatchObject({ false_alarms: alarms, threshold_without_bound: 2 });
    expect(metrics.false_alarm_hours).toBeCloseTo(40 * (HOURS - 1 / ROWS_PER_HOUR), 9);
    const exact = (100 * upper) / metrics.false_alarm_hours;
    expect(metrics.false_alarms_per_100_hours_upper).toBeCloseTo(exact, 2);
    expect(boundText(per100Hours, { ...metrics })).toMatch(/^at most .*with 95 % confidence$/);
  });

  it('is not lowered where few hours show nothing, and that is said with what it takes', async () => {
    const { factor, metrics } = await bound(1, [trip('v1', 0.1), trip('v2', 1.5)]);
    expect(factor).toBe(1);
    expect(metrics.false_alarms).toBe(0);
    const text = boundText(1, { ...metrics });
    expect(text).toContain('is NOT shown: 0 in 20 held-back vehicle-hours may be as many as 15 in 100');
    expect(text).toContain('at least 300 held-back vehicle-hours without an alarm');
  });

  it('is raised over alarms that were seen, where few hours show nothing', async () => {
    const { factor, metrics } = await bound(1, [trip('v1', 3), trip('v2', 0.1)]);
    expect(factor).toBeCloseTo(2 ** (10 / 16), 12);
    expect(metrics.false_alarms).toBe(0);
  });

  it('says that nothing is known without held-back rows', async () => {
    const { factor, metrics } = await bound(1, []);
    expect(factor).toBe(1);
    expect(boundText(1, { ...metrics })).toContain('0 in 0 held-back vehicle-hours say nothing');
  });

  it('says it where no threshold keeps the bound', async () => {
    const wild = FLEET.map(({ vehicle }) => trip(vehicle, 1000));
    const { manifest } = MODEL;
    // Eight times this is below what a score can be.
    const low = { ...MODEL, manifest: { ...manifest, alarm: { ...manifest.alarm, threshold: 0.5 } } };
    const { factor, metrics } = await boundFalseAlarms(low, wild, 1, new Turns(undefined));
    expect(factor).toBe(8);
    expect(metrics.false_alarms).toBe(40);
    expect(boundText(1, { ...metrics })).toContain('No threshold up to eight times the usual one shows it');
  });

  it('takes no alarm for false, and no hour into account, while something was at fault', async () => {
    const { metrics } = await bound(1, FLEET, (vehicle) => vehicle === 'v0');
    expect(metrics.false_alarms).toBe(0);
    expect(metrics.false_alarm_hours).toBeCloseTo(39 * (HOURS - 1 / ROWS_PER_HOUR), 9);
    expect(metrics.false_alarms_per_100_hours_upper).toBeLessThan(1);
  });
});
