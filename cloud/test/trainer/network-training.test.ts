import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { readDense } from '@cardan/shared';
import { DenseTraining } from '../../src/trainer/dense-training.ts';
import { topologyOf } from '../../src/trainer/network-topology.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';
import { openBackend, useBackend } from '../../src/trainer/tfjs-backend.ts';
import type { TfjsBackend } from '../../src/trainer/tfjs-backends.ts';
import { openTfjsEngine } from '../../src/trainer/tfjs-engine.ts';
import { TfjsTraining } from '../../src/trainer/tfjs-training.ts';
import { distance, networkTrainingContract, stock } from './network-training-contract.ts';

/** The native library is an optional peer: `npm run setup:tfjs-node`. */
const native = (() => {
  try {
    return createRequire(import.meta.url).resolve('@tensorflow/tfjs-node') !== '';
  } catch {
    return false;
  }
})();
if (!native && process.env.CI) throw new Error('CI needs the native library: npm run setup:tfjs-node');
if (!native)
  console.log('@tensorflow/tfjs-node is not installed, so its tests are skipped: npm run setup:tfjs-node');
const backends: TfjsBackend[] = native ? ['cpu', 'wasm', 'tensorflow'] : ['cpu', 'wasm'];

networkTrainingContract('the dense engine', ({ modelJson, weights }) =>
  Promise.resolve(new DenseTraining(readDense(modelJson, weights))),
);

for (const backend of backends)
  networkTrainingContract(`the tfjs engine on ${backend}`, async (files) => {
    await openBackend(backend);
    return TfjsTraining.begin(files, backend);
  });

const NETWORKS: Record<string, unknown[]> = {
  conv1d: [
    { conv1d: { filters: 6, kernelSize: 3, padding: 'same', activation: 'tanh' } },
    { maxPooling1d: { poolSize: 2 } },
    { conv1d: { filters: 3, kernelSize: 2, activation: 'relu' } },
  ],
  gru: [{ gru: { units: 6 } }, { repeatVector: { n: 8 } }, { gru: { units: 6, returnSequences: true } }],
  lstm: [{ lstm: { units: 6 } }, { dense: { units: 5, activation: 'elu' } }],
  // Without a bias, whose gradient would be nothing but rounding.
  'with batch normalisation': [
    { dense: { units: 6, useBias: false } },
    'batchNormalization',
    { activation: { activation: 'tanh' } },
  ],
};
const STEPS = 10;
const SHAPE = { rows: 8, columns: 3 };
const WIDTH = SHAPE.rows * SHAPE.columns;

/** Rows in which each value says something of the others. */
function waves(rows: number): Float32Array {
  const random = new SeededRandom(8);
  const values = new Float32Array(rows * WIDTH);
  for (let row = 0; row < rows; row++) {
    const phase = 6.3 * random.uniform();
    for (let i = 0; i < WIDTH; i++)
      values[row * WIDTH + i] = Math.sin(phase + i / 3) + 0.05 * random.normal();
  }
  return values;
}

const PAIRS = Object.keys(NETWORKS)
  .flatMap((name) => backends.map((backend) => [name, backend] as const))
  // It lacks the gradient of a convolution.
  .filter(([name, backend]) => !(name === 'conv1d' && backend === 'wasm'));

test.each(PAIRS)(
  'a network %s is trained on %s, the same bits each time, and goes on from a saved state',
  async (name, backend) => {
    const engine = await openTfjsEngine({ topology: topologyOf(NETWORKS[name], SHAPE), backend });
    expect([engine.name, engine.hyperParameters]).toEqual(['tfjs', { tfjsBackend: backend }]);
    const rows = waves(40);
    const training = await engine.begin(new SeededRandom(5));
    training.learningRate = 0.02;
    const first = training.loss(rows, rows, 40);
    for (let step = 0; step < STEPS; step++) training.step(rows, rows, 40);
    const state = training.state();
    const saved = training.save();
    for (let step = 0; step < STEPS; step++) training.step(rows, rows, 40);
    expect(training.loss(rows, rows, 40)).toBeLessThan(0.9 * first);

    const other = await engine.begin(new SeededRandom(5));
    other.learningRate = 0.02;
    for (let step = 0; step < STEPS; step++) other.step(rows, rows, 40);
    expect(other.save()).toEqual(saved);
    const resumed = await engine.begin(new SeededRandom(6));
    resumed.learningRate = 0.02;
    resumed.restore(state);
    expect(resumed.save()).toEqual(saved);
    for (let step = 0; step < STEPS; step++) resumed.step(rows, rows, 40);
    expect(resumed.save()).toEqual(training.save());
    for (const one of [training, other, resumed]) one.close();
  },
);

test.each(Object.keys(NETWORKS))(
  'the gradient of a network %s is that of TensorFlow.js: one step changes the weights as its own Adam does',
  async (name) => {
    const engine = await openTfjsEngine({ topology: topologyOf(NETWORKS[name], SHAPE), backend: 'cpu' });
    const rows = waves(10);
    const training = await engine.begin(new SeededRandom(5));
    const model = await stock(training.save());
    model.compile({ optimizer: tf.train.adam(0.02), loss: 'meanSquaredError' });
    training.learningRate = 0.02;
    const x = tf.tensor2d(rows, [10, WIDTH]);
    for (let step = 0; step < 10; step++) {
      const loss = training.step(rows, rows, 10);
      expect(Math.abs(((await model.trainOnBatch(x, x)) as number) - loss)).toBeLessThan(1e-4);
    }
    const trained = await stock(training.save());
    model.getWeights().forEach((tensor, i) => {
      expect(distance(trained.getWeights()[i]!.dataSync(), tensor.dataSync())).toBeLessThan(1e-4);
    });
  },
);

test('a training keeps no tensors, and gives its own back at the end', async () => {
  const topology = topologyOf(NETWORKS.gru, SHAPE);
  const engine = await openTfjsEngine({ topology, backend: 'cpu' });
  const before = tf.memory().numTensors;
  const training = await engine.begin(new SeededRandom(1));
  const rows = waves(4);
  training.step(rows, rows, 4);
  const { numTensors } = tf.memory();
  for (let step = 0; step < 3; step++) training.step(rows, rows, 4);
  training.loss(rows, rows, 4);
  training.restore(training.state());
  training.save();
  expect(tf.memory().numTensors).toBe(numTensors);
  training.close();
  expect(tf.memory().numTensors).toBe(before);
});

test('without a wish, the first backend is taken on which the network can be trained', async () => {
  const [conv1d, gru] = await Promise.all(
    ['conv1d', 'gru'].map((name) => openTfjsEngine({ topology: topologyOf(NETWORKS[name], SHAPE) })),
  );
  const chosen = [conv1d!, gru!].map(({ hyperParameters }) => hyperParameters.tfjsBackend);
  expect(chosen).toEqual(native ? ['tensorflow', 'tensorflow'] : ['cpu', 'wasm']);
});

test('a backend that cannot train the network says so', async () => {
  const opening = openTfjsEngine({ topology: topologyOf(NETWORKS.conv1d, SHAPE), backend: 'wasm' });
  await expect(opening).rejects.toMatchObject({ code: 'TFJS_UNAVAILABLE' });
  await expect(opening).rejects.toThrow(/"wasm" .* cannot train this network: .*Conv2DBackpropFilter/s);
});

if (!native)
  test('without the native library its backend says what installs it', async () => {
    await expect(openBackend('tensorflow')).rejects.toMatchObject({ code: 'TFJS_UNAVAILABLE' });
    await expect(openBackend('tensorflow')).rejects.toThrow(/npm run setup:tfjs-node/);
  });

test('trainings on two backends may take turns in one process', async () => {
  const rows = waves(4);
  const losses = async (turns: boolean) => {
    const topology = topologyOf(NETWORKS.gru, SHAPE);
    const cpu = await (await openTfjsEngine({ topology, backend: 'cpu' })).begin(new SeededRandom(2));
    const wasm = await (await openTfjsEngine({ topology, backend: 'wasm' })).begin(new SeededRandom(2));
    const of = { cpu: [] as number[], wasm: [] as number[] };
    for (let step = 0; step < 5; step++) {
      of.cpu.push(cpu.step(rows, rows, 4));
      if (turns) of.wasm.push(wasm.step(rows, rows, 4));
    }
    if (!turns) for (let step = 0; step < 5; step++) of.wasm.push(wasm.step(rows, rows, 4));
    return of;
  };
  expect(await losses(true)).toEqual(await losses(false));
  useBackend('cpu');
});

test.each<[string, unknown, RegExp]>([
  ['no list', 'conv1d', /layers must be a list of 1 to 32 layers/],
  ['an unknown layer', [{ lambda: {} }], /layers\[0\] is {"lambda":{}}; expected is a layer as .*conv1d/],
  ['two layers in one', [{ gru: {}, dense: {} }], /layers\[0\]/],
  ['settings that are none', [{ dense: 5 }], /layers\[0\] has the settings 5/],
  ['too few rows for a layer', [{ conv1d: { filters: 1, kernelSize: 9 } }], /usable network/],
  ['a layer of too many dimensions', [{ gru: { units: 2 } }, { gru: { units: 2 } }], /ndim=3/],
  ['too many parameters', [{ flatten: {} }, { dense: { units: 9000 } }], /has \d+ parameters, more than/],
  ['one that remembers', [{ gru: { units: 2, stateful: true } }], /stateful|remembers/],
  [
    'one with a regularizer',
    [{ dense: { units: 2, kernelRegularizer: { className: 'L1L2', config: { l1: 1, l2: 0 } } } }],
    /regularizer/,
  ],
])('refused is %s', async (_, layers, message) => {
  const opening = (async () => openTfjsEngine({ topology: topologyOf(layers, SHAPE), backend: 'cpu' }))();
  await expect(opening).rejects.toThrow(message);
  await expect(opening).rejects.toMatchObject({ code: 'MODEL_INVALID' });
});
