/**
 * A robust line through points: the median of the slopes between all pairs of them, which a quarter of wild points does
 * not move (Theil 1950; Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63, 1968). The
 * interval of the slope is Sen's: slopes so many ranks from the median as Kendall's S may be off by chance. Points of one
 * car that follow each other are alike, which makes chance greater than that of independent ones; by how much is
 * estimated from the correlation of neighbours about the line, as that of a first-order autoregression (Yue and Wang,
 * "The Mann-Kendall test modified by effective sample size", Water Resources Management 18, 2004).
 */
export interface RobustLine {
  slope: number;
  /** The interval of the slope. When 0 is in it, there is no trend. */
  slopeLow: number;
  slopeHigh: number;
  /** The line goes through here: the medians of x and of what is left of y. */
  middle: { x: number; y: number };
  /** By how much `middle.y` may be off, at the same confidence. */
  middleError: number;
  /** Sum of |y − line|. */
  deviation: number;
  /** How many of the points count as one independent one. */
  inflation: number;
}

/** Neighbours more alike than this cannot be told from a trend by as few points as there are. */
const CORRELATION_MAX = 0.9;

/** `x` rises; there are at least three points, and `confidence` is between 0 and 1. */
export function theilSen(x: readonly number[], y: readonly number[], confidence: number): RobustLine {
  const n = x.length;
  const slopes = new Float64Array((n * (n - 1)) / 2);
  let pair = 0;
  for (let i = 1; i < n; i++) for (let j = 0; j < i; j++) slopes[pair++] = (y[i]! - y[j]!) / (x[i]! - x[j]!);
  slopes.sort();
  const slope = medianOfSorted(slopes);
  const middleX = median(x);
  const rest = y.map((value, i) => value - slope * (x[i]! - middleX));
  const middleY = median(rest);
  const residuals = rest.map((value) => value - middleY);
  const sizes = residuals.map(Math.abs);

  const inflation = varianceInflation(residuals);
  const z = normalQuantile((1 + confidence) / 2);
  const spread = z * Math.sqrt(((n * (n - 1) * (2 * n + 5)) / 18) * inflation);
  const at = (rank: number) => slopes[Math.min(slopes.length - 1, Math.max(0, rank))]!;
  // 1.4826 · MAD is σ of normal noise; a median has a standard error of √(π/2) σ/√n.
  const sigma = 1.4826 * median(sizes);
  return {
    slope,
    slopeLow: at(Math.floor((slopes.length - spread) / 2) - 1),
    slopeHigh: at(Math.ceil((slopes.length + spread) / 2)),
    middle: { x: middleX, y: middleY },
    middleError: z * Math.sqrt(Math.PI / 2) * sigma * Math.sqrt(inflation / n),
    deviation: sizes.reduce((sum, size) => sum + size, 0),
    inflation,
  };
}

/**
 * By how much the variance is greater than that of independent points: (1 + ρ) / (1 − ρ), where ρ is the correlation of
 * neighbours by rank. A line through few points takes some of ρ away, which is given back (Kendall 1954).
 */
function varianceInflation(residuals: readonly number[]): number {
  const n = residuals.length;
  const ranks = ranksOf(residuals);
  const mean = (n - 1) / 2;
  let variance = 0;
  let products = 0;
  for (let i = 0; i < n; i++) {
    variance += (ranks[i]! - mean) ** 2;
    if (i > 0) products += (ranks[i]! - mean) * (ranks[i - 1]! - mean);
  }
  const found = products / variance;
  const correlation = Math.min(CORRELATION_MAX, Math.max(0, found + (1 + 4 * found) / n));
  return (1 + correlation) / (1 - correlation);
}

/** 0 for the least. */
function ranksOf(values: readonly number[]): Float64Array {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const ranks = new Float64Array(values.length);
  order.forEach((i, rank) => (ranks[i] = rank));
  return ranks;
}

function median(values: readonly number[]): number {
  return medianOfSorted(Float64Array.from(values).sort());
}

function medianOfSorted(sorted: Float64Array): number {
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/**
 * Quantile of the normal distribution for 0.5 ≤ p < 1, right to 4.5e-4: formula 26.2.23 of Abramowitz and Stegun,
 * "Handbook of Mathematical Functions" (1964).
 */
function normalQuantile(p: number): number {
  const t = Math.sqrt(-2 * Math.log(1 - p));
  const top = 2.515517 + t * (0.802853 + t * 0.010328);
  return t - top / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
}
