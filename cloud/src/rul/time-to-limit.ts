import type { SlotMeans } from './time-slots.ts';
import { type RobustLine, theilSen } from './theil-sen.ts';

/** Fewer points make no trend: chance alone puts six in order once in 720 times, five once in 120. */
const POINTS_MIN = 6;
/** So far ahead a line is believed at most, in lengths of the history that it is of. */
const AHEAD_MAX = 10;
export const CONFIDENCE = 0.9;
/** A shape that is so much likelier than the other one is the shape; else both are reckoned with. */
const LIKELIHOOD_MIN = 20;

/**
 * `none`: the interval of the slope has 0 in it, so nothing can be said. `away`: it moves, but not towards the limit.
 * `towards`: it will cross it if it goes on so. `crossed`: it is beyond it now. `short`: too little history.
 */
export type TrendState = 'short' | 'none' | 'away' | 'towards' | 'crossed';

/** Where a number is going, and when it crosses its limit if it goes on so. Times are milliseconds since 1970. */
export interface Trend {
  state: TrendState;
  limit: number;
  points: number;
  /** Where the line is at the last point; null without one. */
  level: number | null;
  /** `exponential`: the line is of the logarithm. */
  shape: 'linear' | 'exponential' | null;
  /** Per hour, at the last point, with the interval; null without a line. */
  slope: { perHour: number; low: number; high: number } | null;
  /**
   * When the line crosses the limit, with the interval; null unless `towards`. Where an end is null, it is further ahead
   * than ten times the history, and nothing is said of it.
   */
  crosses: { at: number | null; low: number | null; high: number | null } | null;
  confidence: number;
}

/**
 * The time until a number crosses its limit, as a trend and with its interval: a robust line through the means of the
 * slots (`theilSen`), drawn on. No model of wear stands behind it. Of the two shapes, a line and a line of the logarithm,
 * it takes the one that lies closer to the points, as most faults grow either steadily or by what is there already.
 *
 * The interval is that of the slope and of the level together, each at `CONFIDENCE`, as the root of the sum of their
 * squares. Where the points leave open which shape it is, the interval spans those of both.
 */
export function timeToLimit({ times, means }: SlotMeans, limit: number): Trend {
  const trend: Trend = {
    state: 'short',
    limit,
    points: times.length,
    level: null,
    shape: null,
    slope: null,
    crosses: null,
    confidence: CONFIDENCE,
  };
  if (times.length < POINTS_MIN) return trend;
  const last = times.at(-1)!;
  const hours = times.map((time) => (time - last) / 3_600_000);
  const fits = [linearFit(hours, means), exponentialFit(hours, means, limit)].filter(
    (fit) => fit !== undefined,
  );
  fits.sort((a, b) => a.deviation - b.deviation);
  const [best, other] = fits as [Fit, Fit?];
  const { line, inUnit } = best;
  const goal = best.fromUnit(limit);

  const now = line.middle.y - line.slope * line.middle.x;
  trend.level = inUnit(now);
  trend.shape = best.shape;
  const perUnit = best.shape === 'exponential' ? trend.level : 1;
  trend.slope = {
    perHour: line.slope * perUnit,
    low: line.slopeLow * perUnit,
    high: line.slopeHigh * perUnit,
  };
  // Which side of the limit is the healthy one is where the history begins.
  const from = line.middle.y + line.slope * (hours[0]! - line.middle.x);
  const rises = goal > from;
  if (isFlat(line)) trend.state = 'none';
  else if (line.slope > 0 !== rises) trend.state = 'away';
  else if (rises ? now >= goal : now <= goal) trend.state = 'crossed';
  else {
    trend.state = 'towards';
    const ahead = -AHEAD_MAX * hours[0]!;
    const time = (hour: number) => (hour > ahead ? null : last + Math.max(0, hour) * 3_600_000);
    const [at, ...interval] = crossing(line, goal);
    if (other !== undefined && isOpen(best, other, times.length)) {
      const [, ...ends] = isFlat(other.line) ? [0, Infinity] : crossing(other.line, other.fromUnit(limit));
      interval.push(...ends);
    }
    trend.crosses = { at: time(at), low: time(Math.min(...interval)), high: time(Math.max(...interval)) };
  }
  return trend;
}

/** When the line is at `goal`, with the interval, in units of x. */
function crossing(line: RobustLine, goal: number): [at: number, low: number, high: number] {
  const { middle, slope, slopeLow, slopeHigh, middleError } = line;
  const by = (slope: number) => middle.x + (goal - middle.y) / slope;
  const at = by(slope);
  const levelError = middleError / slope;
  const ends = [by(slopeLow), by(slopeHigh)];
  const low = at - Math.hypot(at - Math.min(...ends), levelError);
  const high = at + Math.hypot(Math.max(...ends) - at, levelError);
  return [at, low, high];
}

/** A shape that was laid through the points. */
interface Fit {
  shape: 'linear' | 'exponential';
  line: RobustLine;
  /** Sum of distances from the points, in their own unit. */
  deviation: number;
  fromUnit: (value: number) => number;
  inUnit: (value: number) => number;
}

function linearFit(hours: readonly number[], means: readonly number[]): Fit {
  const line = theilSen(hours, means, CONFIDENCE);
  const same = (value: number) => value;
  return { shape: 'linear', line, deviation: line.deviation, fromUnit: same, inUnit: same };
}

/** undefined where a value has no logarithm. */
function exponentialFit(hours: readonly number[], means: readonly number[], limit: number): Fit | undefined {
  if (!(limit > 0) || means.some((mean) => !(mean > 0))) return undefined;
  const line = theilSen(hours, means.map(Math.log), CONFIDENCE);
  let deviation = 0;
  means.forEach((mean, i) => {
    deviation += Math.abs(mean - Math.exp(line.middle.y + line.slope * (hours[i]! - line.middle.x)));
  });
  return { shape: 'exponential', line, deviation, fromUnit: Math.log, inUnit: Math.exp };
}

/** Whether the points do not tell by a factor of `LIKELIHOOD_MIN` which of two shapes it is, with noise as Laplace's. */
function isOpen(best: Fit, other: Fit, points: number): boolean {
  const independent = points / best.line.inflation;
  return independent * Math.log(other.deviation / best.deviation) < Math.log(LIKELIHOOD_MIN);
}

function isFlat({ slopeLow, slopeHigh }: RobustLine): boolean {
  return slopeLow <= 0 && slopeHigh >= 0;
}
