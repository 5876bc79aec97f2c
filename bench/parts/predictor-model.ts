import { type DenseLayer, type FeatureInput, type Model, signalSet } from '@cardan/shared';
import { SCORE_ORDER } from '../../cloud/src/trainer/calibrate.ts';
import { HYPER_PARAMETERS } from '../../cloud/src/trainer/hyper-parameters.ts';
import { leaveOneOut, unitsThatFit } from '../../cloud/src/trainer/leave-one-out.ts';

import { SeededRandom } from '../../cloud/src/trainer/seeded-random.ts';

export const SIGNALS_18 = 18;

const SMOOTHING_ROWS = 60;
/** As of signals that tremble: a model of these looks for those that stand still. */
const STANDSTILL_ROWS = 30;
const THRESHOLD = 4;
const SAMPLE_ROWS = 500;

/** A model of 18 signals with random weights: as the trainer makes it by default, or with the article's network. */
export function predictorModel(kind: 'default' | 'article'): Model {
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
  const inputs = Array.from({ length: SIGNALS_18 }, (_, signal): FeatureInput => ({
    signal,
    statistic: 'mean',
    center: 0,
    scale: 1,
  }));
  const layers = kind === 'article' ? articleLayers(random) : defaultLayers();
  const { windowRows, shiftWeight, clip, raiseAfterRows, clearAfterRows } = HYPER_PARAMETERS;
  const smoothingRows = SMOOTHING_ROWS;
  const ones = inputs.map(() => 1);
  const zeros = inputs.map(() => 0);
  const file = { sha256: '', length: 1 };
  return {
    layers,
    manifest: {
      schema: 1,
      name: 'bench',
      version: '1',
      createdAt: '2026-01-01T00:00:00Z',
      signalSet: signalSet(inputs.map((_, i) => ({ name: `s${i}`, unit: '' }))),
      engine: 'dense',
      features: { windowRows, gapMs: 5000, inputs, clip },
      score: {
        smoothingRows,
        residualCenter: zeros,
        residualScale: ones,
        // As the trainer has it by default; the article's network is scored by its residuals alone.
        ...(kind === 'article'
          ? {}
          : {
              order: SCORE_ORDER,
              residualScaleBelow: ones,
              shift: { smoothingRows, center: zeros, scale: ones, scaleBelow: ones, weight: shiftWeight },
              standstill: { afterRows: inputs.map(() => STANDSTILL_ROWS), weight: THRESHOLD },
            }),
      },
      alarm: { threshold: THRESHOLD, raiseAfterRows, clearBelow: 3, clearAfterRows },
      files: { 'model.json': file, 'weights.bin': file },
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

/** Of the size that the trainer chooses, trained weights at random. */
function defaultLayers(): DenseLayer[] {
  const random = new SeededRandom(1);
  const rows = Float32Array.from({ length: SAMPLE_ROWS * SIGNALS_18 }, () => random.normal());
  const signals = Array.from({ length: SIGNALS_18 }, (_, signal) => signal);
  const { layers, trained } = leaveOneOut(rows, signals, unitsThatFit(SIGNALS_18), random);
  for (const [i, { kernel, bias }] of layers.entries()) {
    const changes = trained[i]!;
    for (let k = 0; k < changes.length; k++) {
      const values = k < kernel.length ? kernel : bias;
      if (changes[k] === 1) values[k < kernel.length ? k : k - kernel.length]! += random.normal() / 10;
    }
  }
  return layers;
}

function articleLayers(random: () => number): DenseLayer[] {
  const sizes = [18, 14, 7, 7, 14, 18];
  return sizes.slice(1).map((units, i): DenseLayer => ({
    name: `dense_${i}`,
    inputs: sizes[i]!,
    units,
    activation: i === sizes.length - 2 ? 'linear' : 'tanh',
    kernel: Float32Array.from({ length: sizes[i]! * units }, () => random() / Math.sqrt(sizes[i]!)),
    bias: Float32Array.from({ length: units }, () => random() / 10),
  }));
}
