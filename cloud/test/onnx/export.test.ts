import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { afterAll, describe, expect, it } from 'vitest';
import {
  ACTIVATIONS,
  DenseExecutor,
  parseManifest,
  serializeManifest,
  writeDense,
  type DenseLayer,
  type ModelFileBytes,
} from '@cardan/shared';
import { modelFiles, randomLayers, randomNumbers, sha256 } from '../../../shared/test/model/model-fixture.ts';
import { readDenseGraph } from '../../src/onnx/dense-graph.ts';
import { exportOnnx } from '../../src/onnx/export-model.ts';
import { fold } from '../../src/onnx/fold.ts';
import { decodeOnnx } from '../../src/onnx/onnx-format.ts';
import { onnxruntime, ROWS, runOnnx } from './onnxruntime.ts';

const runtime = await onnxruntime();
const checker = hasOnnxChecker();
const dir = mkdtempSync(join(tmpdir(), 'cardan-onnx-'));
afterAll(() => rmSync(dir, { recursive: true }));

/** Whether Python's onnx is here. In CI it must be. */
function hasOnnxChecker(): boolean {
  const found = spawnSync('python3', ['-c', 'import onnx.checker']).status === 0;
  if (!found && process.env.CI) throw new Error('CI needs onnx: pip install onnx');
  if (!found) console.log('skipped: no Python with onnx here (pip install onnx)');
  return found;
}

/** Weights as large as trained ones. */
function layersOf(sizes: readonly number[], activations: DenseLayer['activation'][] = []): DenseLayer[] {
  return randomLayers(sizes, 3).map((layer, i) => ({
    ...layer,
    activation: activations[i] ?? layer.activation,
    kernel: layer.kernel.map((weight) => weight * Math.sqrt(3 / layer.inputs)),
  }));
}

function filesWith(
  { modelJson, weights }: { modelJson: Buffer; weights: Buffer },
  engine: 'dense' | 'tfjs',
): ModelFileBytes {
  const manifest = parseManifest(modelFiles().manifest);
  manifest.engine = engine;
  manifest.files = {
    'model.json': { sha256: sha256(modelJson), length: modelJson.length },
    'weights.bin': { sha256: sha256(weights), length: weights.length },
  };
  return { manifest: serializeManifest(manifest), model: modelJson, weights };
}

function rowsOf(width: number): Float32Array {
  const random = randomNumbers(8);
  return Float32Array.from({ length: ROWS * width }, () => 5 * random());
}

/** The largest difference, relative where a value is over 1. */
function largest(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(found.length).toBe(expected.length);
  return Array.from(expected).reduce(
    (most, value, i) => Math.max(most, Math.abs(found[i]! - value) / Math.max(1, Math.abs(value))),
    0,
  );
}

const NETWORKS: Record<string, DenseLayer[]> = {
  'a car’s autoencoder': layersOf([24, 32, 16, 32, 24]),
  'one layer': layersOf([4, 4]),
  'every activation': layersOf([6, 9, 8, 7, 6], [...ACTIVATIONS]),
};

describe('a model of dense layers', () => {
  it.skipIf(runtime === undefined).each(Object.entries(NETWORKS))(
    'gives in onnxruntime what the car’s executor gives: %s',
    async (_, layers) => {
      const files = filesWith(writeDense(layers), 'dense');
      const rows = rowsOf(layers[0]!.inputs);
      const executor = new DenseExecutor(layers);
      const width = executor.inputs;
      const expected = Array.from({ length: ROWS }, (_, row) => [
        ...executor.run(rows.subarray(row * width, (row + 1) * width)),
      ]).flat();
      expect(largest(await runOnnx(runtime!, exportOnnx(files), rows), expected)).toBeLessThan(1e-6);
    },
  );

  it('comes back from ONNX with the same bytes', () => {
    for (const layers of Object.values(NETWORKS)) {
      const written = writeDense(layers);
      const onnx = decodeOnnx(exportOnnx(filesWith(written, 'dense')));
      expect(writeDense(fold(readDenseGraph(onnx, () => Buffer.alloc(0)))).weights).toEqual(written.weights);
    }
  });

  it('says which model it is', () => {
    const files = filesWith(writeDense(NETWORKS['one layer']!), 'dense');
    expect(decodeOnnx(exportOnnx(files))).toMatchObject({
      producerName: 'cardan',
      opsetImport: [{ domain: '', version: 13 }],
      metadataProps: [
        { key: 'cardan_model', value: 'test' },
        { key: 'cardan_version', value: '7' },
        { key: 'cardan_manifest_sha256', value: sha256(Buffer.from(files.manifest)) },
      ],
    });
  });

  it.skipIf(!checker)('is ONNX to ONNX’s own checker', () => {
    const file = join(dir, 'model.onnx');
    for (const layers of Object.values(NETWORKS)) {
      writeFileSync(file, exportOnnx(filesWith(writeDense(layers), 'dense')));
      expect(check(file)).toBe('');
    }
  });
});

/** What ONNX's checker, shape inference included, has against a file. */
function check(file: string): string {
  const code = `import sys, onnx
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model, full_check=True)`;
  const { status, stderr } = spawnSync('python3', ['-c', code, file], { encoding: 'utf8' });
  return status === 0 ? '' : stderr;
}

/** The files of a network as TensorFlow.js saves them. */
async function saved(network: tf.LayersModel): Promise<{ modelJson: Buffer; weights: Buffer }> {
  let artifacts: tf.io.ModelArtifacts | undefined;
  await network.save(
    tf.io.withSaveHandler(async (all) => {
      artifacts = all;
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } };
    }),
  );
  const { modelTopology, weightSpecs, weightData } = artifacts!;
  const json = { modelTopology, weightsManifest: [{ paths: ['weights.bin'], weights: weightSpecs }] };
  return {
    modelJson: Buffer.from(JSON.stringify(json)),
    weights: Buffer.from(tf.io.concatenateArrayBuffers([weightData as ArrayBuffer])),
  };
}

const { layers: l } = tf;
const reshape = () => l.reshape({ inputShape: [12], targetShape: [6, 2] });
const seeded = (seed: number) => ({
  kernelInitializer: tf.initializers.glorotUniform({ seed }),
  biasInitializer: tf.initializers.randomNormal({ seed: seed + 1 }),
});
const CONVOLUTIONS: Record<string, tf.layers.Layer[]> = {
  same: [
    reshape(),
    l.conv1d({ filters: 5, kernelSize: 3, padding: 'same', activation: 'tanh', ...seeded(1) }),
    l.dropout({ rate: 0.2 }),
    l.flatten(),
    l.dense({ units: 12, ...seeded(3) }),
  ],
  'valid, strides': [
    reshape(),
    l.conv1d({ filters: 4, kernelSize: 2, strides: 2, activation: 'elu', ...seeded(5) }),
    l.flatten(),
    l.dense({ units: 12, activation: 'softplus', ...seeded(7) }),
  ],
  'dilated, dense on channels': [
    reshape(),
    l.conv1d({ filters: 4, kernelSize: 2, padding: 'same', dilationRate: 2, ...seeded(9) }),
    l.activation({ activation: 'relu' }),
    l.dense({ units: 2, activation: 'sigmoid', ...seeded(11) }),
    l.reshape({ targetShape: [-1] }),
  ],
};

describe('a convolutional model for TensorFlow.js', () => {
  it.skipIf(runtime === undefined).each(Object.entries(CONVOLUTIONS))(
    'gives in onnxruntime what TensorFlow.js gives: %s',
    async (_, layers) => {
      await tf.setBackend('cpu');
      const network = tf.sequential({ layers });
      const rows = rowsOf(12);
      const expected = (network.predict(tf.tensor2d(rows, [ROWS, 12])) as tf.Tensor).dataSync();
      const onnx = exportOnnx(filesWith(await saved(network), 'tfjs'));
      expect(largest(await runOnnx(runtime!, onnx, rows), expected)).toBeLessThan(2e-6);
    },
  );

  it.skipIf(!checker)('is ONNX to ONNX’s own checker', async () => {
    const file = join(dir, 'convolution.onnx');
    for (const layers of Object.values(CONVOLUTIONS)) {
      writeFileSync(file, exportOnnx(filesWith(await saved(tf.sequential({ layers })), 'tfjs')));
      expect(check(file)).toBe('');
    }
  });

  it('that has other layers is refused, naming the layer', async () => {
    const layers = [reshape(), l.lstm({ units: 12, name: 'memory' })];
    const files = filesWith(await saved(tf.sequential({ layers })), 'tfjs');
    expect(() => exportOnnx(files)).toThrow(
      expect.objectContaining({
        code: 'ONNX_UNSUPPORTED',
        message: 'Layer "memory" is a LSTM, which is not written as ONNX.',
      }) as Error,
    );
  });
});
