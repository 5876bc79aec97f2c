import { randomUUID } from 'node:crypto';
import { CardanError, ensureLogTopics, isEvent, type ModelManifest } from '@cardan/shared';
import { telemetryOf } from '../telemetry-record.ts';
import {
  beginOf,
  endOf,
  offsetRanges,
  readOptions,
  rowsWithin,
  timesOf,
  type LogSpan,
  type OffsetRanges,
} from './log-span.ts';
import { Pace } from './pace.ts';
import { catchUp, Training, type TrainingOptions } from './training.ts';

export interface TrainOnceOptions extends TrainingOptions {
  span: LogSpan;
  /** Read no faster than this. */
  rowsPerSecond?: number;
  signal: AbortSignal;
}

/**
 * Retroactive training: one model for each signal set that has rows in a span of the log which lies in the past. The
 * models are published as any others. The end is pinned at the beginning: rows that come meanwhile are not in.
 *
 * Throws TRAINING_DATA_INSUFFICIENT when the span has no telemetry; else the first failure of a training, when all
 * signal sets had their turn.
 */
export async function trainOnce(options: TrainOnceOptions): Promise<ModelManifest[]> {
  const { log, span, signal, onProblem = () => undefined } = options;
  await ensureLogTopics(log);
  const training = new Training(options);
  await catchUp(
    log,
    (event) => {
      if (isEvent(event, 'io.cardan.model.published')) training.published(event.data.manifest);
    },
    onProblem,
  );
  const offsets = offsetRanges(await beginOf(log, span), await endOf(log, span));
  const times = timesOf(span);
  const sets = await signalSetsIn(options, offsets);
  if (sets.size === 0)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      'The log has no telemetry in this span. Look at --from, --to, --partitions and --offsets.',
    );
  const models: ModelManifest[] = [];
  const failures: unknown[] = [];
  for (const signalSet of [...sets].sort()) {
    const task = { training: randomUUID(), signalSet, reason: 'a span of the log', offsets, times };
    try {
      const pace = new Pace(options.rowsPerSecond, signal);
      models.push(await training.run(task, signal, pace));
    } catch (error) {
      if (signal.aborted) throw error;
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0] as Error;
  return models;
}

/** The signal sets that have rows there. */
async function signalSetsIn(
  { log, span, signal, rowsPerSecond, onProblem = () => undefined }: TrainOnceOptions,
  offsets: OffsetRanges,
): Promise<Set<string>> {
  const times = timesOf(span);
  const pace = new Pace(rowsPerSecond, signal);
  const sets = new Set<string>();
  const options = { ...readOptions(offsets), recordsMax: pace.recordsMax, signal };
  for await (const { records } of log.read('telemetry', options)) {
    let taken = 0;
    for (const { value } of records) {
      const batch = value === null ? undefined : telemetryOf(value, onProblem);
      if (batch === undefined) continue;
      taken += batch.times.length;
      if (!sets.has(batch.signalSet) && rowsWithin(batch.times, times) > 0) sets.add(batch.signalSet);
    }
    await pace.took(taken);
  }
  signal.throwIfAborted();
  return sets;
}
