import { createHash } from 'node:crypto';
import type { DenseLayer, Network } from './dense.ts';
import { invalid } from './json-fields.ts';
import { readDense } from './layers-model.ts';
import { parseManifest, type ModelManifest } from './manifest.ts';

/** A model that has been checked and can score. */
export interface Model {
  manifest: ModelManifest;
  /** None for an engine other than `dense`. */
  layers: DenseLayer[];
  /** Runs the network of an engine other than `dense`; remembers nothing from row to row. */
  network?: Network;
}

export interface ModelFileBytes {
  manifest: Uint8Array;
  model: Uint8Array;
  weights: Uint8Array;
}

/**
 * Reads the manifest, and checks that the other two files are those that it names. Throws MODEL_INVALID.
 */
export function checkModelFiles(files: ModelFileBytes): ModelManifest {
  const manifest = parseManifest(files.manifest);
  checkFile('model.json', files.model, manifest);
  checkFile('weights.bin', files.weights, manifest);
  return manifest;
}

/**
 * Checks the three files of a model for the dense executor against each other, and reads them. Throws MODEL_INVALID, saying what is
 * wrong. Whether the model is for the signals at hand is for the caller to check (`manifest.signalSet.id`).
 */
export function loadModel(files: ModelFileBytes): Model {
  const manifest = checkModelFiles(files);
  if (manifest.engine !== 'dense')
    throw invalid(`its engine is "${manifest.engine}"; only the engine "dense" runs here`);
  const layers = readDense(files.model, files.weights);
  const inputs = manifest.features.inputs.length;
  const first = layers[0]!;
  const last = layers[layers.length - 1]!;
  if (first.inputs !== inputs || last.units !== inputs)
    throw invalid(
      `the manifest has ${inputs} inputs; layer "${first.name}" takes ${first.inputs} and layer "${last.name}" gives ${last.units}`,
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
