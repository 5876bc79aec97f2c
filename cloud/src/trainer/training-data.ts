import {
  CardanError,
  isEvent,
  recordToEvent,
  SequenceDeduplicator,
  type Lineage,
  type VehicleAnomaly,
} from '@cardan/shared';
import type { EventLog, Offsets } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';

/** The rows of one vehicle in the order of the log: `values` is row-major, rows × signals. */
export interface VehicleRows {
  vehicle: string;
  /** Milliseconds since 1970 (UTC). */
  times: Float64Array;
  values: Float32Array;
}

/** Offsets per partition that a training reads: from the first (inclusive) to the end (exclusive). */
export type OffsetRanges = Lineage['offsets'];

export interface TrainingDataQuery {
  signalSet: string;
  /** Ranges of `telemetry`, and of `vehicle-events`, where the alarms are. */
  offsets: OffsetRanges;
  eventOffsets: OffsetRanges;
  /** Most rows in all; every vehicle gives its newest ones. */
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

/**
 * Reads what a model is to be trained on, straight from the log. The same query gives the same rows in the
 * same order, whenever it is asked: vehicles are sorted by name, and a vehicle's rows stay in one partition.
 *
 * Errors: TOPIC_UNKNOWN, OFFSET_OUT_OF_RANGE.
 */
export async function readTrainingData(log: EventLog, query: TrainingDataQuery): Promise<TrainingData> {
  const alarms = await readAlarms(log, query.eventOffsets);
  const duplicates = new SequenceDeduplicator();
  const parts = new Map<string, { times: Float64Array; values: Float32Array }[]>();
  let rowsExcluded = 0;
  let malformed = 0;
  for await (const { records } of log.read('telemetry', bounded(query.offsets))) {
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      const batch = telemetryOf(value, () => malformed++);
      if (batch?.signalSet !== query.signalSet) continue;
      const vehicleAlarms = alarms.get(key) ?? [];
      for (const [from, to] of duplicates.fresh(key, batch.epoch, batch.firstSequence, batch.times.length)) {
        const kept = keep(batch.times, batch.values, from, to, vehicleAlarms);
        rowsExcluded += to - from - kept.times.length;
        if (kept.times.length === 0) continue;
        const known = parts.get(key);
        if (known === undefined) parts.set(key, [kept]);
        else known.push(kept);
      }
    }
  }
  const perVehicle = Math.max(1, Math.floor(query.rowsMax / Math.max(1, parts.size)));
  let rowsOverMax = 0;
  const vehicles = [...parts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([vehicle, pieces]): VehicleRows => {
      const joined = join(pieces);
      const over = Math.max(0, joined.times.length - perVehicle);
      rowsOverMax += over;
      const signals = joined.values.length / joined.times.length;
      return { vehicle, times: joined.times.subarray(over), values: joined.values.subarray(over * signals) };
    });
  const span = { from: Number.POSITIVE_INFINITY, to: Number.NEGATIVE_INFINITY };
  let rows = 0;
  for (const { times } of vehicles) {
    rows += times.length;
    for (const time of times) {
      span.from = Math.min(span.from, time);
      span.to = Math.max(span.to, time);
    }
  }
  return {
    vehicles,
    rows,
    rowsExcluded,
    rowsOverMax,
    duplicatesDropped: duplicates.dropped,
    malformed,
    span,
  };
}

/** The ranges between two positions, as they go into the lineage. */
export function offsetRanges(from: Offsets, to: Offsets): OffsetRanges {
  const ranges: OffsetRanges = {};
  for (const [partition, end] of Object.entries(to))
    ranges[partition] = { from: from[Number(partition)] ?? 0, to: end };
  return ranges;
}

function bounded(ranges: OffsetRanges): { from: Offsets; to: Offsets; partitions: number[] } {
  const entries = Object.entries(ranges);
  return {
    from: Object.fromEntries(entries.map(([partition, range]) => [partition, range.from])),
    to: Object.fromEntries(entries.map(([partition, range]) => [partition, range.to])),
    partitions: entries.map(([partition]) => Number(partition)),
  };
}

type Span = [from: number, to: number];

/** Per vehicle the spans of time around its alarms. */
async function readAlarms(log: EventLog, offsets: OffsetRanges): Promise<Map<string, Span[]>> {
  const spans = new Map<string, Map<string, Span>>();
  for await (const { records } of log.read('vehicle-events', bounded(offsets))) {
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
): { times: Float64Array; values: Float32Array } {
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

function join(pieces: { times: Float64Array; values: Float32Array }[]): {
  times: Float64Array;
  values: Float32Array;
} {
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
