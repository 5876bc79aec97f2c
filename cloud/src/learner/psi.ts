export interface PsiOptions {
  /** Parts of the reference, each with the same number of its values. */
  bins: number;
  /** Values that make the reference. */
  referenceValues: number;
  /** Values that are compared with it at a time. */
  windowValues: number;
  /** Index above which it is drift. */
  threshold: number;
}

/** 0.1 is read as some change, 0.25 as a large one (Siddiqi, "Credit risk scorecards", 2006). */
export const PSI_DEFAULTS: PsiOptions = {
  bins: 10,
  referenceValues: 1000,
  windowValues: 1000,
  threshold: 0.25,
};

/** Plain JSON. */
export interface PsiState {
  options: PsiOptions;
  /** Values of the reference while it is being gathered; empty once there are edges. */
  gathered: number[];
  /** Upper ends of all bins but the last. */
  edges: number[];
  reference: number[];
  current: number[];
  /** Index of the last full window; null before there was one. */
  last: number | null;
}

/** Counts as half a value in each bin, so that an empty one does not make the index infinite. */
const SMOOTHING = 0.5;
/** A reference is gathered in memory before it is one: 8 MB. */
const REFERENCE_VALUES_MAX = 1_000_000;

/**
 * Population stability index of two histograms with the same bins: Σ (q − p) ln (q / p). 0 when the parts are the
 * same. With r and c values in b bins, chance alone gives (b − 1) (1 / r + 1 / c) on average (Yurdakul, "Statistical
 * properties of population stability index", 2018): so small windows always show some. Throws RangeError.
 */
export function populationStability(reference: ArrayLike<number>, current: ArrayLike<number>): number {
  if (reference.length !== current.length || reference.length === 0)
    throw new RangeError(`${reference.length} bins do not compare with ${current.length}.`);
  let [r, c] = [0, 0];
  for (let i = 0; i < reference.length; i++) {
    r += reference[i]! + SMOOTHING;
    c += current[i]! + SMOOTHING;
  }
  let index = 0;
  for (let i = 0; i < reference.length; i++) {
    const p = (reference[i]! + SMOOTHING) / r;
    const q = (current[i]! + SMOOTHING) / c;
    index += (q - p) * Math.log(q / p);
  }
  return index;
}

/** Upper ends of bins with as equal numbers of values as ties allow; fewer bins where values are often the same. */
export function quantileEdges(values: Float64Array, bins: number): number[] {
  const sorted = values.toSorted();
  const edges: number[] = [];
  for (let i = 1; i < bins; i++) {
    const edge = sorted[Math.min(sorted.length - 1, Math.ceil((i * sorted.length) / bins) - 1)]!;
    if (edges.at(-1) !== edge) edges.push(edge);
  }
  return edges;
}

/** The bin of a value: the first whose upper end is not below it. */
export function binOf(value: number, edges: ArrayLike<number>): number {
  let [low, high] = [0, edges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value <= edges[middle]!) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Tells whether the distribution of one signal has moved: its first values are the reference, in bins of equal
 * numbers, and each full window after them is compared with it. Unlike ADWIN it sees a change of shape with the same
 * mean. Trips differ from each other: a window should hold several (docs/online-learning.md).
 */
export class Psi {
  readonly options: PsiOptions;
  private gathered: number[] = [];
  private edges: number[] = [];
  private reference: number[] = [];
  private current: number[] = [];
  private inWindow = 0;
  private last: number | null = null;

  /** Throws RangeError. */
  constructor(options: Partial<PsiOptions> = {}) {
    this.options = { ...PSI_DEFAULTS, ...options };
    const { bins, referenceValues, windowValues, threshold } = this.options;
    for (const [name, value] of Object.entries({ bins, referenceValues, windowValues }))
      if (!Number.isInteger(value) || value < 2 || value > REFERENCE_VALUES_MAX)
        throw new RangeError(`${name} is ${value}; it is a whole number from 2 to ${REFERENCE_VALUES_MAX}.`);
    if (referenceValues < bins)
      throw new RangeError(`${referenceValues} values do not make ${bins} bins of a reference.`);
    if (!(threshold > 0)) throw new RangeError(`threshold is ${threshold}; it is above 0.`);
  }

  /** Goes on from a state. Throws RangeError when it is not one. */
  static from(state: PsiState): Psi {
    const psi = new Psi(state.options);
    const { gathered, edges, reference, current, last } = state;
    const { bins, referenceValues } = psi.options;
    const binned = reference.length > 0;
    const sound = binned
      ? reference.length === edges.length + 1 && current.length === reference.length && edges.length < bins
      : edges.length === 0 && current.length === 0 && gathered.length < referenceValues;
    if (!sound) throw new RangeError('This is not the state of a population stability index.');
    psi.gathered = [...gathered];
    psi.edges = [...edges];
    psi.reference = [...reference];
    psi.current = [...current];
    psi.inWindow = current.reduce((sum, count) => sum + count, 0);
    psi.last = last;
    return psi;
  }

  /** Whether a window is full with this value and differs too much. What is not finite is passed over. */
  update(value: number): boolean {
    if (!Number.isFinite(value)) return false;
    const { bins, referenceValues, windowValues, threshold } = this.options;
    if (this.reference.length === 0) {
      this.gathered.push(value);
      if (this.gathered.length === referenceValues) {
        const values = Float64Array.from(this.gathered);
        this.edges = quantileEdges(values, bins);
        this.reference = countInto(values, this.edges);
        this.current = this.reference.map(() => 0);
        this.gathered = [];
      }
      return false;
    }
    this.current[binOf(value, this.edges)]!++;
    if (++this.inWindow < windowValues) return false;
    this.last = populationStability(this.reference, this.current);
    this.current.fill(0);
    this.inWindow = 0;
    return this.last > threshold;
  }

  /** Of the last full window; null before there was one. */
  get index(): number | null {
    return this.last;
  }

  /**
   * Adds what another partition counted against the same reference. Nothing is lost: the counts are those of all
   * values in one. The window may then hold more values than it has; it is compared with the next one that comes.
   * Throws RangeError when the edges are others.
   */
  merge(other: Psi): void {
    const same =
      this.reference.length > 0 &&
      this.reference.length === other.reference.length &&
      this.edges.every((edge, i) => edge === other.edges[i]);
    if (!same) throw new RangeError('Only histograms with the same bins add up.');
    this.current = this.current.map((count, i) => count + other.current[i]!);
    this.inWindow += other.inWindow;
  }

  state(): PsiState {
    const { options, gathered, edges, reference, current, last } = this;
    return {
      options,
      gathered: [...gathered],
      edges: [...edges],
      reference: [...reference],
      current: [...current],
      last,
    };
  }
}

function countInto(values: Float64Array, edges: readonly number[]): number[] {
  const counts = new Array<number>(edges.length + 1).fill(0);
  for (const value of values) counts[binOf(value, edges)]!++;
  return counts;
}
