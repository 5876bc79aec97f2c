import { parseSignalSet, SIGNALS_MAX, type SignalSet } from '../signal-set.ts';
import { messageOf } from '../errors.ts';
import { invalid, JsonFields, numberAt } from './json-fields.ts';

/**
 * `manifest.json`: everything that a car or a service needs beside the TensorFlow.js LayersModel files
 * (`model.json`, `weights.bin`), and where the model comes from.
 */
export interface ModelManifest {
  schema: 1;
  name: string;
  /** `1`, `2`, … per name. */
  version: string;
  /** RFC 3339. */
  createdAt: string;
  signalSet: SignalSet;
  /** What runs the network: the dense executor, or TensorFlow.js for layers that it does not know. */
  engine: 'dense' | 'tfjs';
  features: FeatureSpec;
  score: ScoreSpec;
  alarm: AlarmSpec;
  files: { 'model.json': FileRef; 'weights.bin': FileRef };
  lineage: Lineage;
  /** Named figures, for example `loss`, `validation_loss`, `multiply_adds`. */
  metrics: Record<string, number>;
  /** What a car recomputes before it trusts the model; see `self-test.ts`. */
  selfTest?: SelfTest;
}

/** Rows that anybody can make anew, and the scores that the model gave them where it was made. */
export interface SelfTest {
  /** Of `selfTestRows`. */
  seed: number;
  /** Scores of the rows from the first one on that has full windows. */
  scores: number[];
}

/** Names one version of a model. */
export interface ModelRef {
  name: string;
  version: string;
}

export interface FileRef {
  sha256: string;
  /** Bytes. */
  length: number;
}

/** Rows → the input vector of the network. Uses the last `windowRows` rows only, so that any reader of the
 * same rows comes to the same bits. */
export interface FeatureSpec {
  windowRows: number;
  /** A gap in time longer than this empties the window (milliseconds). */
  gapMs: number;
  /** One entry per network input, in order. */
  inputs: FeatureInput[];
  /** Standardised inputs are clipped to ±clip. */
  clip: number;
}

/**
 * Over the values seen in the window. `deviation` is the population standard deviation; `slope` that of the line of
 * least squares, in units per row, so multiply by rows per second for units per second; `range` is max − min. `value`
 * is no statistic but the value of one row, `lag` rows before the newest: with them a network sees the window itself.
 * `difference` is the newest row's value less the oldest one's, not seen when either is not; `ratio` the mean divided by
 * that of another signal, `over`.
 */
export const STATISTICS = [
  'mean',
  'deviation',
  'slope',
  'min',
  'max',
  'range',
  'value',
  'difference',
  'ratio',
] as const;
export type Statistic = (typeof STATISTICS)[number];

/**
 * Version of what features there are: a reader computes those of its version and of the ones before. 1: mean and
 * deviation; 2: slope, min, max and range; 3: values of single rows, differences, ratios.
 */
export const FEATURE_SCHEMA = 3;

const SINCE_3: readonly Statistic[] = ['value', 'difference', 'ratio'];

/** The lowest version of features that has all which a model needs. */
export function featureSchemaOf({ inputs }: FeatureSpec): number {
  if (inputs.some(({ statistic }) => SINCE_3.includes(statistic))) return 3;
  return inputs.every(({ statistic }) => statistic === 'mean' || statistic === 'deviation') ? 1 : 2;
}

/**
 * Multiply-adds that one row takes in the network: what the manifest says, or else one per weight, which is right for
 * dense layers.
 */
export function operationsOf({ metrics, files }: Pick<ModelManifest, 'metrics' | 'files'>): number {
  return metrics.multiply_adds ?? Math.ceil(files['weights.bin'].length / Float32Array.BYTES_PER_ELEMENT);
}

export interface FeatureInput {
  /** Column in the signal set. */
  signal: number;
  statistic: Statistic;
  /** Of a `value`: so many rows before the newest; default 0. */
  lag?: number;
  /** Of a `ratio`: the column that it is over. */
  over?: number;
  /** input = (statistic − center) / scale */
  center: number;
  scale: number;
}

/** The higher, the more a score is that of the signal which is furthest off. */
export type ScoreOrder = 4 | 8;

/** Network output → score. See `Scorer` for the formula. */
export interface ScoreSpec {
  /** Of the power mean over the inputs; 4 where it is not said. */
  order?: ScoreOrder;
  /** Residuals are averaged over this many feature rows. */
  smoothingRows: number;
  /** Per network input: mean and spread of the smoothed residual on held-back normal rows. */
  residualCenter: number[];
  residualScale: number[];
  /** The spread of residuals below the mean, where it is another one than above. */
  residualScaleBelow?: number[];
  /** How far the signals themselves have moved; without it the score is of the residuals alone. */
  shift?: ShiftSpec;
  /** Signals that stand still; without it nobody looks. */
  standstill?: StandstillSpec;
}

/** Signals that never stand still in normal running → score of one that does. See `StandingValues`. */
export interface StandstillSpec {
  /** Per signal of the signal set: it is stuck once so many rows were the same as the one before; 0: it may stand. */
  afterRows: number[];
  /** Per signal the value at which it may stand, such as the 0 of a car that does; null: at none. */
  restAt?: (number | null)[];
  /** The score when the first of them has stood so long; grows with the rows. */
  weight: number;
}

/** Features averaged → score of a shift, by the same formula as for residuals. */
export interface ShiftSpec {
  /** Features are averaged over this many feature rows; at most `smoothingRows`. */
  smoothingRows: number;
  /** Per network input: mean and spread of the averaged feature on held-back normal rows. */
  center: number[];
  scale: number[];
  /** The spread below the mean, where it is another one than above. */
  scaleBelow?: number[];
  /** What a score of shift counts in scores of residuals: both then reach the threshold equally seldom. */
  weight: number;
}

/** When a score becomes an alarm. One event is one alarm (hysteresis). */
export interface AlarmSpec {
  threshold: number;
  /** Rows in succession over the threshold that raise an alarm. */
  raiseAfterRows: number;
  /** Rows in succession below `clearBelow` that clear it. */
  clearBelow: number;
  clearAfterRows: number;
}

/** A part of all vehicles, drawn by a seeded hash of their ids: who is in it nobody has to remember. */
export interface HeldBack {
  seed: number;
  /** 0 … 1 */
  part: number;
}

export const FINDING_KINDS = ['missing', 'constant', 'stuck', 'outliers'] as const;

/** What is odd about a signal in the rows of a span. */
export interface SignalFinding {
  signal: string;
  kind: (typeof FINDING_KINDS)[number];
  /**
   * Part of the rows in which it was `missing`, or of its values that are `outliers`; what it always is when `constant`;
   * vehicles in which it is `stuck`.
   */
  value: number;
}

/** What made this model. The log is immutable, so the same lineage gives the same bytes. */
export interface Lineage {
  topic: string;
  /** Per partition: first offset read, and the end (exclusive). */
  offsets: Record<string, { from: number; to: number }>;
  /** The same of `vehicle-events`, from which the alarms come that are kept out. */
  eventOffsets: Record<string, { from: number; to: number }>;
  /** Times of the first and last row that went in (RFC 3339). */
  span: { from: string; to: string };
  /** Only rows from `from` on and before `to` were asked for (RFC 3339); without it all that the offsets hold. */
  times?: { from: string | null; to: string | null };
  /** Vehicles that were left out, to judge the model on. */
  heldBack?: HeldBack;
  rows: number;
  vehicles: number;
  /** Rows that were left out because the model before alarmed on them. */
  rowsExcluded: number;
  duplicatesDropped: number;
  /** What was odd about signals; without it nobody looked. */
  findings?: SignalFinding[];
  /** What the model was judged by (never trained on): offsets of a topic of labels. */
  labels?: {
    topic: string;
    offsets: Record<string, { from: number; to: number }>;
    /** The field or signal that says whether a vehicle has failed, and those with vehicle and time; without it it is repairs. */
    flag?: string;
    vehicle?: string;
    time?: string;
    /** They have also chosen the threshold: what they say of the model is then no judgement by others. */
    threshold?: true;
  };
  seed: number;
  hyperParameters: Record<string, number | string>;
  codeVersion: string;
  parent: ModelRef | null;
}

/**
 * Most rows that a score may depend on (`windowRows + smoothingRows - 1`): as many as cars and services keep,
 * so that a model which is installed while the car drives scores from its first row on.
 */
export const SCORE_ROWS_MAX = 256;

/** Most rows the same as the one before, of those that a score depends on. */
export function standstillRowsMax(windowRows: number, smoothingRows: number): number {
  return windowRows + smoothingRows - 2;
}

/** A car computes them each time that it loads the model, so there are a few. */
const SELF_TEST_SCORES_MAX = 64;
/** Most inputs of a network: two statistics of each of `SIGNALS_MAX` signals. */
const INPUTS_MAX = 2000;
/** One of each kind for each signal. */
const FINDINGS_MAX = FINDING_KINDS.length * SIGNALS_MAX;
/** 64 MiB, the most that the registry stores and a car loads. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;
// Names become parts of paths and URLs: no slash, no leading dot.
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Parses `manifest.json` of unknown origin. Throws MODEL_INVALID, saying which field is wrong and how. */
export function parseManifest(bytes: Uint8Array): ModelManifest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalid(`manifest.json is not JSON (${messageOf(cause)})`, cause);
  }
  return readManifest(value);
}

/**
 * The bytes of `manifest.json`: fields in the order of this file, maps sorted by key, so that the same manifest
 * gives the same bytes however it was put together. Throws MODEL_INVALID, as the parser would.
 */
export function serializeManifest(manifest: ModelManifest): Buffer {
  return Buffer.from(`${JSON.stringify(readManifest(manifest), undefined, 1)}\n`);
}

function readManifest(value: unknown): ModelManifest {
  const fields = new JsonFields(value, 'manifest');
  const schema = fields.oneOf('schema', [1]);
  const name = fields.string('name', NAME);
  const version = fields.string('version', NAME);
  const createdAt = fields.time('createdAt');
  const signalSet = readSignalSet(fields);
  const engine = fields.oneOf('engine', ['dense', 'tfjs']);
  const features = readFeatures(fields.object('features'), signalSet.signals.length);
  const score = readScore(fields.object('score'), features, signalSet.signals.length);
  const manifest: ModelManifest = {
    schema,
    name,
    version,
    createdAt,
    signalSet,
    engine,
    features,
    score,
    alarm: readAlarm(fields.object('alarm')),
    files: readFiles(fields.object('files')),
    lineage: readLineage(fields.object('lineage')),
    metrics: fields.record('metrics', (metric, path) => numberAt(metric, path)),
    ...(fields.has('selfTest') ? { selfTest: readSelfTest(fields.object('selfTest')) } : {}),
  };
  fields.end();
  return manifest;
}

function readSignalSet(fields: JsonFields): SignalSet {
  const set = fields.object('signalSet');
  set.value('id');
  set.value('signals');
  set.end();
  try {
    return parseSignalSet(fields.value('signalSet'));
  } catch (cause) {
    throw invalid(`manifest.signalSet: ${messageOf(cause).replace(/\.$/, '')}`, cause);
  }
}

function readFeatures(fields: JsonFields, signals: number): FeatureSpec {
  const windowRows = fields.integer('windowRows', 1, SCORE_ROWS_MAX);
  const spec: FeatureSpec = {
    windowRows,
    gapMs: fields.positive('gapMs'),
    inputs: fields.list('inputs', 1, INPUTS_MAX, (value, path): FeatureInput => {
      const input = new JsonFields(value, path);
      const read: FeatureInput = {
        signal: input.integer('signal', 0, signals - 1),
        statistic: input.oneOf('statistic', STATISTICS),
        ...(input.has('lag') ? { lag: input.integer('lag', 0, windowRows - 1) } : {}),
        ...(input.has('over') ? { over: input.integer('over', 0, signals - 1) } : {}),
        center: input.number('center'),
        scale: input.positive('scale'),
      };
      input.end();
      if ((read.over !== undefined) !== (read.statistic === 'ratio'))
        throw invalid(`${path}: a ratio, and nothing else, is over another signal`);
      if (read.lag !== undefined && read.statistic !== 'value')
        throw invalid(`${path} has a lag, and is the ${read.statistic} of the whole window`);
      return read;
    }),
    clip: fields.positive('clip'),
  };
  fields.end();
  return spec;
}

function readScore(fields: JsonFields, { windowRows, inputs }: FeatureSpec, signals: number): ScoreSpec {
  const spec: ScoreSpec = {
    smoothingRows: fields.integer('smoothingRows', 1, SCORE_ROWS_MAX - windowRows + 1),
    residualCenter: fields.numbers('residualCenter', inputs.length),
    residualScale: fields.numbers('residualScale', inputs.length, Number.MIN_VALUE),
  };
  if (fields.has('residualScaleBelow'))
    spec.residualScaleBelow = fields.numbers('residualScaleBelow', inputs.length, Number.MIN_VALUE);
  if (fields.has('order')) {
    const order = fields.integer('order', 4, 8);
    if (order !== 4 && order !== 8) throw invalid(`${fields.at('order')} must be 4 or 8.`);
    spec.order = order;
  }
  if (fields.has('shift')) spec.shift = readShift(fields.object('shift'), spec.smoothingRows, inputs.length);
  if (fields.has('standstill'))
    spec.standstill = readStandstill(
      fields.object('standstill'),
      standstillRowsMax(windowRows, spec.smoothingRows),
      signals,
    );
  fields.end();
  return spec;
}

function readShift(fields: JsonFields, smoothingRowsMax: number, inputs: number): ShiftSpec {
  const spec: ShiftSpec = {
    smoothingRows: fields.integer('smoothingRows', 1, smoothingRowsMax),
    center: fields.numbers('center', inputs),
    scale: fields.numbers('scale', inputs, Number.MIN_VALUE),
    weight: fields.positive('weight'),
  };
  if (fields.has('scaleBelow')) spec.scaleBelow = fields.numbers('scaleBelow', inputs, Number.MIN_VALUE);
  fields.end();
  return spec;
}

function readStandstill(fields: JsonFields, rowsMax: number, signals: number): StandstillSpec {
  const spec: StandstillSpec = {
    afterRows: fields.list('afterRows', signals, signals, (value, path) => {
      const rows = numberAt(value, path, 0);
      if (!Number.isInteger(rows) || rows > rowsMax)
        throw invalid(`${path} must be a whole number up to ${rowsMax}, the rows that a score depends on`);
      return rows;
    }),
    ...(fields.has('restAt')
      ? {
          restAt: fields.list('restAt', signals, signals, (value, path) =>
            value === null ? null : numberAt(value, path),
          ),
        }
      : {}),
    weight: fields.positive('weight'),
  };
  fields.end();
  return spec;
}

function readAlarm(fields: JsonFields): AlarmSpec {
  const threshold = fields.positive('threshold');
  const spec: AlarmSpec = {
    threshold,
    raiseAfterRows: fields.integer('raiseAfterRows', 1),
    clearBelow: fields.number('clearBelow', Number.MIN_VALUE, threshold),
    clearAfterRows: fields.integer('clearAfterRows', 1),
  };
  fields.end();
  return spec;
}

function readFiles(fields: JsonFields): ModelManifest['files'] {
  const file = (name: string): FileRef => {
    const ref = fields.object(name);
    const read = { sha256: ref.string('sha256', SHA256), length: ref.integer('length', 1, FILE_BYTES_MAX) };
    ref.end();
    return read;
  };
  const files = { 'model.json': file('model.json'), 'weights.bin': file('weights.bin') };
  fields.end();
  return files;
}

function readLineage(fields: JsonFields): Lineage {
  const lineage: Lineage = {
    topic: fields.string('topic'),
    offsets: readOffsets(fields, 'offsets'),
    eventOffsets: readOffsets(fields, 'eventOffsets'),
    span: readSpan(fields.object('span')),
    ...(fields.has('times') ? { times: readTimes(fields.object('times')) } : {}),
    ...(fields.has('heldBack') ? { heldBack: readHeldBack(fields.object('heldBack')) } : {}),
    rows: fields.integer('rows'),
    vehicles: fields.integer('vehicles'),
    rowsExcluded: fields.integer('rowsExcluded'),
    duplicatesDropped: fields.integer('duplicatesDropped'),
    ...(fields.has('findings') ? { findings: fields.list('findings', 0, FINDINGS_MAX, readFinding) } : {}),
    ...(fields.has('labels') ? { labels: readLabels(fields.object('labels')) } : {}),
    seed: fields.integer('seed', -Number.MAX_SAFE_INTEGER),
    hyperParameters: fields.record('hyperParameters', (value, path) =>
      typeof value === 'string' ? value : numberAt(value, path),
    ),
    codeVersion: fields.string('codeVersion'),
    parent: fields.value('parent') === null ? null : readParent(fields.object('parent')),
  };
  fields.end();
  return lineage;
}

function readHeldBack(fields: JsonFields): HeldBack {
  const heldBack = { seed: fields.integer('seed'), part: fields.number('part', 0, 1) };
  fields.end();
  return heldBack;
}

function readFinding(value: unknown, path: string): SignalFinding {
  const fields = new JsonFields(value, path);
  const finding = {
    signal: fields.string('signal'),
    kind: fields.oneOf('kind', FINDING_KINDS),
    value: fields.number('value'),
  };
  fields.end();
  return finding;
}

function readLabels(fields: JsonFields): NonNullable<Lineage['labels']> {
  const labels: NonNullable<Lineage['labels']> = {
    topic: fields.string('topic'),
    offsets: readOffsets(fields, 'offsets'),
  };
  for (const name of ['flag', 'vehicle', 'time'] as const)
    if (fields.has(name)) labels[name] = fields.string(name);
  if (fields.has('threshold')) {
    if (fields.value('threshold') !== true) throw invalid('manifest.lineage.labels.threshold must be true');
    labels.threshold = true;
  }
  fields.end();
  return labels;
}

function readSelfTest(fields: JsonFields): SelfTest {
  const test: SelfTest = {
    seed: fields.integer('seed', 0, 2 ** 32 - 1),
    scores: fields.list('scores', 1, SELF_TEST_SCORES_MAX, (value, path) => numberAt(value, path, 0)),
  };
  fields.end();
  return test;
}

function readOffsets(fields: JsonFields, name: 'offsets' | 'eventOffsets'): Lineage['offsets'] {
  return fields.record(name, (value, path) => {
    const range = new JsonFields(value, path);
    const from = range.integer('from');
    const read = { from, to: range.integer('to', from) };
    range.end();
    return read;
  });
}

function readSpan(fields: JsonFields): Lineage['span'] {
  const span = { from: fields.time('from'), to: fields.time('to') };
  fields.end();
  return span;
}

function readTimes(fields: JsonFields): NonNullable<Lineage['times']> {
  const time = (name: string) => (fields.value(name) === null ? null : fields.time(name));
  const times = { from: time('from'), to: time('to') };
  fields.end();
  return times;
}

function readParent(fields: JsonFields): ModelRef {
  const parent = { name: fields.string('name', NAME), version: fields.string('version', NAME) };
  fields.end();
  return parent;
}
