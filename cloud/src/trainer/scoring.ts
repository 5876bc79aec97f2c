import {
  CardanError,
  SmoothedResiduals,
  standstillRowsMax,
  type AlarmSpec,
  type FeatureSpec,
  type Network,
  type ScoreSpec,
} from '@cardan/shared';
import { calibrate, median, SCORE_ORDER } from './calibrate.ts';
import type { HyperParameters } from './hyper-parameters.ts';
import type { Span } from './split.ts';
import { standstillOf } from './standstill.ts';
import type { Turns } from './turns.ts';

/** Fewer make no model: a network has thousands of weights. Five minutes at 1 Hz. */
export const ROWS_MIN = 300;
/** Most that one row weighs in the calibration, in standard deviations: sensors have glitches. */
const ROW_LIMIT = 10;
/** Averages of so many rows, and at least so many of them that do not overlap. */
const SMOOTHING_MIN = 5;
const SMOOTHING_MAX = 120;
const AVERAGES_MIN = 25;
/** And over at most this part of a usual span: there is no average before that many rows. */
const SPAN_PART = 1 / 5;
/** Threshold by the highest held-back score: with very many vehicles, what one of few adds, and at most. */
const THRESHOLD_LEAST = 0.95;
const THRESHOLD_FEW = 3.5;
const THRESHOLD_MOST = 2.5;

/** Spans of rows, with a network and means of features that know nothing of them. */
export interface HeldBackPart {
  spans: readonly Span[];
  network: Network;
  means: Float64Array;
}

export interface ScoringOptions {
  /** Columns of a row. */
  signals: number;
  features: FeatureSpec;
  parameters: HyperParameters;
  /** Of the features that the model was trained on. */
  means: Float64Array;
  /** Whose rows these are. */
  vehicles: number;
}

export interface Scoring {
  score: ScoreSpec;
  alarm: AlarmSpec;
  /** Held-back rows that have a score, and the highest of these. */
  rows: number;
  highest: number;
}

/** Held-back rows of normal driving → what scores are normal, and when they are not. Throws TRAINING_DATA_INSUFFICIENT. */
export async function scoringOf(
  heldBack: readonly HeldBackPart[],
  { signals, features, parameters, means, vehicles }: ScoringOptions,
  turns: Turns,
): Promise<Scoring> {
  const rowsOfSpans = heldBack.flatMap(({ spans }) => spans.map(({ times }) => times.length));
  const smoothingRows = parameters.smoothingRows > 0 ? parameters.smoothingRows : smoothingOf(rowsOfSpans);
  const all: Averages[] = [];
  for (const part of heldBack)
    for (const span of part.spans)
      all.push(await averages(span, signals, features, smoothingRows, part.network, part.means, turns));
  const usable = all.filter(({ residuals }) => residuals.length > 0);
  const rows = usable.reduce((sum, { residuals }) => sum + residuals.length, 0);
  if (rows < ROWS_MIN / 2) throw insufficient(rows);
  const ofResiduals = await calibrate(
    usable.map(({ residuals }) => residuals),
    turns,
  );
  const { highest } = ofResiduals;
  const score: ScoreSpec = {
    order: SCORE_ORDER,
    smoothingRows,
    residualCenter: ofResiduals.center,
    residualScale: ofResiduals.scale,
    residualScaleBelow: ofResiduals.scaleBelow,
  };
  if (parameters.shiftWeight > 0) {
    const ofShifts = await calibrate(
      usable.map(({ shifts }) => shifts),
      turns,
    );
    score.shift = {
      smoothingRows,
      center: ofShifts.center.map((center, i) => center + means[i]!),
      scale: ofShifts.scale,
      scaleBelow: ofShifts.scaleBelow,
      weight: (parameters.shiftWeight * highest) / ofShifts.highest,
    };
  }
  const threshold =
    highest * (parameters.thresholdFactor > 0 ? parameters.thresholdFactor : thresholdFactor(vehicles));
  if (parameters.standstillFactor > 0) {
    const stands = await standstillOf(
      heldBack.flatMap(({ spans }) => spans),
      {
        signals,
        gapMs: features.gapMs,
        factor: parameters.standstillFactor,
        rowsMax: standstillRowsMax(features.windowRows, smoothingRows),
      },
      turns,
    );
    if (stands.afterRows.some((rows) => rows > 0)) score.standstill = { ...stands, weight: threshold };
  }
  return {
    score,
    alarm: {
      threshold,
      raiseAfterRows: parameters.raiseAfterRows,
      clearBelow: threshold * parameters.clearPart,
      clearAfterRows: parameters.clearAfterRows,
    },
    rows,
    highest,
  };
}

/**
 * The longer the average, the smaller a fault that shows; but what is normal for an average is only known from many that
 * do not overlap, and not from the first rows of a span, which fill it.
 */
function smoothingOf(rowsOfSpans: readonly number[]): number {
  const rows = rowsOfSpans.reduce((sum, one) => sum + one, 0);
  const most = Math.min(SMOOTHING_MAX, SPAN_PART * median(rowsOfSpans), rows / AVERAGES_MIN);
  return Math.max(SMOOTHING_MIN, Math.round(most));
}

/** By the highest score of held-back rows. The fewer vehicles there are, the less it says of the next. */
function thresholdFactor(vehicles: number): number {
  return Math.min(THRESHOLD_MOST, THRESHOLD_LEAST + THRESHOLD_FEW / vehicles);
}

export function insufficient(rows: number): CardanError {
  return new CardanError(
    'TRAINING_DATA_INSUFFICIENT',
    `There are ${rows} usable rows without gaps; a model needs ${ROWS_MIN}. Collect more data first.`,
  );
}

/** Per row that has some, averages of residuals, and of features as they lie from `means`. */
interface Averages {
  residuals: Float64Array[];
  shifts: Float64Array[];
}

/** Those of a span, by a network and means that know nothing of it. */
async function averages(
  { times, values }: Span,
  signals: number,
  features: FeatureSpec,
  smoothingRows: number,
  network: Network,
  means: Float64Array,
  turns: Turns,
): Promise<Averages> {
  const limits = features.inputs.map(() => ROW_LIMIT);
  const smoothed = new SmoothedResiduals(features, network, {
    smoothingRows,
    shiftRows: smoothingRows,
    limits,
  });
  const into: Averages = { residuals: [], shifts: [] };
  for (let row = 0; row < times.length; row++) {
    if (smoothed.push(times[row]!, values, row * signals)) {
      into.residuals.push(smoothed.values.slice());
      into.shifts.push(smoothed.shifts.map((value, i) => value - means[i]!));
    }
    if (row % 64 === 0 && turns.due) await turns.give();
  }
  return into;
}

/** Mean of each column over all rows of the blocks. */
export function meansOf(blocks: readonly Float32Array[], width: number): Float64Array {
  const sums = new Float64Array(width);
  let rows = 0;
  for (const block of blocks) {
    for (let at = 0; at < block.length; at++) sums[at % width]! += block[at]!;
    rows += block.length / width;
  }
  return sums.map((sum) => sum / rows);
}
