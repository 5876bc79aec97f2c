import { createHash } from 'node:crypto';
import { checkModelFiles, readDense, type ModelFileBytes } from '@cardan/shared';
import { CLOUD_VERSION } from '../config.ts';
import { denseGraph } from './dense-to-onnx.ts';
import { layersGraph } from './layers-to-onnx.ts';
import { encodeOnnx } from './onnx-format.ts';

/** Operators as of ONNX 1.8 (2020), which every runtime of today has; 7 is the version of the file format then. */
const OPSET = 13;
const IR_VERSION = 7;

/**
 * A model's files → ONNX, with its name, version and the hash of its manifest as metadata: the manifest has what else a
 * score takes. Throws MODEL_INVALID, ONNX_UNSUPPORTED.
 */
export function exportOnnx(files: ModelFileBytes): Buffer {
  const manifest = checkModelFiles(files);
  const graph =
    manifest.engine === 'dense'
      ? denseGraph(readDense(files.model, files.weights))
      : layersGraph(files.model, files.weights);
  return encodeOnnx({
    irVersion: IR_VERSION,
    producerName: 'cardan',
    producerVersion: CLOUD_VERSION,
    graph,
    opsetImport: [{ domain: '', version: OPSET }],
    metadataProps: Object.entries({
      cardan_model: manifest.name,
      cardan_version: manifest.version,
      cardan_manifest_sha256: createHash('sha256').update(files.manifest).digest('hex'),
    }).map(([key, value]) => ({ key, value })),
    functions: [],
  });
}
