import * as tf from '@tensorflow/tfjs';
import { CardanError, messageOf, type LayersModelFiles } from '@cardan/shared';
import type { NetworkEngine } from './network-engine.ts';
import { SeededRandom } from './seeded-random.ts';
import type { TfjsBackend } from './tfjs-backends.ts';
import { chooseBackend, layersModelJson, TfjsTraining } from './tfjs-training.ts';

/** Most parameters: 1 MB of weights, and far more than a car runs in the time that a row may take. */
const PARAMETERS_MAX = 250_000;

export interface TfjsEngineOptions {
  /** Of a LayersModel, see `network-topology.ts`. */
  topology: object;
  /** Only this one; default the first on which the network can be trained, see `TFJS_BACKENDS`. */
  backend?: TfjsBackend;
}

/**
 * Trains networks of one topology. Kernels are drawn from the seed as Glorot and Bengio do; biases and the like begin
 * as their layers say.
 *
 * Throws MODEL_INVALID, TFJS_UNAVAILABLE.
 */
export async function openTfjsEngine({ topology, backend }: TfjsEngineOptions): Promise<NetworkEngine> {
  // No advertisement of the native library on the first operation.
  tf.enableProdMode();
  const chosen = await chooseBackend(await initialFiles(topology, new SeededRandom(0)), backend);
  const model = await build(topology);
  const multiplyAdds = multiplyAddsOf(model);
  model.dispose();
  return {
    name: 'tfjs',
    multiplyAdds,
    // Other backends round otherwise: the same one gives the same bytes.
    hyperParameters: { tfjsBackend: chosen },
    begin: async (random) => TfjsTraining.begin(await initialFiles(topology, random), chosen),
  };
}

async function initialFiles(topology: object, random: SeededRandom): Promise<LayersModelFiles> {
  const model = await build(topology);
  try {
    const parameters = model.countParams();
    if (parameters > PARAMETERS_MAX)
      throw invalid(`it has ${parameters} parameters, more than the ${PARAMETERS_MAX} that there may be`);
    const tensors = model.weights.map((weight) => {
      const shape = weight.shape as number[];
      const values = shape.length > 1 ? glorot(shape, random) : Float32Array.from(weight.read().dataSync());
      return { spec: { name: weight.originalName, shape, dtype: 'float32' }, values };
    });
    return {
      modelJson: layersModelJson(
        topology,
        tensors.map(({ spec }) => spec),
      ),
      weights: Buffer.concat(tensors.map(({ values }) => Buffer.from(values.buffer))),
    };
  } finally {
    model.dispose();
  }
}

async function build(modelTopology: object): Promise<tf.LayersModel> {
  try {
    return await tf.loadLayersModel(tf.io.fromMemory({ modelTopology }));
  } catch (cause) {
    throw invalid(messageOf(cause).replace(/\.$/, ''), cause);
  }
}

/** Each weight of a kernel once per position that it is applied to: those of a convolution, the steps of a sequence. */
function multiplyAddsOf({ layers }: tf.LayersModel): number {
  let sum = 0;
  for (const layer of layers) {
    const positions = Math.max(...[layer.input, layer.output].flat().map(({ shape }) => inner(shape)));
    for (const { shape } of layer.weights)
      if (shape.length > 1)
        sum += positions * shape.reduce<number>((product, side) => product * (side ?? 1), 1);
  }
  return sum;
}

/** Of all sizes but the batch's and the channels'. */
function inner(shape: tf.Shape): number {
  return shape.slice(1, -1).reduce<number>((product, side) => product * (side ?? 1), 1);
}

/**
 * Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010). The last two
 * sizes are inputs and outputs, those before a convolution's positions.
 */
function glorot(shape: readonly number[], random: SeededRandom): Float32Array {
  const size = shape.reduce((product, side) => product * side, 1);
  const [inputs, outputs] = shape.slice(-2) as [number, number];
  const positions = size / (inputs * outputs);
  const limit = Math.sqrt(6 / (positions * (inputs + outputs)));
  return Float32Array.from({ length: size }, () => limit * (2 * random.uniform() - 1));
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable network: ${why}.`, { cause });
}
