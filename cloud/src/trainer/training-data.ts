import {
  CardanError,
  isEvent,
  recordToEvent,
  SequenceDeduplicator,
  type HeldBack,
  type VehicleAnomaly,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { isHeldBack } from './held-back.ts';
import { readOptions, type OffsetRanges, type TimeRange } from './log-span.ts';
import type { Pace } from './pace.ts';

/** The rows of one vehicle in the order of the log: `values` is row-major, rows × signals. */
export interface VehicleRows {
  vehicle: string;
  /** Milliseconds since 1970 (UTC). */
  times: Float64Array;
  values: Float32Array;
}

export interface TrainingDataQuery {
  signalSet: string;
  /** Ranges of `telemetry`, and of `vehicle-events`, where the alarms are. */
  offsets: OffsetRanges;
  eventOffsets: OffsetRanges;
  /** Only rows of these times; default all that the offsets hold. */
  times?: TimeRange;
  /** Vehicles that are left out. */
  heldBack?: HeldBack;
  /** Most rows in all; every vehicle gives its newest ones. Memory holds about twice as many, however long the span. */
  rowsMax: number;
}

export interface TrainingData {
  vehicles: VehicleRows[];
  rows: number;
  /** Left out: rows around alarms, and rows over `rowsMax`. */
  rowsExcluded: number;
  rowsOverMax: number;
  duplicatesDropped: number;
  /** Records that are no telemetry; passed over. */
  malformed: number;
  /** Times of the first and the last row. */
  span: { from: number; to: number };
}

/** A fault grows before it is noticed: rows this long before an alarm are not taken for normal. */
const BEFORE_ALARM_MS = 10 * 60_000;
const AFTER_ALARM_MS = 2 * 60_000;
/** Room for a vehicle's first rows. */
const ROWS_AT_FIRST = 64;

/** Rows of one vehicle as they came. */
interface Piece {
  times: Float64Array;
  values: Float32Array;
}

/**
 * Reads what a model is to be trained on, straight from the log. The same query gives the same rows in the
 * same order, whenever it is asked: vehicles are sorted by name, and a vehicle's rows stay in one partition.
 * `pace` holds it back; it changes nothing of what comes out.
 *
 * Errors: TOPIC_UNKNOWN, OFFSET_OUT_OF_RANGE.
 */
export async function readTrainingData(
  log: EventLog,
  query: TrainingDataQuery,
  pace?: Pace,
): Promise<TrainingData> {
  const alarms = await readAlarms(log, query.eventOffsets);
  const duplicates = new SequenceDeduplicator();
  const rows = new NewestRows(query.rowsMax);
  const [earliest, end] = [query.times?.from ?? -Infinity, query.times?.to ?? Infinity];
  let rowsExcluded = 0;
  let malformed = 0;
  const options = readOptions(query.offsets);
  for await (const { records } of log.read('telemetry', {
    ...options,
    recordsMax: pace?.recordsMax ?? 1000,
  })) {
    let taken = 0;
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      if (query.heldBack !== undefined && isHeldBack(key, query.heldBack)) continue;
      const batch = telemetryOf(value, () => malformed++);
      if (batch === undefined) continue;
      if (batch.signalSet !== query.signalSet) {
        duplicates.skip(key, batch.epoch, batch.firstSequence, batch.times.length);
        continue;
      }
      taken += batch.times.length;
      const vehicleAlarms = alarms.get(key) ?? [];
      for (const range of duplicates.fresh(key, batch.epoch, batch.firstSequence, batch.times.length)) {
        const [from, to] = within(batch.times, range, earliest, end);
        const kept = keep(batch.times, batch.values, from, to, vehicleAlarms);
        rowsExcluded += to - from - kept.times.length;
        rows.add(key, kept);
      }
    }
    await pace?.took(taken);
  }
  const vehicles = rows.finish();
  const span = { from: Number.POSITIVE_INFINITY, to: Number.NEGATIVE_INFINITY };
  for (const { times } of vehicles) {
    for (const time of times) {
      span.from = Math.min(span.from, time);
      span.to = Math.max(span.to, time);
    }
  }
  return {
    vehicles,
    rows: vehicles.reduce((sum, { times }) => sum + times.length, 0),
    rowsExcluded,
    rowsOverMax: rows.dropped,
    duplicatesDropped: duplicates.dropped,
    malformed,
    span,
  };
}

/** The newest rows of each vehicle, as many of each, at most `rowsMax` in all. */
class NewestRows {
  readonly #rowsMax: number;
  readonly #vehicles = new Map<string, RowBuffer>();
  #rows = 0;
  dropped = 0;

  constructor(rowsMax: number) {
    this.#rowsMax = rowsMax;
  }

  /** Takes a copy. */
  add(vehicle: string, piece: Piece): void {
    const rows = piece.times.length;
    if (rows === 0) return;
    let buffer = this.#vehicles.get(vehicle);
    if (buffer === undefined) {
      buffer = new RowBuffer(piece.values.length / rows);
      this.#vehicles.set(vehicle, buffer);
    }
    buffer.add(piece);
    this.#rows += rows;
    // The share of a vehicle only shrinks as others come, so what is over it now is never wanted later.
    if (this.#rows > 2 * this.#rowsMax && this.#rows > 2 * this.#vehicles.size) this.#trim();
  }

  /** Sorted by name. */
  finish(): VehicleRows[] {
    this.#trim();
    return [...this.#vehicles]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([vehicle, buffer]) => ({ vehicle, ...buffer.all() }));
  }

  #trim(): void {
    const share = Math.max(1, Math.floor(this.#rowsMax / Math.max(1, this.#vehicles.size)));
    for (const buffer of this.#vehicles.values()) {
      const over = Math.max(0, buffer.rows - share);
      buffer.dropOldest(over);
      this.#rows -= over;
      this.dropped += over;
    }
  }
}

/** Rows of one vehicle in two blocks that grow: thousands of small arrays would cost more than what is in them. */
class RowBuffer {
  readonly #signals: number;
  #times = new Float64Array(ROWS_AT_FIRST);
  #values: Float32Array;
  #begin = 0;
  rows = 0;

  constructor(signals: number) {
    this.#signals = signals;
    this.#values = new Float32Array(ROWS_AT_FIRST * signals);
  }

  add({ times, values }: Piece): void {
    const signals = this.#signals;
    if (this.#begin + this.rows + times.length > this.#times.length) this.#makeRoom(times.length);
    const end = this.#begin + this.rows;
    this.#times.set(times, end);
    this.#values.set(values, end * signals);
    this.rows += times.length;
  }

  dropOldest(rows: number): void {
    this.#begin += rows;
    this.rows -= rows;
  }

  /** Views. */
  all(): Piece {
    const [begin, end] = [this.#begin, this.#begin + this.rows];
    return {
      times: this.#times.subarray(begin, end),
      values: this.#values.subarray(begin * this.#signals, end * this.#signals),
    };
  }

  /** What was dropped is used again; where it is not enough the blocks double. */
  #makeRoom(more: number): void {
    const { times, values } = this.all();
    const needed = this.rows + more;
    const size = needed <= this.#times.length / 2 ? this.#times.length : Math.max(needed, 2 * this.rows);
    if (size > this.#times.length) {
      this.#times = new Float64Array(size);
      this.#values = new Float32Array(size * this.#signals);
    }
    this.#times.set(times);
    this.#values.set(values);
    this.#begin = 0;
  }
}

/** The part of a range of rows whose times are from `earliest` on and before `end`; times of a batch never go back. */
function within(
  times: Float64Array,
  [from, to]: [number, number],
  earliest: number,
  end: number,
): [number, number] {
  let [first, last] = [from, to];
  while (first < last && times[first]! < earliest) first++;
  while (last > first && times[last - 1]! >= end) last--;
  return [first, last];
}

type Span = [from: number, to: number];

/** Per vehicle the spans of time around its alarms. */
async function readAlarms(log: EventLog, offsets: OffsetRanges): Promise<Map<string, Span[]>> {
  const spans = new Map<string, Map<string, Span>>();
  for await (const { records } of log.read('vehicle-events', readOptions(offsets))) {
    for (const record of records) {
      if (record.key === null) continue;
      let event;
      try {
        event = recordToEvent(record);
      } catch (error) {
        if (error instanceof CardanError) continue; // not written by a bridge
        throw error;
      }
      if (!isEvent(event, 'io.cardan.vehicle.anomaly')) continue;
      const data: VehicleAnomaly = event.data;
      const ofVehicle = spans.get(record.key) ?? new Map<string, Span>();
      spans.set(record.key, ofVehicle);
      const span = ofVehicle.get(data.alarm) ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
      const time = Date.parse(event.time);
      if (data.state === 'raised') span[0] = time - BEFORE_ALARM_MS;
      else span[1] = time + AFTER_ALARM_MS;
      ofVehicle.set(data.alarm, span);
    }
  }
  return new Map([...spans].map(([vehicle, byAlarm]) => [vehicle, [...byAlarm.values()]]));
}

function keep(
  times: Float64Array,
  values: Float32Array,
  from: number,
  to: number,
  alarms: readonly Span[],
): Piece {
  const signals = values.length / times.length;
  if (alarms.length === 0)
    return { times: times.subarray(from, to), values: values.subarray(from * signals, to * signals) };
  const rows: number[] = [];
  for (let row = from; row < to; row++) {
    const time = times[row]!;
    if (!alarms.some(([begin, end]) => time >= begin && time <= end)) rows.push(row);
  }
  const kept = { times: new Float64Array(rows.length), values: new Float32Array(rows.length * signals) };
  rows.forEach((row, i) => {
    kept.times[i] = times[row]!;
    kept.values.set(values.subarray(row * signals, (row + 1) * signals), i * signals);
  });
  return kept;
}
