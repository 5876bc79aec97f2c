import { createHash } from 'node:crypto';
import {
  serializeManifest,
  signalSet,
  writeDense,
  type DenseLayer,
  type ModelManifest,
} from '../../src/index.ts';

/** Numbers from −1 to 1 that are the same in every run (a linear congruential generator). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** Random layers; tanh, and linear at the end. */
export function randomLayers(sizes: readonly number[], seed = 1): DenseLayer[] {
  const random = randomNumbers(seed);
  return sizes.slice(1).map((units, i) => ({
    name: `dense_${i + 1}`,
    inputs: sizes[i]!,
    units,
    activation: i === sizes.length - 2 ? 'linear' : 'tanh',
    kernel: Float32Array.from({ length: sizes[i]! * units }, () => random()),
    bias: Float32Array.from({ length: units }, () => random() / 2),
  }));
}

export interface ModelFiles {
  manifest: Buffer;
  model: Buffer;
  weights: Buffer;
}

/** The files of a model of three signals: the mean of each and the deviation of the first. */
export function modelFiles(change: (manifest: ModelManifest) => void = () => undefined): ModelFiles {
  const { modelJson, weights } = writeDense(randomLayers([4, 3, 4]));
  const manifest: ModelManifest = {
    schema: 1,
    name: 'test',
    version: '7',
    createdAt: '2026-01-01T00:00:00.000Z',
    signalSet: signalSet([
      { name: 'Speed', unit: 'km/h' },
      { name: 'Load', unit: '%' },
      { name: 'Temperature', unit: 'degC' },
    ]),
    engine: 'dense',
    features: {
      windowRows: 4,
      gapMs: 5000,
      inputs: [
        { signal: 0, statistic: 'mean', center: 50, scale: 20 },
        { signal: 0, statistic: 'deviation', center: 5, scale: 3 },
        { signal: 1, statistic: 'mean', center: 0.5, scale: 0.25 },
        { signal: 2, statistic: 'mean', center: 88, scale: 4 },
      ],
      clip: 4,
    },
    score: {
      smoothingRows: 6,
      residualCenter: [0.1, -0.1, 0, 0.05],
      residualScale: [0.2, 0.3, 0.1, 0.2],
    },
    alarm: { threshold: 4, raiseAfterRows: 3, clearBelow: 3, clearAfterRows: 5 },
    files: {
      'model.json': { sha256: sha256(modelJson), length: modelJson.length },
      'weights.bin': { sha256: sha256(weights), length: weights.length },
    },
    lineage: {
      topic: 'telemetry',
      offsets: { 0: { from: 0, to: 100 }, 11: { from: 3, to: 3 } },
      eventOffsets: {},
      span: { from: '2026-01-01T00:00:00.000Z', to: '2026-01-01T01:00:00+01:00' },
      rows: 3600,
      vehicles: 2,
      rowsExcluded: 0,
      duplicatesDropped: 1,
      findings: [{ signal: 'Load', kind: 'outliers', value: 0.0025 }],
      seed: 1,
      hyperParameters: { epochs: 5, optimiser: 'adam' },
      codeVersion: 'test',
      parent: { name: 'test', version: '6' },
    },
    metrics: { loss: 0.25 },
  };
  change(manifest);
  return { manifest: serializeManifest(manifest), model: modelJson, weights };
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Rows that such a model can score, one a second. */
export function drive(rows: number, seed = 5): { times: Float64Array; values: Float32Array } {
  const random = randomNumbers(seed);
  const times = Float64Array.from({ length: rows }, (_, row) => 1.7e12 + row * 1000);
  const values = new Float32Array(rows * 3);
  for (let row = 0; row < rows; row++)
    values.set([50 + 30 * random(), 0.5 + 0.4 * random(), 88 + 5 * random()], row * 3);
  return { times, values };
}

/** JSON with another value at a path such as `layers.1.name`; `undefined` takes the field away. */
export function changedJson(json: Uint8Array, path: string, value: unknown): Buffer {
  const root: unknown = JSON.parse(Buffer.from(json).toString());
  const keys = path.split('.');
  const last = keys.pop()!;
  const parent = keys.reduce(
    (at, key) => at[key] as Record<string, unknown>,
    root as Record<string, unknown>,
  );
  if (value === undefined) Reflect.deleteProperty(parent, last);
  else parent[last] = value;
  return Buffer.from(JSON.stringify(root));
}
