import * as tf from '@tensorflow/tfjs';
import { CardanError, messageOf, type LayersModelFiles } from '@cardan/shared';
import { Adam, type AdamOptions, type TrainingState } from './adam.ts';
import type { NetworkTraining } from './network-training.ts';
import { openBackend, useBackend } from './tfjs-backend.ts';
import { TFJS_BACKENDS, type TfjsBackend } from './tfjs-backends.ts';

/** Weights of TensorFlow.js with a copy in double that Adam changes. */
interface Parameters {
  weight: tf.LayerVariable;
  variable: tf.Variable;
  values: Float64Array;
}

/**
 * Trains any LayersModel that takes rows, [null, n], and gives rows. TensorFlow.js computes the gradient, in float32;
 * the step is the engine's own, in double: for networks of a car's size that costs nothing beside the gradient, and
 * a training that is restored goes on with the same bits.
 */
export class TfjsTraining implements NetworkTraining {
  readonly backend: TfjsBackend;
  private readonly files: Pick<LayersModelFiles, 'modelJson'>;
  private readonly model: tf.LayersModel;
  private readonly parameters: Parameters[];
  private readonly variables: tf.Variable[];
  private readonly adam: Adam;
  private readonly inputs: number;
  private readonly outputs: number;

  /**
   * Begins with the weights of the files, on a backend that has been opened. Throws MODEL_INVALID for what is no
   * network from rows to rows, or draws random numbers, or remembers rows.
   */
  static async begin(
    files: LayersModelFiles,
    backend: TfjsBackend,
    adam: Partial<AdamOptions> = {},
  ): Promise<TfjsTraining> {
    useBackend(backend);
    return new TfjsTraining(files, await loadLayersModel(files), backend, adam);
  }

  private constructor(
    files: LayersModelFiles,
    model: tf.LayersModel,
    backend: TfjsBackend,
    adam: Partial<AdamOptions>,
  ) {
    this.backend = backend;
    this.files = files;
    this.model = model;
    this.inputs = rowLength(model.inputs);
    this.outputs = rowLength(model.outputs);
    refuse(model);
    this.parameters = model.trainableWeights.map((weight) => ({
      weight,
      variable: weight.read() as tf.Variable,
      values: Float64Array.from(weight.read().dataSync()),
    }));
    this.variables = this.parameters.map(({ variable }) => variable);
    this.adam = new Adam(
      this.parameters.map(({ values }) => values),
      adam,
    );
  }

  set learningRate(rate: number) {
    this.adam.options.learningRate = rate;
  }

  step(inputs: Float32Array, targets: Float32Array, rows: number): number {
    useBackend(this.backend);
    const [loss, gradients] = tf.tidy(() => {
      const { value, grads } = tf.variableGrads(
        () => this.meanSquaredError(inputs, targets, rows, true),
        this.variables,
      );
      return [value.dataSync()[0]!, this.variables.map(({ name }) => grads[name]!.dataSync())] as const;
    });
    this.adam.step(gradients);
    this.writeParameters();
    return loss;
  }

  loss(inputs: Float32Array, targets: Float32Array, rows: number): number {
    useBackend(this.backend);
    return tf.tidy(() => this.meanSquaredError(inputs, targets, rows, false).dataSync()[0]!);
  }

  save(): LayersModelFiles {
    useBackend(this.backend);
    const { weights } = this.model;
    const values = weights.map((weight) => weight.read().dataSync());
    const bytes = Buffer.alloc(values.reduce((sum, { length }) => sum + 4 * length, 0));
    let at = 0;
    for (const tensor of values) for (const value of tensor) at = bytes.writeFloatLE(value, at);
    const { modelTopology } = JSON.parse(this.files.modelJson.toString('utf8')) as { modelTopology: object };
    const specs = weights.map(({ originalName, shape }) => ({ name: originalName, shape, dtype: 'float32' }));
    return { modelJson: layersModelJson(modelTopology, specs), weights: bytes };
  }

  /** Behind what Adam keeps stand the weights that are not trained: running means of a normalisation. */
  state(): TrainingState {
    useBackend(this.backend);
    return this.adam.state(this.model.nonTrainableWeights.flatMap((weight) => [...weight.read().dataSync()]));
  }

  restore(state: TrainingState): void {
    useBackend(this.backend);
    const { nonTrainableWeights } = this.model;
    const length = nonTrainableWeights.reduce((sum, weight) => sum + weight.read().size, 0);
    const more = this.adam.restore(state, length);
    this.writeParameters();
    let at = 0;
    for (const weight of nonTrainableWeights) {
      const { size } = weight.read();
      write(weight, more.subarray(at, at + size));
      at += size;
    }
  }

  close(): void {
    this.model.dispose();
  }

  /** Computes a gradient of nothing, and changes weights by it; throws what TensorFlow.js throws. */
  tryStep(): void {
    this.step(new Float32Array(2 * this.inputs), new Float32Array(2 * this.outputs), 2);
  }

  private writeParameters(): void {
    for (const { weight, values } of this.parameters) write(weight, values);
  }

  private meanSquaredError(
    inputs: Float32Array,
    targets: Float32Array,
    rows: number,
    training: boolean,
  ): tf.Scalar {
    const x = tf.tensor2d(inputs.slice(0, rows * this.inputs), [rows, this.inputs]);
    const y = tf.tensor2d(targets.slice(0, rows * this.outputs), [rows, this.outputs]);
    return tf.losses.meanSquaredError(y, this.model.apply(x, { training }) as tf.Tensor2D).asScalar();
  }
}

/**
 * The first backend on which a step of this network can be made; "wasm" for instance has no gradient of a
 * convolution. With `only` none but that. Throws TFJS_UNAVAILABLE, MODEL_INVALID.
 */
export async function chooseBackend(files: LayersModelFiles, only?: TfjsBackend): Promise<TfjsBackend> {
  let reason: unknown;
  for (const backend of only === undefined ? TFJS_BACKENDS : [only]) {
    try {
      await openBackend(backend);
    } catch (error) {
      reason = error;
      continue;
    }
    const training = await TfjsTraining.begin(files, backend);
    try {
      training.tryStep();
      return backend;
    } catch (cause) {
      // Plain code can all that TensorFlow.js can, so there it is the network's fault.
      if (backend === 'cpu') throw invalid(messageOf(cause).replace(/\.$/, ''), cause);
      reason = new CardanError(
        'TFJS_UNAVAILABLE',
        `The backend "${backend}" of TensorFlow.js cannot train this network: ${messageOf(cause).replace(/\.$/, '')}.`,
        { cause },
      );
    } finally {
      training.close();
    }
  }
  throw reason as Error;
}

/** `model.json` of a LayersModel. */
export function layersModelJson(modelTopology: object, weights: readonly object[]): Buffer {
  const manifest = [{ paths: ['weights.bin'], weights }];
  const model = { format: 'layers-model', generatedBy: 'cardan', convertedBy: null, modelTopology };
  return Buffer.from(JSON.stringify({ ...model, weightsManifest: manifest }));
}

/** Throws MODEL_INVALID. */
export async function loadLayersModel({ modelJson, weights }: LayersModelFiles): Promise<tf.LayersModel> {
  try {
    const { modelTopology, weightsManifest } = JSON.parse(modelJson.toString('utf8')) as {
      modelTopology: object;
      weightsManifest: { weights: tf.io.WeightsManifestEntry[] }[];
    };
    return await tf.loadLayersModel(
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
}

/** A copy each time: the backend "cpu" keeps the array that it is given. */
function write(weight: tf.LayerVariable, values: Float64Array): void {
  tf.tidy(() => {
    weight.write(tf.tensor(Float32Array.from(values), weight.shape as number[]));
  });
}

function refuse({ layers }: tf.LayersModel): void {
  for (const layer of layers) {
    const className = layer.getClassName();
    if (/Dropout|Noise/.test(className))
      throw invalid(
        `layer "${layer.name}" (${className}) draws random numbers, so that nobody could train the model again; leave it out, the autoencoder is shown rows with noise anyway`,
      );
    if (layer.losses.length > 0)
      throw invalid(`layer "${layer.name}" has a regularizer; only the mean squared error is trained on`);
    if (layer.stateful) throw invalid(`layer "${layer.name}" remembers rows; make it not stateful`);
  }
}

function rowLength(ends: readonly tf.SymbolicTensor[]): number {
  const shape = ends.length === 1 ? ends[0]!.shape : [];
  const length = shape.length === 2 ? shape[1] : null;
  if (typeof length !== 'number')
    throw invalid(
      `its inputs and outputs have the shapes ${JSON.stringify(ends.map((end) => end.shape))}; expected is one of [null, n] each`,
    );
  return length;
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable network: ${why}.`, { cause });
}
