import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { theilSen } from '../../src/rul/theil-sen.ts';
import { TimeSlots } from '../../src/rul/time-slots.ts';
import { timeToLimit, type Trend } from '../../src/rul/time-to-limit.ts';

const HOUR = 3_600_000;

/** Normal numbers, the same in every run. */
function normalNumbers(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 20; i++) uniform();
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Hourly means of a fault, from 0.3 to 1 in `life` hours, of which `seen` have passed. */
function fault(
  shape: 'linear' | 'exponential' | 'flat',
  options: { seed: number; seen: number; life: number; noise: number; likeness: number },
): Trend {
  const { seed, seen, life, noise, likeness } = options;
  const normal = normalNumbers(seed);
  let error = normal();
  const means = Array.from({ length: seen }, (_, hour) => {
    error = likeness * error + Math.sqrt(1 - likeness ** 2) * normal();
    const part = hour / life;
    if (shape === 'exponential') return 0.3 * Math.exp(-Math.log(0.3) * part) * (1 + noise * error);
    return 0.3 + (shape === 'linear' ? 0.7 * part : 0) + noise * error;
  });
  return timeToLimit({ times: means.map((_, hour) => hour * HOUR), means, widthMs: HOUR }, 1);
}

describe('theilSen', () => {
  // The oracle is scipy.stats.theilslopes and scipy.stats.median_abs_deviation of SciPy.
  it('gives the slope of SciPy, and is not moved by a quarter of wild points', () => {
    const x = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    const y = [1.1, 1.4, 2.2, 2.4, 3.1, 3.4, 4.2, 4.4, 4.9, 5.6];
    expect(theilSen(x, y, 0.9).slope).toBeCloseTo(0.5, 10);
    const wild = y.map((value, i) => (i === 3 || i === 7 ? 100 : value));
    expect(theilSen(x, wild, 0.9).slope).toBeCloseTo(0.5, 1);
  });

  it('has 0 in the interval of the slope where there is none, nine times of ten', () => {
    let without = 0;
    for (let seed = 0; seed < 500; seed++) {
      const normal = normalNumbers(seed * 7919);
      const y = Array.from({ length: 20 }, normal);
      const { slopeLow, slopeHigh } = theilSen(
        y.map((_, i) => i),
        y,
        0.9,
      );
      if (slopeLow <= 0 && slopeHigh >= 0) without++;
    }
    expect(without / 500).toBeGreaterThan(0.87);
  });
});

describe('timeToLimit', () => {
  // Half of a life has been seen. The interval says 90 %; neighbours that are alike take some of that away.
  it.each([
    ['linear', 20, 0.02, 0, 0.88],
    ['linear', 50, 0.05, 0, 0.88],
    ['linear', 20, 0.05, 0.5, 0.85],
    ['linear', 50, 0.05, 0.8, 0.85],
    ['exponential', 20, 0.02, 0, 0.88],
    ['exponential', 50, 0.05, 0, 0.88],
    ['exponential', 20, 0.05, 0.5, 0.85],
    ['exponential', 50, 0.05, 0.8, 0.85],
  ] as const)(
    '%s, %d points, noise %d, likeness of neighbours %d: the end of life is in the interval at least %d times of 1',
    (shape, seen, noise, likeness, least) => {
      const life = 2 * seen;
      let towards = 0;
      let within = 0;
      for (let seed = 1; seed <= 300; seed++) {
        const { state, crosses } = fault(shape, { seed: seed * 7919 + seen, seen, life, noise, likeness });
        if (state !== 'towards') continue;
        towards++;
        const [low, high] = [crosses!.low ?? Infinity, crosses!.high ?? Infinity];
        if (low <= life * HOUR && life * HOUR <= high) within++;
      }
      expect(towards).toBeGreaterThan(270);
      expect(within / towards).toBeGreaterThanOrEqual(least);
    },
  );

  it('says "none" of a vehicle that has no fault, and gives no time', () => {
    let none = 0;
    for (let seed = 1; seed <= 300; seed++) {
      const { state, crosses } = fault('flat', {
        seed: seed * 31,
        seen: 30,
        life: 60,
        noise: 0.05,
        likeness: 0,
      });
      if (state === 'none') none++;
      if (state !== 'towards') expect(crosses).toBeNull();
    }
    expect(none / 300).toBeGreaterThan(0.87);
  });

  it('knows what falls to its limit, what moves away from it, what is beyond it, and what is too short', () => {
    const line = (from: number, perHour: number, points = 12) => {
      const normal = normalNumbers(5);
      const means = Array.from({ length: points }, (_, hour) => from + perHour * hour + 0.1 * normal());
      return { times: means.map((_, hour) => hour * HOUR), means, widthMs: HOUR };
    };
    const tire = timeToLimit(line(240, -2), 180);
    expect(tire.state).toBe('towards');
    expect(tire.crosses!.at! / HOUR).toBeCloseTo(30, 0);
    expect(tire.crosses!.low!).toBeLessThan(tire.crosses!.at!);
    expect(tire.crosses!.high!).toBeGreaterThan(tire.crosses!.at!);
    expect(tire.slope!.perHour).toBeCloseTo(-2, 1);
    expect(timeToLimit(line(240, 2), 180).state).toBe('away');
    expect(timeToLimit(line(190, -2), 180).state).toBe('crossed');
    expect(timeToLimit(line(240, -2, 5), 180)).toMatchObject({ state: 'short', slope: null, crosses: null });
    // So slow that nobody can say: not within ten times of what has been seen.
    expect(timeToLimit(line(240, -0.2), 100)).toMatchObject({
      state: 'towards',
      crosses: { at: null, high: null },
    });
  });
});

describe('TimeSlots', () => {
  it('keeps the whole history within its bound, ever coarser, in whatever order the values come', () => {
    const [inOrder, mixed] = [new TimeSlots(), new TimeSlots()];
    const count = 40_000;
    for (let i = 0; i < count; i++) {
      inOrder.add(i * 60_000, i);
      const j = (i * 7919) % count;
      mixed.add(j * 60_000, j);
    }
    const { times, means, widthMs } = inOrder.means;
    expect(mixed.means).toEqual({ times, means, widthMs });
    expect(times.length).toBeGreaterThan(64);
    expect(times.length).toBeLessThanOrEqual(128);
    expect(times[0]).toBeLessThan(widthMs);
    expect(times.at(-1)).toBeGreaterThan(count * 60_000 - widthMs);
    times.forEach((time, i) => expect(means[i]).toBeCloseTo(time / 60_000, 6));
  });

  it('leaves out what is not finite, and slots with too little in them', () => {
    const slots = new TimeSlots();
    for (let i = 0; i < 29; i++) slots.add(i * 1000, 1);
    slots.add(29_000, Number.NaN);
    slots.add(29_000, Infinity);
    expect(slots.means.times).toEqual([]);
    slots.add(29_000, 1);
    expect(slots.means.means).toEqual([1]);
  });
});

/**
 * NASA's turbofan engines, run to failure (C-MAPSS FD001; Saxena and others, PHM 2008). Health is the mean distance of
 * fourteen sensors from the engine's own first thirty flights, each with the sign that it has in the first fifty engines;
 * the limit is the median of what these ended at. The other fifty engines are judged.
 */
const FD001 = new URL('../../../../shared/data/cmapss-fd001/train_FD001.txt', import.meta.url);
const SENSORS = [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21];

describe('C-MAPSS FD001', () => {
  if (!existsSync(FD001)) console.warn('skipped: the data of C-MAPSS FD001 are not beside this checkout');

  it.skipIf(!existsSync(FD001))(
    'tells the end of an engine thirty flights before it, within an interval',
    () => {
      const engines = new Map<number, number[][]>();
      for (const line of readFileSync(FD001, 'utf8').trim().split('\n')) {
        const cells = line.trim().split(/\s+/).map(Number);
        const flights = engines.get(cells[0]!) ?? [];
        flights.push(SENSORS.map((sensor) => cells[4 + sensor]!));
        engines.set(cells[0]!, flights);
      }
      const away = (flights: number[][]) =>
        SENSORS.map((_, k) => {
          const begin = flights.slice(0, 30).map((flight) => flight[k]!);
          const mean = begin.reduce((sum, value) => sum + value, 0) / 30;
          const deviation = Math.sqrt(begin.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 30);
          return flights.map((flight) => (flight[k]! - mean) / deviation);
        });
      const all = [...engines.values()];
      const known = all.slice(0, 50).map(away);
      const signs = SENSORS.map((_, k) =>
        Math.sign(known.reduce((sum, sensors) => sum + sensors[k]!.at(-1)!, 0)),
      );
      // Ten flights are one point.
      const health = (sensors: number[][], flights: number) =>
        Array.from({ length: Math.floor(flights / 10) }, (_, point) => {
          const to = flights - 10 * (Math.floor(flights / 10) - 1 - point);
          let sum = 0;
          for (let flight = to - 10; flight < to; flight++)
            sensors.forEach((values, k) => (sum += signs[k]! * values[flight]!));
          return sum / (10 * sensors.length);
        });
      const ends = known.map((sensors) => health(sensors, sensors[0]!.length).at(-1)!).sort((a, b) => a - b);
      const limit = ends[25]!;
      const errors: number[] = [];
      let within = 0;
      let judged = 0;
      for (const flights of all.slice(50)) {
        const means = health(away(flights), flights.length - 30).slice(-8);
        // A flight is an hour here.
        const { state, crosses } = timeToLimit(
          { times: means.map((_, i) => i * 10 * HOUR), means, widthMs: 1 },
          limit,
        );
        if (state !== 'towards') continue;
        judged++;
        const now = (means.length - 1) * 10;
        const [low, high] = [crosses!.low ?? Infinity, crosses!.high ?? Infinity].map(
          (at) => at / HOUR - now,
        );
        if (low! <= 30 && 30 <= high!) within++;
        errors.push(Math.abs((crosses!.at ?? Infinity) / HOUR - now - 30));
      }
      errors.sort((a, b) => a - b);
      console.info(
        `C-MAPSS FD001: ${judged} of 50 engines have a trend 30 flights before their end; median error ${errors[errors.length >> 1]!.toFixed(1)} flights, ${within} ends within the interval`,
      );
      expect(judged).toBeGreaterThanOrEqual(40);
      expect(errors[errors.length >> 1]).toBeLessThan(15);
    },
  );
});
