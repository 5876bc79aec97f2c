import { Scorer, type Model } from '@cardan/shared';
import type { VehicleRows } from '../trainer/training-data.ts';

/** What a model says of each row of a recording. */
export interface RowScores {
  scores: Float64Array;
  threshold: number;
  /** 1 where the score is over the threshold. */
  predictions: Uint8Array;
}

/** Digits that a score is written with; whether it is over the threshold is asked of what is written. */
const DIGITS = 7;

/**
 * Scores each row from the rows up to it. `before` are rows that were recorded earlier: where the recording goes on from
 * them in time, so do the windows; else they begin with its first row.
 */
export function scoreRows(model: Model, rows: VehicleRows, before?: VehicleRows): RowScores {
  const scorer = new Scorer(model, { fromFirstRow: true });
  const signals = model.manifest.signalSet.signals.length;
  const push = ({ times, values }: VehicleRows, row: number) =>
    written(scorer.push(times[row]!, values, row * signals));
  if (before !== undefined) for (let row = 0; row < before.times.length; row++) push(before, row);
  const scores = Float64Array.from(rows.times, (_, row) => push(rows, row));
  const threshold = written(model.manifest.alarm.threshold);
  return { scores, threshold, predictions: Uint8Array.from(scores, (score) => Number(score > threshold)) };
}

/** `time,score,threshold,prediction`, one line per row, with the texts that the recording has for its times. */
export function scoresCsv(
  timeColumn: string,
  timeTexts: readonly string[],
  { scores, threshold, predictions }: RowScores,
): string {
  const lines = timeTexts.map(
    (text, row) => `${quoted(text)},${scores[row]!},${threshold},${predictions[row]!}\n`,
  );
  return `${quoted(timeColumn)},score,threshold,prediction\n${lines.join('')}`;
}

function written(value: number): number {
  return Number(value.toPrecision(DIGITS));
}

/** As in RFC 4180. */
function quoted(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
