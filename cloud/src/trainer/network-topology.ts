import { CardanError } from '@cardan/shared';

type Settings = Record<string, unknown>;

/**
 * The layers that can be named in a list, by their names there, with the number of dimensions that they give (`same`: as
 * many as they take; the batch counts as one). Any other comes in a topology file.
 */
const LAYERS: Readonly<
  Record<string, { className: string; rank: 'same' | number | ((s: Settings) => number) }>
> = {
  activation: { className: 'Activation', rank: 'same' },
  averagePooling1d: { className: 'AveragePooling1D', rank: 3 },
  batchNormalization: { className: 'BatchNormalization', rank: 'same' },
  conv1d: { className: 'Conv1D', rank: 3 },
  dense: { className: 'Dense', rank: 'same' },
  elu: { className: 'ELU', rank: 'same' },
  flatten: { className: 'Flatten', rank: 2 },
  globalAveragePooling1d: { className: 'GlobalAveragePooling1D', rank: 2 },
  globalMaxPooling1d: { className: 'GlobalMaxPooling1D', rank: 2 },
  gru: { className: 'GRU', rank: ofSequence },
  layerNormalization: { className: 'LayerNormalization', rank: 'same' },
  leakyReLU: { className: 'LeakyReLU', rank: 'same' },
  lstm: { className: 'LSTM', rank: ofSequence },
  maxPooling1d: { className: 'MaxPooling1D', rank: 3 },
  permute: { className: 'Permute', rank: 'same' },
  repeatVector: { className: 'RepeatVector', rank: 3 },
  reshape: { className: 'Reshape', rank: ofTarget },
  simpleRNN: { className: 'SimpleRNN', rank: ofSequence },
};

/** Most layers of a list: far more than a car can run. */
const LAYERS_MAX = 32;

/** What a network is given: `rows` rows of `columns` values, the oldest row first, one after the other. */
export interface InputShape {
  rows: number;
  columns: number;
}

/**
 * A list of layers, as in `[{conv1d: {filters: 8, kernelSize: 3}}, {gru: {units: 6}}]`, as the topology of a
 * `Sequential` LayersModel. The settings of a layer are those of TensorFlow.js.
 *
 * A model takes a row of numbers and gives one of the same length. So what is missing is added: with more than one row,
 * a `Reshape` into rows and columns in front; behind, a linear `Dense` layer with as many units as there are inputs,
 * and a `Flatten` before it where the last layer gives more than a row.
 *
 * Throws MODEL_INVALID, naming the place.
 */
export function topologyOf(layers: unknown, { rows, columns }: InputShape): object {
  if (!Array.isArray(layers) || layers.length === 0 || layers.length > LAYERS_MAX)
    throw invalid(`layers must be a list of 1 to ${LAYERS_MAX} layers`);
  const inputs = rows * columns;
  const configs: LayerConfig[] = [];
  if (rows > 1) configs.push(config('Reshape', 'rows', { targetShape: [rows, columns] }));
  let rank = rows > 1 ? 3 : 2;
  for (const [i, layer] of layers.entries()) {
    const read = readLayer(layer, i);
    configs.push(read.layer);
    rank = read.rank === 'same' ? rank : read.rank;
  }
  if (rank > 2) configs.push(config('Flatten', 'flat', {}));
  configs.push(config('Dense', 'output', { units: inputs, activation: 'linear' }));
  Object.assign(configs[0]!.config, { batchInputShape: [null, inputs] });
  return {
    class_name: 'Sequential',
    config: { name: 'autoencoder', layers: configs },
    keras_version: 'tfjs-layers 4.22.0',
    backend: 'tensor_flow.js',
  };
}

/** The topology in a file of TensorFlow.js or Keras: a whole `model.json`, or the topology alone. Throws MODEL_INVALID. */
export function topologyIn(json: string): object {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw invalid('the file of its topology is not JSON', cause);
  }
  const topology = isObject(value) && isObject(value.modelTopology) ? value.modelTopology : value;
  if (!isObject(topology) || !('class_name' in topology || 'model_config' in topology))
    throw invalid('the file has no topology of a LayersModel: neither "modelTopology" nor "class_name"');
  return topology;
}

interface LayerConfig {
  class_name: string;
  config: Settings;
}

/**
 * What is wrong with an element of a list of layers, as in "is 5; expected is …"; undefined when it is a layer by name and
 * form. Whether its settings go together only TensorFlow.js can tell.
 */
export function layerProblem(layer: unknown): string | undefined {
  const [kind, given] = entryOf(layer);
  if (typeof kind !== 'string' || !Object.hasOwn(LAYERS, kind))
    return `is ${JSON.stringify(layer)}; expected is a layer as {conv1d: {filters: 8, kernelSize: 3}}, of ${Object.keys(LAYERS).join(', ')}`;
  if (!isObject(given ?? {}))
    return `has the settings ${JSON.stringify(given)}; expected are names with values`;
  return undefined;
}

function readLayer(layer: unknown, index: number): { layer: LayerConfig; rank: number | 'same' } {
  const problem = layerProblem(layer);
  if (problem !== undefined) throw invalid(`layers[${index}] ${problem}`);
  const [kind, given] = entryOf(layer) as [string, Settings | null];
  const { className, rank } = LAYERS[kind]!;
  const settings = given ?? {};
  return {
    layer: config(className, `${kind}_${index + 1}`, settings),
    rank: typeof rank === 'function' ? rank(settings) : rank,
  };
}

/** Name and settings. */
function entryOf(layer: unknown): [name: unknown, settings: unknown] {
  const entries = isObject(layer) ? Object.entries(layer) : [[layer, {}] as [unknown, unknown]];
  return entries.length === 1 ? entries[0]! : [undefined, {}];
}

function ofSequence({ returnSequences, return_sequences }: Settings): number {
  return returnSequences === true || return_sequences === true ? 3 : 2;
}

function ofTarget({ targetShape, target_shape }: Settings): number {
  const shape = targetShape ?? target_shape;
  return Array.isArray(shape) ? shape.length + 1 : 2;
}

function config(class_name: string, name: string, settings: Settings): LayerConfig {
  return { class_name, config: { ...settings, name, trainable: true, dtype: 'float32' } };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('MODEL_INVALID', `Not a usable network: ${why}.`, { cause });
}
