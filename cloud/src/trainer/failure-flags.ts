import { CardanError, checkVehicleId, parseSignalSet, recordToEvent } from '@cardan/shared';
import type { EventLog, LogRecord } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { readOptions, type OffsetRanges } from './log-span.ts';
import { zonedTime } from './zoned-time.ts';

/** Where a flag stands that says of a vehicle, row by row, whether it has failed; as `labels` of a `model.yaml` names it. */
export interface FlagSource {
  /** `telemetry`, where the flag is a signal, or any topic of JSON objects, where it is a field. */
  topic: string;
  flag: string;
  /** Fields of a JSON object; without them they are the record's key and its time. */
  vehicle?: string;
  time?: string;
}

/** A time in which something was at fault with a vehicle, milliseconds since 1970. A repair has no length. */
export interface Failure {
  time: number;
  /** The last row that says so. */
  until: number;
}

/** Flags further apart are of two failures: a flag may flicker, and rows be lost. */
const ONE_FAILURE_MS = 3_600_000;
/** Most failures that are kept. One a minute of a fleet's year: nobody judges by so many. */
const FAILURES_MAX = 500_000;
/** A row of one vehicle is far smaller. */
const ROW_BYTES_MAX = 64 * 1024;
/** Numbers below the first are seconds since 1970, below the second milliseconds. */
const SECONDS_BELOW = 1e11;
const MILLISECONDS_BELOW = 1e14;

/**
 * The failures of all vehicles that the flags between two pinned positions of the log tell of, each vehicle's sorted by
 * time. The same ranges give the same failures. Rows that are no such rows are passed over; they may be of something else.
 *
 * Throws CONFIG_INVALID when not one row has the flag, saying what the first one lacks; TOPIC_UNKNOWN, OFFSET_OUT_OF_RANGE.
 */
export async function readFailures(
  log: EventLog,
  source: FlagSource,
  ranges: OffsetRanges,
): Promise<Map<string, Failure[]>> {
  const rowsOf = source.topic === 'telemetry' ? await telemetryRows(log, source) : jsonRows(source);
  const vehicles = new Map<string, Failure[]>();
  let [rows, failures] = [0, 0];
  let firstBad: string | undefined;
  for await (const { partition, records } of log.read(source.topic, readOptions(ranges)))
    for (const record of records) {
      if (record.value === null) continue;
      const flags = rowsOf(record);
      if (typeof flags === 'string') {
        firstBad ??= `the record ${record.offset} of partition ${partition} ${flags}`;
        continue;
      }
      for (const { vehicle, time, failing } of flags) {
        rows++;
        if (!failing) continue;
        const of = vehicles.get(vehicle) ?? [];
        vehicles.set(vehicle, of);
        const last = of.at(-1);
        // Most rows come in order; the others are put in order below.
        if (last !== undefined && time >= last.time && time - last.until <= ONE_FAILURE_MS)
          last.until = Math.max(last.until, time);
        else if (failures++ < FAILURES_MAX) of.push({ time, until: time });
        else
          throw new CardanError(
            'CONFIG_INVALID',
            `labels: ${source.flag} tells of more than ${FAILURES_MAX} failures. Is it the right flag?`,
          );
      }
    }
  if (rows === 0)
    throw new CardanError(
      'CONFIG_INVALID',
      `labels: no row of the topic ${source.topic} says whether there is a failure (${source.flag})` +
        (firstBad === undefined ? '.' : `: ${firstBad}.`),
    );
  return new Map(
    [...vehicles].sort(([a], [b]) => (a < b ? -1 : 1)).map(([vehicle, of]) => [vehicle, merged(of)]),
  );
}

interface Flag {
  vehicle: string;
  time: number;
  failing: boolean;
}

/** Each flag of a record of `telemetry`; of signal sets without the flag none. */
async function telemetryRows(
  log: EventLog,
  { flag }: FlagSource,
): Promise<(record: LogRecord) => Flag[] | string> {
  const columns = new Map<string, { column: number; width: number }>();
  for await (const { records } of log.read('signal-sets', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const { id, signals } = parseSignalSet(recordToEvent(record).data);
      const column = signals.findIndex(({ name }) => name === flag);
      if (column >= 0) columns.set(id, { column, width: signals.length });
    }
  return ({ key, value }) => {
    const batch = value === null ? undefined : telemetryOf(value, () => undefined);
    const at = batch === undefined ? undefined : columns.get(batch.signalSet);
    if (key === null || batch === undefined || at === undefined) return `has no signal "${flag}"`;
    const flags: Flag[] = [];
    batch.times.forEach((time, row) => {
      const value = batch.values[row * at.width + at.column]!;
      if (Number.isFinite(value)) flags.push({ vehicle: key, time, failing: value !== 0 });
    });
    return flags;
  };
}

/** The flag of a JSON object; or what it lacks. */
function jsonRows(source: FlagSource): (record: LogRecord) => Flag[] | string {
  return ({ key, value, timestamp }) => {
    if (value!.length > ROW_BYTES_MAX) return `has more than ${ROW_BYTES_MAX} bytes`;
    let fields: Record<string, unknown>;
    try {
      fields = JSON.parse(value!.toString('utf8')) as Record<string, unknown>;
    } catch {
      return 'is no JSON';
    }
    if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) return 'is no JSON object';
    const flag = flagOf(fields[source.flag]);
    if (flag === undefined)
      return `has ${JSON.stringify(fields[source.flag])} as "${source.flag}", which must be true or false`;
    const time = source.time === undefined ? timestamp : timeOf(fields[source.time]);
    if (time === undefined)
      return `has ${JSON.stringify(fields[source.time!])} as "${source.time!}", which must be seconds or milliseconds since 1970, or a time with its zone`;
    const vehicle = source.vehicle === undefined ? key : fields[source.vehicle];
    try {
      return [{ vehicle: checkVehicleId(typeof vehicle === 'string' ? vehicle : ''), time, failing: flag }];
    } catch {
      return `has ${JSON.stringify(vehicle)} as ${source.vehicle === undefined ? 'its key' : `"${source.vehicle}"`}, which must be a vehicle`;
    }
  };
}

/** Programs write it in several ways; the article's cars as a text. */
function flagOf(value: unknown): boolean | undefined {
  const text = typeof value === 'string' ? value.trim().toLowerCase() : value;
  if (text === true || text === 1 || text === 'true' || text === '1') return true;
  if (text === false || text === 0 || text === 'false' || text === '0') return false;
  return undefined;
}

function timeOf(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  if (typeof number === 'number') {
    if (!(number >= 0 && number < MILLISECONDS_BELOW)) return undefined;
    return number < SECONDS_BELOW ? number * 1000 : number;
  }
  try {
    return typeof value === 'string' ? zonedTime(value) : undefined;
  } catch {
    return undefined;
  }
}

function merged(failures: readonly Failure[]): Failure[] {
  const all: Failure[] = [];
  for (const failure of failures.toSorted((a, b) => a.time - b.time)) {
    const last = all.at(-1);
    if (last !== undefined && failure.time - last.until <= ONE_FAILURE_MS)
      last.until = Math.max(last.until, failure.until);
    else all.push({ ...failure });
  }
  return all;
}
