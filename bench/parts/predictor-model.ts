import { type DenseLayer, type FeatureInput, type Model, signalSet } from '@cardan/shared';
import { HYPER_PARAMETERS } from '../../cloud/src/trainer/hyper-parameters.ts';

export const SIGNALS_18 = 18;

/** A model of 18 signals with random weights: of the size that the trainer chooses by default, or of the article's. */
export function predictorModel(kind: 'default' | 'article'): Model {
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
  const inputs = Array.from({ length: SIGNALS_18 }, (_, signal): FeatureInput => ({
    signal,
    statistic: 'mean',
    center: 0,
    scale: 1,
  }));
  const sizes = kind === 'article' ? [18, 14, 7, 7, 14, 18] : [18, 32, 16, 32, 18];
  const layers = sizes.slice(1).map((units, i): DenseLayer => ({
    name: `dense_${i}`,
    inputs: sizes[i]!,
    units,
    activation: i === sizes.length - 2 ? 'linear' : 'tanh',
    kernel: Float32Array.from({ length: sizes[i]! * units }, () => random() / Math.sqrt(sizes[i]!)),
    bias: Float32Array.from({ length: units }, () => random() / 10),
  }));
  const { windowRows, shiftWeight, clip, raiseAfterRows, clearAfterRows } = HYPER_PARAMETERS;
  const smoothingRows = 60;
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
          : { shift: { smoothingRows, center: zeros, scale: ones, weight: shiftWeight } }),
      },
      alarm: { threshold: 4, raiseAfterRows, clearBelow: 3, clearAfterRows },
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
