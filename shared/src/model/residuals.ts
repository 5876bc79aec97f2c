import type { Network } from './dense.ts';
import { FeatureExtractor } from './features.ts';
import type { FeatureSpec } from './manifest.ts';

/**
 * The mean of the last `rows` rows of values, per column over those that were seen. Depends on these rows and on
 * nothing before: summed anew each time, from the oldest to the newest, for the reason given in `FeatureExtractor`.
 */
export class MovingMean {
  /** The last means, one per column; NaN where nothing was seen. */
  readonly values: Float64Array;
  private readonly rows: number;
  private readonly ring: Float64Array;
  /** Views of the rows of the ring: to make one each time would take longer than to fill it. */
  private readonly rowViews: Float64Array[];
  /** Per row of the ring whether something in it was not seen. */
  private readonly holed: Uint8Array;
  private next = 0;
  private filled = 0;

  constructor(columns: number, rows: number) {
    this.rows = rows;
    this.values = new Float64Array(columns);
    const ring = new Float64Array(columns * rows);
    this.ring = ring;
    this.rowViews = Array.from({ length: rows }, (_, row) =>
      ring.subarray(row * columns, (row + 1) * columns),
    );
    this.holed = new Uint8Array(rows);
  }

  /** Part of the rows that have been there since the last restart, 0..1. */
  get share(): number {
    return this.filled / this.rows;
  }

  restart(): void {
    this.filled = 0;
  }

  /** The place for the next row of values, NaN = not seen; to be filled before `advance`. */
  row(): Float64Array {
    return this.rowViews[this.next]!;
  }

  /** Takes the row that was put into `row()`. */
  advance(): void {
    const row = this.rowViews[this.next]!;
    let sum = 0;
    for (const value of row) sum += value;
    // Infinities of both signs look like a hole, which only takes longer.
    this.holed[this.next] = Number.isNaN(sum) ? 1 : 0;
    this.next = this.next + 1 === this.rows ? 0 : this.next + 1;
    if (this.filled < this.rows) this.filled++;
  }

  /** Computes `values`. */
  average(): void {
    const { ring, values, rows, filled } = this;
    const columns = values.length;
    const oldest = (this.next - filled + rows) % rows;
    // Where everything was seen: the same sums in the same order, four columns at a time, which do not wait for each other.
    const whole = this.isWhole() ? columns - (columns % 4) : 0;
    const end = rows * columns;
    for (let i = 0; i < whole; i += 4) {
      let sum0 = 0;
      let sum1 = 0;
      let sum2 = 0;
      let sum3 = 0;
      let at = oldest * columns + i;
      for (let k = 0; k < filled; k++) {
        sum0 += ring[at]!;
        sum1 += ring[at + 1]!;
        sum2 += ring[at + 2]!;
        sum3 += ring[at + 3]!;
        at += columns;
        if (at >= end) at -= end;
      }
      values[i] = sum0 / filled;
      values[i + 1] = sum1 / filled;
      values[i + 2] = sum2 / filled;
      values[i + 3] = sum3 / filled;
    }
    for (let i = whole; i < columns; i++) {
      let sum = 0;
      let seen = 0;
      let row = oldest;
      for (let k = 0; k < filled; k++) {
        const value = ring[row * columns + i]!;
        if (!Number.isNaN(value)) {
          sum += value;
          seen++;
        }
        row = row + 1 === rows ? 0 : row + 1;
      }
      values[i] = sum / seen;
    }
  }

  /** Whether all was seen in all rows that are there. */
  private isWhole(): boolean {
    const { holed, rows, filled } = this;
    // Until the ring is full some of its rows are of before: rare enough for the slower way.
    if (filled < rows) return false;
    for (let row = 0; row < rows; row++) if (holed[row] === 1) return false;
    return true;
  }
}

export interface ResidualOptions {
  smoothingRows: number;
  /** Rows over which the features themselves are averaged; 0: not at all. */
  shiftRows?: number;
  /** Most that one row may weigh, per input, so that a glitch of a sensor is no event. */
  limits?: ArrayLike<number>;
  /** Whether values are valid from the first row on, of as much of the windows as there is. */
  fromFirstRow?: boolean;
}

/**
 * Rows → per network input the residual (input − output of the autoencoder), averaged over the last
 * `smoothingRows` feature rows, and the input itself averaged over the last `shiftRows`. Noise averages out, a fault
 * does not. Depends on the last `windowRows + smoothingRows − 1` rows and on nothing before.
 *
 * The network is given clipped features, as it knows nothing of what lies beyond; the residual is of the
 * feature as it is, so that far off stays far off. What is averaged beside it is the clipped feature: a shift lasts, a
 * glitch does not.
 *
 * An output that is not finite makes all residuals of its row infinite: a network that is broken must not look
 * like one that finds everything normal.
 */
export class SmoothedResiduals {
  /** The last averages, one per input; NaN where the signal was not seen. */
  readonly values: Float64Array;
  /** The features averaged; empty without `shiftRows`. */
  readonly shifts: Float64Array;
  private readonly extractor: FeatureExtractor;
  private readonly network: Network;
  private readonly residuals: MovingMean;
  private readonly features: MovingMean | undefined;
  private readonly limits: Float64Array;
  private readonly fromFirstRow: boolean;

  constructor(spec: FeatureSpec, network: Network, options: ResidualOptions) {
    const inputs = spec.inputs.length;
    const { smoothingRows, shiftRows = 0, limits, fromFirstRow = false } = options;
    this.extractor = new FeatureExtractor(spec, fromFirstRow);
    this.network = network;
    this.fromFirstRow = fromFirstRow;
    this.limits = limits === undefined ? new Float64Array(inputs).fill(Infinity) : Float64Array.from(limits);
    this.residuals = new MovingMean(inputs, smoothingRows);
    this.features = shiftRows > 0 ? new MovingMean(inputs, shiftRows) : undefined;
    this.values = this.residuals.values;
    this.shifts = this.features?.values ?? new Float64Array(0);
  }

  /** Part of the rows of the averages that have been there: 1 unless valid from the first row on. */
  get share(): number {
    return this.residuals.share;
  }

  get shiftShare(): number {
    return this.features?.share ?? 0;
  }

  /** Takes a row, as `FeatureExtractor.push`. Returns whether `values` and `shifts` are valid. */
  push(timeMs: number, row: Float32Array, offset = 0): boolean {
    const { extractor, residuals, features, limits } = this;
    const ready = extractor.push(timeMs, row, offset);
    if (extractor.restarted) {
      residuals.restart();
      features?.restart();
    }
    if (!ready) return false;
    const { clipped, standardised, seen } = extractor;
    const output = this.network.run(clipped);
    const into = residuals.row();
    let outputs = 0;
    for (let i = 0; i < into.length; i++) {
      outputs += output[i]!;
      into[i] = seen[i] === 0 ? Number.NaN : within(standardised[i]! - output[i]!, limits[i]!);
    }
    if (!Number.isFinite(outputs)) into.fill(Infinity);
    residuals.advance();
    if (features !== undefined) {
      const into = features.row();
      for (let i = 0; i < into.length; i++) into[i] = seen[i] === 0 ? Number.NaN : clipped[i]!;
      features.advance();
    }
    if (residuals.share < 1 && !this.fromFirstRow) return false;
    residuals.average();
    features?.average();
    return true;
  }
}

function within(value: number, limit: number): number {
  return value > limit ? limit : value < -limit ? -limit : value;
}
