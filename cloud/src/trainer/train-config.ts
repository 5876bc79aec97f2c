import { CardanError, messageOf, STATISTICS } from '@cardan/shared';
import type { FlagSource } from './failure-flags.ts';
import type { HyperParameters } from './hyper-parameters.ts';
import type { NetworkSpec } from './network-spec.ts';
import { layerProblem } from './network-topology.ts';
import {
  STREAM_HYPER_PARAMETERS,
  STREAM_SETTINGS,
  type AskedInput,
  type StreamSettings,
} from './stream-settings.ts';
import { TFJS_BACKENDS } from './tfjs-backends.ts';
import { YamlText } from './yaml-text.ts';

/**
 * A `model.yaml`, read; docs/training.md describes it, and `cloud/schema/model-yaml.schema.json` says the same in JSON
 * Schema 2020-12, for editors and other languages.
 */
export interface TrainConfig {
  seed: number | undefined;
  /** Choose the threshold by this bound, on held-back rows; undefined: by the highest score of these. */
  falseAlarmsPer100Hours?: number;
  /** Judge the model by this flag. */
  labels?: FlagSource;
  settings: StreamSettings;
  hyperParameters: Partial<HyperParameters>;
}

/** Bounds: what lies beyond is a slip of the pen, or no network for a car. */
const LIMITS: Readonly<Record<string, readonly [min: number, max: number, whole: boolean]>> = {
  seed: [0, 2 ** 31, true],
  falseAlarmsPer100Hours: [0.001, 1000, false],
  epochs: [1, 1000, true],
  batch: [1, 10_000, true],
  heldBack: [0.01, 0.9, false],
  shuffleRows: [1, 10_000_000, true],
  sampleRows: [1000, 1_000_000, true],
};
/** Of hyper-parameters; those that are not here are numbers from 0 on. */
const HYPER_LIMITS: Partial<
  Record<keyof HyperParameters, readonly [min: number, max: number, whole: boolean]>
> = {
  windowRows: [1, 256, true],
  smoothingRows: [0, 256, true],
  shiftWeight: [0, 100, false],
  clip: [0.1, 1000, false],
  units: [0, 1000, true],
  outerUnits: [0, 10_000, true],
  middleUnits: [0, 10_000, true],
  rowsShown: [1, 1e12, true],
  batchRows: [1, 10_000, true],
  learningRate: [1e-9, 1, false],
  patience: [1, 1000, true],
  maskChance: [0, 0.9, false],
  parts: [2, 100, true],
  thresholdFactor: [0, 100, false],
  standstillFactor: [0, 100, false],
  raiseAfterRows: [1, 1e6, true],
  clearPart: [0.01, 1, false],
  clearAfterRows: [1, 1e6, true],
};
const HIDDEN_MAX = 16;
const LAYERS_MAX = 32;
const UNITS_MAX = 10_000;
const INPUTS_MAX = 2000;
/** Statistics of a whole window; values of single rows are for networks that look at the window themselves. */
const OF_WINDOW = STATISTICS.filter((statistic) => statistic !== 'value');

/**
 * Reads a `model.yaml`. `readFile` gives the text of a file that it names. Throws CONFIG_INVALID, naming the place, its line
 * and what is possible there, and what `readFile` throws.
 */
export function parseTrainConfig(yaml: string, readFile: (path: string) => string): TrainConfig {
  let text: YamlText;
  try {
    text = new YamlText(yaml);
  } catch (cause) {
    throw invalid(`: it is no YAML (${messageOf(cause)})`, cause);
  }
  try {
    return readConfig(text.value === undefined ? {} : text.value, readFile);
  } catch (cause) {
    if (!(cause instanceof WrongPlace)) throw cause;
    const line = text.lineOf(cause.place);
    throw invalid(`${line === undefined ? '' : `, line ${line}`}: ${cause.message}`, cause);
  }
}

/** Says what is wrong at a place; on which line that is, whoever has the text adds. */
class WrongPlace extends Error {
  readonly place: string;

  constructor(place: string, why: string) {
    super(`${place === '' ? 'the file' : place} ${why}`);
    this.place = place;
  }
}

function readConfig(value: unknown, readFile: (path: string) => string): TrainConfig {
  const fields = object(value, '', [
    'seed',
    'engine',
    'epochs',
    'batch',
    'heldBack',
    'shuffleRows',
    'sampleRows',
    'normalisation',
    'hidden',
    'layers',
    'backend',
    'inputs',
    'hyperParameters',
    'falseAlarmsPer100Hours',
    'labels',
  ]);
  const number = (name: string) =>
    fields[name] === undefined ? undefined : numberIn(fields[name], name, LIMITS[name]!);
  const network = readNetwork(fields, readFile);
  if (fields.normalisation !== undefined) oneOf(fields.normalisation, 'normalisation', ['fleet']);
  const { hyperParameters: asked = {}, hidden = [], inputs = [] } = fields;
  const given = object(asked, 'hyperParameters', Object.keys(STREAM_HYPER_PARAMETERS));
  const hyperParameters: Partial<HyperParameters> = {};
  for (const name of Object.keys(given) as (keyof HyperParameters)[])
    hyperParameters[name] = numberIn(
      given[name],
      `hyperParameters.${name}`,
      HYPER_LIMITS[name] ?? [0, Number.MAX_SAFE_INTEGER, false],
    );
  const falseAlarmsPer100Hours = number('falseAlarmsPer100Hours');
  const batch = number('batch');
  if (batch !== undefined) hyperParameters.batchRows = batch;
  return {
    seed: number('seed'),
    ...(falseAlarmsPer100Hours === undefined ? {} : { falseAlarmsPer100Hours }),
    ...(fields.labels === undefined ? {} : { labels: readLabels(fields.labels) }),
    settings: {
      epochs: number('epochs') ?? STREAM_SETTINGS.epochs,
      heldBackPart: number('heldBack') ?? STREAM_SETTINGS.heldBackPart,
      shuffleRows: number('shuffleRows') ?? STREAM_SETTINGS.shuffleRows,
      sampleRows: number('sampleRows') ?? STREAM_SETTINGS.sampleRows,
      hidden: list(hidden, 'hidden', HIDDEN_MAX).map((units, i) =>
        numberIn(units, `hidden[${i}]`, [1, UNITS_MAX, true]),
      ),
      inputs: list(inputs, 'inputs', INPUTS_MAX).map(readInput),
      ...(network === undefined ? {} : { network }),
    },
    hyperParameters,
  };
}

function readLabels(value: unknown): FlagSource {
  const names = ['topic', 'flag', 'vehicle', 'time'];
  const { topic = 'telemetry', flag, vehicle, time } = object(value, 'labels', names);
  const text = (value: unknown, name: string, what: string): string => {
    if (typeof value === 'string' && value !== '') return value;
    throw new WrongPlace(`labels.${name}`, `must be the name of ${what}`);
  };
  const source: FlagSource = { topic: text(topic, 'topic', 'a topic'), flag: text(flag, 'flag', 'a field') };
  for (const [name, field] of Object.entries({ vehicle, time }))
    if (field !== undefined && source.topic === 'telemetry')
      throw new WrongPlace(`labels.${name}`, 'is for topics other than telemetry, which has one already');
  if (vehicle !== undefined) source.vehicle = text(vehicle, 'vehicle', 'a field');
  if (time !== undefined) source.time = text(time, 'time', 'a field');
  return source;
}

/** The network of the engine "tfjs"; undefined for the engine "dense". */
function readNetwork(
  { engine = 'dense', layers, backend, hidden, inputs = [] }: Record<string, unknown>,
  readFile: (path: string) => string,
): NetworkSpec | undefined {
  if (oneOf(engine, 'engine', ['dense', 'tfjs']) === 'dense') {
    for (const [name, value] of Object.entries({ layers, backend }))
      if (value !== undefined)
        throw new WrongPlace(name, 'is for the engine tfjs; write "engine: tfjs" or leave it out');
    return undefined;
  }
  if (hidden !== undefined)
    throw new WrongPlace('hidden', 'is for the engine dense; the engine tfjs has layers');
  if (layers === undefined)
    throw new WrongPlace('engine', 'is tfjs, which needs layers: a list of them, or a topology file');
  for (const [i, input] of list(inputs, 'inputs', INPUTS_MAX).entries())
    if (readInput(input, i).statistic !== 'mean')
      throw new WrongPlace(
        `inputs[${i}]`,
        'has a statistic; the engine tfjs is given the rows of the window themselves',
      );
  return {
    layers: typeof layers === 'string' && layers !== '' ? readFile(layers) : readLayers(layers),
    ...(backend === undefined ? {} : { backend: oneOf(backend, 'backend', TFJS_BACKENDS) }),
  };
}

/** The list as it is given; what is wrong in it is found before the log is read. */
function readLayers(value: unknown): unknown[] {
  const layers = list(value, 'layers', LAYERS_MAX);
  if (layers.length === 0) throw new WrongPlace('layers', 'is an empty list');
  for (const [i, layer] of layers.entries()) {
    const problem = layerProblem(layer);
    if (problem !== undefined) throw new WrongPlace(`layers[${i}]`, problem);
  }
  return layers;
}

function readInput(value: unknown, index: number): AskedInput {
  const place = `inputs[${index}]`;
  const { signal, statistic = 'mean', over } = object(value, place, ['signal', 'statistic', 'over']);
  const name = (text: unknown, where: string): string => {
    if (typeof text === 'string' && text !== '') return text;
    throw new WrongPlace(where, 'must be the name of a signal');
  };
  const read: AskedInput = {
    signal: name(signal, `${place}.signal`),
    statistic: oneOf(statistic, `${place}.statistic`, OF_WINDOW),
  };
  if ((over !== undefined) !== (statistic === 'ratio'))
    throw new WrongPlace(place, 'is wrong: a ratio, and nothing else, is over another signal');
  if (over !== undefined) read.over = name(over, `${place}.over`);
  return read;
}

function object(value: unknown, place: string, names: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new WrongPlace(place, 'must be names with values');
  for (const name of Object.keys(value))
    if (!names.includes(name))
      throw new WrongPlace(
        place === '' ? name : `${place}.${name}`,
        `is not known; there are ${names.join(', ')}`,
      );
  return value as Record<string, unknown>;
}

function list(value: unknown, place: string, most: number): unknown[] {
  if (!Array.isArray(value) || value.length > most)
    throw new WrongPlace(place, `must be a list of at most ${most}`);
  return value;
}

function numberIn(
  value: unknown,
  place: string,
  [min, max, whole]: readonly [min: number, max: number, whole: boolean],
): number {
  if (typeof value !== 'number' || !(value >= min && value <= max) || (whole && !Number.isInteger(value)))
    throw new WrongPlace(
      place,
      `is ${JSON.stringify(value)}; it must be a ${whole ? 'whole ' : ''}number from ${min} to ${max}`,
    );
  return value;
}

function oneOf<T extends string>(value: unknown, place: string, words: readonly T[]): T {
  const word = words.find((known) => known === value);
  if (word === undefined)
    throw new WrongPlace(place, `is ${JSON.stringify(value)}; it must be ${words.join(' or ')}`);
  return word;
}

function invalid(why: string, cause?: unknown): CardanError {
  return new CardanError('CONFIG_INVALID', `Not a usable model.yaml${why} (docs/training.md).`, { cause });
}
