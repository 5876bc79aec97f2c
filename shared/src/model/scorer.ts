import { DenseExecutor } from './dense.ts';
import type { Model } from './load-model.ts';
import type { ScoreSpec } from './manifest.ts';
import { SmoothedResiduals } from './residuals.ts';

/** Most that one row weighs, in spreads of the average: with this a glitch stays a few spreads small. */
const ROW_LIMIT = 30;

/**
 * Rows of one vehicle → anomaly scores. The same code in the car, in the predictor and in the trainer.
 *
 *   f   features of the last `windowRows` rows, standardised (FeatureExtractor)
 *   r   f − autoencoder(f), each within ±30 residualScale, averaged over the last `smoothingRows` rows
 *       (SmoothedResiduals)
 *   z   (r − residualCenter) / residualScale, per input
 *   score = ⁴√ mean(z⁴)
 *
 * Reconstruction error as a measure of novelty is from Japkowicz, Myers and Gluck, "A novelty detection
 * approach to classification" (IJCAI 1995). Two things are added. Residuals keep their sign until they have been
 * averaged, so that noise cancels and a shift does not. And the power mean of order 4 stands between the root
 * mean square, in which one broken signal among many drowns, and the maximum, which hears only one of them.
 *
 * A score depends on the last `windowRows + smoothingRows − 1` rows and on nothing before: whoever has seen
 * these comes to the same bits. Before, and after a gap in time, it is NaN. It is infinite when the network gave
 * a value that is not finite.
 */
export class Scorer {
  readonly model: Model;
  /** Whether the windows were full at the last row; then a score that is not finite is the model's fault. */
  ready = false;
  private readonly residuals: SmoothedResiduals;
  private readonly spec: ScoreSpec;
  private readonly signalOfInput: Int32Array;
  /** z⁴ per input, of the last row. */
  private readonly powers: Float64Array;

  constructor(model: Model) {
    const { features, score } = model.manifest;
    this.model = model;
    this.spec = score;
    const network = model.network ?? new DenseExecutor(model.layers);
    const limits = score.residualScale.map((scale) => ROW_LIMIT * scale);
    this.residuals = new SmoothedResiduals(features, score.smoothingRows, network, limits);
    this.signalOfInput = Int32Array.from(features.inputs, ({ signal }) => signal);
    this.powers = new Float64Array(features.inputs.length);
  }

  /**
   * Takes the next row: `values[offset…]` in the order of the signal set, NaN = not seen; `timeMs` is
   * milliseconds since 1970. Returns its score, NaN while the windows fill.
   */
  push(timeMs: number, values: Float32Array, offset = 0): number {
    this.ready = this.residuals.push(timeMs, values, offset);
    if (!this.ready) {
      this.powers.fill(0);
      return Number.NaN;
    }
    return fuse(this.residuals.values, this.spec, this.powers);
  }

  /** Scores consecutive rows: `values` is row-major, one row per time. */
  pushRows(times: Float64Array, values: Float32Array, scores = new Float32Array(times.length)): Float32Array {
    const signals = times.length === 0 ? 0 : values.length / times.length;
    for (let row = 0; row < times.length; row++) scores[row] = this.push(times[row]!, values, row * signals);
    return scores;
  }

  /**
   * What each signal adds to the last score: one part per signal of the signal set, 1 in all. Zeros where the
   * last score was NaN, 0 or infinite.
   */
  contributions(into = new Float32Array(this.model.manifest.signalSet.signals.length)): Float32Array {
    const { powers, signalOfInput } = this;
    let sum = 0;
    for (const power of powers) sum += power;
    into.fill(0);
    if (sum > 0 && sum < Infinity)
      for (let i = 0; i < powers.length; i++) into[signalOfInput[i]!]! += powers[i]! / sum;
    return into;
  }
}

/**
 * Smoothed residuals → score; `powers` gets z⁴ per input. Inputs whose signal was not seen (NaN) count as
 * normal: a silent sensor is for the bus to report, not for the model.
 */
export function fuse(residuals: Float64Array, spec: ScoreSpec, powers: Float64Array): number {
  const { residualCenter, residualScale } = spec;
  let sum = 0;
  for (let i = 0; i < residuals.length; i++) {
    const z = (residuals[i]! - residualCenter[i]!) / residualScale[i]!;
    const square = z * z;
    const power = square >= 0 ? square * square : 0;
    powers[i] = power;
    sum += power;
  }
  // Square roots are exact to the last bit on every machine; a general power is not.
  return Math.sqrt(Math.sqrt(sum / residuals.length));
}
