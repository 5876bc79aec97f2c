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
 *   score of residuals = ⁴√ mean(z⁴)
 *   score of shift     = the same of f within ±`clip` instead of r, averaged over `shift.smoothingRows`, with `shift.center` and
 *                        `shift.scale`
 *   score = max(score of residuals, shift.weight · score of shift)
 *
 * Reconstruction error as a measure of novelty is from Japkowicz, Myers and Gluck, "A novelty detection
 * approach to classification" (IJCAI 1995). Three things are added. Residuals keep their sign until they have been
 * averaged, so that noise cancels and a shift does not. The power mean of order 4 stands between the root
 * mean square, in which one broken signal among many drowns, and the maximum, which hears only one of them. And what
 * moves all signals together fits the network well: the shift hears it.
 *
 * A score depends on the last `windowRows + smoothingRows − 1` rows and on nothing before: whoever has seen
 * these comes to the same bits. Before, and after a gap in time, it is NaN; or, `fromFirstRow`, of what there is, where
 * the rows that are missing count as normal. It is infinite when the network gave a value that is not finite.
 */
export class Scorer {
  readonly model: Model;
  /** Whether the windows were full at the last row; then a score that is not finite is the model's fault. */
  ready = false;
  private readonly residuals: SmoothedResiduals;
  private readonly spec: ScoreSpec;
  private readonly signalOfInput: Int32Array;
  /** z⁴ per input, of the last row: of the residuals, of the shift, and of the one that the score is. */
  private readonly residualPowers: Float64Array;
  private readonly shiftPowers: Float64Array;
  private powers: Float64Array;

  constructor(model: Model, { fromFirstRow = false } = {}) {
    const { features, score } = model.manifest;
    const { shift } = score;
    this.model = model;
    this.spec = score;
    const network = model.network ?? new DenseExecutor(model.layers);
    this.residuals = new SmoothedResiduals(features, network, {
      smoothingRows: score.smoothingRows,
      limits: score.residualScale.map((scale) => ROW_LIMIT * scale),
      ...(shift === undefined ? {} : { shiftRows: shift.smoothingRows }),
      fromFirstRow,
    });
    this.signalOfInput = Int32Array.from(features.inputs, ({ signal }) => signal);
    this.residualPowers = new Float64Array(features.inputs.length);
    this.shiftPowers = new Float64Array(features.inputs.length);
    this.powers = this.residualPowers;
  }

  /**
   * Takes the next row: `values[offset…]` in the order of the signal set, NaN = not seen; `timeMs` is
   * milliseconds since 1970. Returns its score, NaN while the windows fill.
   */
  push(timeMs: number, values: Float32Array, offset = 0): number {
    const { residuals, spec, residualPowers, shiftPowers } = this;
    this.ready = residuals.push(timeMs, values, offset);
    this.powers = residualPowers;
    if (!this.ready) {
      residualPowers.fill(0);
      return Number.NaN;
    }
    const { residualCenter, residualScale, shift } = spec;
    const score = fuse(residuals.values, residualCenter, residualScale, residualPowers, residuals.share);
    if (shift === undefined) return score;
    const { center, scale, weight } = shift;
    const shifted = weight * fuse(residuals.shifts, center, scale, shiftPowers, residuals.shiftShare);
    if (!(shifted > score)) return score;
    this.powers = shiftPowers;
    return shifted;
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
 * Averages → score; `powers` gets z⁴ per input. Inputs whose signal was not seen (NaN) count as normal: a silent
 * sensor is for the bus to report, not for the model. `share` is the part of the rows that the averages are of, the
 * others count as normal.
 */
export function fuse(
  averages: Float64Array,
  centers: ArrayLike<number>,
  scales: ArrayLike<number>,
  powers: Float64Array,
  share = 1,
): number {
  let sum = 0;
  for (let i = 0; i < averages.length; i++) {
    const z = (share * (averages[i]! - centers[i]!)) / scales[i]!;
    const square = z * z;
    const power = square >= 0 ? square * square : 0;
    powers[i] = power;
    sum += power;
  }
  // Square roots are exact to the last bit on every machine; a general power is not.
  return Math.sqrt(Math.sqrt(sum / averages.length));
}
