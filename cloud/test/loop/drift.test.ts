import { expect, test } from 'vitest';
import { binomialTail } from '../../src/loop/binomial.ts';
import { scoreDrift, sensorFaults } from '../../src/loop/drift.ts';
import { partFor, isHeldBack } from '../../src/trainer/held-back.ts';
import type { ScoreTrip } from '../../src/loop/trips.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

/** Rounds of trips of 20 cars; `level` says what each car's is, in thresholds. */
function trips(rounds: number, level: (car: number, round: number) => number, seed = 1): ScoreTrip[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: rounds * 20 }, (_, i) => {
    const [car, round] = [i % 20, Math.floor(i / 20)];
    const first = round * 3_600_000 + car;
    const noise = 0.05 * random.normal();
    return {
      vehicle: `car-${car}`,
      first,
      last: first + 1000,
      rows: 600,
      level: Math.max(0, level(car, round) + noise),
      alarmed: 0,
    };
  });
}

/** Cars differ, and stay as they are. */
const OWN = (car: number) => 0.3 + 0.01 * car;

test('the chance of so many is that of the binomial distribution', () => {
  expect(binomialTail(0, 10, 0.3)).toBe(1);
  expect(binomialTail(1, 3, 0.5)).toBeCloseTo(7 / 8, 12);
  expect(binomialTail(3, 3, 0.2)).toBeCloseTo(0.008, 12);
  // R: pbinom(5, 20, 0.05, lower.tail = FALSE)
  expect(binomialTail(6, 20, 0.05)).toBeCloseTo(0.000329, 6);
  expect(binomialTail(60, 5000, 0.01)).toBeGreaterThan(0.05);
});

test('a fleet of different cars that stays as it is has no drift and no fault', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const all = trips(20, OWN, seed);
    expect(scoreDrift(all)).toBeUndefined();
    expect(sensorFaults(all)).toEqual([]);
  }
});

test('many cars that score higher are drift, with the time from which on it is so', () => {
  const all = trips(16, (car, round) => OWN(car) + (round >= 10 && car < 12 ? 0.4 : 0));
  const drift = scoreDrift(all)!;
  expect(drift.drifting).toBe(12);
  expect(drift.vehicles).toBe(20);
  // Within a round.
  expect(Math.abs(drift.onset - 10 * 3_600_000)).toBeLessThanOrEqual(3_600_000);
});

test('one car that scores far higher is a fault of its own, also where it moves the mean of the fleet', () => {
  const all = trips(20, (car, round) => (round >= 8 && car === 7 ? 4 : OWN(car)));
  expect(scoreDrift(all)).toBeUndefined();
  expect(sensorFaults(all).map(({ vehicle }) => vehicle)).toEqual(['car-7']);
});

test('cars that score lower are no trouble', () => {
  expect(scoreDrift(trips(16, (car, round) => (round >= 10 ? 0.1 : OWN(car))))).toBeUndefined();
});

test('who is held back is the same for all, about the part, and at least so many', () => {
  const vehicles = Array.from({ length: 2000 }, (_, i) => `van-${i}`);
  const out = (part: number, of = vehicles) => of.filter((vehicle) => isHeldBack(vehicle, { seed: 1, part }));
  expect(out(0.2).length / vehicles.length).toBeCloseTo(0.2, 1);
  expect(out(0.2)).toEqual(out(0.2, vehicles.toReversed()).toReversed());
  for (let from = 0; from < 100; from++) {
    const few = vehicles.slice(from, from + 6);
    expect(out(partFor(few, 1, 0.2, 2), few).length).toBeGreaterThanOrEqual(2);
  }
});
