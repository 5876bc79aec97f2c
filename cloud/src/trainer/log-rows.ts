import {
  CardanError,
  isEvent,
  recordToEvent,
  SequenceDeduplicator,
  type HeldBack,
  type VehicleAnomaly,
} from '@cardan/shared';
import type { EventLog, LogRecord } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { isHeldBack } from './held-back.ts';
import { readOptions, type OffsetRanges, type TimeRange } from './log-span.ts';

/** The rows of one vehicle in the order of the log: `values` is row-major, rows × signals. */
export interface VehicleRows {
  vehicle: string;
  /** Milliseconds since 1970 (UTC). */
  times: Float64Array;
  values: Float32Array;
}

/** Which rows of the log are wanted. */
export interface RowQuery {
  signalSet: string;
  /** Ranges of `telemetry`, and of `vehicle-events`, where the alarms are. */
  offsets: OffsetRanges;
  eventOffsets: OffsetRanges;
  /** Only rows of these times; default all that the offsets hold. */
  times?: TimeRange;
  /** Vehicles that are left out. */
  heldBack?: HeldBack;
}

/** A fault grows before it is noticed: rows this long before an alarm are not taken for normal. */
const BEFORE_ALARM_MS = 10 * 60_000;
const AFTER_ALARM_MS = 2 * 60_000;

/**
 * Records of `telemetry` → the rows that a training is to see, freed of copies: those of one signal set and of some
 * times, without vehicles that are held back and without what lies around alarms. In one place for everybody who reads
 * the same query.
 */
export class LogRows {
  /** Rows in the records so far, those of the signal set that are left out around alarms, records that are no telemetry. */
  read = 0;
  excluded = 0;
  malformed = 0;
  /** Rows of other signal sets, per set. */
  readonly others = new Map<string, number>();
  private readonly query: RowQuery;
  private readonly alarms: ReadonlyMap<string, readonly Span[]>;
  private readonly copies = new SequenceDeduplicator();

  constructor(query: RowQuery, alarms: ReadonlyMap<string, readonly Span[]>) {
    this.query = query;
    this.alarms = alarms;
  }

  get duplicates(): number {
    return this.copies.dropped;
  }

  /** The rows of a record, views where possible; pieces have rows. */
  of({ key, value }: LogRecord): VehicleRows[] {
    const { query, copies } = this;
    if (key === null || value === null) return [];
    if (query.heldBack !== undefined && isHeldBack(key, query.heldBack)) return [];
    const batch = telemetryOf(value, () => this.malformed++);
    if (batch === undefined) return [];
    const { signalSet, epoch, firstSequence, times, values } = batch;
    if (signalSet !== query.signalSet) {
      this.others.set(signalSet, (this.others.get(signalSet) ?? 0) + times.length);
      copies.skip(key, epoch, firstSequence, times.length);
      return [];
    }
    this.read += times.length;
    const alarms = this.alarms.get(key) ?? [];
    const pieces: VehicleRows[] = [];
    for (const range of copies.fresh(key, epoch, firstSequence, times.length)) {
      const [from, to] = within(times, range, query.times?.from ?? -Infinity, query.times?.to ?? Infinity);
      const kept = keep(times, values, from, to, alarms);
      this.excluded += to - from - kept.times.length;
      if (kept.times.length > 0) pieces.push({ vehicle: key, times: kept.times, values: kept.values });
    }
    return pieces;
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

export type Span = [from: number, to: number];

/** Per vehicle the spans of time around its alarms. */
export async function readAlarms(log: EventLog, offsets: OffsetRanges): Promise<Map<string, Span[]>> {
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
): Pick<VehicleRows, 'times' | 'values'> {
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
