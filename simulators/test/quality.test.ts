import { loadModel } from '@cardan/shared';
import { beforeAll, describe, expect, test } from 'vitest';
import { trainFleetModel } from '../../bench/parts/quality/fleet-model.ts';
import { poissonUpper, tally, type Tally } from '../../bench/parts/quality/tally.ts';
import { CASES, GROWTH_S, tryCar, type Case, type CarOutcome } from '../../bench/parts/quality/trial.ts';

/** The short form of `npm run bench:quality`: a small fleet to learn from, a few cars to judge on. */
const FLEET = { cars: 20, rowsPerCar: 700, seed: 1 };
const SEEDS = [1, 2, 3, 4];
const HEALTHY_S = 3600;

let cars: CarOutcome[];
let result: Tally;

beforeAll(async () => {
  const { files } = await trainFleetModel(FLEET);
  const model = loadModel(files);
  cars = SEEDS.map((seed) => tryCar(model, seed, HEALTHY_S));
  result = tally(cars);
  expect(tryCar(model, SEEDS[0]!, HEALTHY_S)).toEqual(cars[0]);
}, 180_000);

const of = (fault: Case) => result.faults.find((each) => each.of === fault)!;

describe('a model of twenty healthy cars, on cars that it has never seen', () => {
  test.each(['bearing-wear of a wheel', 'battery-cell', 'slow-puncture'] as const)(
    'finds a moderate %s in each car before it is fully grown, and mostly blames the broken part',
    (fault) => {
      const { cars, early, late, right } = of(fault);
      expect(early + late).toBe(cars);
      expect(right).toBeGreaterThanOrEqual(cars / 2);
    },
  );

  test.each(['coolant-leak', 'bearing-wear of the engine', 'clogged-air-filter'] as const)(
    'finds a moderate %s in most cars before it is fully grown',
    (fault) => {
      const { cars, early, late } = of(fault);
      expect(early + late).toBeGreaterThan(cars / 2);
    },
  );

  test('raises hardly any alarm without a fault', () => {
    expect(result.vehicleHours).toBe(SEEDS.length);
    expect(result.falseAlarms).toBeLessThanOrEqual(1);
  });

  test('every car has had every fault, and every outcome is one of in time, late, never', () => {
    expect(result.faults.map(({ of }) => of)).toEqual([...CASES]);
    for (const { cars, early, late, missed, alarmedBefore } of result.faults)
      expect(early + late + missed + alarmedBefore).toBe(cars);
    for (const { faults } of cars)
      for (const { delayS } of faults)
        if (delayS !== undefined) {
          expect(delayS).toBeGreaterThan(0);
          expect(delayS).toBeLessThanOrEqual(GROWTH_S);
        }
  });
});

test.each([
  // SciPy: gamma.ppf(0.95, n + 1)
  [0, 2.995732],
  [1, 4.743865],
  [5, 10.51303],
  [20, 29.06202],
])('of %i events, a rate of at most %f is told with confidence', (events, most) => {
  expect(poissonUpper(events)).toBeCloseTo(most, 3);
});
