import * as tf from '@tensorflow/tfjs';
import { FeatureExtractor, type FeatureInput } from '@cardan/shared';
import { expect, test } from 'vitest';
import { denseEngine } from '../../src/trainer/dense-engine.ts';
import { engineOf, networkIn, networkOf, windowInputs } from '../../src/trainer/network-spec.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';
import { distance } from './network-training-contract.ts';

const CHOSEN: FeatureInput[] = [
  { signal: 2, statistic: 'mean', center: 10, scale: 2 },
  { signal: 0, statistic: 'mean', center: -1, scale: 4 },
];
const LAYERS = [
  { conv1d: { filters: 5, kernelSize: 3, padding: 'same', activation: 'tanh' } },
  { gru: { units: 4 } },
];
const SHAPE = { rows: 6, columns: 2 };

test('the inputs of a network are the rows of the window, the oldest first', () => {
  const extractor = new FeatureExtractor({
    windowRows: 3,
    gapMs: 5000,
    clip: 100,
    inputs: windowInputs(CHOSEN, 3),
  });
  for (let row = 0; row < 5; row++) extractor.push(row * 1000, Float32Array.of(row, 99, 10 * row));
  const expected = [2, 3, 4].flatMap((row) => [(10 * row - 10) / 2, (row + 1) / 4]);
  expect([...extractor.standardised]).toEqual(expected);
});

test('a window that no manifest can hold is refused', () => {
  const many = Array.from({ length: 100 }, (_, signal) => ({ ...CHOSEN[0]!, signal }));
  expect(() => windowInputs(many, 21)).toThrow(/21 rows of 100 signals are 2100 inputs, more than 2000/);
});

test.each([
  ['a list of layers', () => Promise.resolve(LAYERS as unknown[] | string)],
  [
    'a topology file',
    () => {
      const model = tf.sequential({
        layers: [
          tf.layers.reshape({ inputShape: [12], targetShape: [6, 2] }),
          tf.layers.lstm({ units: 3 }),
          tf.layers.dense({ units: 12 }),
        ],
      });
      const json = JSON.stringify({ modelTopology: model.toJSON(null, false) });
      model.dispose();
      return Promise.resolve(json);
    },
  ],
])('the lineage of %s is enough to begin the same training again', async (_, layersOf) => {
  const engine = await engineOf({ layers: await layersOf(), backend: 'cpu' }, SHAPE);
  const spec = networkIn({ hyperParameters: { ...engine.hyperParameters, batchRows: 50 } });
  const again = await engineOf(spec!, SHAPE);
  expect(again.hyperParameters).toEqual(engine.hyperParameters);
  const [one, other] = [
    await engine.begin(new SeededRandom(4)),
    await again.begin(new SeededRandom(4)),
  ] as const;
  expect(other.save()).toEqual(one.save());
  one.close();
  other.close();
});

test('the lineage of a dense model names no network', () => {
  expect(networkIn({ hyperParameters: { batchRows: 50 } })).toBeUndefined();
});

test('multiply-adds are counted per row of the window where a layer goes over it', async () => {
  const { multiplyAdds } = await engineOf({ layers: LAYERS, backend: 'cpu' }, SHAPE);
  const conv1d = 6 * (3 * 2 * 5);
  const gru = 6 * (5 * 12 + 4 * 12);
  expect(multiplyAdds).toBe(conv1d + gru + 4 * 12);
  expect(denseEngine(18, [14, 7, 14]).multiplyAdds).toBe(18 * 14 + 14 * 7 + 7 * 14 + 14 * 18);
});

test('what an engine has trained runs as a network, and its tensors can be given back', async () => {
  for (const engine of [await engineOf({ layers: LAYERS, backend: 'cpu' }, SHAPE), denseEngine(12, [5])]) {
    const before = tf.memory().numTensors;
    const training = await engine.begin(new SeededRandom(4));
    const row = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i));
    for (let step = 0; step < 3; step++) training.step(row, row, 1);
    const network = await networkOf(engine, training.save());
    const output = network.run(row);
    const squares = row.map((value, i) => (value - output[i]!) ** 2);
    expect(
      distance([squares.reduce((sum, square) => sum + square, 0) / 12], [training.loss(row, row, 1)]),
    ).toBeLessThan(1e-6);
    training.close();
    network.close?.();
    expect(tf.memory().numTensors).toBe(before);
  }
});
