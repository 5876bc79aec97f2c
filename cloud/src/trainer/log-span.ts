import { CardanError, type Lineage } from '@cardan/shared';
import type { EventLog, Offsets, Position } from '@cardan/shared/event-log';

/** Offsets per partition that a training reads: from the first (inclusive) to the end (exclusive). */
export type OffsetRanges = Lineage['offsets'];

/** Rows from `from` on and before `to`, milliseconds since 1970; null is without a bound. */
export interface TimeRange {
  from: number | null;
  to: number | null;
}

/**
 * Which part of `telemetry` a trainer learns from. `from` alone goes on with what comes (`latest`: real time); with
 * an end it is a retroactive training.
 */
export interface LogSpan {
  from: Position;
  /** Exclusive; undefined to go on for ever. A time bounds rows: late ones of that time stand near the log's end. */
  to?: Position;
  partitions?: readonly number[];
}

/** As a command line has it; see the parsers below for the forms. */
export interface SpanFlags {
  from?: Position;
  to?: Position;
  partitions?: readonly number[];
  offsets?: { from: Offsets; to: Offsets | undefined };
}

/** Throws USAGE for flags that say different things about the same. */
export function logSpan({ from, to, partitions, offsets }: SpanFlags): LogSpan {
  if (offsets !== undefined) {
    if (from !== undefined || to !== undefined || partitions !== undefined)
      throw new CardanError(
        'USAGE',
        '--offsets names partitions and where to begin and end by itself. Leave --from, --to and --partitions out.',
      );
    return {
      from: offsets.from,
      ...(offsets.to === undefined ? {} : { to: offsets.to }),
      partitions: Object.keys(offsets.from).map(Number),
    };
  }
  if (from instanceof Date && to instanceof Date && from >= to)
    throw new CardanError('USAGE', '--to must be later than --from.');
  if (from === 'latest' && to !== undefined)
    throw new CardanError('USAGE', '--from latest is for what is yet to come; it has no --to.');
  return {
    from: from ?? 'earliest',
    ...(to === undefined ? {} : { to }),
    ...(partitions === undefined ? {} : { partitions }),
  };
}

/** The times that a span bounds rows by; undefined when it does not. */
export function timesOf({ from, to }: LogSpan): TimeRange | undefined {
  if (!(from instanceof Date) && !(to instanceof Date)) return undefined;
  return {
    from: from instanceof Date ? from.getTime() : null,
    to: to instanceof Date ? to.getTime() : null,
  };
}

/** How many of the rows are of these times; all of them when there is no bound. */
export function rowsWithin(times: Float64Array, range: TimeRange | undefined): number {
  if (range === undefined) return times.length;
  let rows = 0;
  for (const time of times) if (time >= (range.from ?? -Infinity) && time < (range.to ?? Infinity)) rows++;
  return rows;
}

/** Where in `telemetry` the span begins now, for its partitions. Throws USAGE for a partition that is not there. */
export async function beginOf(log: EventLog, { from, partitions }: LogSpan): Promise<Offsets> {
  return chosen(await log.resolve('telemetry', from), partitions);
}

/** Where it ends now. The end of a span of time is that of the log: late rows stand behind newer ones. */
export async function endOf(log: EventLog, { to, partitions }: LogSpan): Promise<Offsets> {
  const end = to === undefined || to instanceof Date ? 'latest' : to;
  return chosen(await log.resolve('telemetry', end), partitions);
}

function chosen(offsets: Offsets, partitions: readonly number[] | undefined): Offsets {
  if (partitions === undefined) return offsets;
  return Object.fromEntries(
    partitions.map((partition) => {
      const offset = offsets[partition];
      if (offset === undefined)
        throw new CardanError(
          'USAGE',
          `Topic "telemetry" has no partition ${partition}; it has 0 to ${Object.keys(offsets).length - 1}.`,
        );
      return [partition, offset];
    }),
  );
}

/** The ranges between two positions, as they go into the lineage. */
export function offsetRanges(from: Offsets, to: Offsets): OffsetRanges {
  const ranges: OffsetRanges = {};
  for (const [partition, end] of Object.entries(to)) {
    const begin = from[Number(partition)] ?? 0;
    // A log that was begun anew, or an end before the beginning: nothing of this partition.
    ranges[partition] = { from: Math.min(begin, end), to: end };
  }
  return ranges;
}

/** What `EventLog.read` takes for them. */
export function readOptions(ranges: OffsetRanges): { from: Offsets; to: Offsets; partitions: number[] } {
  const entries = Object.entries(ranges);
  return {
    from: Object.fromEntries(entries.map(([partition, range]) => [partition, range.from])),
    to: Object.fromEntries(entries.map(([partition, range]) => [partition, range.to])),
    partitions: entries.map(([partition]) => Number(partition)),
  };
}
