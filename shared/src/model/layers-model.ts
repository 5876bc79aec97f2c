import { messageOf } from '../errors.ts';
import { ACTIVATIONS, type DenseLayer } from './dense.ts';
import { invalid, JsonFields } from './json-fields.ts';

/**
 * TensorFlow.js LayersModel files of a Keras `Sequential` stack of `Dense` layers.
 *
 *   model.json   {format: 'layers-model', modelTopology: {class_name: 'Sequential', config: {layers: […]}},
 *                 weightsManifest: [{paths: ['weights.bin'], weights: [{name, shape, dtype: 'float32'}, …]}]}
 *   weights.bin  the weights one after the other in the order of weightsManifest, float32 little-endian:
 *                per layer the kernel (inputs × units, row-major), then the bias
 *
 * Stock TensorFlow.js loads what `writeDense` writes, and `readDense` reads what it saves for such models.
 */
export interface LayersModelFiles {
  modelJson: Buffer;
  weights: Buffer;
}

/** Most layers, and most weights of one: far above what a car can run in a millisecond. */
const LAYERS_MAX = 32;
const UNITS_MAX = 4096;

/** Writes layers that fit each other. The same layers always give the same bytes. */
export function writeDense(layers: readonly DenseLayer[]): LayersModelFiles {
  const specs = layers.flatMap(({ name, inputs, units }) => [
    { name: `${name}/kernel`, shape: [inputs, units], dtype: 'float32' },
    { name: `${name}/bias`, shape: [units], dtype: 'float32' },
  ]);
  const model = {
    format: 'layers-model',
    generatedBy: 'cardan',
    convertedBy: null,
    modelTopology: {
      class_name: 'Sequential',
      config: { name: 'autoencoder', layers: layers.map(layerConfig) },
      keras_version: 'tfjs-layers 4.22.0',
      backend: 'tensor_flow.js',
    },
    weightsManifest: [{ paths: ['weights.bin'], weights: specs }],
  };
  const values = layers.reduce((sum, { kernel, bias }) => sum + kernel.length + bias.length, 0);
  const weights = Buffer.alloc(values * 4);
  let at = 0;
  for (const { kernel, bias } of layers)
    for (const tensor of [kernel, bias]) for (const value of tensor) at = weights.writeFloatLE(value, at);
  return { modelJson: Buffer.from(JSON.stringify(model)), weights };
}

function layerConfig({ name, inputs, units, activation }: DenseLayer, index: number): object {
  return {
    class_name: 'Dense',
    config: {
      ...(index === 0 ? { batch_input_shape: [null, inputs] } : {}),
      units,
      activation,
      use_bias: true,
      name,
      trainable: true,
      dtype: 'float32',
    },
  };
}

/**
 * Reads a stack of dense layers from files of unknown origin. Throws MODEL_INVALID, naming the layer, for
 * whatever the dense executor cannot run as TensorFlow.js would.
 */
export function readDense(modelJson: Uint8Array, weightsBin: Uint8Array): DenseLayer[] {
  const model = parseJson(modelJson);
  const topology = unwrap(new JsonFields(model.value('modelTopology'), 'model.json.modelTopology'));
  topology.oneOf('class_name', ['Sequential']);
  const configs = layerList(topology);
  // First, as other layers have weights of other shapes, too.
  for (const fields of configs) {
    const className = fields.string('class_name');
    if (!['Dense', 'InputLayer'].includes(className))
      throw otherLayer(fields.object('config').string('name'), className);
  }
  const tensors = readTensors(model, weightsBin);
  const layers: DenseLayer[] = [];
  let inputs: number | undefined;
  for (const fields of configs) {
    const className = fields.string('class_name');
    const config = fields.object('config');
    const name = config.string('name');
    const shape = config.has('batch_input_shape')
      ? config.value('batch_input_shape')
      : config.has('batchInputShape')
        ? config.value('batchInputShape')
        : undefined;
    if (shape !== undefined) inputs ??= rowLength(shape, name);
    if (className === 'InputLayer' && layers.length === 0) continue;
    if (className !== 'Dense') throw otherLayer(name, className);
    if (inputs === undefined) throw invalid(`layer "${name}" is the first one and has no batch_input_shape`);
    const layer = readLayer(config, name, inputs, tensors);
    layers.push(layer);
    inputs = layer.units;
  }
  if (layers.length === 0) throw invalid('model.json has no Dense layer');
  return layers;
}

function otherLayer(name: string, className: string): Error {
  return invalid(
    `layer "${name}" is a ${className}; the engine "dense" runs only Dense layers, the engine "tfjs" others`,
  );
}

function parseJson(bytes: Uint8Array): JsonFields {
  try {
    return new JsonFields(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)), 'model.json');
  } catch (cause) {
    throw invalid(`model.json is not a JSON object (${messageOf(cause)})`, cause);
  }
}

/** Keras' converter puts the topology into `model_config`; TensorFlow.js itself does not. */
function unwrap(topology: JsonFields): JsonFields {
  return topology.has('model_config') ? topology.object('model_config') : topology;
}

/** `config` is `{layers: […]}`, or in files of old versions the list itself. */
function layerList(topology: JsonFields): JsonFields[] {
  const fields = (value: unknown, path: string) => new JsonFields(value, path);
  if (Array.isArray(topology.value('config'))) return topology.list('config', 1, LAYERS_MAX, fields);
  return topology.object('config').list('layers', 1, LAYERS_MAX, fields);
}

function readLayer(
  config: JsonFields,
  name: string,
  inputs: number,
  tensors: ReadonlyMap<string, Tensor>,
): DenseLayer {
  const units = config.integer('units', 1, UNITS_MAX);
  const activation = config.has('activation') ? config.value('activation') : 'linear';
  const known = ACTIVATIONS.find((one) => one === activation);
  if (known === undefined)
    throw invalid(
      `layer "${name}" has the activation ${JSON.stringify(activation)}; the engine "dense" knows ${ACTIVATIONS.join(', ')}`,
    );
  const biased = !config.has('use_bias') || config.value('use_bias') === true;
  return {
    name,
    inputs,
    units,
    activation: known,
    kernel: tensor(tensors, `${name}/kernel`, [inputs, units]),
    bias: biased ? tensor(tensors, `${name}/bias`, [units]) : new Float32Array(units),
  };
}

function rowLength(shape: unknown, layer: string): number {
  const length: unknown = Array.isArray(shape) && shape.length === 2 ? shape[1] : undefined;
  if (typeof length !== 'number' || !Number.isInteger(length) || length < 1 || length > UNITS_MAX)
    throw invalid(
      `layer "${layer}" has the batch_input_shape ${JSON.stringify(shape)}; expected is [null, n]`,
    );
  return length;
}

interface Tensor {
  shape: number[];
  values: Float32Array;
}

function readTensors(model: JsonFields, bytes: Uint8Array): Map<string, Tensor> {
  const groups = model.list('weightsManifest', 1, LAYERS_MAX, (value, path) => new JsonFields(value, path));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tensors = new Map<string, Tensor>();
  let at = 0;
  for (const group of groups) {
    for (const weight of group.list(
      'weights',
      0,
      2 * LAYERS_MAX,
      (value, path) => new JsonFields(value, path),
    )) {
      // Without the scope that Keras puts before it (`dense_1/dense_1/kernel:0`).
      const parts = weight.string('name').replace(/:0$/, '').split('/');
      const name = parts.slice(-2).join('/');
      weight.oneOf('dtype', ['float32']);
      if (weight.has('quantization')) throw invalid(`weight "${name}" is quantized; save it as float32`);
      const shape = weight.list('shape', 1, 2, (value) =>
        typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= UNITS_MAX ? value : -1,
      );
      if (shape.includes(-1)) throw invalid(`weight "${name}" has a shape that is not allowed`);
      const length = shape.reduce((product, size) => product * size, 1);
      if (at + length * 4 > bytes.byteLength)
        throw invalid(`weights.bin has ${bytes.byteLength} bytes; weight "${name}" goes beyond its end`);
      const values = new Float32Array(length);
      for (let i = 0; i < length; i++, at += 4) values[i] = view.getFloat32(at, true);
      if (!values.every(Number.isFinite)) throw invalid(`weight "${name}" has a value that is not finite`);
      if (tensors.has(name)) throw invalid(`weight "${name}" is there twice`);
      tensors.set(name, { shape, values });
    }
  }
  if (at !== bytes.byteLength)
    throw invalid(`weights.bin has ${bytes.byteLength} bytes; its weights take ${at}`);
  return tensors;
}

function tensor(tensors: ReadonlyMap<string, Tensor>, name: string, shape: readonly number[]): Float32Array {
  const found = tensors.get(name);
  if (found === undefined) throw invalid(`weight "${name}" is missing`);
  if (found.shape.length !== shape.length || !found.shape.every((size, i) => size === shape[i]))
    throw invalid(
      `weight "${name}" has the shape [${found.shape.join(', ')}] instead of [${shape.join(', ')}]`,
    );
  return found.values;
}
