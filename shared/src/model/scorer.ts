import { DenseExecutor, type Network } from './dense.ts';
import type { Model } from './load-model.ts';
import { standstillRowsMax, type ScoreOrder, type ScoreSpec } from './manifest.ts';
import { SmoothedResiduals } from './residuals.ts';
import { StandingValues } from './standing-values.ts';

/** Signals that are tried as the one to blame: each takes a run of the network. */
const SUSPECTS = 4;
/** Of suspects without which no more than this part of the score remains, the one that is furthest off is to blame. */
const REMAINS = 0.85;
/** Most that one row weighs, in spreads of the average: with this a glitch stays a spread small. */
const ROW_LIMIT = 12;

/**
 * Rows of one vehicle → anomaly scores. The same code in the car, in the predictor and in the trainer.
 *
 *   f   features of the last `windowRows` rows, standardised, within ±`clip` (FeatureExtractor)
 *   r   f − network(f), each within ±12 of the larger residualScale, averaged over the last `smoothingRows` rows
 *       (SmoothedResiduals)
 *   z   (r − residualCenter) / residualScale, per input; below the center / residualScaleBelow where there is one
 *   score of residuals = ᵒ√ mean(zᵒ) with the order o: 8, or 4
 *   score of shift     = the same of f instead of r, averaged over `shift.smoothingRows`, with `shift.center`,
 *                        `shift.scale` and `shift.scaleBelow`
 *   score of standstill = standstill.weight · the most of rows that a signal has stood still / standstill.afterRows, of those
 *                        signals that have for so long (StandingValues)
 *   score = max(score of residuals, shift.weight · score of shift, score of standstill)
 *
 * Reconstruction error as a measure of novelty is from Japkowicz, Myers and Gluck, "A novelty detection
 * approach to classification" (IJCAI 1995). Three things are added. Residuals keep their sign until they have been
 * averaged, so that noise cancels and a shift does not. The power mean stands between the root
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
  private readonly network: Network;
  private readonly spec: ScoreSpec;
  private readonly signalOfInput: Int32Array;
  /** zᵒ per input, of the last row: of the residuals, of the shift, and of the one that the score is. */
  private readonly residualPowers: Float64Array;
  private readonly shiftPowers: Float64Array;
  private powers: Float64Array;
  private readonly standing: StandingValues | undefined;
  /** Whether the last score is that of a standstill. */
  private stands = false;

  constructor(model: Model, { fromFirstRow = false } = {}) {
    const { features, score } = model.manifest;
    const { shift, standstill } = score;
    this.model = model;
    this.spec = score;
    const network = model.network ?? new DenseExecutor(model.layers);
    this.network = network;
    this.residuals = new SmoothedResiduals(features, network, {
      smoothingRows: score.smoothingRows,
      limits: score.residualScale.map(
        (scale, i) => ROW_LIMIT * Math.max(scale, score.residualScaleBelow?.[i] ?? 0),
      ),
      ...(shift === undefined ? {} : { shiftRows: shift.smoothingRows }),
      fromFirstRow,
    });
    this.standing =
      standstill &&
      new StandingValues(standstill, standstillRowsMax(features.windowRows, score.smoothingRows));
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
    const { residuals, standing } = this;
    this.ready = residuals.push(timeMs, values, offset);
    const score = this.fused();
    if (standing === undefined) return score;
    if (residuals.restarted) standing.restart();
    const stood = standing.push(values, offset);
    // Written so that neither NaN nor what is infinite gives way to it.
    this.stands = stood > score;
    return this.stands ? stood : score;
  }

  /** The score of residuals and of shift. */
  private fused(): number {
    const { residuals, spec, residualPowers, shiftPowers } = this;
    this.powers = residualPowers;
    if (!this.ready) {
      residualPowers.fill(0);
      return Number.NaN;
    }
    const { residualCenter, residualScale, residualScaleBelow, shift, order } = spec;
    const score = fuse(
      residuals.values,
      residualCenter,
      residualScale,
      residualPowers,
      residuals.share,
      order,
      residualScaleBelow,
    );
    if (shift === undefined) return score;
    const { center, scale, scaleBelow, weight } = shift;
    const shifted =
      weight * fuse(residuals.shifts, center, scale, shiftPowers, residuals.shiftShare, order, scaleBelow);
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
   *
   * A signal that is off also makes those look odd that are expected from it. So the suspects are put one by one where the
   * other signals expect them, as a counterfactual, the one that is furthest off first. The first one without which the score is
   * clearly lower, or else the one without which it is lowest, has what vanishes of it; the others have what remains, by
   * their zᵒ. Where features are not averaged (no `shift`) the parts are by zᵒ alone. Of a standstill they are those of the
   * signals that stand.
   */
  contributions(into = new Float32Array(this.model.manifest.signalSet.signals.length)): Float32Array {
    const { powers, signalOfInput } = this;
    if (this.stands) return partsOf(this.standing!.parts, into);
    const all = sumOf(powers);
    into.fill(0);
    if (!(all > 0 && all < Infinity)) return into;
    let rest: ArrayLike<number> = powers;
    let blamed = -1;
    if (powers === this.residualPowers && this.spec.shift !== undefined) {
      const found = this.mostToBlame(all);
      rest = found.powers;
      blamed = found.signal;
    }
    let remaining = 0;
    for (let i = 0; i < rest.length; i++) {
      into[signalOfInput[i]!]! += rest[i]! / all;
      remaining += rest[i]!;
    }
    if (blamed >= 0) into[blamed]! += 1 - remaining / all;
    return into;
  }

  /** The suspect that is to blame, −1 for none, and zᵒ per input of what remains without it. */
  private mostToBlame(all: number): { signal: number; powers: ArrayLike<number> } {
    const { residuals, spec, signalOfInput, network, residualPowers: powers } = this;
    const { residualCenter, residualScale } = spec;
    const { clip } = this.model.manifest.features;
    const bySignal = new Float64Array(this.model.manifest.signalSet.signals.length);
    for (let i = 0; i < powers.length; i++) bySignal[signalOfInput[i]!]! += powers[i]!;
    const features = Float32Array.from(residuals.shifts, (value) => (Number.isNaN(value) ? 0 : value));
    const output = Float64Array.from(network.run(features));
    const expected = new Float32Array(features.length);
    const moved = new Float64Array(features.length);
    let best: { signal: number; powers: ArrayLike<number> } = { signal: -1, powers };
    let least = all;
    const enough = all * REMAINS ** (spec.order ?? 4);
    for (let suspect = 0; suspect < SUSPECTS && least > enough; suspect++) {
      const signal = bySignal.indexOf(Math.max(...bySignal));
      if (!(bySignal[signal]! > 0)) break;
      bySignal[signal] = 0;
      for (let i = 0; i < features.length; i++) {
        const value = features[i]! - residuals.values[i]!;
        const fits = signalOfInput[i] === signal && !Number.isNaN(value);
        expected[i] = fits ? Math.max(-clip, Math.min(clip, value)) : features[i]!;
      }
      const without = network.run(expected);
      for (let i = 0; i < moved.length; i++)
        moved[i] =
          signalOfInput[i] === signal ? residualCenter[i]! : residuals.values[i]! + output[i]! - without[i]!;
      const left = new Float64Array(moved.length);
      fuse(moved, residualCenter, residualScale, left, residuals.share, spec.order, spec.residualScaleBelow);
      const remaining = sumOf(left);
      if (remaining < least) {
        least = remaining;
        best = { signal, powers: left };
      }
    }
    return best;
  }
}

/** Parts of the whole that are 1 in all. */
function partsOf(parts: Float64Array, into: Float32Array): Float32Array {
  const all = sumOf(parts);
  for (let i = 0; i < into.length; i++) into[i] = parts[i]! / all;
  return into;
}

function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (const value of Array.from(values)) sum += value;
  return sum;
}

/**
 * Averages → score; `powers` gets zᵒ per input. Inputs whose signal was not seen (NaN) count as normal: a silent
 * sensor is for the bus to report, not for the model. `share` is the part of the rows that the averages are of, the
 * others count as normal.
 */
export function fuse(
  averages: Float64Array,
  centers: ArrayLike<number>,
  scales: ArrayLike<number>,
  powers: Float64Array,
  share = 1,
  order: ScoreOrder = 4,
  scalesBelow = scales,
): number {
  let sum = 0;
  for (let i = 0; i < averages.length; i++) {
    const off = averages[i]! - centers[i]!;
    const z = (share * off) / (off < 0 ? scalesBelow : scales)[i]!;
    const square = z * z;
    const fourth = square * square;
    const power = order === 8 ? fourth * fourth : fourth;
    powers[i] = power >= 0 ? power : 0;
    sum += powers[i]!;
  }
  // Square roots are exact to the last bit on every machine; a general power is not.
  const root = Math.sqrt(Math.sqrt(sum / averages.length));
  return order === 8 ? Math.sqrt(root) : root;
}
