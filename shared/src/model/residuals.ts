import type { Network } from './dense.ts';
import { FeatureExtractor } from './features.ts';
import type { FeatureSpec } from './manifest.ts';

/**
 * Rows → per network input the residual (input − output of the autoencoder), averaged over the last
 * `smoothingRows` feature rows. Noise averages out, a fault does not. Depends on the last
 * `windowRows + smoothingRows − 1` rows and on nothing before.
 *
 * The network is given clipped features, as it knows nothing of what lies beyond; the residual is of the
 * feature as it is, so that far off stays far off.
 *
 * An output that is not finite makes all residuals of its row infinite: a network that is broken must not look
 * like one that finds everything normal.
 */
export class SmoothedResiduals {
  /** The last averages, one per input; NaN where the signal was not seen. */
  readonly values: Float64Array;
  private readonly extractor: FeatureExtractor;
  private readonly network: Network;
  private readonly smoothingRows: number;
  private readonly limits: Float64Array;
  /** Rows of residuals, NaN where the signal was not seen. */
  private readonly ring: Float64Array;
  private next = 0;
  private filled = 0;

  /** `limits`: most that one row may weigh, per input, so that a glitch of a sensor is no event. */
  constructor(features: FeatureSpec, smoothingRows: number, network: Network, limits?: ArrayLike<number>) {
    const inputs = features.inputs.length;
    this.extractor = new FeatureExtractor(features);
    this.network = network;
    this.smoothingRows = smoothingRows;
    this.limits = limits === undefined ? new Float64Array(inputs).fill(Infinity) : Float64Array.from(limits);
    this.values = new Float64Array(inputs);
    this.ring = new Float64Array(inputs * smoothingRows);
  }

  /** Takes a row, as `FeatureExtractor.push`. Returns whether `values` is valid. */
  push(timeMs: number, row: Float32Array, offset = 0): boolean {
    const { extractor, ring, limits, smoothingRows } = this;
    const ready = extractor.push(timeMs, row, offset);
    if (extractor.restarted) this.filled = 0;
    if (!ready) return false;
    const { clipped, standardised, seen } = extractor;
    const inputs = clipped.length;
    const output = this.network.run(clipped);
    const begin = this.next * inputs;
    let outputs = 0;
    for (let i = 0; i < inputs; i++) {
      const residual = standardised[i]! - output[i]!;
      const limit = limits[i]!;
      outputs += output[i]!;
      ring[begin + i] =
        seen[i] === 0 ? Number.NaN : residual > limit ? limit : residual < -limit ? -limit : residual;
    }
    if (!Number.isFinite(outputs)) ring.fill(Infinity, begin, begin + inputs);
    this.next = this.next + 1 === smoothingRows ? 0 : this.next + 1;
    if (this.filled < smoothingRows) this.filled++;
    if (this.filled < smoothingRows) return false;
    this.average();
    return true;
  }

  /** From the oldest row to the newest, for the reason given in `FeatureExtractor`. */
  private average(): void {
    const { ring, values, smoothingRows } = this;
    const inputs = values.length;
    for (let i = 0; i < inputs; i++) {
      let sum = 0;
      let seen = 0;
      let row = this.next;
      for (let k = 0; k < smoothingRows; k++) {
        const value = ring[row * inputs + i]!;
        if (!Number.isNaN(value)) {
          sum += value;
          seen++;
        }
        row = row + 1 === smoothingRows ? 0 : row + 1;
      }
      values[i] = sum / seen;
    }
  }
}
