import { createHash } from 'node:crypto';
import type { DenseLayer } from './dense.ts';
import { invalid } from './json-fields.ts';
import { readDense } from './layers-model.ts';
import { parseManifest, type ModelManifest, type ScoreSpec } from './manifest.ts';
import { SmoothedResiduals } from './residuals.ts';

/** A model that has been checked and can score. */
export interface Model {
  manifest: ModelManifest;
  layers: DenseLayer[];
}

/**
 * Checks the three files of a model against each other and reads them. Throws MODEL_INVALID, saying what is
 * wrong. Whether the model is for the signals at hand is the caller's to check (`manifest.signalSet.id`).
 */
export function loadModel(files: { manifest: Uint8Array; model: Uint8Array; weights: Uint8Array }): Model {
  const manifest = parseManifest(files.manifest);
  checkFile('model.json', files.model, manifest);
  checkFile('weights.bin', files.weights, manifest);
  const layers = readDense(files.model, files.weights);
  const inputs = manifest.features.inputs.length;
  const first = layers[0]!;
  const last = layers[layers.length - 1]!;
  if (first.inputs !== inputs || last.units !== inputs)
    throw invalid(
      `the manifest has ${inputs} inputs, the network takes ${first.inputs} (layer "${first.name}") and gives ${last.units} (layer "${last.name}")`,
    );
  return { manifest, layers };
}

function checkFile(name: 'model.json' | 'weights.bin', bytes: Uint8Array, manifest: ModelManifest): void {
  const { sha256, length } = manifest.files[name];
  if (bytes.byteLength !== length)
    throw invalid(`${name} has ${bytes.byteLength} bytes, the manifest says ${length}`);
  const hash = createHash('sha256').update(bytes).digest('hex');
  if (hash !== sha256) throw invalid(`${name} has the SHA-256 ${hash}, the manifest says ${sha256}`);
}

export class Scorer {
  readonly model: Model;
  private readonly residuals: SmoothedResiduals;
  private readonly standardised: Float64Array;

  constructor(model: Model) {
    const { features, score } = model.manifest;
    this.model = model;
    this.residuals = new SmoothedResiduals(features, score.smoothingRows, model.layers);
    this.standardised = new Float64Array(features.inputs.length);
  }
  push(timeMs: number, values: Float32Array, offset = 0): number {
    if (!this.residuals.push(timeMs, values, offset)) return Number.NaN;
    return fuse(this.residuals.values, this.model.manifest.score, this.standardised);
  }
  contributions(): Float32Array {
    return new Float32Array(this.model.manifest.signalSet.signals.length);
  }
}

export function fuse(residuals: Float64Array, spec: ScoreSpec, z: Float64Array): number {
  let s = 0;
  for (let i = 0; i < z.length; i++) {
    const v = (residuals[i]! - spec.residualCenter[i]!) / spec.residualScale[i]!;
    z[i] = v === v ? v : 0;
    s += v === v ? v * v : 0;
  }
  return Math.sqrt(s / z.length);
}
