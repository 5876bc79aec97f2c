import * as tf from '@tensorflow/tfjs';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  DenseExecutor,
  loadTfjsNetwork,
  readDense,
  writeDense,
  type DenseLayer,
  type LayersModelFiles,
} from '@cardan/shared';
import type { NetworkTraining } from '../../src/trainer/network-training.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

const WIDTH = 18;
const ROWS = 32;
const RATE = 0.003;

/** An engine under test: begins a training of dense layers with these weights. */
export type BeginTraining = (files: LayersModelFiles) => Promise<NetworkTraining>;

export function block(random: SeededRandom, length: number, scale = 1): Float32Array {
  return Float32Array.from({ length }, () => scale * random.normal());
}

export function denseFiles(seed = 1): LayersModelFiles {
  const random = new SeededRandom(seed);
  const sizes = [WIDTH, 14, 7, 7, 14, WIDTH];
  const activations = ['tanh', 'sigmoid', 'relu', 'tanh', 'linear'] as const;
  return writeDense(
    activations.map((activation, i): DenseLayer => ({
      name: `dense_${i + 1}`,
      inputs: sizes[i]!,
      units: sizes[i + 1]!,
      activation,
      kernel: block(random, sizes[i]! * sizes[i + 1]!, 1 / Math.sqrt(sizes[i]!)),
      bias: block(random, sizes[i + 1]!, 0.1),
    })),
  );
}

export async function stock({ modelJson, weights }: LayersModelFiles): Promise<tf.LayersModel> {
  const { modelTopology, weightsManifest } = JSON.parse(modelJson.toString()) as {
    modelTopology: object;
    weightsManifest: { weights: tf.io.WeightsManifestEntry[] }[];
  };
  return tf.loadLayersModel(
    tf.io.fromMemory({
      modelTopology,
      weightSpecs: weightsManifest[0]!.weights,
      weightData: new Uint8Array(weights).buffer,
    }),
  );
}

export function floats({ weights }: LayersModelFiles): number[] {
  return Array.from({ length: weights.length / 4 }, (_, i) => weights.readFloatLE(4 * i));
}

/** The largest difference of two rows of numbers of the same length. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

/** What every engine must do; the oracle is TensorFlow.js with its own optimizer, as it stands. */
export function networkTrainingContract(name: string, begin: BeginTraining): void {
  describe(`${name}, as every training engine,`, () => {
    const random = new SeededRandom(3);
    const batches = Array.from({ length: 100 }, () => block(random, ROWS * WIDTH));
    let expected: { losses: number[]; weights: number[] };
    const open: NetworkTraining[] = [];
    const begun = async (files = denseFiles()) => {
      const training = await begin(files);
      open.push(training);
      training.learningRate = RATE;
      return training;
    };

    beforeAll(async () => {
      await tf.setBackend('cpu');
      const model = await stock(denseFiles());
      model.compile({ optimizer: tf.train.adam(RATE), loss: 'meanSquaredError' });
      const losses: number[] = [];
      for (const batch of batches) {
        const x = tf.tensor2d(batch, [ROWS, WIDTH]);
        losses.push((await model.trainOnBatch(x, x)) as number);
        x.dispose();
      }
      expected = { losses, weights: model.getWeights().flatMap((tensor) => [...tensor.dataSync()]) };
      model.dispose();
    });

    afterEach(() => {
      for (const training of open.splice(0)) training.close();
    });

    test('comes from the same weights and batches to the losses and weights of TensorFlow.js', async () => {
      const training = await begun();
      const losses = batches.map((batch) => training.step(batch, batch, ROWS));
      expect(distance(losses, expected.losses)).toBeLessThan(1e-4);
      expect(distance(floats(training.save()), expected.weights)).toBeLessThan(1e-4);
    });

    test('saves a model that the car, both engines and TensorFlow.js load to the same scores', async () => {
      const training = await begun();
      for (const batch of batches.slice(0, 20)) training.step(batch, batch, ROWS);
      const files = training.save();
      const rows = batches[50]!;
      const [executor, network] = [
        new DenseExecutor(readDense(files.modelJson, files.weights)),
        await loadTfjsNetwork(files.modelJson, files.weights),
      ];
      const model = await stock(files);
      await tf.setBackend('cpu');
      const told = tf.tidy(() => [
        ...(model.predict(tf.tensor2d(rows, [ROWS, WIDTH])) as tf.Tensor).dataSync(),
      ]);
      model.dispose();
      for (let row = 0; row < ROWS; row++) {
        const values = rows.subarray(row * WIDTH, (row + 1) * WIDTH);
        const score = told.slice(row * WIDTH, (row + 1) * WIDTH);
        expect(distance(executor.run(values), score)).toBeLessThan(1e-6);
        expect(distance(network.run(values), score)).toBeLessThan(1e-6);
      }
      const again = await begun(files);
      expect(Math.abs(again.loss(rows, rows, ROWS) - training.loss(rows, rows, ROWS))).toBeLessThan(1e-6);
    });

    test('gives the same bits each time, and goes on with them from a saved state', async () => {
      const training = await begun();
      for (const batch of batches.slice(0, 10)) training.step(batch, batch, ROWS);
      const state = training.state();
      const rest = batches.slice(10, 20).map((batch) => training.step(batch, batch, ROWS));

      const other = await begun();
      for (const batch of batches.slice(0, 10)) other.step(batch, batch, ROWS);
      expect(other.state()).toEqual(state);
      const resumed = await begun(denseFiles(2));
      resumed.restore(state);
      expect(batches.slice(10, 20).map((batch) => resumed.step(batch, batch, ROWS))).toEqual(rest);
      expect(resumed.save()).toEqual(training.save());
      expect(() => resumed.restore({ steps: 1, values: new Float64Array(7) })).toThrow(/has 7 values/);
    });

    test('tells the loss before the step, makes it smaller, and looks at no row beyond the batch', async () => {
      const [training, other] = [await begun(), await begun()];
      const rows = batches[0]!;
      const before = training.loss(rows, rows, 5);
      expect(Math.abs(training.step(rows, rows, 5) - before)).toBeLessThan(1e-6);
      expect(training.loss(rows, rows, 5)).toBeLessThan(before);
      other.step(rows.slice(0, 5 * WIDTH), rows.slice(0, 5 * WIDTH), 5);
      expect(other.save()).toEqual(training.save());
    });
  });
}
