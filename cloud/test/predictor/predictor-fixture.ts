import { createHash } from 'node:crypto';
import {
  type DenseLayer,
  decodeScores,
  encodeTelemetry,
  loadModel,
  type Model,
  type ModelManifest,
  type ScoreBatch,
  selfTestOf,
  serializeManifest,
  signalSet,
  type TelemetryBatch,
  writeDense,
} from '@cardan/shared';
import type { EventLog, NewRecord } from '@cardan/shared/event-log';
import { RegistryClient } from '../../src/registry-client.ts';

export const COLUMNS = signalSet(
  ['Speed', 'Load', 'Temperature'].map((name) => ({ name: `Vehicle.${name}`, unit: '1' })),
);

/** Numbers from −1 to 1, the same in every run (a linear congruential generator). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
}

export interface ScoringModel {
  model: Model;
  files: { manifest: Buffer; model: Buffer; weights: Buffer };
}

/** A model that scores: a real network with random weights, other ones for each version. */
export function scoringModel(
  version: string,
  change: (manifest: ModelManifest) => void = () => undefined,
): ScoringModel {
  const random = randomNumbers(Number(version));
  const sizes = [4, 3, 4];
  const layers = sizes.slice(1).map((units, i): DenseLayer => ({
    name: `dense_${i}`,
    inputs: sizes[i]!,
    units,
    activation: i === sizes.length - 2 ? 'linear' : 'tanh',
    kernel: Float32Array.from({ length: sizes[i]! * units }, random),
    bias: Float32Array.from({ length: units }, random),
  }));
  const { modelJson: model, weights } = writeDense(layers);
  const manifest: ModelManifest = {
    schema: 1,
    name: 'test',
    version,
    createdAt: '2026-01-01T00:00:00.000Z',
    signalSet: COLUMNS,
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
    files: { 'model.json': fileRef(model), 'weights.bin': fileRef(weights) },
    lineage: {
      topic: 'telemetry',
      offsets: { 0: { from: 0, to: 100 } },
      eventOffsets: {},
      span: { from: '2026-01-01T00:00:00.000Z', to: '2026-01-01T01:00:00.000Z' },
      rows: 3600,
      vehicles: 1,
      rowsExcluded: 0,
      duplicatesDropped: 0,
      seed: 1,
      hyperParameters: { epochs: 5 },
      codeVersion: 'test',
      parent: null,
    },
    metrics: { loss: 0.25 },
  };
  change(manifest);
  if (manifest.engine === 'dense') manifest.selfTest = selfTestOf({ manifest, layers }, 1);
  const files = { manifest: serializeManifest(manifest), model, weights };
  return { files, model: manifest.engine === 'dense' ? loadModel(files) : { manifest, layers } };
}

export function publish(url: string, { files, model }: ScoringModel): Promise<void> {
  return new RegistryClient(url).publish(files, model.manifest.name);
}

/** Row `sequence` of a vehicle, one a second; a few values were not seen, and some rows are far from normal. */
export function rowOf(vehicle: string, sequence: number): number[] {
  const random = randomNumbers(sequence * 7919 + vehicle.charCodeAt(vehicle.length - 1));
  random();
  const row = [50 + 30 * random(), 0.5 + 0.4 * random(), 88 + (sequence % 50 > 40 ? 40 : 5) * random()];
  if (random() > 0.9) row[1] = Number.NaN;
  return row;
}

/** Rows of a vehicle from the sequence number `first` on. */
export function rows(vehicle: string, first: number, count: number): TelemetryBatch {
  const values = new Float32Array(count * 3);
  for (let row = 0; row < count; row++) values.set(rowOf(vehicle, first + row), row * 3);
  return {
    signalSet: COLUMNS.id,
    epoch: 9,
    firstSequence: first,
    times: Float64Array.from({ length: count }, (_, row) => 1.7e12 + (first + row) * 1000),
    values,
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  };
}

export function telemetry(vehicle: string, first: number, count: number): NewRecord {
  const batch = rows(vehicle, first, count);
  return { key: vehicle, value: encodeTelemetry(batch), timestamp: batch.times.at(-1)! };
}

export interface Predicted extends ScoreBatch {
  vehicle: string;
}

/** Follows `predictions` from its beginning until `enough` of what has come. */
export async function predictions(
  log: EventLog,
  enough: (all: readonly Predicted[]) => boolean,
): Promise<Predicted[]> {
  const all: Predicted[] = [];
  for await (const { records } of log.read('predictions', { from: 'earliest' })) {
    for (const { key, value } of records) all.push({ ...decodeScores(value!), vehicle: key! });
    if (enough(all)) return all;
  }
  throw new Error('the log was closed');
}

/** Rows in all. */
export function rowCount(all: readonly Predicted[]): number {
  return all.reduce((sum, { scores }) => sum + scores.length, 0);
}

/** One line per row in the order of the log, for comparisons: sequence, version, score (all its digits). */
export function linesOf(all: readonly Predicted[], vehicle: string): string[] {
  return all
    .filter((batch) => batch.vehicle === vehicle)
    .flatMap(({ firstSequence, modelVersion, scores }) =>
      Array.from(scores, (score, i) => `${firstSequence + i} v${modelVersion} ${score}`),
    );
}

function fileRef(bytes: Buffer) {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), length: bytes.length };
}
