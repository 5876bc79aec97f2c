import { decodeTelemetry, SequenceDeduplicator } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';

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

/**
 * What every training does with the log: reads `telemetry` to its end, decodes the batches, drops copies, and puts the
 * rows into the matrix. `onRows` is told how many there are after each batch of the log.
 */
export async function readTelemetryInto(
  matrix: TrainingMatrix,
  log: EventLog,
  topic: string,
  onRows: (rows: number) => void = () => undefined,
): Promise<void> {
  const duplicates = new SequenceDeduplicator();
  for await (const { records } of log.read(topic, { from: 'earliest', to: 'latest' })) {
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      const { epoch, firstSequence, times, values } = decodeTelemetry(value);
      for (const [from, to] of duplicates.fresh(key, epoch, firstSequence, times.length))
        matrix.add(
          to - from === times.length ? values : values.subarray(from * matrix.signals, to * matrix.signals),
        );
    }
    onRows(matrix.rows);
  }
}

/** The same for records of JSON. */
export async function readJsonInto(matrix: TrainingMatrix, log: EventLog, topic: string): Promise<void> {
  const duplicates = new SequenceDeduplicator();
  for await (const { records } of log.read(topic, { from: 'earliest', to: 'latest' })) {
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      const { epoch, firstSequence, rows } = JSON.parse(value.toString('utf8')) as JsonBatch;
      for (const [from, to] of duplicates.fresh(key, epoch, firstSequence, rows.length))
        for (let row = from; row < to; row++) matrix.add(rows[row]!.values);
    }
  }
}

export interface JsonBatch {
  epoch: number;
  firstSequence: number;
  rows: { time: number; values: number[] }[];
}
