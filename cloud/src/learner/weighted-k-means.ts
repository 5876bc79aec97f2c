import type { SeededRandom } from '../trainer/seeded-random.ts';

/** It has settled long before, as a rule in ten. */
const ROUNDS_MAX = 100;

/** Points of one width, row-major, each with a weight. */
export interface WeightedPoints {
  values: Float64Array;
  weights: Float64Array;
  width: number;
}

/** Squared distance of two points that stand somewhere in arrays. */
export function squaredDistance(
  a: ArrayLike<number>,
  aAt: number,
  b: ArrayLike<number>,
  bAt: number,
  width: number,
): number {
  let sum = 0;
  for (let i = 0; i < width; i++) {
    const off = a[aAt + i]! - b[bAt + i]!;
    sum += off * off;
  }
  return sum;
}

/** Which center is nearest to a point; of equally near ones the first. */
export function nearest(
  values: ArrayLike<number>,
  at: number,
  centers: Float64Array,
  width: number,
): { center: number; squared: number } {
  let [center, squared] = [0, Number.POSITIVE_INFINITY];
  for (let c = 0, from = 0; from < centers.length; c++, from += width) {
    const distance = squaredDistance(values, at, centers, from, width);
    if (distance < squared) [center, squared] = [c, distance];
  }
  return { center, squared };
}

/**
 * First centers: the next one is drawn with a chance that grows with the squared distance from those that are there.
 * Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; of several draws the one that
 * leaves least, as they advise. There must be a point.
 */
export function seedCenters(
  { values, weights, width }: WeightedPoints,
  clusters: number,
  random: SeededRandom,
): Float64Array {
  const count = weights.length;
  const centers = new Float64Array(clusters * width);
  let left = new Float64Array(count).fill(1);
  const draws = 2 + Math.floor(Math.log(clusters));
  for (let c = 0; c < clusters; c++) {
    let [best, bestSum, bestLeft] = [0, Number.POSITIVE_INFINITY, left];
    for (let draw = 0; draw < (c === 0 ? 1 : draws); draw++) {
      const point = drawPoint(left, weights, random);
      const distances = new Float64Array(count);
      let sum = 0;
      for (let i = 0; i < count; i++) {
        const distance = squaredDistance(values, i * width, values, point * width, width);
        distances[i] = c === 0 ? distance : Math.min(left[i]!, distance);
        sum += distances[i]! * weights[i]!;
      }
      if (sum < bestSum) [best, bestSum, bestLeft] = [point, sum, distances];
    }
    centers.set(values.subarray(best * width, (best + 1) * width), c * width);
    left = bestLeft;
  }
  return centers;
}

function drawPoint(chances: Float64Array, weights: Float64Array, random: SeededRandom): number {
  let total = 0;
  for (let i = 0; i < chances.length; i++) total += chances[i]! * weights[i]!;
  let rest = random.uniform() * total;
  for (let i = 0; i < chances.length; i++) {
    rest -= chances[i]! * weights[i]!;
    if (rest < 0) return i;
  }
  return chances.length - 1;
}

/**
 * Moves centers to the weighted means of what is nearest to them, until nothing changes: Lloyd, "Least squares
 * quantization in PCM", IEEE Transactions on Information Theory 28, 1982. A center without points stays. The centers
 * are changed in place; the answer is which one each point belongs to.
 */
export function settleCenters(
  { values, weights, width }: WeightedPoints,
  centers: Float64Array,
): { assigned: Int32Array; weights: Float64Array } {
  const count = weights.length;
  const assigned = new Int32Array(count).fill(-1);
  const clusters = centers.length / width;
  let sums = new Float64Array(clusters);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    let changed = false;
    for (let i = 0; i < count; i++) {
      const { center } = nearest(values, i * width, centers, width);
      changed ||= assigned[i] !== center;
      assigned[i] = center;
    }
    if (!changed) break;
    sums = new Float64Array(clusters);
    const means = new Float64Array(centers.length);
    for (let i = 0; i < count; i++) {
      const [c, weight] = [assigned[i]!, weights[i]!];
      sums[c]! += weight;
      for (let j = 0; j < width; j++) means[c * width + j]! += weight * values[i * width + j]!;
    }
    for (let c = 0; c < clusters; c++)
      if (sums[c]! > 0)
        for (let j = 0; j < width; j++) centers[c * width + j] = means[c * width + j]! / sums[c]!;
  }
  return { assigned, weights: sums };
}
