import type { DenseLayer } from '@cardan/shared';
import type { SeededRandom } from './seeded-random.ts';

/** A tenth of the variance of a standardised signal counts as noise: with few rows large weights are an accident. */
const RIDGE = 0.1;
/** A unit that gets so small a part of its input is as good as linear within five standard deviations (0.2 %). */
const LINEAR_PART = 1 / 64;
/** Most weights of a network, with those that are zero: a car scores a row in a few microseconds. */
const WEIGHTS_MAX = 5000;
const UNITS_MAX = 6;

/** A network of dense layers in which no output sees its own signal. */
export interface LeaveOneOut {
  layers: DenseLayer[];
  /** Per layer what training may change: 1 per weight, in the layout of the kernel, then 1 per bias. */
  trained: Uint8Array[];
}

/** Hidden units per output that fit into a network of default size; 1 is a linear network without a hidden layer. */
export function unitsThatFit(width: number): number {
  const units = Math.floor((WEIGHTS_MAX - width) / (2 * width * width + width));
  return Math.max(1, Math.min(UNITS_MAX, units));
}

/**
 * A network that says what each signal should be, given the others: an autoencoder that cannot copy. Each output has hidden
 * units of its own, which see all signals but its own. The first of them holds the best linear prediction (ridge regression)
 * and stays; the others begin without effect and learn what it misses. So before any training the network is as good
 * as regression is.
 *
 * Regression-adjusted variables are from Hawkins, "Multivariate quality control based on regression-adjusted variables"
 * (Technometrics 1991).
 *
 * `rows` is row-major with a column per entry of `groups`, which names the signal of the column.
 */
export function leaveOneOut(
  rows: Float32Array,
  groups: readonly number[],
  units: number,
  random: SeededRandom,
): LeaveOneOut {
  const width = groups.length;
  const { weights, means, intercepts } = linearPredictions(rows, groups);
  if (units <= 1)
    return {
      layers: [
        {
          name: 'dense_1',
          inputs: width,
          units: width,
          activation: 'linear',
          kernel: Float32Array.from(weights),
          bias: Float32Array.from(intercepts),
        },
      ],
      trained: [new Uint8Array(width * width + width)],
    };

  const hidden = width * units;
  const inKernel = new Float32Array(width * hidden);
  const inBias = new Float32Array(hidden);
  const inTrained = new Uint8Array(width * hidden + hidden);
  const outKernel = new Float32Array(hidden * width);
  const outTrained = new Uint8Array(hidden * width + width).fill(0);
  outTrained.fill(1, hidden * width);
  // Glorot and Bengio, as for other networks.
  const limit = Math.sqrt(6 / (width + units));
  for (let output = 0; output < width; output++)
    for (let unit = 0; unit < units; unit++) {
      const at = output * units + unit;
      const linear = unit === 0;
      for (let input = 0; input < width; input++) {
        if (groups[input] === groups[output]) continue;
        inKernel[input * hidden + at] = linear
          ? LINEAR_PART * weights[input * width + output]!
          : limit * (2 * random.uniform() - 1);
        if (!linear) inTrained[input * hidden + at] = 1;
      }
      // Around the means, where tanh is most linear.
      if (linear) inBias[at] = LINEAR_PART * (intercepts[output]! - means[output]!);
      else inTrained[width * hidden + at] = 1;
      outKernel[at * width + output] = linear ? 1 / LINEAR_PART : 0;
      if (!linear) outTrained[at * width + output] = 1;
    }
  return {
    layers: [
      { name: 'dense_1', inputs: width, units: hidden, activation: 'tanh', kernel: inKernel, bias: inBias },
      {
        name: 'dense_2',
        inputs: hidden,
        units: width,
        activation: 'linear',
        kernel: outKernel,
        bias: Float32Array.from(means),
      },
    ],
    trained: [inTrained, outTrained],
  };
}

/**
 * Per column its ridge regression on the columns of other signals. `weights` is inputs × outputs.
 *
 * All regressions come from one inverse: with P the inverse covariance, G the columns of a signal and S the others, the
 * weights of G on S are −P_GG⁻¹ P_GS.
 */
function linearPredictions(
  rows: Float32Array,
  groups: readonly number[],
): { weights: Float64Array; means: Float64Array; intercepts: Float64Array } {
  const width = groups.length;
  const { means, covariance } = moments(rows, width);
  for (let i = 0; i < width; i++) covariance[i * width + i]! += RIDGE;
  const precision = inverse(covariance, width);
  const weights = new Float64Array(width * width);
  const intercepts = means.slice();
  for (const signal of new Set(groups)) {
    const own = groups.flatMap((group, column) => (group === signal ? [column] : []));
    const block = inverse(
      Float64Array.from(own.flatMap((a) => own.map((b) => precision[a * width + b]!))),
      own.length,
    );
    for (const [i, output] of own.entries())
      for (let input = 0; input < width; input++) {
        if (groups[input] === signal) continue;
        let weight = 0;
        for (const [j, other] of own.entries())
          weight -= block[i * own.length + j]! * precision[other * width + input]!;
        weights[input * width + output] = weight;
        intercepts[output]! -= weight * means[input]!;
      }
  }
  return { weights, means, intercepts };
}

function moments(rows: Float32Array, width: number): { means: Float64Array; covariance: Float64Array } {
  const count = rows.length / width;
  const means = new Float64Array(width);
  for (let at = 0; at < rows.length; at++) means[at % width]! += rows[at]! / count;
  const covariance = new Float64Array(width * width);
  const row = new Float64Array(width);
  for (let at = 0; at < rows.length; at += width) {
    for (let i = 0; i < width; i++) row[i] = rows[at + i]! - means[i]!;
    for (let i = 0; i < width; i++)
      for (let j = i; j < width; j++) covariance[i * width + j]! += (row[i]! * row[j]!) / count;
  }
  for (let i = 0; i < width; i++)
    for (let j = 0; j < i; j++) covariance[i * width + j] = covariance[j * width + i]!;
  return { means, covariance };
}

/** Of a symmetric positive definite matrix, by Gauss and Jordan; these need no pivots. */
function inverse(matrix: Float64Array, size: number): Float64Array {
  const left = matrix.slice();
  const right = new Float64Array(size * size);
  for (let i = 0; i < size; i++) right[i * size + i] = 1;
  for (let pivot = 0; pivot < size; pivot++) {
    const factor = 1 / left[pivot * size + pivot]!;
    for (let j = 0; j < size; j++) {
      left[pivot * size + j]! *= factor;
      right[pivot * size + j]! *= factor;
    }
    for (let i = 0; i < size; i++) {
      const times = left[i * size + pivot]!;
      if (i === pivot || times === 0) continue;
      for (let j = 0; j < size; j++) {
        left[i * size + j]! -= times * left[pivot * size + j]!;
        right[i * size + j]! -= times * right[pivot * size + j]!;
      }
    }
  }
  return right;
}
