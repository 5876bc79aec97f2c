import { createRequire } from 'node:module';
import { CardanError, messageOf, systemCode } from '../errors.ts';
import type { Network } from './dense.ts';

/**
 * What is used of TensorFlow.js. It is a dependency of the cloud, and none of the agent, not even an optional one: npm
 * would then put its 65 packages into every car, and nearly all models are dense. Who has other models installs it
 * beside the agent.
 */
interface Tensorflow {
  enableProdMode(): void;
  getBackend(): string;
  setBackend(name: string): Promise<boolean>;
  tidy<T>(run: () => T): T;
  tensor2d(values: ArrayLike<number>, shape: [number, number]): Tensor;
  loadLayersModel(handler: unknown): Promise<LayersModel>;
  io: { fromMemory(artifacts: object): unknown };
}
interface Tensor {
  dataSync(): ArrayLike<number>;
}
interface LayersModel {
  inputs: { shape: (number | null)[] }[];
  outputs: { shape: (number | null)[] }[];
  layers: { name: string; stateful: boolean }[];
  predict(input: Tensor): Tensor | Tensor[];
  dispose(): unknown;
}

const PACKAGE = '@tensorflow/tfjs';
/** Synchronous, and there everywhere. The others answer by promise or need a native module. */
const BACKEND = 'cpu';

/**
 * Runs networks with layers that the dense executor does not know. TensorFlow.js computes in float32 with the engine's
 * own transcendental functions, so, unlike the dense executor, it may give other last digits on another machine; and
 * it takes about a hundred times as long. The input is a row of features, [null, n], and so is the output.
 *
 * @throws CardanError MODEL_INVALID, also when TensorFlow.js is not installed
 */
export async function loadTfjsNetwork(
  modelJson: Uint8Array,
  weights: Uint8Array,
  importPackage: (name: string) => Promise<unknown> = (name) => import(name),
): Promise<Network> {
  const tf = await tensorflow(importPackage);
  let model: LayersModel;
  try {
    const { modelTopology, weightsManifest } = JSON.parse(Buffer.from(modelJson).toString('utf8')) as {
      modelTopology: object;
      weightsManifest: { weights: object[] }[];
    };
    model = await tf.loadLayersModel(
      tf.io.fromMemory({
        modelTopology,
        weightSpecs: weightsManifest.flatMap((group) => group.weights),
        // A copy, as TensorFlow.js wants a buffer of its own.
        weightData: new Uint8Array(weights).buffer,
      }),
    );
  } catch (cause) {
    throw invalid(`TensorFlow.js cannot load it: ${messageOf(cause)}`, cause);
  }
  const [inputs, outputs] = [rowLength(model.inputs), rowLength(model.outputs)];
  const stateful = model.layers.find((layer) => layer.stateful);
  // A score depends on its window and on nothing before, so that car and cloud agree.
  if (stateful !== undefined) throw invalid(`layer "${stateful.name}" remembers rows; make it not stateful`);
  return {
    inputs,
    outputs,
    run: (row) => {
      // A trainer in the same process may have chosen another one. One that is there already is set at once.
      if (tf.getBackend() !== BACKEND) void tf.setBackend(BACKEND);
      return tf.tidy(() => (model.predict(tf.tensor2d(row, [1, inputs])) as Tensor).dataSync());
    },
    close: () => {
      model.dispose();
    },
  };
}

/** What can run networks here: the dense executor, and TensorFlow.js where it is installed. */
export function enginesHere(): string[] {
  try {
    createRequire(import.meta.url).resolve(PACKAGE);
    return ['dense', 'tfjs'];
  } catch {
    return ['dense'];
  }
}

async function tensorflow(importPackage: (name: string) => Promise<unknown>): Promise<Tensorflow> {
  try {
    const tf = (await importPackage(PACKAGE)) as Tensorflow;
    // No advertisement of its native library in the car's log.
    tf.enableProdMode();
    await tf.setBackend(BACKEND);
    return tf;
  } catch (cause) {
    const why = systemCode(cause) === 'ERR_MODULE_NOT_FOUND' ? 'which is not installed' : messageOf(cause);
    throw invalid(
      `its engine is "tfjs", so it needs TensorFlow.js (${why}): npm install --no-save @tensorflow/tfjs@4, where the agent is`,
      cause,
    );
  }
}

function rowLength(ends: readonly { shape: (number | null)[] }[]): number {
  const shape = ends.length === 1 ? ends[0]!.shape : [];
  const length = shape.length === 2 ? shape[1] : null;
  if (typeof length !== 'number')
    throw invalid(
      `its inputs and outputs have the shapes ${JSON.stringify(ends.map((end) => end.shape))}; expected is one of [null, n] each`,
    );
  return length;
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable model: ${why}.`, { cause });
}
