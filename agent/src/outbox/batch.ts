import type { TelemetryBatch } from '@cardan/shared';
import type { Compression, RowContext } from './row.ts';

/** What goes up at once, and how it is compressed if it names that. */
export interface OutboxBatch extends TelemetryBatch {
  compression?: Compression;
}

/** A row that goes up. */
export interface BatchRow {
  sequence: number;
  time: number;
  values: Buffer;
  score: number | null;
}

/**
 * One batch of as many of these rows as fit into one, from the first on; undefined for none. It ends where rows were
 * dropped between, or where the clock went back.
 */
export function makeBatch(
  epoch: number,
  context: RowContext,
  records: readonly BatchRow[],
): OutboxBatch | undefined {
  const [first] = records;
  if (first === undefined) return undefined;
  let rows = 1;
  for (; rows < records.length; rows++) {
    const [before, row] = [records[rows - 1]!, records[rows]!];
    if (
      row.sequence !== before.sequence + 1 ||
      row.time < before.time ||
      row.time - before.time > 0xffffffff ||
      row.values.byteLength !== first.values.byteLength
    )
      break;
  }
  const signals = first.values.byteLength / 4;
  const values = new Float32Array(rows * signals);
  const bytes = Buffer.from(values.buffer);
  const times = new Float64Array(rows);
  const scores = new Float32Array(rows);
  for (let i = 0; i < rows; i++) {
    const record = records[i]!;
    record.values.copy(bytes, i * signals * 4);
    times[i] = record.time;
    scores[i] = record.score ?? Number.NaN;
  }
  const { signalSet, modelName, modelVersion, campaign = '', compression } = context;
  return {
    signalSet,
    modelName,
    modelVersion,
    epoch,
    firstSequence: first.sequence,
    times,
    values,
    scores: modelName !== '' ? scores : new Float32Array(0),
    ...(campaign === '' ? {} : { campaign }),
    ...(compression === undefined ? {} : { compression }),
  };
}
