import type { EventLog } from '@cardan/shared/event-log';
import { LogRows, readAlarms, type RowQuery, type VehicleRows } from './log-rows.ts';
import { readOptions } from './log-span.ts';
import type { Pace } from './pace.ts';

export type { VehicleRows } from './log-rows.ts';

export interface TrainingDataQuery extends RowQuery {
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
  const taken = new LogRows(query, await readAlarms(log, query.eventOffsets));
  const rows = new NewestRows(query.rowsMax);
  const options = readOptions(query.offsets);
  for await (const { records } of log.read('telemetry', {
    ...options,
    recordsMax: pace?.recordsMax ?? 1000,
  })) {
    const before = taken.read;
    for (const record of records) for (const piece of taken.of(record)) rows.add(piece);
    await pace?.took(taken.read - before);
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
    rowsExcluded: taken.excluded,
    rowsOverMax: rows.dropped,
    duplicatesDropped: taken.duplicates,
    malformed: taken.malformed,
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
  add({ vehicle, ...piece }: VehicleRows): void {
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
