/**
 * How many rows a second the engines train on, with the mean squared error, Adam and batches of 100. One JSON line per
 * figure. `training` is the dense engine on one core with the article's network; beside it TensorFlow.js with its own
 * optimizer, on each of its backends that is here (`npm run setup:tfjs-node` for `tensorflow`, which uses all cores).
 * Then the engine "tfjs" with a convolutional and a recurrent autoencoder of a window of 16 rows of 8 signals, on the
 * backends that can train them; and what a row costs where such a network scores, in the car or in the cloud.
 *
 *   node --import tsx bench/training.ts
 */
import * as tf from '@tensorflow/tfjs';
import { CardanError, loadTfjsNetwork, type DenseLayer } from '../shared/src/index.ts';
import { DenseTraining } from '../cloud/src/trainer/dense-training.ts';
import { topologyOf } from '../cloud/src/trainer/network-topology.ts';
import { SeededRandom } from '../cloud/src/trainer/seeded-random.ts';
import { openBackend } from '../cloud/src/trainer/tfjs-backend.ts';
import { TFJS_BACKENDS, type TfjsBackend } from '../cloud/src/trainer/tfjs-backends.ts';
import { openTfjsEngine } from '../cloud/src/trainer/tfjs-engine.ts';

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
measure('training', batches, 10, (batch) => training.step(batch, batch, BATCH_ROWS));

const backends: TfjsBackend[] = [];
for (const backend of TFJS_BACKENDS)
  if (await here(() => openBackend(backend))) {
    backends.push(backend);
    await tf.setBackend(backend);
    measurePeer(backend);
  }

const SHAPE = { rows: 16, columns: 8 };
const NETWORKS = {
  conv1d: [
    { conv1d: { filters: 8, kernelSize: 3, padding: 'same', activation: 'tanh' } },
    { maxPooling1d: { poolSize: 2 } },
    { conv1d: { filters: 4, kernelSize: 3, padding: 'same', activation: 'tanh' } },
  ],
  gru: [
    { gru: { units: 8 } },
    { repeatVector: { n: SHAPE.rows } },
    { gru: { units: 8, returnSequences: true } },
  ],
};
const windows = Array.from({ length: 5 }, () =>
  Float32Array.from({ length: BATCH_ROWS * SHAPE.rows * SHAPE.columns }, random),
);
for (const [name, list] of Object.entries(NETWORKS)) {
  for (const backend of backends)
    await here(async () => {
      const engine = await openTfjsEngine({ topology: topologyOf(list, SHAPE), backend });
      const begun = await engine.begin(new SeededRandom(1));
      measure(`training_${name}_${backend}`, windows, 1, (batch) => begun.step(batch, batch, BATCH_ROWS));
      begun.close();
    });
  const engine = await openTfjsEngine({ topology: topologyOf(list, SHAPE), backend: 'cpu' });
  const { modelJson, weights } = (await engine.begin(new SeededRandom(1))).save();
  const network = await loadTfjsNetwork(modelJson, weights);
  const width = SHAPE.rows * SHAPE.columns;
  measure(`scoring_${name}_tfjs`, windows.slice(0, 1), 1, (rows) => {
    let last = 0;
    for (let row = 0; row < BATCH_ROWS; row++)
      last = network.run(rows.subarray(row * width, (row + 1) * width))[0]!;
    return last;
  });
}

/** The article's network as anybody trains it with TensorFlow.js. */
function measurePeer(backend: TfjsBackend): void {
  const peer = tf.sequential({
    layers: layers.map(({ inputs, units, activation }) =>
      tf.layers.dense({ inputShape: [inputs], units, activation }),
    ),
  });
  const variables = peer.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const optimizer = tf.train.adam(0.001);
  measure(`training_tfjs_${backend}`, batches, 1, (batch) =>
    tf.tidy(() => {
      const x = tf.tensor2d(batch, [BATCH_ROWS, WIDTH]);
      const loss = () => tf.losses.meanSquaredError(x, peer.apply(x) as tf.Tensor).asScalar();
      return optimizer.minimize(loss, true, variables)!.dataSync()[0]!;
    }),
  );
}

/** Whether it can be done here; a backend that is missing, or lacks a gradient, has no figure. */
async function here(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    console.error(error.message);
    return false;
  }
}

/** Prints the median of several rounds of all batches, `epochs` times each, behind one to warm up. */
function measure(
  bench: string,
  batches: readonly Float32Array[],
  epochs: number,
  step: (batch: Float32Array) => number,
): void {
  const count = epochs * batches.length * BATCH_ROWS;
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
