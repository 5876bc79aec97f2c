import { createHash } from 'node:crypto';
import { type ModelManifest, signalSet } from '@cardan/shared';

/** A model whose files are as large as real ones and mean nothing: the registry never looks into them. */
export interface TestModel {
  manifest: ModelManifest;
  manifestBytes: Buffer;
  modelBytes: Buffer;
  weightsBytes: Buffer;
}

export const COLUMNS = signalSet([
  { name: 'Vehicle.Speed', unit: 'km/h' },
  { name: 'Vehicle.Powertrain.CombustionEngine.Speed', unit: 'rpm' },
]);
export const OTHER_COLUMNS = signalSet([{ name: 'Vehicle.Speed', unit: 'm/s' }]);

export function testModel(
  version: string,
  options: {
    name?: string;
    columns?: typeof COLUMNS;
    /** Of the manifest. */
    change?: (manifest: ModelManifest) => void;
  } = {},
): TestModel {
  const { name = 'anomaly', columns = COLUMNS } = options;
  const modelBytes = Buffer.from(JSON.stringify({ format: 'layers-model', name, version }));
  const weightsBytes = Buffer.alloc(20_000, `${name} ${version} `);
  const inputs = columns.signals.map((_, signal) => ({
    signal,
    statistic: 'mean' as const,
    center: 0,
    scale: 1,
  }));
  const manifest: ModelManifest = {
    schema: 1,
    name,
    version,
    createdAt: '2026-01-01T00:00:00.000Z',
    signalSet: columns,
    engine: 'dense',
    features: { windowRows: 5, gapMs: 5000, inputs, clip: 8 },
    score: { smoothingRows: 5, residualCenter: inputs.map(() => 0), residualScale: inputs.map(() => 1) },
    alarm: { threshold: 4, raiseAfterRows: 5, clearBelow: 2, clearAfterRows: 10 },
    files: { 'model.json': fileRef(modelBytes), 'weights.bin': fileRef(weightsBytes) },
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
      codeVersion: 'test',
      parent: null,
    },
    metrics: { loss: 0.1 },
  };
  options.change?.(manifest);
  return { manifest, manifestBytes: Buffer.from(JSON.stringify(manifest)), modelBytes, weightsBytes };
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function fileRef(bytes: Buffer) {
  return { sha256: sha256(bytes), length: bytes.length };
}

/** Publishes over the API, as the trainer does. Resolves to the status of the last answer. */
export async function publish(url: string, model: TestModel): Promise<number> {
  for (const bytes of [model.modelBytes, model.weightsBytes]) {
    const answer = await fetch(`${url}/v1/blobs/${sha256(bytes)}`, {
      method: 'PUT',
      body: new Uint8Array(bytes),
      headers: { 'content-type': 'application/octet-stream' },
    });
    if (!answer.ok) throw new Error(await answer.text());
  }
  const answer = await fetch(`${url}/v1/models/${model.manifest.name}/versions`, {
    method: 'POST',
    body: new Uint8Array(model.manifestBytes),
    headers: { 'content-type': 'application/json' },
  });
  return answer.status;
}
