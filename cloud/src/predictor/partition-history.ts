import { CardanError, SCORE_ROWS_MAX, type SequenceDeduplicator } from '@cardan/shared';
import type { EventLog, LogRecord } from '@cardan/shared/event-log';
import { decodeScores, type TelemetryBatch } from '@cardan/shared';
import { telemetryOf } from '../telemetry-record.ts';
import type { VehicleScoring } from './vehicle-scoring.ts';

/**
 * Records that are read again for one partition, at the most: some seconds. A vehicle that has less than its windows in
 * these was silent for long; it begins with empty windows, as a car does after a gap.
 */
const RECORDS_MAX = 100_000;
/** The newest records are read first; then, while a vehicle lacks rows, as many again before them. */
const RECORDS_FIRST = 2_000;

export interface PartitionHistory {
  log: EventLog;
  partition: number;
  /** The first record that is not read again: where the group goes on. */
  before: number;
  /** Gets what has been seen, so that a copy that comes later is known as one. */
  seen: SequenceDeduplicator;
  /** Gets what has been predicted, by whomever, so that it is not predicted twice. */
  predicted: SequenceDeduplicator;
  vehicle: (id: string) => VehicleScoring;
}

/**
 * What a predictor must know of a partition that has come to it, from the log: the last rows of its vehicles, so that it
 * goes on with the scores that it would have come to without the change; and which rows have a prediction already, as
 * the predictor before may have died between a prediction and the commit.
 */
export async function readHistory(history: PartitionHistory): Promise<void> {
  await fillWindows(history);
  await readPredictions(history);
}

async function fillWindows({ log, partition, before, seen, vehicle }: PartitionHistory): Promise<void> {
  const { earliest } = await boundsOf(log, 'telemetry', partition);
  const stop = Math.max(earliest, before - RECORDS_MAX);
  /** Rows of each vehicle that have been read. */
  const rows = new Map<string, number>();
  /** Newest part first. */
  const parts: { key: string; batch: TelemetryBatch }[][] = [];
  let to = before;
  for (let size = RECORDS_FIRST; to > stop; size *= 2) {
    const from = Math.max(stop, to - size);
    const part: (typeof parts)[number] = [];
    // Newer rows are known already: of a vehicle that has enough only what is in this part is read for nothing.
    const enough = new Set([...rows].flatMap(([key, count]) => (count >= SCORE_ROWS_MAX ? [key] : [])));
    for await (const { key, value } of recordsOf(log, 'telemetry', partition, from, to)) {
      if (key === null || value === null || enough.has(key)) continue;
      // What is malformed was told of when it was first read.
      const batch = telemetryOf(value, () => undefined);
      if (batch === undefined) continue;
      part.push({ key, batch });
      if (batch.campaign === undefined) rows.set(key, (rows.get(key) ?? 0) + batch.times.length);
    }
    parts.push(part);
    to = from;
    if ([...rows.values()].every((count) => count >= SCORE_ROWS_MAX)) break;
  }
  for (const part of parts.reverse())
    for (const { key, batch } of part) {
      const count = batch.times.length;
      if (batch.campaign !== undefined) seen.skip(key, batch.epoch, batch.firstSequence, count);
      else
        for (const [from, to] of seen.fresh(key, batch.epoch, batch.firstSequence, count))
          vehicle(key).skip(batch, from, to);
    }
}

/**
 * The newest predictions in the partition of the same number: both topics have the vehicle as the key. Where an operator
 * has given them different numbers of partitions, nothing can be known.
 */
async function readPredictions({ log, partition, predicted }: PartitionHistory): Promise<void> {
  const topics = await log.topics();
  const partitions = (name: string) => topics.find(({ topic }) => topic === name)?.partitions;
  if (partitions('predictions') !== partitions('telemetry')) return;
  const { earliest, latest } = await boundsOf(log, 'predictions', partition);
  const from = Math.max(earliest, latest - RECORDS_MAX);
  for await (const { key, value } of recordsOf(log, 'predictions', partition, from, latest)) {
    if (key === null || value === null) continue;
    try {
      const { epoch, firstSequence, times } = decodeScores(value);
      predicted.skip(key, epoch, firstSequence, times.length);
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
    }
  }
}

async function* recordsOf(
  log: EventLog,
  topic: string,
  partition: number,
  from: number,
  to: number,
): AsyncGenerator<LogRecord, void, undefined> {
  if (from >= to) return;
  const options = { from: { [partition]: from }, to: { [partition]: to }, partitions: [partition] };
  for await (const { records } of log.read(topic, options)) yield* records;
}

async function boundsOf(log: EventLog, topic: string, partition: number) {
  const bounds = (await log.offsets(topic)).find((info) => info.partition === partition);
  return bounds ?? { earliest: 0, latest: 0 };
}
