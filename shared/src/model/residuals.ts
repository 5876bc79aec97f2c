import type { Network } from './dense.ts';
import { FeatureExtractor } from './features.ts';
import type { FeatureSpec } from './manifest.ts';

/**
 * Values are kept as whole multiples of this, so that sums of them are exact: they may be added to and taken from a sum in
 * any order and give the same bits.
 */
const STEP = 2 ** -32;
/** Added and taken away again, it rounds a double to a whole number, half to even. */
const ROUND = 1.5 * 2 ** 52;
/** Of all rows together; with it a sum stays below 2^51 steps. */
const SUM_MAX = 2 ** 19;

/**
 * The mean of the last `rows` rows of values, per column over those that were seen. Depends on these rows and on
 * nothing before, to the last bit; and costs the same for any number of rows.
 */
export class MovingMean {
  /** The last means, one per column; NaN where nothing was seen. */
  readonly values: Float64Array;
  private readonly rows: number;
  private readonly limit: number;
  /** In steps; NaN where nothing was seen, infinite where the value was. */
  private readonly ring: Float64Array;
  private readonly staged: Float64Array;
  private readonly sums: Float64Array;
  private readonly seen: Int32Array;
  private readonly infinite: Int32Array;
  /** Rows in succession, up to the last one, whose values are all finite: where that is all of them, there is less to do. */
  private calmRows = 0;
  private next = 0;
  private filled = 0;

  constructor(columns: number, rows: number) {
    this.rows = rows;
    this.limit = SUM_MAX / rows / STEP;
    this.values = new Float64Array(columns);
    this.ring = new Float64Array(columns * rows);
    this.staged = new Float64Array(columns);
    this.sums = new Float64Array(columns);
    this.seen = new Int32Array(columns);
    this.infinite = new Int32Array(columns);
  }

  /** Part of the rows that have been there since the last restart, 0..1. */
  get share(): number {
    return this.filled / this.rows;
  }

  restart(): void {
    this.filled = 0;
    this.calmRows = 0;
    // What was there must take nothing from a sum.
    this.ring.fill(0);
    this.sums.fill(0);
    this.seen.fill(0);
    this.infinite.fill(0);
  }

  /** The place for the next row of values, NaN = not seen; to be filled before `advance`. */
  row(): Float64Array {
    return this.staged;
  }

  /** Takes the row that was put into `row()`. `calm`: the caller knows that all of it is finite. */
  advance(calm = false): void {
    const wasCalm = this.calmRows === this.filled;
    this.calmRows = calm ? Math.min(this.calmRows + 1, this.rows) : 0;
    if (calm && wasCalm) this.advanceCalm();
    else this.advanceAny(wasCalm);
    this.next = this.next + 1 === this.rows ? 0 : this.next + 1;
    if (this.filled < this.rows) this.filled++;
  }

  /** All values of the window are finite, and are seen in as many rows as there are. */
  private advanceCalm(): void {
    const { ring, staged, sums, limit } = this;
    let at = this.next * staged.length;
    for (let i = 0; i < staged.length; i++, at++) {
      const value = staged[i]! / STEP;
      const step = Math.max(-limit, Math.min(limit, value)) + ROUND - ROUND;
      sums[i] = sums[i]! + step - ring[at]!;
      ring[at] = step;
    }
  }

  private advanceAny(wasCalm: boolean): void {
    const { ring, staged, sums, seen, infinite, limit } = this;
    const columns = staged.length;
    const at = this.next * columns;
    const full = this.filled === this.rows;
    if (wasCalm) seen.fill(this.filled);
    for (let i = 0; i < columns; i++) {
      if (full) {
        const old = ring[at + i]!;
        if (old - old === 0) {
          sums[i]! -= old;
          seen[i]!--;
        } else if (old === old) infinite[i]!--;
      }
      const value = staged[i]! / STEP;
      if (value - value === 0) {
        const step = (value > limit ? limit : value < -limit ? -limit : value) + ROUND - ROUND;
        ring[at + i] = step;
        sums[i]! += step;
        seen[i]!++;
      } else {
        ring[at + i] = value;
        if (value === value) infinite[i]!++;
      }
    }
  }

  /** Computes `values`: infinite where one of the values is. */
  average(): void {
    const { values, sums, seen, infinite, filled } = this;
    if (this.calmRows === filled) {
      for (let i = 0; i < values.length; i++) values[i] = (sums[i]! * STEP) / filled;
      return;
    }
    for (let i = 0; i < values.length; i++)
      values[i] = infinite[i]! > 0 ? Infinity : (sums[i]! * STEP) / seen[i]!;
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
 * All of it is of clipped features: the network knows nothing of what lies beyond, and what is far off for all signals that hang
 * together, as at a cold start, is not off by itself.
 *
 * Where a signal was not seen, the network runs twice: first without it, then with what it expects of it.
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
  private readonly clip: number;
  /** The clipped features, and in place of those that were not seen what the network expects. */
  private readonly expected: Float32Array;

  constructor(spec: FeatureSpec, network: Network, options: ResidualOptions) {
    const inputs = spec.inputs.length;
    const { smoothingRows, shiftRows = 0, limits, fromFirstRow = false } = options;
    this.extractor = new FeatureExtractor(spec, fromFirstRow);
    this.network = network;
    this.clip = spec.clip;
    this.expected = new Float32Array(inputs);
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

  /** Whether the windows began anew with the last row: it is the first one, or came after a gap. */
  get restarted(): boolean {
    return this.extractor.restarted;
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
    const { clipped, seen, allSeen } = extractor;
    let output = this.network.run(clipped);
    if (!allSeen) {
      // What was not seen is what the network expects: a zero would tell the other outputs something that is not so.
      for (let i = 0; i < seen.length; i++)
        if (seen[i] === 0) this.expected[i] = within(output[i]!, this.clip);
        else this.expected[i] = clipped[i]!;
      output = this.network.run(this.expected);
    }
    const into = residuals.row();
    let outputs = 0;
    for (let i = 0; i < into.length; i++) {
      outputs += output[i]!;
      into[i] = within(clipped[i]! - output[i]!, limits[i]!);
    }
    const isFinite = outputs - outputs === 0;
    if (!isFinite) into.fill(Infinity);
    else if (!allSeen) for (let i = 0; i < into.length; i++) if (seen[i] === 0) into[i] = Number.NaN;
    residuals.advance(isFinite && allSeen);
    if (features !== undefined) {
      const into = features.row();
      if (allSeen) for (let i = 0; i < into.length; i++) into[i] = clipped[i]!;
      else for (let i = 0; i < into.length; i++) into[i] = seen[i] === 0 ? Number.NaN : clipped[i]!;
      features.advance(allSeen);
    }
    if (residuals.share < 1 && !this.fromFirstRow) return false;
    residuals.average();
    features?.average();
    return true;
  }
}

function within(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, value));
}
