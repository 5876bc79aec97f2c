import * as tf from '@tensorflow/tfjs';
import { beforeAll, expect, test } from 'vitest';
import { DenseExecutor, readDense, writeDense, type DenseLayer } from '../../src/index.ts';
import { changedJson, randomLayers, randomNumbers } from './model-fixture.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
});

/** Loads with stock TensorFlow.js. */
async function loadInTfjs(modelJson: Buffer, weights: Buffer): Promise<tf.LayersModel> {
  const model = JSON.parse(modelJson.toString()) as tf.io.ModelJSON;
  return tf.loadLayersModel(
    tf.io.fromMemory({
      modelTopology: model.modelTopology,
      weightSpecs: model.weightsManifest.flatMap(({ weights: specs }) => specs),
      weightData: new Uint8Array(weights).buffer,
    }),
  );
}

/** Saves as TensorFlow.js does. */
async function saveInTfjs(model: tf.LayersModel): Promise<{ modelJson: Buffer; weights: Buffer }> {
  let saved: tf.io.ModelArtifacts | undefined;
  await model.save(
    tf.io.withSaveHandler(async (artifacts) => {
      saved = artifacts;
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } };
    }),
  );
  const { modelTopology, weightSpecs, weightData } = saved!;
  const json = { modelTopology, weightsManifest: [{ paths: ['weights.bin'], weights: weightSpecs }] };
  return {
    modelJson: Buffer.from(JSON.stringify(json)),
    weights: Buffer.from(tf.io.concatenateArrayBuffers([weightData as ArrayBuffer])),
  };
}

function expectSamePredictions(model: tf.LayersModel, layers: DenseLayer[]): void {
  const random = randomNumbers(3);
  const executor = new DenseExecutor(layers);
  const rows = Array.from({ length: 50 }, () => Array.from({ length: executor.inputs }, () => 3 * random()));
  const expected = tf.tidy(() => (model.predict(tf.tensor2d(rows)) as tf.Tensor).arraySync()) as number[][];
  const worst = Math.max(
    ...rows.flatMap((row, r) => [...executor.run(row)].map((value, i) => Math.abs(value - expected[r]![i]!))),
  );
  expect(worst).toBeLessThan(1e-6);
}

test('stock TensorFlow.js loads what we write, and predicts the same', async () => {
  const layers = randomLayers([18, 14, 7, 7, 14, 18]).map((layer) => ({
    ...layer,
    kernel: layer.kernel.map((weight) => weight / Math.sqrt(layer.inputs)),
  }));
  const { modelJson, weights } = writeDense(layers);
  expectSamePredictions(await loadInTfjs(modelJson, weights), layers);
  expect(readDense(modelJson, weights)).toEqual(layers);
});

test('we read what TensorFlow.js writes, with any activation that we know, and predict the same', async () => {
  const initial = (seed: number) => ({ kernelInitializer: tf.initializers.glorotUniform({ seed }) });
  const model = tf.sequential({
    layers: [
      tf.layers.dense({ inputShape: [5], units: 9, activation: 'tanh', ...initial(1) }),
      tf.layers.dense({ units: 6, activation: 'relu', useBias: false, ...initial(2) }),
      tf.layers.dense({ units: 4, activation: 'sigmoid', ...initial(3) }),
      tf.layers.dense({ units: 5, ...initial(4) }),
    ],
  });
  const { modelJson, weights } = await saveInTfjs(model);
  const layers = readDense(modelJson, weights);
  expect(layers.map(({ activation }) => activation)).toEqual(['tanh', 'relu', 'sigmoid', 'linear']);
  expectSamePredictions(model, layers);
});

test('the same layers give the same bytes', () => {
  expect(writeDense(randomLayers([4, 3, 4]))).toEqual(writeDense(randomLayers([4, 3, 4])));
});

const LAYERS = 'modelTopology.config.layers';
const WEIGHTS = 'weightsManifest.0.weights';

test.each<[string, string, unknown, RegExp]>([
  ['another kind of layer', `${LAYERS}.1.class_name`, 'LSTM', /layer "dense_2" is a LSTM/],
  [
    'an unknown activation',
    `${LAYERS}.0.config.activation`,
    'selu',
    /layer "dense_1" has the activation "selu"/,
  ],
  ['no input shape', `${LAYERS}.0.config.batch_input_shape`, undefined, /layer "dense_1" is the first one/],
  [
    'other units',
    `${LAYERS}.0.config.units`,
    2,
    /"dense_1\/kernel" has the shape \[4, 3\] instead of \[4, 2\]/,
  ],
  ['a missing weight', `${WEIGHTS}.3.name`, 'other', /weight "dense_2\/bias" is missing/],
  ['another type', `${WEIGHTS}.0.dtype`, 'uint8', /dtype is "uint8"; known are: float32/],
  ['quantized weights', `${WEIGHTS}.0.quantization`, { dtype: 'uint8' }, /"dense_1\/kernel" is quantized/],
  ['weights beyond the end', `${WEIGHTS}.0.shape`, [40, 3], /weights\.bin has 124 bytes/],
  ['no weights', 'weightsManifest', undefined, /weightsManifest is missing/],
  ['no layers', LAYERS, [], /layers has 0 entries/],
  ['a graph', 'modelTopology.class_name', 'Functional', /class_name is "Functional"; known are: Sequential/],
])('refuses %s', (_, path, value, message) => {
  const { modelJson, weights } = writeDense(randomLayers([4, 3, 4]));
  const read = () => readDense(changedJson(modelJson, path, value), weights);
  expect(read).toThrow(message);
  expect(read).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
});

test('refuses weights that are cut off, too long, or not finite', () => {
  const { modelJson, weights } = writeDense(randomLayers([4, 3, 4]));
  expect(() => readDense(modelJson, weights.subarray(0, -1))).toThrow(/goes beyond its end/);
  expect(() => readDense(modelJson, Buffer.concat([weights, Buffer.alloc(4)]))).toThrow(
    /its weights take 124/,
  );
  const broken = Buffer.from(weights);
  broken.writeFloatLE(Number.NaN, 8);
  expect(() => readDense(modelJson, broken)).toThrow(
    /weight "dense_1\/kernel" has a value that is not finite/,
  );
});
