export interface PageHinkleyOptions {
  /** Change of the mean that is none yet, in the unit of the values. */
  delta: number;
  /** Sum of deviations at which it is a change, in the unit of the values. */
  threshold: number;
  /** Part of the sum that is left after one more value, 0 … 1: what is old counts less. */
  alpha: number;
  /** No change is told before so many values. */
  valuesMin: number;
  /** Which way the mean may go. */
  direction: 'up' | 'down' | 'both';
}

/** Those of River. */
export const PAGE_HINKLEY_DEFAULTS: PageHinkleyOptions = {
  delta: 0.005,
  threshold: 50,
  alpha: 0.9999,
  valuesMin: 30,
  direction: 'both',
};

/** Plain JSON. */
export interface PageHinkleyState {
  options: PageHinkleyOptions;
  n: number;
  mean: number;
  /** Sums of the deviations upwards and downwards, the lowest and the highest that they were. */
  up: number;
  down: number;
  lowest: number;
  highest: number;
}

/**
 * Tells when the mean of a stream has changed: the sum of what values lie above the mean so far has risen by
 * `threshold` above its lowest, or the other way round. Five numbers of state; quicker than ADWIN where the size of a
 * change that matters is known, and no answer to where it began. After a change it begins anew.
 *
 * Page, "Continuous inspection schemes", Biometrika 41, 1954; with the forgetting factor of River.
 */
export class PageHinkley {
  readonly options: PageHinkleyOptions;
  private n = 0;
  private mean = 0;
  private up = 0;
  private down = 0;
  private lowest = 0;
  private highest = 0;

  /** Throws RangeError. */
  constructor(options: Partial<PageHinkleyOptions> = {}) {
    this.options = { ...PAGE_HINKLEY_DEFAULTS, ...options };
    const { delta, threshold, alpha, valuesMin } = this.options;
    if (!(delta >= 0) || !(threshold > 0) || !Number.isFinite(delta + threshold))
      throw new RangeError(`delta is ${delta} and threshold ${threshold}; they are 0 or more, and above 0.`);
    if (!(alpha > 0 && alpha <= 1)) throw new RangeError(`alpha is ${alpha}; it is above 0 and at most 1.`);
    if (!Number.isInteger(valuesMin) || valuesMin < 1)
      throw new RangeError(`valuesMin is ${valuesMin}; it is a whole number from 1 on.`);
  }

  /** Goes on from a state. Throws RangeError when it is not one. */
  static from({ options, n, mean, up, down, lowest, highest }: PageHinkleyState): PageHinkley {
    const detector = new PageHinkley(options);
    if (![n, mean, up, down, lowest, highest].every(Number.isFinite))
      throw new RangeError('This is not the state of a Page-Hinkley test.');
    return Object.assign(detector, { n, mean, up, down, lowest, highest });
  }

  /** Whether the mean has changed, as seen with this value. What is not finite is passed over. */
  update(value: number): boolean {
    if (!Number.isFinite(value)) return false;
    const { delta, threshold, alpha, valuesMin, direction } = this.options;
    this.n++;
    this.mean += (value - this.mean) / this.n;
    const off = value - this.mean;
    this.up = alpha * this.up + off - delta;
    this.down = alpha * this.down + off + delta;
    // The first value sets them: the sums before it stand for nothing.
    this.lowest = this.n === 1 ? this.up : Math.min(this.lowest, this.up);
    this.highest = this.n === 1 ? this.down : Math.max(this.highest, this.down);
    if (this.n < valuesMin) return false;
    const changed =
      (direction !== 'down' && this.up - this.lowest > threshold) ||
      (direction !== 'up' && this.highest - this.down > threshold);
    if (changed) this.n = this.mean = this.up = this.down = this.lowest = this.highest = 0;
    return changed;
  }

  state(): PageHinkleyState {
    const { options, n, mean, up, down, lowest, highest } = this;
    return { options, n, mean, up, down, lowest, highest };
  }
}
