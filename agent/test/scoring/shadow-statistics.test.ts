import { Alarm, Moments, QuantileSketch, Scorer, type VehicleShadow } from '@cardan/shared';
import { expect, test } from 'vitest';
import { drive } from '../../../shared/test/model/model-fixture.ts';
import { Recorded, version, WARM_UP_ROWS, withEachRow } from './scoring-fixture.ts';

/** Every second a row, and in the last part one signal is far off. */
const rows = drive(400);
for (let row = 300; row < 400; row++) rows.values[row * 3 + 2]! += 60;

/** The same model, but for another scale: it gives other scores. */
const other = () =>
  version('other', ({ manifest }) => ({
    manifest: {
      ...manifest,
      score: { ...manifest.score, residualScale: manifest.score.residualScale.map((scale) => 0.9 * scale) },
    },
  }));

function scores(of: ReturnType<typeof version>): number[] {
  const scorer = new Scorer(of.model);
  return Array.from({ length: 400 }, (_, row) => scorer.push(rows.times[row]!, rows.values, row * 3));
}

/** All periods together, as the cloud adds them up. */
function together(periods: VehicleShadow[]) {
  const [score, difference, sketch, latency] = [
    new Moments(),
    new Moments(),
    new QuantileSketch(),
    new QuantileSketch(),
  ];
  const sum = { rows: 0, nan: 0, alarms: 0 };
  for (const period of periods) {
    score.add(period.score);
    difference.add(period.difference);
    sketch.add(period.score.sketch);
    latency.add(period.latency.sketch);
    sum.rows += period.rows;
    sum.nan += period.nan;
    sum.alarms += period.alarms;
  }
  return { ...sum, score: score.data, difference: difference.data, sketch, latency };
}

test('the periods add up to the statistics of all rows', () => {
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.scoring.shadowWith(other());
  car.drive(rows);
  car.scoring.endShadow();
  expect(car.shadows.map((period) => period.rows)).toEqual([60, 60, 60, 60, 60, 60, 40]);
  for (const [i, period] of car.shadows.entries()) {
    expect(period).toMatchObject({
      model: { name: 'test', version: 'other' },
      active: { name: 'test', version: 'good' },
    });
    expect(Date.parse(period.from)).toBe(rows.times[60 * i]);
    expect(Date.parse(period.to)).toBe(period.time);
  }

  const all = together(JSON.parse(JSON.stringify(car.shadows)) as VehicleShadow[]);
  const expected = scores(other()).filter((score) => !Number.isNaN(score));
  const active = scores(version('good')).filter((score) => !Number.isNaN(score));
  const mean = (of: number[]) => of.reduce((a, b) => a + b) / of.length;
  const variance = (of: number[]) => mean(of.map((value) => (value - mean(of)) ** 2));
  const differences = expected.map((score, i) => score - active[i]!);
  expect(all).toMatchObject({ rows: 400, nan: WARM_UP_ROWS - 1 });
  expect(all.score.n).toBe(expected.length);
  expect(all.score.mean).toBeCloseTo(mean(expected), 9);
  expect(all.score.variance).toBeCloseTo(variance(expected), 7);
  expect(all.difference.n).toBe(expected.length);
  expect(all.difference.mean).toBeCloseTo(mean(differences), 9);
  expect(all.difference.variance).toBeCloseTo(variance(differences), 9);
  expected.sort((a, b) => a - b);
  for (const part of [0.5, 0.9, 0.99])
    expect(all.sketch.quantile(part) / expected[Math.floor(part * (expected.length - 1))]!).toBeCloseTo(
      1,
      1.7,
    );

  const alarm = new Alarm(other().model.manifest.alarm);
  expect(all.alarms).toBe(scores(other()).filter((score) => alarm.push(score) === 'raised').length);
  expect(all.alarms).toBe(1);
});

test('a change of either model ends the period, so that differences are of two models only', () => {
  const car = new Recorded();
  car.scoring.shadowWith(other());
  car.drive(rows, 0, 20);
  car.scoring.activate(version('first'));
  car.drive(rows, 20, 50);
  car.scoring.shadowWith(version('next'));
  car.drive(rows, 50, 60);
  // The candidate becomes the active one: there is nothing left to compare.
  car.scoring.activate(version('next'));
  car.drive(rows, 60, 100);
  expect(car.scoring.shadowModel).toBeNull();
  expect(
    car.shadows.map(({ model, active, rows, difference }) => [
      model.version,
      active?.version,
      rows,
      difference.n,
    ]),
  ).toEqual([
    ['other', undefined, 20, 0],
    ['other', 'first', 30, 30],
    ['next', 'first', 10, 10],
  ]);
});

test('the latency is that of the shadow alone', () => {
  const car = new Recorded();
  car.scoring.activate(
    version(
      'good',
      withEachRow(() => (car.us += 300)),
    ),
  );
  car.scoring.shadowWith(
    version(
      'other',
      withEachRow((row) => (car.us += row === 40 ? 900 : 20)),
    ),
  );
  car.drive(rows, 0, 50);
  car.scoring.endShadow();
  const { p50, p99 } = car.shadows[0]!.latency;
  expect(p50).toBeCloseTo(20, 0.5);
  expect(p99).toBeCloseTo(20, 0.5);
  const sketch = new QuantileSketch();
  sketch.add(car.shadows[0]!.latency.sketch);
  expect(sketch.quantile(1) / 900).toBeCloseTo(1, 1.7);
});

test('a shadow that begins in the middle of an alarm does not count it as its own', () => {
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.drive(rows, 0, 350);
  expect(car.scoring.alarmActive).toBe(true);
  car.scoring.shadowWith(other());
  car.drive(rows, 350, 400);
  car.scoring.endShadow();
  expect(car.shadows.map(({ alarms, nan }) => [alarms, nan])).toEqual([[0, 0]]);
});

test('a clock that was set back ends the period', () => {
  const car = new Recorded();
  car.scoring.shadowWith(other());
  car.drive(rows, 100, 120);
  car.drive(rows, 0, 20);
  car.scoring.endShadow();
  expect(car.shadows.map(({ from, to }) => Date.parse(to) - Date.parse(from))).toEqual([19_000, 19_000]);
});
