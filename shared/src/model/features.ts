import type { FeatureSpec } from './manifest.ts';

/**
 * Rows of signals → the standardised input vector of the network: mean and deviation of each signal over the
 * last `windowRows` rows, (statistic − center) / scale, clipped.
 *
 * Each window is summed anew from its oldest row to its newest. A running sum would be cheaper, but its
 * rounding errors depend on all rows since the start; so, any reader of the same window has the same bits.
 */
export class FeatureExtractor {
  /** The last features, one per input of the network. */
  readonly features: Float32Array;
  /** 1 where the signal was seen in the window; its feature is 0 elsewhere. */
  readonly seen: Uint8Array;
  private readonly spec: FeatureSpec;
  /** Columns that some input uses, and per input its index among them. */
  private readonly columns: Int32Array;
  private readonly columnOfInput: Int32Array;
  private readonly isMean: Uint8Array;
  private readonly center: Float64Array;
  private readonly scale: Float64Array;
  /** Per used column a ring of `windowRows` values. Doubles: the loops convert nothing. */
  private readonly ring: Float64Array;
  private readonly mean: Float64Array;
  private readonly deviation: Float64Array;
  private next = 0;
  private filled = 0;
  private lastTime = Number.NaN;

  /** `spec` as `parseManifest` gives it. */
  constructor(spec: FeatureSpec) {
    this.spec = spec;
    const { inputs, windowRows } = spec;
    this.columns = Int32Array.from(new Set(inputs.map(({ signal }) => signal)));
    this.columnOfInput = Int32Array.from(inputs, ({ signal }) => this.columns.indexOf(signal));
    this.isMean = Uint8Array.from(inputs, ({ statistic }) => (statistic === 'mean' ? 1 : 0));
    this.center = Float64Array.from(inputs, ({ center }) => center);
    this.scale = Float64Array.from(inputs, ({ scale }) => scale);
    this.ring = new Float64Array(this.columns.length * windowRows);
    this.mean = new Float64Array(this.columns.length);
    this.deviation = new Float64Array(this.columns.length);
    this.features = new Float32Array(inputs.length);
    this.seen = new Uint8Array(inputs.length);
  }

  /**
   * Takes the row at `values[offset…]`. Returns whether the window is full, and `features` valid. The window
   * is emptied before the row when its time lies more than `gapMs` after the last one, or before it.
   */
  push(timeMs: number, values: Float32Array, offset = 0): boolean {
    const { columns, ring } = this;
    const { windowRows, gapMs } = this.spec;
    const passed = timeMs - this.lastTime;
    if (!(passed >= 0 && passed <= gapMs)) this.filled = 0;
    this.lastTime = timeMs;
    for (let c = 0; c < columns.length; c++) ring[c * windowRows + this.next] = values[offset + columns[c]!]!;
    this.next = this.next + 1 === windowRows ? 0 : this.next + 1;
    if (this.filled < windowRows) this.filled++;
    if (this.filled < windowRows) return false;
    for (let c = 0; c < columns.length; c++) this.summarise(c);
    this.standardise();
    return true;
  }

  /** Whether the last row began an empty window. */
  get restarted(): boolean {
    return this.filled === 1;
  }

  private summarise(column: number): void {
    const { ring, next } = this;
    const begin = column * this.spec.windowRows;
    const end = begin + this.spec.windowRows;
    let seen = 0;
    let sum = 0;
    for (let i = begin + next; i < end; i++) {
      const value = ring[i]!;
      if (value - value === 0) {
        sum += value;
        seen++;
      }
    }
    for (let i = begin; i < begin + next; i++) {
      const value = ring[i]!;
      if (value - value === 0) {
        sum += value;
        seen++;
      }
    }
    const mean = sum / seen;
    let squares = 0;
    for (let i = begin + next; i < end; i++) {
      const value = ring[i]!;
      if (value - value === 0) squares += (value - mean) * (value - mean);
    }
    for (let i = begin; i < begin + next; i++) {
      const value = ring[i]!;
      if (value - value === 0) squares += (value - mean) * (value - mean);
    }
    // Without a value there is no mean, with only one no deviation: NaN.
    this.mean[column] = mean;
    this.deviation[column] = seen > 1 ? Math.sqrt(squares / seen) : Number.NaN;
  }

  private standardise(): void {
    const { features, seen, center, scale, isMean, columnOfInput } = this;
    const { clip } = this.spec;
    for (let i = 0; i < features.length; i++) {
      const column = columnOfInput[i]!;
      const statistic = isMean[i] === 1 ? this.mean[column]! : this.deviation[column]!;
      const value = (statistic - center[i]!) / scale[i]!;
      seen[i] = value - value === 0 ? 1 : 0;
      features[i] = seen[i] === 0 ? 0 : value > clip ? clip : value < -clip ? -clip : value;
    }
  }
}
