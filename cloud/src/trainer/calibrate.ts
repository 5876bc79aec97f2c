import { fuse, type ScoreOrder } from '@cardan/shared';
import type { Turns } from './turns.ts';

/** Smallest spread of a residual, in standard deviations of its signal: sensors resolve no better. */
const SPREAD_MIN = 0.02;
/** An input whose residual goes further than this on normal rows has a spread that makes it this far. */
const PEAK_SPREADS = 4;
/** What one span may have of mean square, peak or highest score, by the median of all. */
const SQUARE_MEDIANS = 9;
const PEAK_MEDIANS = 2;
const SCORE_MEDIANS = 1.5;
/** Normal scores that stay below a spread have the smallest spread there is: no reason to take a little more for a fault. */
const HIGHEST_MIN = 1;
/** With fewer spans nobody can tell which of them is the odd one. */
const SPANS_MIN = 8;
/** With so many spans, what their means deviate is added once to the spread; with more of them less, as they are in it. */
const BETWEEN_SPANS = 4;
/** At most this part of the spans is odd: what more of them have is a way of being normal, such as a cold start. */
const ODD_PART = 0.05;

/** Of the power mean: one signal of twenty that is off is heard when it goes 1.5 times as far as it ever does. */
export const SCORE_ORDER: ScoreOrder = 8;

export interface Calibration {
  /** Per network input: mean of its average on normal rows, and its spread above and below. */
  center: number[];
  scale: number[];
  scaleBelow: number[];
  /** Highest score of normal rows. */
  highest: number;
}

/**
 * What averages (of residuals, or of features) and scores are normal, from those of held-back rows: per span (a
 * vehicle, or a part of its time) the rows, per row one value per input, NaN = not seen.
 *
 * The spread is the root mean square; and with few spans what their means deviate on top of that: a signal that wanders, or that
 * differs from vehicle to vehicle, will be elsewhere again next time. It is a part of the largest average where that is more:
 * so all inputs have about the same extremes, and a signal that jumps now and then does not set the threshold for the others.
 *
 * Above and below the center the spread is one of its own: an engine that is warming up lies on one side, and must not hide what
 * lies on the other.
 *
 * Spans count as one each, and what one of them may add is bounded by the median of all: the one car that is
 * already broken must not decide what is normal for the fleet.
 */
export async function calibrate(
  spans: readonly (readonly Float64Array[])[],
  turns: Turns,
): Promise<Calibration> {
  const width = spans[0]![0]!.length;
  const [centers, above, below]: [number[], number[], number[]] = [[], [], []];
  const unknown = BETWEEN_SPANS / spans.length;
  for (let input = 0; input < width; input++) {
    const columns = spans
      .map((rows) => rows.map((row) => row[input]!).filter((value) => !Number.isNaN(value)))
      .filter((column) => column.length > 0);
    const center = median(columns.map(mean));
    const between =
      unknown *
      Math.sqrt(
        mean(
          bounded(
            columns.map((column) => (mean(column) - center) ** 2),
            SQUARE_MEDIANS,
          ),
        ),
      );
    centers.push(columns.length === 0 ? 0 : center);
    above.push(columns.length === 0 ? 1 : spread(columns, (value) => value - center, between));
    below.push(columns.length === 0 ? 1 : spread(columns, (value) => center - value, between));
    if (turns.due) await turns.give();
  }
  const powers = new Float64Array(width);
  const maxima: number[] = [];
  for (const rows of spans) {
    maxima.push(
      rows.reduce(
        (highest, row) => Math.max(highest, fuse(row, centers, above, powers, 1, SCORE_ORDER, below)),
        0,
      ),
    );
    if (turns.due) await turns.give();
  }
  return {
    center: centers,
    scale: above,
    scaleBelow: below,
    highest: Math.max(HIGHEST_MIN, ...bounded(maxima, SCORE_MEDIANS)),
  };
}

/** Of one input on one side of its center; `off` says how far a value is on that side. */
function spread(
  columns: readonly (readonly number[])[],
  off: (value: number) => number,
  between: number,
): number {
  const spans = columns.map((column) => {
    let [count, squares, peak] = [0, 0, 0];
    for (const value of column) {
      const far = off(value);
      if (far < 0) continue;
      count++;
      squares += far * far;
      peak = Math.max(peak, far);
    }
    return { square: count === 0 ? 0 : squares / count, peak };
  });
  const squares = bounded(
    spans.map(({ square }) => square),
    SQUARE_MEDIANS,
  );
  const peaks = bounded(
    spans.map(({ peak }) => peak),
    PEAK_MEDIANS,
  );
  return Math.max(SPREAD_MIN, Math.sqrt(mean(squares)) + between, Math.max(...peaks) / PEAK_SPREADS);
}

function bounded(values: readonly number[], medians: number): number[] {
  if (values.length < SPANS_MIN) return [...values];
  const odd = Math.ceil(ODD_PART * values.length);
  const most = Math.max(medians * median(values), values.toSorted((a, b) => b - a)[odd]!);
  return values.map((value) => Math.min(value, most));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
