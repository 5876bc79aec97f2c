import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import { rocAuc } from '../../src/trainer/roc-auc.ts';
import { parseTrainConfig } from '../../src/trainer/train-config.ts';
import { articleAutoencoder } from '../../../bench/parts/recordings/article-autoencoder.ts';
import { readCarSensorData } from '../../../bench/parts/recordings/car-sensor-data.ts';
import { detectorsOf, judge } from '../../../bench/parts/recordings/judge.ts';
import { soundRows } from '../../../bench/parts/recordings/labelled-recording.ts';

const root = new URL('../../../', import.meta.url);
/** Of the article's car demo; not a part of Cardan. */
const CARS = new URL('../shared/data/car-sensor-data/car-sensor-data.csv', root);

const example = (name: string) =>
  parseTrainConfig(readFileSync(new URL(`docs/examples/${name}.yaml`, root), 'utf8'), () => '');

test('the example configurations can be read', () => {
  expect(example('car-sensor-data').hyperParameters).toMatchObject({ windowRows: 1, noise: 0 });
  expect(example('cmapss').hyperParameters).toMatchObject({ windowRows: 1 });
});

test('the area under the ROC curve is the chance that a faulty row has the higher score', () => {
  expect(rocAuc([1, 2, 3, 4], [0, 0, 1, 1])).toBe(1);
  expect(rocAuc([4, 3, 2, 1], [0, 0, 1, 1])).toBe(0);
  expect(rocAuc([1, 1, 1], [0, 1, 0])).toBe(0.5);
  const [scores, faulty] = [
    [5, 1, 3, 3, 2, 8],
    [1, 0, 0, 1, 1, 0],
  ];
  let pairs = 0;
  for (const [i, a] of scores.entries())
    for (const [j, b] of scores.entries())
      if (faulty[i] === 1 && faulty[j] === 0) pairs += a > b ? 1 : a === b ? 0.5 : 0;
  expect(rocAuc(scores, faulty)).toBeCloseTo(pairs / 9, 12);
  expect(rocAuc([1], [0])).toBeNaN();
});

describe('the car demo of the article', () => {
  if (!existsSync(CARS)) console.warn('skipped: car-sensor-data.csv is not beside this checkout');

  it.skipIf(!existsSync(CARS))(
    'cars that were not learned from: the drive shaft’s failure is found, as by the best detector without a network',
    async () => {
      const { set, recordings } = readCarSensorData(CARS.pathname);
      const [training, others] = [recordings.slice(0, 50), recordings.slice(50)];
      const { seed = 1, hyperParameters } = example('car-sensor-data');
      const detectors = await detectorsOf(set, training, { seed, hyperParameters });
      const [cardan, ...trivial] = detectors.map((detector) => judge(detector, others));
      expect(cardan!.auc).toBeGreaterThan(0.99);
      expect(cardan!.f1).toBeGreaterThan(0.95);
      expect(cardan!.falseAlarms).toBeLessThan(0.02);
      for (const { f1 } of trivial) expect(cardan!.f1).toBeGreaterThan(f1!);

      const article = articleAutoencoder(set, training.map(soundRows), { seed, scaling: 'own' });
      expect(judge(article, others).auc).toBeLessThan(0.9);
    },
  );
});
