import { fuse, type ScoreSpec } from '@cardan/shared';

/** Smallest spread of a residual, in standard deviations of its signal: sensors resolve no better. */
const SPREAD_MIN = 0.02;
/** A vehicle with a larger mean square, or maximum, than so many medians is taken to have that many. */
const SQUARE_MEDIANS = 9;
const MAXIMUM_MEDIANS = 1.5;

export interface Calibration {
  score: ScoreSpec;
  /** Highest score of normal rows. */
  highest: number;
}

/**
 * What residuals and scores are normal, from the smoothed residuals of held-back rows: per span (a vehicle, or
 * a part of its time) the rows, per row one value per input, NaN = not seen.
 *
 * Spans count as one each, and what one of them may add is bounded by the median of all: the one car that is
 * already broken, or still cold, must not decide what is normal for the fleet.
 */
export function calibrate(spans: readonly (readonly Float64Array[])[], smoothingRows: number): Calibration {
  const width = spans[0]![0]!.length;
  const score: ScoreSpec = { smoothingRows, residualCenter: [], residualScale: [] };
  for (let input = 0; input < width; input++) {
    const columns = spans
      .map((rows) => rows.map((row) => row[input]!).filter((value) => !Number.isNaN(value)))
      .filter((column) => column.length > 0);
    const center = median(columns.map(mean));
    const squares = bounded(
      columns.map((column) => mean(column.map((value) => (value - center) ** 2))),
      SQUARE_MEDIANS,
    );
    score.residualCenter.push(columns.length === 0 ? 0 : center);
    score.residualScale.push(columns.length === 0 ? 1 : Math.max(SPREAD_MIN, Math.sqrt(mean(squares))));
  }
  const powers = new Float64Array(width);
  const maxima = spans.map((rows) =>
    rows.reduce((highest, row) => Math.max(highest, fuse(row, score, powers)), 0),
  );
  return { score, highest: Math.max(...bounded(maxima, MAXIMUM_MEDIANS)) };
}

function bounded(values: readonly number[], medians: number): number[] {
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
