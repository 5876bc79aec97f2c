import type { Batch, EventLog, LogRecord } from '@cardan/shared/event-log';
import type { OffsetRanges } from './log-span.ts';

/** Partitions that are read at once: a reader fetches some megabytes ahead for each. */
const LANES_MAX = 8;
/** Records that a lane asks for at once, and that are handed on at once. */
const LANE_RECORDS = 200;
const CHUNK_RECORDS = 256;

/**
 * The records of some ranges of a topic, always in the same order: one of each partition in turn. A log hands out
 * partitions as their records arrive, which is never the same twice; and one partition after the other would show a
 * training all rows of some vehicles before the first of others.
 *
 * Of more than eight partitions the first eight go side by side, and when one has ended the next takes its place.
 * Throws the signal's reason when it aborts.
 */
export async function* orderedRecords(
  log: EventLog,
  topic: string,
  ranges: OffsetRanges,
  signal?: AbortSignal,
): AsyncGenerator<LogRecord[], void, undefined> {
  const partitions = Object.entries(ranges)
    .filter(([, { from, to }]) => to > from)
    .map(([partition]) => Number(partition))
    .sort((a, b) => a - b);
  const count = Math.min(LANES_MAX, partitions.length);
  let lanes = Array.from(
    { length: count },
    (_, i) =>
      new Lane(
        readInTurn(
          log,
          topic,
          partitions.filter((_, at) => at % count === i),
          ranges,
          signal,
        ),
      ),
  );
  try {
    let chunk: LogRecord[] = [];
    while (lanes.length > 0) {
      let ended = false;
      for (const lane of lanes) {
        if (!lane.has && !(await lane.fill())) {
          ended = true;
          continue;
        }
        chunk.push(lane.take());
        if (chunk.length < CHUNK_RECORDS) continue;
        yield chunk;
        chunk = [];
        signal?.throwIfAborted();
      }
      if (ended) lanes = lanes.filter(({ ended }) => !ended);
    }
    // A read that is aborted ends like one that is done.
    signal?.throwIfAborted();
    if (chunk.length > 0) yield chunk;
  } finally {
    await Promise.all(lanes.map((lane) => lane.close()));
  }
}

async function* readInTurn(
  log: EventLog,
  topic: string,
  partitions: readonly number[],
  ranges: OffsetRanges,
  signal: AbortSignal | undefined,
): AsyncGenerator<Batch, void, undefined> {
  for (const partition of partitions) {
    const { from, to } = ranges[partition]!;
    yield* log.read(topic, {
      from: { [partition]: from },
      to: { [partition]: to },
      partitions: [partition],
      recordsMax: LANE_RECORDS,
      ...(signal === undefined ? {} : { signal }),
    });
  }
}

/** Records of one partition, then of the next. */
class Lane {
  ended = false;
  private readonly batches: AsyncGenerator<Batch, void, undefined>;
  private records: readonly LogRecord[] = [];
  private at = 0;

  constructor(batches: AsyncGenerator<Batch, void, undefined>) {
    this.batches = batches;
  }

  /** Whether `take` has one. A promise per record would cost more than the record. */
  get has(): boolean {
    return this.at < this.records.length;
  }

  /** Resolves to whether there are more. */
  async fill(): Promise<boolean> {
    const next = await this.batches.next();
    if (next.done === true) {
      this.ended = true;
      return false;
    }
    this.records = next.value.records;
    this.at = 0;
    return true;
  }

  take(): LogRecord {
    return this.records[this.at++]!;
  }

  async close(): Promise<void> {
    await this.batches.return(undefined);
  }
}
