import { CardanError, messageOf } from '@cardan/shared';
import { floatTensor, INPUT, makeNode, OUTPUT, rowsOf } from './dense-to-onnx.ts';
import {
  ATTRIBUTE,
  INT64,
  type OnnxAttribute,
  type OnnxGraph,
  type OnnxNode,
  type OnnxTensor,
} from './onnx-format.ts';
import { unsupported } from './unsupported.ts';

/** Activations of Keras that are one operator of ONNX. */
const OPERATOR_OF: Readonly<Record<string, string>> = {
  tanh: 'Tanh',
  relu: 'Relu',
  sigmoid: 'Sigmoid',
  elu: 'Elu',
  selu: 'Selu',
  softplus: 'Softplus',
  softsign: 'Softsign',
};
/** Layers that do nothing once training is over. */
const TRAINING_ONLY = ['Dropout', 'GaussianNoise', 'GaussianDropout', 'AlphaDropout', 'SpatialDropout1D'];

interface LayerJson {
  class_name: string;
  config: Record<string, unknown> & { name: string };
}

/**
 * LayersModel files of a `Sequential` model for the engine `tfjs` → ONNX: Dense, Conv1D, Reshape, Flatten, Activation. Of
 * other layers ONNX_UNSUPPORTED, naming the layer.
 */
export function layersGraph(modelJson: Uint8Array, weights: Uint8Array): OnnxGraph {
  const { topology, tensors } = parse(modelJson, weights);
  if (topology.class_name !== 'Sequential')
    throw unsupported(`The model is ${topology.class_name}; only Sequential models are written as ONNX`);
  const writer = new LayersWriter(tensors);
  for (const layer of Array.isArray(topology.config) ? topology.config : topology.config.layers)
    writer.add(layer);
  return writer.graph();
}

interface Tensor {
  shape: number[];
  values: Float32Array;
}

class LayersWriter {
  private readonly node: OnnxNode[] = [];
  private readonly initializer: OnnxTensor[] = [];
  private readonly tensors: ReadonlyMap<string, Tensor>;
  private row = INPUT;
  /** Shape of a row: without the dimension of rows. */
  private shape: number[] = [];
  private inputs: number | undefined;

  constructor(tensors: ReadonlyMap<string, Tensor>) {
    this.tensors = tensors;
  }

  add({ class_name: kind, config }: LayerJson): void {
    const { name } = config;
    const given = config.batch_input_shape ?? config.batchInputShape;
    if (this.inputs === undefined) {
      const shape = Array.isArray(given) ? (given.slice(1) as number[]) : [];
      if (shape.length !== 1 || typeof shape[0] !== 'number')
        throw unsupported(
          `Layer "${name}" takes rows of the shape ${JSON.stringify(given ?? null)}; expected is [null, n]`,
        );
      this.inputs = shape[0];
      this.shape = shape;
    }
    if (kind === 'InputLayer' || TRAINING_ONLY.includes(kind)) return;
    if (kind === 'Dense') this.dense(config);
    else if (kind === 'Conv1D') this.conv1d(config);
    else if (kind === 'Activation') this.activation(config);
    else if (kind === 'Flatten') this.reshape(name, [product(this.shape)]);
    else if (kind === 'Reshape') {
      // TensorFlow.js writes the size that follows from the others as null, Keras as -1.
      const target = (config.target_shape ?? config.targetShape) as (number | null)[];
      const known = product(target.map((size) => (size === null || size < 0 ? 1 : size)));
      this.reshape(
        name,
        target.map((size) => (size === null || size < 0 ? product(this.shape) / known : size)),
      );
    } else throw unsupported(`Layer "${name}" is a ${kind}, which is not written as ONNX`);
  }

  graph(): OnnxGraph {
    if (this.inputs === undefined || this.node.length === 0) throw unsupported('The model has no layer');
    if (this.shape.length !== 1)
      throw unsupported(
        `The model gives rows of the shape [${this.shape.join(', ')}]; expected is one vector`,
      );
    this.node.push(makeNode('output', 'Identity', [this.row], OUTPUT));
    return {
      name: 'autoencoder',
      node: this.node,
      initializer: this.initializer,
      sparseInitializer: [],
      input: [rowsOf(INPUT, this.inputs)],
      output: [rowsOf(OUTPUT, this.shape[0]!)],
    };
  }

  /** MatMul takes rows of any shape, and multiplies what is in their last dimension. */
  private dense(config: LayerJson['config']): void {
    const { name } = config;
    const kernel = this.tensor(name, 'kernel');
    this.initializer.push(floatTensor(`${name}/kernel`, kernel.shape, kernel.values));
    this.push(`${name}/product`, 'MatMul', `${name}/kernel`);
    if (config.use_bias !== false && config.useBias !== false) {
      const bias = this.tensor(name, 'bias');
      this.initializer.push(floatTensor(`${name}/bias`, bias.shape, bias.values));
      this.push(`${name}/sum`, 'Add', `${name}/bias`);
    }
    this.shape = [...this.shape.slice(0, -1), kernel.shape[1]!];
    this.activation(config);
  }

  /** Keras has [rows, length, channels], ONNX [rows, channels, length]; Keras’ kernel is [size, channels, filters]. */
  private conv1d(config: LayerJson['config']): void {
    const { name } = config;
    const option = (key: string, otherwise: unknown) => {
      const value = config[key] ?? otherwise;
      return Array.isArray(value) ? (value[0] as unknown) : value;
    };
    const stride = Number(option('strides', 1));
    const dilation = Number(option('dilation_rate', config.dilationRate ?? 1));
    const padding = option('padding', 'valid');
    if (!['valid', 'same'].includes(String(padding)))
      throw unsupported(`Layer "${name}" has the padding ${String(padding)}, which is not written as ONNX`);
    if (option('data_format', 'channels_last') !== 'channels_last' || Number(option('groups', 1)) !== 1)
      throw unsupported(`Layer "${name}" has its channels first, or in groups, which is not written as ONNX`);
    const kernel = this.tensor(name, 'kernel');
    const [size, channels, filters] = kernel.shape as [number, number, number];
    const length = this.shape[0]!;
    const reach = (size - 1) * dilation + 1;
    const out = Math.ceil((padding === 'valid' ? length - reach + 1 : length) / stride);
    const missing = padding === 'valid' ? 0 : Math.max(0, (out - 1) * stride + reach - length);
    const pads = [Math.floor(missing / 2), Math.ceil(missing / 2)];
    const turned = new Float32Array(kernel.values.length);
    for (let k = 0; k < size; k++)
      for (let c = 0; c < channels; c++)
        for (let f = 0; f < filters; f++)
          turned[(f * channels + c) * size + k] = kernel.values[(k * channels + c) * filters + f]!;
    this.initializer.push(floatTensor(`${name}/kernel`, [filters, channels, size], turned));
    const operands = [`${name}/kernel`];
    if (config.use_bias !== false && config.useBias !== false) {
      const bias = this.tensor(name, 'bias');
      this.initializer.push(floatTensor(`${name}/bias`, bias.shape, bias.values));
      operands.push(`${name}/bias`);
    }
    this.push(`${name}/channels_first`, 'Transpose', [], [ints('perm', [0, 2, 1])]);
    this.push(`${name}/conv`, 'Conv', operands, [
      ints('dilations', [dilation]),
      ints('kernel_shape', [size]),
      ints('pads', pads),
      ints('strides', [stride]),
    ]);
    this.push(`${name}/channels_last`, 'Transpose', [], [ints('perm', [0, 2, 1])]);
    this.shape = [out, filters];
    this.activation(config);
  }

  private activation({ name, activation = 'linear' }: LayerJson['config']): void {
    if (activation === 'linear') return;
    const operator = OPERATOR_OF[String(activation)];
    if (operator === undefined)
      throw unsupported(
        `Layer "${name}" has the activation ${String(activation)}, which is not written as ONNX`,
      );
    this.push(`${name}/${String(activation)}`, operator, []);
  }

  private reshape(name: string, shape: number[]): void {
    const rawData = Buffer.alloc((shape.length + 1) * 8);
    // The number of rows stays as it is: -1 in front, as all others are known.
    [-1, ...shape].forEach((size, i) => rawData.writeBigInt64LE(BigInt(size), i * 8));
    this.initializer.push({ name: `${name}/shape`, dims: [shape.length + 1], dataType: INT64, rawData });
    this.push(`${name}/reshape`, 'Reshape', `${name}/shape`);
    this.shape = shape;
  }

  private push(
    name: string,
    opType: string,
    operands: string | string[],
    attributes?: OnnxAttribute[],
  ): void {
    this.node.push(makeNode(name, opType, [this.row, ...[operands].flat()], `${name}/output`, attributes));
    this.row = `${name}/output`;
  }

  private tensor(layer: string, part: 'kernel' | 'bias'): Tensor {
    const found = this.tensors.get(`${layer}/${part}`);
    if (found === undefined) throw unsupported(`The files have no ${part} of layer "${layer}"`);
    return found;
  }
}

function ints(name: string, values: number[]): OnnxAttribute {
  return { name, type: ATTRIBUTE.ints, ints: values };
}

function product(shape: readonly number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}

interface Topology {
  class_name: string;
  config: LayerJson[] | { layers: LayerJson[] };
}

function parse(
  modelJson: Uint8Array,
  weights: Uint8Array,
): { topology: Topology; tensors: Map<string, Tensor> } {
  const tensors = new Map<string, Tensor>();
  try {
    const { modelTopology, weightsManifest } = JSON.parse(Buffer.from(modelJson).toString('utf8')) as {
      modelTopology: Topology & { model_config?: Topology };
      weightsManifest: { weights: { name: string; shape: number[]; dtype: string }[] }[];
    };
    const view = new DataView(weights.buffer, weights.byteOffset, weights.byteLength);
    let at = 0;
    for (const { name, shape, dtype } of weightsManifest.flatMap((group) => group.weights)) {
      if (dtype !== 'float32')
        throw unsupported(`The weight "${name}" is ${dtype}; float32 is written as ONNX`);
      const values = Float32Array.from({ length: product(shape) }, (_, i) =>
        view.getFloat32(at + i * 4, true),
      );
      at += values.length * 4;
      // Without the scope that Keras puts before it (`dense_1/dense_1/kernel:0`).
      tensors.set(name.replace(/:0$/, '').split('/').slice(-2).join('/'), { shape, values });
    }
    return { topology: modelTopology.model_config ?? modelTopology, tensors };
  } catch (cause) {
    if (cause instanceof CardanError) throw cause;
    throw new CardanError(
      'MODEL_INVALID',
      `Not a usable model: model.json cannot be read (${messageOf(cause)}).`,
      {
        cause,
      },
    );
  }
}
