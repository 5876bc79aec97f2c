import { CardanError } from './errors.ts';

/** A sketch as an event carries it. */
export interface QuantileSketchData {
  /** Each quantile is right to this part of itself. */
  accuracy: number;
  /** Values below `QuantileSketch.MIN`, zero among them. */
  zero: number;
  /** Bins that have values, as [index, number of values], in the order of the index. */
  bins: [index: number, count: number][];
}

/**
 * Quantiles of values from 0 on, to 1 % of themselves, of any number of values in bounded space; and sketches
 * add up, bin by bin, to the sketch of all their values: so a car sends one per period, and the cloud adds over
 * periods and cars.
 *
 * DDSketch: Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
 * guarantees", PVLDB 12(12), 2019. Bin i holds values v with γ^(i−1) < v ≤ γ^i, where γ = (1 + α) / (1 − α), and
 * stands for 2 γ^i / (γ + 1), which is within α of all of them. In place of the paper's collapsing of the lowest
 * bins, the range is fixed: what is below 0.001 counts as zero, what is above a billion as a billion. That is far
 * beyond scores and microseconds on either side, and bounds a sketch at some 1,400 bins.
 */
export class QuantileSketch {
  static readonly ACCURACY = 0.01;
  static readonly MIN = 1e-3;
  static readonly MAX = 1e9;
  private zero = 0;
  private readonly bins = new Map<number, number>();

  /** Takes a value from 0 on. What is less, or NaN, is no value for a sketch and is passed over. */
  push(value: number): void {
    if (!(value >= 0)) return;
    if (value < QuantileSketch.MIN) this.zero++;
    else this.count(binOf(Math.min(value, QuantileSketch.MAX)), 1);
  }

  /** Adds another sketch to this one. Throws EVENT_MALFORMED when it has bins of another width. */
  add({ accuracy, zero, bins }: QuantileSketchData): void {
    if (accuracy !== QuantileSketch.ACCURACY)
      throw new CardanError(
        'EVENT_MALFORMED',
        `A sketch with accuracy ${accuracy} does not add to one with ${QuantileSketch.ACCURACY}.`,
      );
    this.zero += zero;
    for (const [bin, count] of bins) this.count(bin, count);
  }

  get n(): number {
    let sum = this.zero;
    for (const count of this.bins.values()) sum += count;
    return sum;
  }

  /** The value below which this part (0 … 1) of the values lies; NaN without values. */
  quantile(part: number): number {
    const { n } = this;
    if (n === 0) return Number.NaN;
    let left = part * (n - 1) - this.zero;
    if (left < 0) return 0;
    let value = Number.NaN;
    for (const [bin, count] of this.sorted()) {
      value = (2 * GAMMA ** bin) / (GAMMA + 1);
      left -= count;
      if (left < 0) break;
    }
    return value;
  }

  get data(): QuantileSketchData {
    return { accuracy: QuantileSketch.ACCURACY, zero: this.zero, bins: this.sorted() };
  }

  private sorted(): [number, number][] {
    return [...this.bins].sort(([a], [b]) => a - b);
  }

  private count(bin: number, count: number): void {
    this.bins.set(bin, (this.bins.get(bin) ?? 0) + count);
  }
}

const GAMMA = (1 + QuantileSketch.ACCURACY) / (1 - QuantileSketch.ACCURACY);
const LOG_GAMMA = Math.log(GAMMA);

function binOf(value: number): number {
  return Math.ceil(Math.log(value) / LOG_GAMMA);
}
