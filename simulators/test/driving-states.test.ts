import { readFileSync } from 'node:fs';
import { compileDecoder, parseDbc, type CanFrame } from '@cardan/agent';
import { DrivingStates } from '@cardan/cloud';
import { expect, it } from 'vitest';
import { Car, CAR_DBC_PATH } from '../src/car.ts';
import type { Road } from '../src/drive-cycle.ts';

const START = Date.UTC(2026, 0, 1);
const CARS = 16;
const MINUTES = 60;
const dbc = parseDbc(readFileSync(CAR_DBC_PATH));
const SIGNALS = dbc.messages.flatMap(({ signals }) => signals).length;

interface Minute {
  times: Float64Array;
  values: Float32Array;
  /** The road of all of it; undefined where it changed. */
  road: Road | undefined;
}

/** Minutes of rows of a car, a row a second, with the road that its driver was on: the ground truth. */
function drive(id: string): Minute[] {
  const car = new Car({ id, seed: 1, startTime: START });
  const decoder = compileDecoder(dbc);
  const take = (frame: CanFrame) => decoder.find(frame.id, frame.extended)?.decode(frame.data);
  return Array.from({ length: MINUTES }, (_, minute) => {
    const values = new Float32Array(60 * SIGNALS);
    const roads = new Set<Road>();
    const times = Float64Array.from({ length: 60 }, (_, second) => START + (60 * minute + second + 1) * 1000);
    for (const [second, time] of times.entries()) {
      car.advance(time, take);
      values.set(decoder.values, second * SIGNALS);
      roads.add(car.state.cycle.road);
    }
    return { times, values, road: roads.size === 1 ? [...roads][0] : undefined };
  });
}

/** Hubert and Arabie, "Comparing partitions", 1985: 1 for the same partition, 0 for chance. */
function adjustedRandIndex(a: readonly unknown[], b: readonly unknown[]): number {
  const pairs = (keys: readonly unknown[]) => {
    const counts = new Map<unknown, number>();
    for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
    return [...counts.values()].reduce((sum, n) => sum + (n * (n - 1)) / 2, 0);
  };
  const both = pairs(a.map((key, i) => `${String(key)} ${String(b[i])}`));
  const [inA, inB] = [pairs(a), pairs(b)];
  const chance = (inA * inB) / ((a.length * (a.length - 1)) / 2);
  return (both - chance) / ((inA + inB) / 2 - chance);
}

it('driving states learned in the order of the stream are the roads that the cars were on', () => {
  const cars = Array.from({ length: CARS }, (_, i) => drive(`car-${i}`));
  const states = new DrivingStates(SIGNALS);
  const [learned, truth]: [number[], Road[]] = [[], []];
  for (let minute = 0; minute < MINUTES; minute++)
    for (const [i, minutes] of cars.entries()) {
      const { times, values, road } = minutes[minute]!;
      const [state] = states.learn(`car-${i}`, times, values);
      if (state === undefined || state < 0 || road === undefined) continue;
      learned.push(state);
      truth.push(road);
    }
  const index = adjustedRandIndex(learned, truth);
  console.log(`adjusted Rand index ${index.toFixed(2)} over ${learned.length} minutes on one road`);
  expect(learned.length).toBeGreaterThan(200);
  expect(index).toBeGreaterThan(FLOOR);
}, 120_000);

/** What it is now, less what chance may change. */
const FLOOR = 0.6;
