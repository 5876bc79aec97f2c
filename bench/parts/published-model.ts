import { createHash } from 'node:crypto';
import { type ModelManifest, signalSet } from '@cardan/shared';

/** The columns of the benches' cars. */
export const SIGNALS = signalSet([
  { name: 'Vehicle.Speed', unit: 'km/h' },
  { name: 'Vehicle.Powertrain.CombustionEngine.Speed', unit: 'rpm' },
]);

/**
 * Publishes a version of a model as the trainer does. Its files are as large as real ones, and what is in them does not
 * count: who runs it is not measured. Resolves when the registry has signed it.
 */
export async function publishModel(url: string, version: string, token: string): Promise<void> {
  const model = Buffer.from(JSON.stringify({ format: 'layers-model', version }));
  const weights = Buffer.alloc(20_000, `weights ${version} `);
  for (const bytes of [model, weights])
    await send(`${url}/v1/blobs/${sha256(bytes)}`, 'PUT', bytes, 'application/octet-stream', token);
  const inputs = SIGNALS.signals.map((_, signal) => ({
    signal,
    statistic: 'mean' as const,
    center: 0,
    scale: 1,
  }));
  const manifest: ModelManifest = {
    schema: 1,
    name: 'anomaly',
    version,
    createdAt: '2026-01-01T00:00:00.000Z',
    signalSet: SIGNALS,
    engine: 'dense',
    features: { windowRows: 5, gapMs: 5000, inputs, clip: 8 },
    score: { smoothingRows: 5, residualCenter: inputs.map(() => 0), residualScale: inputs.map(() => 1) },
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
  const body = Buffer.from(JSON.stringify(manifest));
  await send(`${url}/v1/models/anomaly/versions`, 'POST', body, 'application/json', token);
}

async function send(url: string, method: string, body: Buffer, type: string, token: string): Promise<void> {
  const answer = await fetch(url, {
    method,
    body: new Uint8Array(body),
    headers: { 'content-type': type, authorization: `Bearer ${token}` },
  });
  if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function fileRef(bytes: Buffer) {
  return { sha256: sha256(bytes), length: bytes.length };
}
