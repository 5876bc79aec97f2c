import { createHash } from 'node:crypto';
import {
  type DenseLayer,
  type FeatureInput,
  type ModelManifest,
  selfTestOf,
  signalSet,
  type SignalSet,
  writeDense,
} from '@cardan/shared';

/** The columns of the benches' cars. */
export const SIGNALS = signalSet(
  Array.from({ length: 18 }, (_, i) => ({ name: `Vehicle.Bench.Signal${i}`, unit: '1' })),
);

/** What a bench's model is made of. */
export interface BenchModel {
  name: string;
  columns: SignalSet;
  /** Inputs of each signal. */
  statistics: readonly FeatureInput['statistic'][];
  /** Units of the layers between input and output. */
  hidden: readonly number[];
  windowRows: number;
  smoothingRows: number;
}

/** The in-car autoencoder of docs/performance.md, 18-14-7-7-14-18. */
const IN_CAR: BenchModel = {
  name: 'anomaly',
  columns: SIGNALS,
  statistics: ['mean'],
  hidden: [14, 7, 7, 14],
  windowRows: 5,
  smoothingRows: 5,
};

/**
 * Publishes a version of a model as the trainer does: a real network with its self-test, only that nobody has trained it.
 * Resolves when the registry has signed it.
 */
export async function publishModel(
  url: string,
  version: string,
  token?: string,
  kind: BenchModel = IN_CAR,
): Promise<void> {
  const { manifest, model, weights } = benchModel(version, kind);
  for (const bytes of [model, weights])
    await send(`${url}/v1/blobs/${sha256(bytes)}`, 'PUT', bytes, 'application/octet-stream', token);
  await send(`${url}/v1/models/${kind.name}/versions`, 'POST', manifest, 'application/json', token);
}

function benchModel(
  version: string,
  { name, columns, statistics, hidden, windowRows, smoothingRows }: BenchModel,
): { manifest: Buffer; model: Buffer; weights: Buffer } {
  const inputs = columns.signals.flatMap((_, signal) =>
    statistics.map((statistic) => ({ signal, statistic, center: 0, scale: 1 })),
  );
  const sizes = [inputs.length, ...hidden, inputs.length];
  const layers = sizes.slice(1).map((units, layer): DenseLayer => {
    const inputs = sizes[layer]!;
    return {
      name: `dense_${layer}`,
      inputs,
      units,
      activation: layer === sizes.length - 2 ? 'linear' : 'relu',
      // Any small numbers, other ones for each version.
      kernel: Float32Array.from({ length: inputs * units }, (_, i) => Math.sin(i + Number(version)) / inputs),
      bias: new Float32Array(units),
    };
  });
  const { modelJson: model, weights } = writeDense(layers);
  const manifest: ModelManifest = {
    schema: 1,
    name,
    version,
    createdAt: '2026-01-01T00:00:00.000Z',
    signalSet: columns,
    engine: 'dense',
    features: { windowRows, gapMs: 5000, inputs, clip: 8 },
    score: { smoothingRows, residualCenter: inputs.map(() => 0), residualScale: inputs.map(() => 1) },
    alarm: { threshold: 4, raiseAfterRows: 5, clearBelow: 2, clearAfterRows: 10 },
    files: { 'model.json': fileRef(model), 'weights.bin': fileRef(weights) },
    lineage: {
      topic: 'telemetry',
      offsets: { 0: { from: 0, to: 100 } },
      eventOffsets: { 0: { from: 0, to: 3 } },
      span: { from: '2026-01-01T00:00:00.000Z', to: '2026-01-01T01:00:00.000Z' },
      rows: 3600,
      vehicles: 1,
      rowsExcluded: 0,
      duplicatesDropped: 0,
      seed: 1,
      hyperParameters: { epochs: 1 },
      codeVersion: 'bench',
      parent: null,
    },
    metrics: { loss: 0.1 },
  };
  manifest.selfTest = selfTestOf({ manifest, layers }, 1);
  return { manifest: Buffer.from(JSON.stringify(manifest)), model, weights };
}

async function send(url: string, method: string, body: Buffer, type: string, token?: string): Promise<void> {
  const answer = await fetch(url, {
    method,
    body: new Uint8Array(body),
    headers: { 'content-type': type, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
  });
  if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function fileRef(bytes: Buffer) {
  return { sha256: sha256(bytes), length: bytes.length };
}
