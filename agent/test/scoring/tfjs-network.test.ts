import * as tf from '@tensorflow/tfjs';
import {
  enginesHere,
  loadAnyModel,
  loadTfjsNetwork,
  parseManifest,
  Scorer,
  serializeManifest,
  type ModelManifest,
} from '@cardan/shared';
import { beforeAll, expect, test } from 'vitest';
import { drive, modelFiles, randomNumbers, sha256 } from '../../../shared/test/model/model-fixture.ts';
import { loadOnBoard } from '../../src/scoring/load-on-board.ts';
import type { InstalledModel } from '../../src/updater/model-store.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
});

/** The files of a network as TensorFlow.js saves them. */
async function saved(network: tf.LayersModel): Promise<{ model: Buffer; weights: Buffer }> {
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
    model: Buffer.from(JSON.stringify(json)),
    weights: Buffer.from(tf.io.concatenateArrayBuffers([weightData as ArrayBuffer])),
  };
}

/** A model for the signals of the fixture, with this network. */
function installed(
  { model, weights }: { model: Buffer; weights: Buffer },
  engine: ModelManifest['engine'],
): InstalledModel {
  const manifest = parseManifest(modelFiles().manifest);
  manifest.engine = engine;
  manifest.files = {
    'model.json': { sha256: sha256(model), length: model.length },
    'weights.bin': { sha256: sha256(weights), length: weights.length },
  };
  const ref = { name: manifest.name, version: manifest.version };
  return { ref, address: '', manifest: serializeManifest(manifest), model, weights };
}

const SIGNAL_SET = parseManifest(modelFiles().manifest).signalSet.id;
const seeded = (seed: number) => tf.initializers.glorotUniform({ seed });

const NETWORKS: Record<string, () => tf.LayersModel> = {
  dense: () =>
    tf.sequential({
      layers: [
        tf.layers.dense({ inputShape: [4], units: 9, activation: 'tanh', kernelInitializer: seeded(1) }),
        tf.layers.dense({ units: 3, activation: 'sigmoid', kernelInitializer: seeded(2) }),
        tf.layers.dense({ units: 4, kernelInitializer: seeded(3) }),
      ],
    }),
  conv1d: () =>
    tf.sequential({
      layers: [
        tf.layers.reshape({ inputShape: [4], targetShape: [4, 1] }),
        tf.layers.conv1d({ filters: 5, kernelSize: 3, padding: 'same', kernelInitializer: seeded(4) }),
        tf.layers.flatten(),
        tf.layers.dense({ units: 4, activation: 'elu', kernelInitializer: seeded(5) }),
      ],
    }),
  lstm: () =>
    tf.sequential({
      layers: [
        tf.layers.reshape({ inputShape: [4], targetShape: [4, 1] }),
        tf.layers.lstm({
          units: 6,
          kernelInitializer: seeded(6),
          recurrentInitializer: tf.initializers.glorotNormal({ seed: 7 }),
        }),
        tf.layers.dense({ units: 4, kernelInitializer: seeded(8) }),
      ],
    }),
};

test('what can load any model, as services do, gives the scores of the car', async () => {
  const files = installed(await saved(NETWORKS.lstm!()), 'tfjs');
  const [any, car] = await Promise.all([loadAnyModel(files), loadOnBoard(files, SIGNAL_SET)]);
  const { times, values } = drive(40);
  expect([...new Scorer(any).pushRows(times, values)]).toEqual([
    ...new Scorer(car.model).pushRows(times, values),
  ]);
});

test('a dense model has the same scores on both engines', async () => {
  const files = await saved(NETWORKS.dense!());
  const [dense, other] = await Promise.all([
    loadOnBoard(installed(files, 'dense'), SIGNAL_SET),
    loadOnBoard(installed(files, 'tfjs'), SIGNAL_SET),
  ]);
  expect(other.model.layers).toEqual([]);
  const { times, values } = drive(100);
  const scorers = [new Scorer(dense.model), new Scorer(other.model)] as const;
  let worst = 0;
  for (let row = 0; row < 100; row++) {
    const [a, b] = scorers.map((scorer) => scorer.push(times[row]!, values, row * 3)) as [number, number];
    expect(Number.isNaN(a)).toBe(Number.isNaN(b));
    if (!Number.isNaN(a)) worst = Math.max(worst, Math.abs(a - b) / a);
  }
  expect(worst).toBeLessThan(1e-6);
});

test.each(['dense', 'conv1d', 'lstm'])(
  'a %s network gives what TensorFlow.js says, and keeps no tensors',
  async (name) => {
    const peer = NETWORKS[name]!();
    const { model, weights } = await saved(peer);
    const network = await loadTfjsNetwork(model, weights);
    expect([network.inputs, network.outputs]).toEqual([4, 4]);
    const random = randomNumbers(3);
    const rows = Array.from({ length: 20 }, () => Float32Array.from({ length: 4 }, () => 3 * random()));
    const expected = tf.tidy(() =>
      (peer.predict(tf.tensor2d(rows.map((row) => [...row]))) as tf.Tensor).arraySync(),
    ) as number[][];
    const { numTensors } = tf.memory();
    rows.forEach((row, r) => {
      [...Array.from(network.run(row))].forEach((value, i) => {
        expect(value).toBeCloseTo(expected[r]![i]!, 6);
      });
    });
    expect(tf.memory().numTensors).toBe(numTensors);
  },
);

test('a car without TensorFlow.js says what to install', async () => {
  const { model, weights } = await saved(NETWORKS.lstm!());
  // A package that is really not there.
  const missing = (name: string) => import(`${name}-which-nobody-has`);
  const loading = loadTfjsNetwork(model, weights, missing);
  await expect(loading).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  await expect(loading).rejects.toThrow(/npm install --no-save @tensorflow\/tfjs@4/);
});

test.each<[string, () => tf.LayersModel, RegExp]>([
  [
    'that remembers rows',
    () =>
      tf.sequential({
        layers: [
          tf.layers.reshape({ batchInputShape: [1, 4], targetShape: [4, 1] }),
          tf.layers.lstm({ units: 4, stateful: true, name: 'memory' }),
        ],
      }),
    /layer "memory" remembers rows/,
  ],
  [
    'that takes no row',
    () => tf.sequential({ layers: [tf.layers.conv1d({ inputShape: [4, 1], filters: 1, kernelSize: 3 })] }),
    /shapes \[\[null,4,1\]\]; expected is one of \[null, n\]/,
  ],
  [
    'of another width',
    () => tf.sequential({ layers: [tf.layers.dense({ inputShape: [5], units: 5 })] }),
    /the manifest has 4 inputs; the network takes 5 and gives 5/,
  ],
])('a network is refused %s', async (_, network, message) => {
  const loading = loadOnBoard(installed(await saved(network()), 'tfjs'), SIGNAL_SET);
  await expect(loading).rejects.toThrow(message);
  await expect(loading).rejects.toMatchObject({ code: 'MODEL_INVALID' });
});

test('what is no network of TensorFlow.js, or of another car, is refused', async () => {
  const { model, weights } = await saved(NETWORKS.conv1d!());
  const unknown = Buffer.from(model.toString().replace('"Conv1D"', '"Lambda"'));
  await expect(loadOnBoard(installed({ model: unknown, weights }, 'tfjs'), SIGNAL_SET)).rejects.toMatchObject(
    {
      code: 'MODEL_INVALID',
    },
  );
  await expect(loadOnBoard(installed({ model, weights }, 'dense'), SIGNAL_SET)).rejects.toThrow(
    /runs only Dense layers, the engine "tfjs" others/,
  );
  await expect(loadOnBoard(installed({ model, weights }, 'tfjs'), 'other')).rejects.toMatchObject({
    code: 'SIGNAL_SET_MISMATCH',
  });
});

test('where TensorFlow.js is installed, the car says so before it downloads a model for it', () => {
  expect(enginesHere()).toEqual(['dense', 'tfjs']);
});
