import { fuse } from '@cardan/shared';
import type { Turns } from './turns.ts';

/** Smallest spread of a residual, in standard deviations of its signal: sensors resolve no better. */
const SPREAD_MIN = 0.02;
/** An input whose residual goes further than this on normal rows has a spread that makes it this far. */
const PEAK_SPREADS = 4;
/** What one span may have of mean square, peak or highest score, by the median of all. */
const SQUARE_MEDIANS = 9;
const PEAK_MEDIANS = 2;
const SCORE_MEDIANS = 1.5;
/** With fewer spans nobody can tell which of them is the odd one. */
const SPANS_MIN = 8;

export interface Calibration {
  /** Per network input: mean and spread of its average on normal rows. */
  center: number[];
  scale: number[];
  /** Highest score of normal rows. */
  highest: number;
}

/**
 * What averages (of residuals, or of features) and scores are normal, from those of held-back rows: per span (a
 * vehicle, or a part of its time) the rows, per row one value per input, NaN = not seen.
 *
 * The spread is the root mean square, or a part of the largest average where that is more: so all inputs have
 * about the same extremes, and a signal that jumps now and then does not set the threshold for the others.
 *
 * Spans count as one each, and what one of them may add is bounded by the median of all: the one car that is
 * already broken, or still cold, must not decide what is normal for the fleet.
 */
export async function calibrate(
  spans: readonly (readonly Float64Array[])[],
  turns: Turns,
): Promise<Calibration> {
  const width = spans[0]![0]!.length;
  const [centers, scales]: [number[], number[]] = [[], []];
  for (let input = 0; input < width; input++) {
    const columns = spans
      .map((rows) => rows.map((row) => row[input]!).filter((value) => !Number.isNaN(value)))
      .filter((column) => column.length > 0);
    const center = median(columns.map(mean));
    const squares = bounded(
      columns.map((column) => mean(column.map((value) => (value - center) ** 2))),
      SQUARE_MEDIANS,
    );
    const peaks = bounded(
      columns.map((column) => column.reduce((most, value) => Math.max(most, Math.abs(value - center)), 0)),
      PEAK_MEDIANS,
    );
    const peak = Math.max(...peaks) / PEAK_SPREADS;
    centers.push(columns.length === 0 ? 0 : center);
    scales.push(columns.length === 0 ? 1 : Math.max(SPREAD_MIN, peak, Math.sqrt(mean(squares))));
    if (turns.due) await turns.give();
  }
  const powers = new Float64Array(width);
  const maxima: number[] = [];
  for (const rows of spans) {
    maxima.push(rows.reduce((highest, row) => Math.max(highest, fuse(row, centers, scales, powers)), 0));
    if (turns.due) await turns.give();
  }
  return { center: centers, scale: scales, highest: Math.max(...bounded(maxima, SCORE_MEDIANS)) };
}

function bounded(values: readonly number[], medians: number): number[] {
  if (values.length < SPANS_MIN) return [...values];
  const most = medians * median(values);
  return values.map((value) => Math.min(value, most));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
