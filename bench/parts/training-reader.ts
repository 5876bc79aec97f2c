import { SequenceDeduplicator } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { offsetRanges } from '../../cloud/src/trainer/log-span.ts';
import { Pace } from '../../cloud/src/trainer/pace.ts';
import { readTrainingData } from '../../cloud/src/trainer/training-data.ts';
import { SIGNAL_SET } from './fleet-messages.ts';

/** Rows for a training, row-major in one block. When it is full, the newest rows take the place of the oldest. */
export class TrainingMatrix {
  readonly signals: number;
  readonly rowsMax: number;
  readonly values: Float32Array;
  /** Rows put in so far, those that are gone included. */
  rows = 0;

  constructor(rowsMax: number, signals: number) {
    this.signals = signals;
    this.rowsMax = rowsMax;
    this.values = new Float32Array(rowsMax * signals);
  }

  /** Copies whole rows in. */
  add(values: ArrayLike<number>): void {
    const { signals, rowsMax } = this;
    const count = values.length / signals;
    const at = this.rows % rowsMax;
    if (at + count <= rowsMax) this.values.set(values, at * signals);
    else
      for (let row = 0; row < count; row++)
        for (let i = 0; i < signals; i++)
          this.values[((at + row) % rowsMax) * signals + i] = values[row * signals + i]!;
    this.rows += count;
  }
}

/** Counts the rows as they are read, and holds nothing back. */
class Counter extends Pace {
  rows = 0;
  private readonly onRows: (rows: number) => void;

  constructor(onRows: (rows: number) => void) {
    super(undefined, new AbortController().signal);
    this.onRows = onRows;
  }

  override async took(rows: number): Promise<void> {
    this.rows += rows;
    this.onRows(this.rows);
  }
}

/**
 * What every training does with the log, by its own code: reads `telemetry` to its end, decodes the batches, drops
 * copies, and keeps the newest rows of each vehicle. Resolves to the number of rows read. `onRows` is told how many
 * there are after each batch of the log.
 */
export async function readTelemetry(
  log: EventLog,
  rowsMax: number,
  onRows: (rows: number) => void = () => undefined,
): Promise<number> {
  const offsets = offsetRanges(
    await log.resolve('telemetry', 'earliest'),
    await log.resolve('telemetry', 'latest'),
  );
  const counter = new Counter(onRows);
  const query = { signalSet: SIGNAL_SET, offsets, eventOffsets: {}, rowsMax };
  const { rows, rowsOverMax, duplicatesDropped } = await readTrainingData(log, query, counter);
  if (rows + rowsOverMax + duplicatesDropped !== counter.rows) throw new Error('Rows are missing.');
  return rows + rowsOverMax;
}

/** The same for records of JSON. */
export async function readJsonInto(matrix: TrainingMatrix, log: EventLog, topic: string): Promise<number> {
  const before = matrix.rows;
  const duplicates = new SequenceDeduplicator();
  for await (const { records } of log.read(topic, { from: 'earliest', to: 'latest' })) {
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      const { epoch, firstSequence, rows } = JSON.parse(value.toString('utf8')) as JsonBatch;
      for (const [from, to] of duplicates.fresh(key, epoch, firstSequence, rows.length))
        for (let row = from; row < to; row++) matrix.add(rows[row]!.values);
    }
  }
  return matrix.rows - before;
}

export interface JsonBatch {
  epoch: number;
  firstSequence: number;
  rows: { time: number; values: number[] }[];
}
