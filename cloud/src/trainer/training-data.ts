import {
  CardanError,
  isEvent,
  recordToEvent,
  SequenceDeduplicator,
  type VehicleAnomaly,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
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
      const batch = telemetryOf(value, () => malformed++);
      if (batch?.signalSet !== query.signalSet) continue;
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
  readonly #parts = new Map<string, { pieces: Piece[]; rows: number }>();
  #rows = 0;
  dropped = 0;

  constructor(rowsMax: number) {
    this.#rowsMax = rowsMax;
  }

  add(vehicle: string, piece: Piece): void {
    const rows = piece.times.length;
    if (rows === 0) return;
    const known = this.#parts.get(vehicle);
    if (known === undefined) this.#parts.set(vehicle, { pieces: [piece], rows });
    else {
      known.pieces.push(piece);
      known.rows += rows;
    }
    this.#rows += rows;
    // The share of a vehicle only shrinks as others come, so what is over it now is never wanted later.
    if (this.#rows > 2 * this.#rowsMax && this.#rows > 2 * this.#parts.size) this.#trim();
  }

  /** Sorted by name. */
  finish(): VehicleRows[] {
    this.#trim();
    return [...this.#parts]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([vehicle, { pieces }]) => ({ vehicle, ...join(pieces) }));
  }

  #trim(): void {
    const share = Math.max(1, Math.floor(this.#rowsMax / Math.max(1, this.#parts.size)));
    for (const part of this.#parts.values()) {
      let over = part.rows - share;
      if (over <= 0) continue;
      this.dropped += over;
      this.#rows -= over;
      part.rows = share;
      let whole = 0;
      for (; over >= part.pieces[whole]!.times.length; whole++) over -= part.pieces[whole]!.times.length;
      part.pieces.splice(0, whole);
      if (over === 0) continue;
      const { times, values } = part.pieces[0]!;
      const signals = values.length / times.length;
      // A copy, so that the rest can be freed.
      part.pieces[0] = { times: times.slice(over), values: values.slice(over * signals) };
    }
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
  // Copies: the decoded batch is a view into what the log has read.
  if (alarms.length === 0)
    return { times: times.slice(from, to), values: values.slice(from * signals, to * signals) };
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

function join(pieces: readonly Piece[]): Piece {
  const rows = pieces.reduce((sum, { times }) => sum + times.length, 0);
  const size = pieces.reduce((sum, { values }) => sum + values.length, 0);
  const all = { times: new Float64Array(rows), values: new Float32Array(size) };
  let row = 0;
  let at = 0;
  for (const piece of pieces) {
    all.times.set(piece.times, row);
    all.values.set(piece.values, at);
    row += piece.times.length;
    at += piece.values.length;
  }
  return all;
}
