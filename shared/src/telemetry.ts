import { CardanError } from './errors.ts';

/**
 * Codec of `TelemetryBatch` and `ScoreBatch` (shared/proto/telemetry.proto). Written by hand for one reason:
 * the packed floats are one little-endian block, which a reader takes as a `Float32Array` without a parse.
 * A general protobuf library makes an array of numbers of them, one by one.
 *
 *   field   wire type           field   wire type
 *   1 signal_set    len         6 values        len, packed fixed32
 *   2 outbox_epoch  varint      7 scores        len, packed fixed32
 *   3 first_seq     varint      8 model_name    len
 *   4 start_time    varint      9 model_version len
 *   5 time_delta    len, packed varint    10 campaign      len
 */
export interface TelemetryBatch {
  signalSet: string;
  epoch: number;
  firstSequence: number;
  /** Milliseconds since 1970 (UTC), one per row. */
  times: Float64Array;
  /** Row-major, rows × signals; NaN = not seen. */
  values: Float32Array;
  /** One per row, NaN while the model warms up; empty without a model. */
  scores: Float32Array;
  modelName: string;
  modelVersion: string;
  /** The campaign that asked for these rows; without one they are the car's regular ones. */
  campaign?: string;
}

export interface ScoreBatch {
  epoch: number;
  firstSequence: number;
  times: Float64Array;
  scores: Float32Array;
  modelName: string;
  modelVersion: string;
  threshold: number;
  /** Which columns the rows have; '' from a writer that did not say so yet. */
  signalSet?: string;
  /** Which signals the high ones among the scores are made of; absent when none is high. */
  contributions?: ScoreContributions | undefined;
}

/**
 * The signals that add most to the scores of some rows, the same number for each of these rows. Three flat arrays, as a
 * calm fleet has none of them and a fault fills them for hours.
 */
export interface ScoreContributions {
  /** Indexes within the batch, rising. */
  rows: Uint32Array;
  /** Rows × signals named per row: columns of the signal set, the one that adds most first. */
  signals: Uint32Array;
  /** Of each of these its part of the score, 0..1. */
  parts: Float32Array;
}

/** Most rows in one batch: a bound for readers, far above what cars send. */
export const BATCH_ROWS_MAX = 10_000;
/** Most signals that are named for one row of a `ScoreBatch`: a bound for readers, above what predictors write. */
const CONTRIBUTIONS_MAX = 16;

const VARINT = 0;
const LEN = 2;
const FIXED32 = 5;
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Encodes a batch. Times must not go back within a batch; senders begin a new one then. */
export function encodeTelemetry(batch: TelemetryBatch): Buffer {
  const writer = new Writer(batch.values.byteLength + batch.scores.byteLength + batch.times.length * 5 + 128);
  writer.string(1, batch.signalSet);
  writer.number(2, batch.epoch);
  writer.number(3, batch.firstSequence);
  writer.times(4, 5, batch.times);
  writer.floats(6, batch.values);
  writer.floats(7, batch.scores);
  writer.string(8, batch.modelName);
  writer.string(9, batch.modelVersion);
  writer.string(10, batch.campaign ?? '');
  return writer.finish();
}

/** Decodes a batch. `values` and `scores` are views into `bytes` where they happen to be aligned. */
export function decodeTelemetry(bytes: Uint8Array): TelemetryBatch {
  const reader = new Reader(bytes, 'TelemetryBatch');
  const batch: TelemetryBatch = {
    signalSet: '',
    epoch: 0,
    firstSequence: 0,
    times: new Float64Array(0),
    values: new Float32Array(0),
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  };
  let startTime = 0;
  let deltas: Uint8Array = new Uint8Array(0);
  while (reader.next()) {
    if (reader.is(1, LEN)) batch.signalSet = reader.string();
    else if (reader.is(2, VARINT)) batch.epoch = reader.varint();
    else if (reader.is(3, VARINT)) batch.firstSequence = reader.varint();
    else if (reader.is(4, VARINT)) startTime = reader.varint();
    else if (reader.is(5, LEN)) deltas = reader.bytes();
    else if (reader.is(6, LEN)) batch.values = reader.floats();
    else if (reader.is(7, LEN)) batch.scores = reader.floats();
    else if (reader.is(8, LEN)) batch.modelName = reader.string();
    else if (reader.is(9, LEN)) batch.modelVersion = reader.string();
    else if (reader.is(10, LEN)) batch.campaign = reader.string();
    else reader.skip();
  }
  batch.times = reader.times(startTime, deltas);
  const rows = batch.times.length;
  if (rows === 0) throw reader.bad('it has no rows');
  if (batch.signalSet === '') throw reader.bad('it names no signal set');
  if (batch.values.length === 0 || batch.values.length % rows !== 0)
    throw reader.bad(`${batch.values.length} values are not a whole number of columns in ${rows} rows`);
  if (batch.scores.length !== 0 && batch.scores.length !== rows)
    throw reader.bad(`${batch.scores.length} scores for ${rows} rows`);
  return batch;
}

/** Encodes what a predictor says of one batch of rows. */
export function encodeScores(batch: ScoreBatch): Buffer {
  const writer = new Writer(batch.scores.byteLength + batch.times.length * 5 + 128);
  writer.number(1, batch.epoch);
  writer.number(2, batch.firstSequence);
  writer.times(3, 4, batch.times);
  writer.floats(5, batch.scores);
  writer.string(6, batch.modelName);
  writer.string(7, batch.modelVersion);
  writer.float(8, batch.threshold);
  writer.string(9, batch.signalSet ?? '');
  if (batch.contributions !== undefined) {
    const { rows, signals, parts } = batch.contributions;
    writer.varints(10, rows);
    writer.varints(11, signals);
    writer.floats(12, parts);
  }
  return writer.finish();
}

/** Decodes a `ScoreBatch`. */
export function decodeScores(bytes: Uint8Array): ScoreBatch {
  const reader = new Reader(bytes, 'ScoreBatch');
  const batch: ScoreBatch = {
    epoch: 0,
    firstSequence: 0,
    times: new Float64Array(0),
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
    threshold: 0,
  };
  let startTime = 0;
  let deltas: Uint8Array = new Uint8Array(0);
  let rows = new Uint32Array(0);
  let signals = new Uint32Array(0);
  let parts = new Float32Array(0);
  while (reader.next()) {
    if (reader.is(1, VARINT)) batch.epoch = reader.varint();
    else if (reader.is(2, VARINT)) batch.firstSequence = reader.varint();
    else if (reader.is(3, VARINT)) startTime = reader.varint();
    else if (reader.is(4, LEN)) deltas = reader.bytes();
    else if (reader.is(5, LEN)) batch.scores = reader.floats();
    else if (reader.is(6, LEN)) batch.modelName = reader.string();
    else if (reader.is(7, LEN)) batch.modelVersion = reader.string();
    else if (reader.is(8, FIXED32)) batch.threshold = reader.float();
    else if (reader.is(9, LEN)) batch.signalSet = reader.string();
    else if (reader.is(10, LEN)) rows = reader.varints();
    else if (reader.is(11, LEN)) signals = reader.varints();
    else if (reader.is(12, LEN)) parts = reader.floats();
    else reader.skip();
  }
  batch.times = reader.times(startTime, deltas);
  if (batch.scores.length !== batch.times.length)
    throw reader.bad(`${batch.scores.length} scores for ${batch.times.length} rows`);
  if (rows.length + signals.length + parts.length > 0) {
    if (rows.some((row, i) => row >= batch.times.length || (i > 0 && row <= rows[i - 1]!)))
      throw reader.bad('the rows of its contributions are not rising, or beyond its last row');
    if (signals.length !== parts.length || signals.length === 0 || !(signals.length % rows.length === 0))
      throw reader.bad(`${signals.length} signals and ${parts.length} parts for ${rows.length} rows`);
    batch.contributions = { rows, signals, parts };
  }
  return batch;
}

/** Writes proto3 fields; fields with their default value are left out. */
class Writer {
  private buffer: Buffer;
  private at = 0;

  constructor(size: number) {
    this.buffer = Buffer.allocUnsafe(size);
  }

  number(field: number, value: number): void {
    if (value === 0) return;
    if (!Number.isSafeInteger(value) || value < 0)
      throw new CardanError('TELEMETRY_MALFORMED', `${value} is not a whole number from 0 to 2^53.`);
    this.reserve(20);
    this.varint((field << 3) | VARINT);
    this.varint(value);
  }

  float(field: number, value: number): void {
    if (value === 0) return;
    this.reserve(9);
    this.varint((field << 3) | FIXED32);
    this.at = this.buffer.writeFloatLE(value, this.at);
  }

  string(field: number, value: string): void {
    if (value === '') return;
    const length = Buffer.byteLength(value);
    this.reserve(20 + length);
    this.varint((field << 3) | LEN);
    this.varint(length);
    this.at += this.buffer.write(value, this.at, 'utf8');
  }

  times(startField: number, deltaField: number, times: Float64Array): void {
    const start = times[0] ?? 0;
    this.number(startField, start);
    let length = 0;
    let previous = start;
    for (const time of times) {
      const delta = time - previous;
      if (!(delta >= 0 && delta <= 0xffffffff && Number.isInteger(delta)))
        throw new CardanError(
          'TELEMETRY_MALFORMED',
          `Times of a batch must be whole and rising; ${time} is not.`,
        );
      length += varintLength(delta);
      previous = time;
    }
    if (length === 0) return;
    this.reserve(20 + length);
    this.varint((deltaField << 3) | LEN);
    this.varint(length);
    previous = start;
    for (const time of times) {
      this.varint(time - previous);
      previous = time;
    }
  }

  varints(field: number, values: Uint32Array): void {
    let length = 0;
    for (const value of values) length += varintLength(value);
    if (length === 0) return;
    this.reserve(20 + length);
    this.varint((field << 3) | LEN);
    this.varint(length);
    for (const value of values) this.varint(value);
  }

  floats(field: number, values: Float32Array): void {
    if (values.length === 0) return;
    this.reserve(20 + values.byteLength);
    this.varint((field << 3) | LEN);
    this.varint(values.byteLength);
    if (littleEndian) {
      this.buffer.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), this.at);
      this.at += values.byteLength;
    } else {
      for (const value of values) this.at = this.buffer.writeFloatLE(value, this.at);
    }
  }

  finish(): Buffer {
    return this.buffer.subarray(0, this.at);
  }

  private reserve(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.at + bytes));
    this.buffer.copy(grown, 0, 0, this.at);
    this.buffer = grown;
  }

  private varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.buffer[this.at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.buffer[this.at++] = rest;
  }
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++;
  return length;
}

/** Reads fields; everything out of bounds is a TELEMETRY_MALFORMED. Unknown fields are skipped. */
class Reader {
  private at = 0;
  private field = 0;
  private wireType = 0;
  private readonly data: Uint8Array;
  private readonly message: string;

  constructor(data: Uint8Array, message: string) {
    this.data = data;
    this.message = message;
  }

  bad(why: string): CardanError {
    return new CardanError('TELEMETRY_MALFORMED', `Not a ${this.message}: ${why}.`);
  }

  next(): boolean {
    if (this.at >= this.data.length) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.field === 0) throw this.bad(`field number 0 before byte ${this.at}`);
    return true;
  }

  is(field: number, wireType: number): boolean {
    if (this.field !== field) return false;
    if (this.wireType !== wireType) throw this.bad(`field ${field} has wire type ${this.wireType}`);
    return true;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      const byte = this.data[this.at++];
      if (byte === undefined) throw this.bad('it ends within a number');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw this.bad('a number is over 2^53');
        return value;
      }
      scale *= 0x80;
    }
    throw this.bad('a number has more than 10 bytes');
  }

  /** A field that we do not know may hold any 64 bits, a negative number for example. */
  private skipVarint(): void {
    for (let i = 0; i < 10; i++) {
      const byte = this.data[this.at++];
      if (byte === undefined) throw this.bad('it ends within a number');
      if (byte < 0x80) return;
    }
    throw this.bad('a number has more than 10 bytes');
  }

  bytes(): Uint8Array {
    const length = this.varint();
    const end = this.at + length;
    if (end > this.data.length) throw this.bad(`field ${this.field} goes beyond the end`);
    const part = this.data.subarray(this.at, end);
    this.at = end;
    return part;
  }

  string(): string {
    const part = this.bytes();
    return Buffer.from(part.buffer, part.byteOffset, part.byteLength).toString('utf8');
  }

  /** Packed whole numbers, at most as many as a batch has rows, times the signals that are named for one. */
  varints(): Uint32Array<ArrayBuffer> {
    const packed = this.bytes();
    let length = 0;
    for (const byte of packed) if (byte < 0x80) length++;
    if (length > BATCH_ROWS_MAX * CONTRIBUTIONS_MAX)
      throw this.bad(`field ${this.field} has ${length} numbers`);
    const numbers = new Reader(packed, this.message);
    const values = new Uint32Array(length);
    for (let i = 0; i < length; i++) {
      const value = numbers.varint();
      if (value > 0xffffffff) throw this.bad(`field ${this.field} has a number over 2^32`);
      values[i] = value;
    }
    if (numbers.at !== packed.length) throw this.bad(`field ${this.field} ends within a number`);
    return values;
  }

  floats(): Float32Array<ArrayBuffer> {
    const part = this.bytes();
    if (part.byteLength % 4 !== 0) throw this.bad(`field ${this.field} is no block of floats`);
    const length = part.byteLength / 4;
    if (littleEndian && part.byteOffset % 4 === 0)
      return new Float32Array(part.buffer as ArrayBuffer, part.byteOffset, length);
    // A copy is aligned. (`slice` would not copy a Buffer.)
    if (littleEndian) return new Float32Array(new Uint8Array(part).buffer, 0, length);
    const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
    return Float32Array.from({ length }, (_, i) => view.getFloat32(i * 4, true));
  }

  float(): number {
    if (this.at + 4 > this.data.length) throw this.bad('it ends within a float');
    const value = new DataView(this.data.buffer, this.data.byteOffset).getFloat32(this.at, true);
    this.at += 4;
    return value;
  }

  /** Start and packed deltas → absolute times. */
  times(start: number, packed: Uint8Array): Float64Array {
    let rows = 0;
    for (const byte of packed) if (byte < 0x80) rows++;
    if (rows > BATCH_ROWS_MAX) throw this.bad(`it has ${rows} rows; at most ${BATCH_ROWS_MAX} are allowed`);
    const times = new Float64Array(rows);
    const deltas = new Reader(packed, this.message);
    let time = start;
    for (let row = 0; row < rows; row++) {
      time += deltas.varint();
      times[row] = time;
    }
    if (deltas.at !== packed.length) throw this.bad('its time deltas end within a number');
    // 8.64e15 ms is the last time that a Date can hold.
    if (rows > 0 && !(time <= 8.64e15)) throw this.bad('its times are beyond the year 275760');
    return times;
  }

  skip(): void {
    if (this.wireType === VARINT) this.skipVarint();
    else if (this.wireType === LEN) this.bytes();
    else if (this.wireType === FIXED32 || this.wireType === 1) {
      this.at += this.wireType === 1 ? 8 : 4;
      if (this.at > this.data.length) throw this.bad('it ends within a field');
    } else throw this.bad(`wire type ${this.wireType} is not known`);
  }
}
