/**
 * What the score of one row costs in the car, on one core: the whole scorer, and the network alone beside
 * TensorFlow.js. One JSON line per figure.
 *
 *   node --import tsx bench/scorer.ts
 */
import * as tf from '@tensorflow/tfjs';
import {
  DenseExecutor,
  Scorer,
  signalSet,
  type DenseLayer,
  type FeatureInput,
  type Model,
} from '../shared/src/index.ts';

const ROUNDS = 5;
/** As trained by default for the simulated car. */
const SIGNALS = 24;
const NETWORK = [24, 32, 16, 32, 24];
/** The article's size. */
const ARTICLE = [18, 14, 7, 7, 14, 18];

let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;

function layers(sizes: readonly number[]): DenseLayer[] {
  return sizes.slice(1).map((units, i) => ({
    name: `dense_${i + 1}`,
    inputs: sizes[i]!,
    units,
    activation: i === sizes.length - 2 ? 'linear' : 'tanh',
    kernel: Float32Array.from({ length: sizes[i]! * units }, () => random() / Math.sqrt(sizes[i]!)),
    bias: Float32Array.from({ length: units }, () => random() / 10),
  }));
}

function model(): Model {
  const inputs = Array.from({ length: SIGNALS }, (_, signal): FeatureInput => ({
    signal,
    statistic: 'mean',
    center: 0,
    scale: 1,
  }));
  return {
    layers: layers(NETWORK),
    manifest: {
      schema: 1,
      name: 'bench',
      version: '1',
      createdAt: '2026-01-01T00:00:00Z',
      signalSet: signalSet(inputs.map((_, i) => ({ name: `s${i}`, unit: '' }))),
      engine: 'dense',
      features: { windowRows: 5, gapMs: 5000, inputs, clip: 5 },
      score: { smoothingRows: 30, residualCenter: inputs.map(() => 0), residualScale: inputs.map(() => 1) },
      alarm: { threshold: 4, raiseAfterRows: 5, clearBelow: 3, clearAfterRows: 30 },
      files: { 'model.json': { sha256: '', length: 1 }, 'weights.bin': { sha256: '', length: 1 } },
      lineage: {
        topic: 'telemetry',
        offsets: {},
        eventOffsets: {},
        span: { from: '', to: '' },
        rows: 0,
        vehicles: 0,
        rowsExcluded: 0,
        duplicatesDropped: 0,
        seed: 0,
        hyperParameters: {},
        codeVersion: '',
        parent: null,
      },
      metrics: {},
    },
  };
}

const rows = Array.from({ length: 256 }, () => Float32Array.from({ length: SIGNALS }, random));
const scorer = new Scorer(model());
let time = 0;
measure('scorer', 100_000, (i) => scorer.push((time += 1000), rows[i & 255]!));

const article = layers(ARTICLE);
const narrow = rows.map((row) => row.subarray(0, 18));
const executor = new DenseExecutor(article);
measure('scorer_network_18_14_7_7_14_18', 200_000, (i) => executor.run(narrow[i & 255]!)[0]!);

await tf.setBackend('cpu');
const peer = tf.sequential({
  layers: article.map(({ inputs, units, activation }) =>
    tf.layers.dense({ inputShape: [inputs], units, activation }),
  ),
});
measure('scorer_network_18_14_7_7_14_18_tfjs_cpu', 300, (i) => {
  const input = tf.tensor2d(narrow[i & 255]!, [1, 18]);
  const output = peer.predict(input) as tf.Tensor;
  const first = output.dataSync()[0]!;
  input.dispose();
  output.dispose();
  return first;
});

/** Prints the median of several rounds behind one to warm up. */
function measure(bench: string, count: number, run: (i: number) => number): void {
  let sum = 0;
  const round = () => {
    const cpu = process.cpuUsage();
    const begun = performance.now();
    for (let i = 0; i < count; i++) sum += run(i);
    const ms = performance.now() - begun;
    const { user, system } = process.cpuUsage(cpu);
    return { value: (1000 * ms) / count, cpu_us_per_item: (user + system) / count };
  };
  round();
  const rounds = Array.from({ length: ROUNDS }, round).sort((a, b) => a.value - b.value);
  if (sum === Infinity) throw new Error('not finite');
  const { value, cpu_us_per_item } = rounds[ROUNDS >> 1]!;
  const figure = {
    bench,
    value: Number(value.toPrecision(3)),
    unit: 'us/row',
    cpu_us_per_item: Number(cpu_us_per_item.toPrecision(3)),
    node: process.version,
  };
  process.stdout.write(`${JSON.stringify(figure)}\n`);
}
