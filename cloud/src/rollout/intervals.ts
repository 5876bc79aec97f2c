/*
 * Confidence intervals of what the gates count. Each is exact, or a well-known one that holds what it promises also for
 * the small numbers that a canary gives.
 */

export interface Interval {
  low: number;
  high: number;
}

/**
 * Of a share, from `hits` of `n`: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case
 * of the binomial", Biometrika 26(4), 1934. Exact: at least as wide as it must be.
 */
export function shareInterval(hits: number, n: number, confidence: number): Interval {
  const tail = (1 - confidence) / 2;
  return {
    low: hits === 0 ? 0 : solve((p) => betaPart(hits, n - hits + 1, p) - tail, 0, 1),
    high: hits >= n ? 1 : solve((p) => betaPart(hits + 1, n - hits, p) - (1 - tail), 0, 1),
  };
}

/**
 * Of a rate, from `events` in a time of `exposure`: Garwood, "Fiducial limits for the Poisson distribution", Biometrika
 * 28(3/4), 1936. Exact, too; without exposure it is everything.
 */
export function rateInterval(events: number, exposure: number, confidence: number): Interval {
  if (!(exposure > 0)) return { low: 0, high: Number.POSITIVE_INFINITY };
  const tail = (1 - confidence) / 2;
  // Far beyond the upper limit for any tail from 1e-9 on.
  const most = events + 10 * Math.sqrt(events + 1) + 30;
  return {
    low: events === 0 ? 0 : solve((mean) => gammaPart(events, mean) - tail, 0, most) / exposure,
    high: solve((mean) => gammaPart(events + 1, mean) - (1 - tail), 0, most) / exposure,
  };
}

/**
 * Of the difference `a − b` of two independent figures that have intervals: Zou and Donner, "Construction of confidence
 * limits about effect measures: a general approach", Statistics in Medicine 27(10), 2008 (MOVER). Also where both
 * are 0.
 */
export function differenceInterval(
  a: Interval & { value: number },
  b: Interval & { value: number },
): Interval {
  const difference = a.value - b.value;
  return {
    low: difference - Math.hypot(a.value - a.low, b.high - b.value),
    high: difference + Math.hypot(a.high - a.value, b.value - b.low),
  };
}

/**
 * Of a share that stands in a difference: Wilson, "Probable inference, the law of succession, and statistical inference",
 * JASA 22, 1927. With `differenceInterval` it is method 10 of Newcombe, "Interval estimation for the difference between
 * independent proportions", Statistics in Medicine 17(8), 1998.
 */
export function wilsonInterval(hits: number, n: number, confidence: number): Interval & { value: number } {
  const z = studentQuantile(1 - (1 - confidence) / 2, Number.POSITIVE_INFINITY);
  const value = hits / n;
  const middle = (hits + (z * z) / 2) / (n + z * z);
  const half = (z / (n + z * z)) * Math.sqrt(n * value * (1 - value) + (z * z) / 4);
  return { value, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Of a mean, from n ≥ 2 independent values: Student, "The probable error of a mean", Biometrika 6(1), 1908. */
export function meanInterval(
  { n, mean, variance }: { n: number; mean: number; variance: number },
  confidence: number,
): Interval {
  const half = studentQuantile(1 - (1 - confidence) / 2, n - 1) * Math.sqrt(variance / (n - 1));
  return { low: mean - half, high: mean + half };
}

/** The value below which this part (0.5 … 1) of Student's distribution lies; of the normal one without end. */
export function studentQuantile(part: number, freedom: number): number {
  // Beyond this the two agree to five digits.
  const df = Math.min(freedom, 1e6);
  // P(T > t) = ½ I_x(df / 2, ½) with x = df / (df + t²).
  const x = solve((at) => betaPart(df / 2, 0.5, at) - 2 * (1 - part), 0, 1);
  return Math.sqrt((df * (1 - x)) / x);
}

/** Where a rising function is 0; to the last bit but some. */
function solve(f: (x: number) => number, low: number, high: number): number {
  for (let step = 0; step < 100; step++) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (f(middle) < 0) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Steps of a series or a fraction: for a million events a few thousand are needed. */
const STEPS_MAX = 100_000;
const TINY = 1e-300;

/** I_x(a, b), by the continued fraction DLMF 8.17.22, with Lentz's algorithm. */
function betaPart(a: number, b: number, x: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // It converges fast below the mean only.
  if (x > (a + 1) / (a + b + 2)) return 1 - betaPart(b, a, 1 - x);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  let c = 1;
  let d = 1 / away(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m < STEPS_MAX; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    fraction *= c * d;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    fraction *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return (front * fraction) / a;
}

/** P(a, x), by the series DLMF 8.7.1 below the mean, and by the continued fraction 8.9.2 above it. */
function gammaPart(a: number, x: number): number {
  if (x <= 0) return 0;
  const front = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    let term = 1 / a;
    let sum = term;
    for (let n = 1; n < STEPS_MAX && term > sum * 1e-16; n++) sum += term *= x / (a + n);
    return front * sum;
  }
  let b = x + 1 - a;
  let c = 1 / TINY;
  let d = 1 / away(b);
  let fraction = d;
  for (let n = 1; n < STEPS_MAX; n++) {
    const an = -n * (n - a);
    b += 2;
    d = 1 / away(an * d + b);
    c = away(b + an / c);
    fraction *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return 1 - front * fraction;
}

function away(value: number): number {
  return Math.abs(value) < TINY ? TINY : value;
}

/** ln Γ(x), x > 0: Stirling's series (DLMF 5.11.1), after the argument was made large enough for it. */
function logGamma(x: number): number {
  let shift = 0;
  let at = x;
  while (at < 10) shift -= Math.log(at++);
  const square = at * at;
  const series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / at;
  return shift + (at - 0.5) * Math.log(at) - at + 0.5 * Math.log(2 * Math.PI) + series;
}
