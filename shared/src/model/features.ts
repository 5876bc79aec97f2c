import { STATISTICS, type FeatureSpec } from './manifest.ts';

const [MEAN, DEVIATION, SLOPE, MIN, MAX, RANGE] = [0, 1, 2, 3, 4, 5] as const;

/**
 * Rows of signals → the standardised input vector of the network: statistics of each signal over the values seen
 * in the last `windowRows` rows, single values of the window, or what is derived of them (see `STATISTICS`),
 * (statistic − center) / scale.
 *
 * Each window is summed anew, from its oldest row to its newest. A running sum would be cheaper, but its
 * rounding errors depend on all rows since the start; so, any reader of the same window has the same bits.
 */
export class FeatureExtractor {
  /** The last features, one per input; 0 where the signal was not seen. */
  readonly standardised: Float64Array;
  /** The same within ±clip: what the network is given. */
  readonly clipped: Float32Array;
  /** 1 where the signal was seen in the window (for a deviation or a slope, twice), 0 elsewhere. */
  readonly seen: Uint8Array;
  /** Whether all of them were. */
  allSeen = false;
  /** Whether the last row began an empty window. */
  restarted = false;
  private readonly windowRows: number;
  private readonly fromFirstRow: boolean;
  private readonly gapMs: number;
  private readonly clip: number;
  /** Columns that some input uses, and per input its index among them. */
  private readonly columns: Int32Array;
  /** Per input its place in `statistics`. */
  private readonly placeOfInput: Int32Array;
  /** Per used column whether anything of the whole window is asked for, and more than mean and deviation. */
  private readonly summarised: Uint8Array;
  private readonly deviated: Uint8Array;
  private readonly sloped: Uint8Array;
  private readonly ranged: Uint8Array;
  private readonly center: Float64Array;
  private readonly scale: Float64Array;
  /**
   * Per used column a ring of `windowRows` values, twice, so that from `next` on the window stands in one piece. Doubles:
   * the loops convert nothing.
   */
  private readonly ring: Float64Array;
  /** Per used column the values in succession, up to the last one, that are finite. */
  private readonly calm: Int32Array;
  /** Per input that is a single value: how many rows ago, and its column; its place is behind those of all columns. */
  private readonly lags: Int32Array;
  private readonly lagColumns: Int32Array;
  /** The same per input that is a difference, or a ratio; their places are behind those of single values. */
  private readonly differences: Int32Array;
  private readonly ratios: Int32Array;
  private readonly ratiosOver: Int32Array;
  /** Per used column one of each kind, in the order of `STATISTICS`; those that nobody asked for are not computed. */
  private readonly statistics: Float64Array;
  private next = 0;
  private filled = 0;
  private lastTime = Number.NaN;

  /**
   * `spec` as `parseManifest` gives it. `fromFirstRow`: the features are valid from the first row of a window on,
   * of the rows that are there.
   */
  constructor({ windowRows, gapMs, clip, inputs }: FeatureSpec, fromFirstRow = false) {
    this.windowRows = windowRows;
    this.fromFirstRow = fromFirstRow;
    this.gapMs = gapMs;
    this.clip = clip;
    this.columns = Int32Array.from(
      new Set(inputs.flatMap(({ signal, over }) => (over === undefined ? [signal] : [signal, over]))),
    );
    const columnOf = (signal: number) => this.columns.indexOf(signal);
    const ratios = inputs.filter(({ statistic }) => statistic === 'ratio');
    const inRatio = new Set(ratios.flatMap(({ signal, over }) => [signal, over]));
    const asked = (column: number, ...kinds: number[]) =>
      inputs.some(
        ({ signal, statistic }) => signal === column && kinds.includes(STATISTICS.indexOf(statistic)),
      );
    this.summarised = Uint8Array.from(this.columns, (column) =>
      Number(asked(column, MEAN, DEVIATION, SLOPE, MIN, MAX, RANGE) || inRatio.has(column)),
    );
    this.deviated = Uint8Array.from(this.columns, (column) => Number(asked(column, DEVIATION)));
    this.sloped = Uint8Array.from(this.columns, (column) => Number(asked(column, SLOPE)));
    this.ranged = Uint8Array.from(this.columns, (column) => Number(asked(column, MIN, MAX, RANGE)));
    const lagged = inputs.filter(({ statistic }) => statistic === 'value');
    this.lags = Int32Array.from(lagged, ({ lag = 0 }) => lag);
    this.lagColumns = Int32Array.from(lagged, ({ signal }) => columnOf(signal));
    const differences = inputs.filter(({ statistic }) => statistic === 'difference');
    this.differences = Int32Array.from(differences, ({ signal }) => columnOf(signal));
    this.ratios = Int32Array.from(ratios, ({ signal }) => columnOf(signal));
    this.ratiosOver = Int32Array.from(ratios, ({ over }) => columnOf(over!));
    const places = this.columns.length * STATISTICS.length;
    const derived = [...lagged, ...differences, ...ratios];
    this.placeOfInput = Int32Array.from(inputs, (input) => {
      const place = derived.indexOf(input);
      if (place >= 0) return places + place;
      return columnOf(input.signal) * STATISTICS.length + STATISTICS.indexOf(input.statistic);
    });
    this.center = Float64Array.from(inputs, ({ center }) => center);
    this.scale = Float64Array.from(inputs, ({ scale }) => scale);
    this.ring = new Float64Array(this.columns.length * 2 * windowRows);
    this.calm = new Int32Array(this.columns.length);
    this.statistics = new Float64Array(places + derived.length);
    this.standardised = new Float64Array(inputs.length);
    this.clipped = new Float32Array(inputs.length);
    this.seen = new Uint8Array(inputs.length);
  }

  /**
   * Takes the row at `values[offset…]`, NaN = not seen. Returns whether the window is full, and the features
   * valid. A row that comes more than `gapMs` after the last one, or before it, begins an empty window.
   */
  push(timeMs: number, values: Float32Array, offset = 0): boolean {
    const { columns, ring, calm, windowRows } = this;
    const passed = timeMs - this.lastTime;
    this.restarted = !(passed >= 0 && passed <= this.gapMs);
    if (this.restarted) {
      this.filled = 0;
      calm.fill(0);
      // What was not there was not seen.
      if (this.fromFirstRow) ring.fill(Number.NaN);
    }
    this.lastTime = timeMs;
    for (let c = 0, at = this.next; c < columns.length; c++, at += 2 * windowRows) {
      const value = values[offset + columns[c]!]!;
      ring[at] = ring[at + windowRows] = value;
      if (value - value === 0) calm[c]!++;
      else calm[c] = 0;
    }
    this.next = this.next + 1 === windowRows ? 0 : this.next + 1;
    if (this.filled < windowRows) this.filled++;
    if (this.filled < windowRows && !this.fromFirstRow) return false;
    for (let c = 0; c < columns.length; c++) if (this.summarised[c] === 1) this.summarise(c);
    if (this.statistics.length > columns.length * STATISTICS.length) this.derive();
    this.standardise();
    return true;
  }

  /** Single values of the window, then differences and ratios. */
  private derive(): void {
    const { lags, lagColumns, differences, ratios, ratiosOver, ring, windowRows, statistics } = this;
    let place = this.columns.length * STATISTICS.length;
    const value = (column: number, lag: number) => {
      const row = this.next - 1 - lag;
      return ring[2 * column * windowRows + (row < 0 ? row + windowRows : row)]!;
    };
    for (let k = 0; k < lags.length; k++) statistics[place++] = value(lagColumns[k]!, lags[k]!);
    for (const column of differences) statistics[place++] = value(column, 0) - value(column, windowRows - 1);
    const mean = (column: number) => statistics[column * STATISTICS.length + MEAN]!;
    // Over nothing it is infinite, and counts as not seen.
    for (let k = 0; k < ratios.length; k++) statistics[place++] = mean(ratios[k]!) / mean(ratiosOver[k]!);
  }

  private summarise(column: number): void {
    const { ring, next, windowRows } = this;
    const begin = 2 * column * windowRows + next;
    const end = begin + windowRows;
    let sum = 0;
    let seen = windowRows;
    if (this.calm[column]! >= windowRows) for (let i = begin; i < end; i++) sum += ring[i]!;
    else {
      seen = 0;
      for (let i = begin; i < end; i++) {
        const value = ring[i]!;
        if (value - value !== 0) continue;
        sum += value;
        seen++;
      }
    }
    // Without a value there is no mean, with only one no deviation: NaN.
    const mean = sum / seen;
    const place = column * STATISTICS.length;
    this.statistics[place + MEAN] = mean;
    if (this.deviated[column] === 1) this.statistics[place + DEVIATION] = this.deviation(column, mean, seen);
    if (this.sloped[column] === 1) this.statistics[place + SLOPE] = this.slope(column, mean);
    if (this.ranged[column] === 1) this.extremes(column);
  }

  private deviation(column: number, mean: number, seen: number): number {
    const { ring, next, windowRows } = this;
    const begin = 2 * column * windowRows + next;
    let squares = 0;
    for (let i = begin; i < begin + windowRows; i++) {
      const off = ring[i]! - mean;
      if (Number.isFinite(off)) squares += off * off;
    }
    return seen > 1 ? Math.sqrt(squares / seen) : Number.NaN;
  }

  /** Σ (k − k̄)(v − v̄) / Σ (k − k̄)² over the rows k whose value v was seen; NaN with fewer than two. */
  private slope(column: number, mean: number): number {
    const { ring, next, windowRows } = this;
    const begin = 2 * column * windowRows + next;
    let rows = 0;
    let seen = 0;
    for (let k = 0; k < windowRows; k++)
      if (Number.isFinite(ring[begin + k]!)) {
        rows += k;
        seen++;
      }
    const middle = rows / seen;
    let products = 0;
    let squares = 0;
    for (let k = 0; k < windowRows; k++) {
      const off = ring[begin + k]! - mean;
      if (Number.isFinite(off)) {
        products += (k - middle) * off;
        squares += (k - middle) * (k - middle);
      }
    }
    // One value alone: 0 / 0.
    return products / squares;
  }

  /** Without a value ∞ and −∞, which count as not seen. */
  private extremes(column: number): void {
    const { ring, statistics, windowRows } = this;
    const begin = 2 * column * windowRows;
    let min = Infinity;
    let max = -Infinity;
    for (let i = begin; i < begin + windowRows; i++) {
      const value = ring[i]!;
      if (!Number.isFinite(value)) continue;
      if (value < min) min = value;
      if (value > max) max = value;
    }
    const place = column * STATISTICS.length;
    statistics[place + MIN] = min;
    statistics[place + MAX] = max;
    statistics[place + RANGE] = max - min;
  }

  private standardise(): void {
    const { standardised, clipped, seen, center, scale, statistics, placeOfInput, clip } = this;
    let allSeen = true;
    for (let i = 0; i < clipped.length; i++) {
      const value = (statistics[placeOfInput[i]!]! - center[i]!) / scale[i]!;
      if (value - value === 0) {
        seen[i] = 1;
        standardised[i] = value;
        clipped[i] = Math.max(-clip, Math.min(clip, value));
      } else {
        seen[i] = standardised[i] = clipped[i] = 0;
        allSeen = false;
      }
    }
    this.allSeen = allSeen;
  }
}
