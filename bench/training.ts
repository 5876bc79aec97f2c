/**
 * How many rows a second the dense engine trains on, on one core, beside TensorFlow.js: the article's network,
 * mean squared error, Adam, batches of 100. One JSON line per figure.
 *
 *   node --import tsx bench/training.ts
 */
import * as tf from '@tensorflow/tfjs';
import type { DenseLayer } from '../shared/src/index.ts';
import { DenseTraining } from '../cloud/src/trainer/dense-training.ts';

const SIZES = [18, 14, 7, 7, 14, 18];
const WIDTH = SIZES[0]!;
const BATCH_ROWS = 100;
const BATCHES = 100;
const ROUNDS = 5;

let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;

const layers = SIZES.slice(1).map((units, i): DenseLayer => ({
  name: `dense_${i + 1}`,
  inputs: SIZES[i]!,
  units,
  activation: i === SIZES.length - 2 ? 'linear' : 'tanh',
  kernel: Float32Array.from({ length: SIZES[i]! * units }, () => random() / Math.sqrt(SIZES[i]!)),
  bias: new Float32Array(units),
}));
const batches = Array.from({ length: BATCHES }, () =>
  Float32Array.from({ length: BATCH_ROWS * WIDTH }, random),
);

const training = new DenseTraining(layers);
measure('training', 10, (batch) => training.step(batch, batch, BATCH_ROWS));

await tf.setBackend('cpu');
const peer = tf.sequential({
  layers: layers.map(({ inputs, units, activation }) =>
    tf.layers.dense({ inputShape: [inputs], units, activation }),
  ),
});
const variables = peer.trainableWeights.map((weight) => weight.read() as tf.Variable);
const optimizer = tf.train.adam(0.001);
measure('training_tfjs_cpu', 1, (batch) =>
  tf.tidy(() => {
    const x = tf.tensor2d(batch, [BATCH_ROWS, WIDTH]);
    const loss = () => tf.losses.meanSquaredError(x, peer.apply(x) as tf.Tensor).asScalar();
    return optimizer.minimize(loss, true, variables)!.dataSync()[0]!;
  }),
);

/** Prints the median of several rounds of all batches, `epochs` times each, behind one to warm up. */
function measure(bench: string, epochs: number, step: (batch: Float32Array) => number): void {
  const count = epochs * BATCHES * BATCH_ROWS;
  const round = () => {
    const cpu = process.cpuUsage();
    const begun = performance.now();
    for (let epoch = 0; epoch < epochs; epoch++) for (const batch of batches) step(batch);
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { value: count / seconds, cpu_us_per_item: (user + system) / count };
  };
  round();
  const rounds = Array.from({ length: ROUNDS }, round).sort((a, b) => a.value - b.value);
  const { value, cpu_us_per_item } = rounds[ROUNDS >> 1]!;
  const figure = {
    bench,
    value: Math.round(value),
    unit: 'rows/s',
    cpu_us_per_item: Number(cpu_us_per_item.toPrecision(3)),
    node: process.version,
  };
  process.stdout.write(`${JSON.stringify(figure)}\n`);
}
