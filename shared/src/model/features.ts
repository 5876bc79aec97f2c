import type { FeatureSpec } from './manifest.ts';

/**
 * Rows of signals → the standardised input vector of the network: mean and deviation of each signal over the
 * values seen in the last `windowRows` rows, (statistic − center) / scale.
 *
 * Each window is summed anew, from its oldest row to its newest. A running sum would be cheaper, but its
 * rounding errors depend on all rows since the start; so, any reader of the same window has the same bits.
 */
export class FeatureExtractor {
  /** The last features, one per input; 0 where the signal was not seen. */
  readonly standardised: Float64Array;
  /** The same within ±clip: what the network is given. */
  readonly clipped: Float32Array;
  /** 1 where the signal was seen in the window (for a deviation, twice), 0 elsewhere. */
  readonly seen: Uint8Array;
  /** Whether the last row began an empty window. */
  restarted = false;
  private readonly windowRows: number;
  private readonly gapMs: number;
  private readonly clip: number;
  /** Columns that some input uses, and per input its index among them. */
  private readonly columns: Int32Array;
  private readonly columnOfInput: Int32Array;
  private readonly isMean: Uint8Array;
  private readonly center: Float64Array;
  private readonly scale: Float64Array;
  /** Per used column a ring of `windowRows` values. Doubles: the loops convert nothing. */
  private readonly ring: Float64Array;
  private readonly means: Float64Array;
  private readonly deviations: Float64Array;
  private next = 0;
  private filled = 0;
  private lastTime = Number.NaN;

  /** `spec` as `parseManifest` gives it. */
  constructor({ windowRows, gapMs, clip, inputs }: FeatureSpec) {
    this.windowRows = windowRows;
    this.gapMs = gapMs;
    this.clip = clip;
    this.columns = Int32Array.from(new Set(inputs.map(({ signal }) => signal)));
    this.columnOfInput = Int32Array.from(inputs, ({ signal }) => this.columns.indexOf(signal));
    this.isMean = Uint8Array.from(inputs, ({ statistic }) => (statistic === 'mean' ? 1 : 0));
    this.center = Float64Array.from(inputs, ({ center }) => center);
    this.scale = Float64Array.from(inputs, ({ scale }) => scale);
    this.ring = new Float64Array(this.columns.length * windowRows);
    this.means = new Float64Array(this.columns.length);
    this.deviations = new Float64Array(this.columns.length);
    this.standardised = new Float64Array(inputs.length);
    this.clipped = new Float32Array(inputs.length);
    this.seen = new Uint8Array(inputs.length);
  }

  /**
   * Takes the row at `values[offset…]`, NaN = not seen. Returns whether the window is full, and the features
   * valid. A row that comes more than `gapMs` after the last one, or before it, begins an empty window.
   */
  push(timeMs: number, values: Float32Array, offset = 0): boolean {
    const { columns, ring, windowRows } = this;
    const passed = timeMs - this.lastTime;
    this.restarted = !(passed >= 0 && passed <= this.gapMs);
    if (this.restarted) this.filled = 0;
    this.lastTime = timeMs;
    for (let c = 0; c < columns.length; c++) ring[c * windowRows + this.next] = values[offset + columns[c]!]!;
    this.next = this.next + 1 === windowRows ? 0 : this.next + 1;
    if (this.filled < windowRows) this.filled++;
    if (this.filled < windowRows) return false;
    for (let c = 0; c < columns.length; c++) this.summarise(c);
    this.standardise();
    return true;
  }

  private summarise(column: number): void {
    const { ring, next, windowRows } = this;
    const begin = column * windowRows;
    let sum = 0;
    let seen = 0;
    for (let k = 0, i = next; k < windowRows; k++) {
      const value = ring[begin + i]!;
      if (Number.isFinite(value)) {
        sum += value;
        seen++;
      }
      i = i + 1 === windowRows ? 0 : i + 1;
    }
    // Without a value there is no mean, with only one no deviation: NaN.
    const mean = sum / seen;
    let squares = 0;
    for (let k = 0, i = next; k < windowRows; k++) {
      const off = ring[begin + i]! - mean;
      if (Number.isFinite(off)) squares += off * off;
      i = i + 1 === windowRows ? 0 : i + 1;
    }
    this.means[column] = mean;
    this.deviations[column] = seen > 1 ? Math.sqrt(squares / seen) : Number.NaN;
  }

  private standardise(): void {
    const { standardised, clipped, seen, center, scale, isMean, columnOfInput, clip } = this;
    for (let i = 0; i < clipped.length; i++) {
      const column = columnOfInput[i]!;
      const statistic = isMean[i] === 1 ? this.means[column]! : this.deviations[column]!;
      const value = (statistic - center[i]!) / scale[i]!;
      if (Number.isFinite(value)) {
        seen[i] = 1;
        standardised[i] = value;
        clipped[i] = value > clip ? clip : value < -clip ? -clip : value;
      } else {
        seen[i] = standardised[i] = clipped[i] = 0;
      }
    }
  }
}
