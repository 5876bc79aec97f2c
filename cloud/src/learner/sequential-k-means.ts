import { SeededRandom } from '../trainer/seeded-random.ts';
import { checkRow, checkSameOptions, checkWhole, type OnlineLearner } from './online-learner.ts';
import { seedCenters, settleCenters, type WeightedPoints } from './weighted-k-means.ts';

export interface SequentialKMeansOptions {
  /** Values of a row. */
  width: number;
  clusters: number;
  /** Rows of its own after which half of what a center has learned is forgotten; null: nothing ever is. */
  halfLife: number | null;
  /** Rows that the first centers are chosen from. */
  seedRows: number;
  seed: number;
}

/** Plain JSON. */
export interface SequentialKMeansState {
  options: SequentialKMeansOptions;
  /** Rows that wait for the first centers, one after the other; empty once there are centers. */
  waiting: number[];
  /** Empty while rows wait. */
  centers: number[];
  weights: number[];
}

const WAITING_VALUES_MAX = 4_000_000;

/**
 * Clusters of a stream: the nearest center moves towards each row, by one part in as many as it has had. MacQueen,
 * "Some methods for classification and analysis of multivariate observations", Berkeley Symposium 1967. With a
 * half-life old rows count less, so a center follows a slow change. A center forgets by its own rows: a driving state
 * that is rare stays what it was, and does not jump to the first row that comes after a long time.
 *
 * The first centers come from the first rows, by k-means++ under the seed. A value that is NaN has no part in the
 * distance and does not move the center; in the first rows it counts as 0, the middle of standardised values.
 */
export class SequentialKMeans implements OnlineLearner<SequentialKMeansState> {
  readonly options: SequentialKMeansOptions;
  readonly width: number;
  private readonly decay: number;
  private waiting: number[] = [];
  private centers: Float64Array = new Float64Array(0);
  /** Rows that each center stands for, older ones counted less. */
  private weights: Float64Array = new Float64Array(0);

  /** Throws RangeError. */
  constructor(options: SequentialKMeansOptions) {
    const { width, clusters, halfLife, seedRows } = options;
    checkWhole({ width, clusters, seedRows });
    if (halfLife !== null && !(halfLife > 0)) throw new RangeError(`halfLife is ${halfLife}; it is above 0.`);
    if (seedRows < clusters) throw new RangeError(`${seedRows} rows do not make ${clusters} centers.`);
    if (seedRows * width > WAITING_VALUES_MAX)
      throw new RangeError(`seedRows is ${seedRows}; at this width ${WAITING_VALUES_MAX / width} fit.`);
    this.options = options;
    this.width = width;
    this.decay = halfLife === null ? 1 : 2 ** (-1 / halfLife);
  }

  /** Goes on from a state, or begins at given centers. Throws RangeError when it is not one. */
  static from({ options, waiting, centers, weights }: SequentialKMeansState): SequentialKMeans {
    const learner = new SequentialKMeans(options);
    const { width, clusters, seedRows } = options;
    const sound =
      centers.length === 0
        ? weights.length === 0 && waiting.length % width === 0 && waiting.length < seedRows * width
        : waiting.length === 0 && centers.length === clusters * width && weights.length === clusters;
    if (!sound) throw new RangeError('This is not the state of a sequential k-means with these options.');
    learner.waiting = [...waiting];
    learner.centers = Float64Array.from(centers);
    learner.weights = Float64Array.from(weights);
    return learner;
  }

  /** Whether there are centers already. */
  get seeded(): boolean {
    return this.centers.length > 0;
  }

  learn(values: Float64Array, at = 0): number {
    checkRow(values, at, this.width);
    if (!this.seeded) {
      this.wait(values, at);
      return -1;
    }
    const { width, centers } = this;
    const c = this.nearest(values, at);
    const weight = (this.weights[c] = this.weights[c]! * this.decay + 1);
    const rate = 1 / weight;
    for (let i = 0, k = c * width; i < width; i++, k++) {
      const off = values[at + i]! - centers[k]!;
      if (off === off) centers[k]! += rate * off;
    }
    return c;
  }

  /** The cluster of a row, without learning; −1 while there are none. */
  assign(values: Float64Array, at = 0): number {
    checkRow(values, at, this.width);
    return this.seeded ? this.nearest(values, at) : -1;
  }

  /** Centers one after the other, and what they stand for. */
  get clusters(): { centers: Float64Array; weights: Float64Array } {
    return { centers: this.centers.slice(), weights: this.weights.slice() };
  }

  /**
   * The centers of both, weighted, are clustered again, beginning at these (as the summaries of Guha et al.,
   * "Clustering data streams: theory and practice", TKDE 2003). Kept are the sum of the weights and the weighted mean
   * of all rows; where both have found the same clusters, each becomes the weighted mean of the two. What is lost is
   * which rows stood on the border of two clusters.
   */
  merge(other: this): void {
    checkSameOptions(this.options, other.options);
    if (!other.seeded || !this.seeded) {
      const [rows, into] = other.seeded ? [this.waiting, other] : [other.waiting, this];
      const values = Float64Array.from(rows);
      if (other.seeded) {
        this.waiting = [];
        this.centers = into.centers.slice();
        this.weights = into.weights.slice();
      }
      for (let at = 0; at < values.length; at += this.width) this.learn(values, at);
      return;
    }
    const points: WeightedPoints = {
      values: Float64Array.of(...this.centers, ...other.centers),
      weights: Float64Array.of(...this.weights, ...other.weights),
      width: this.width,
    };
    this.weights = settleCenters(points, this.centers).weights;
  }

  state(): SequentialKMeansState {
    const { options, waiting, centers, weights } = this;
    return { options, waiting: [...waiting], centers: [...centers], weights: [...weights] };
  }

  private nearest(values: Float64Array, at: number): number {
    const { width, centers } = this;
    let [best, least] = [0, Number.POSITIVE_INFINITY];
    for (let c = 0, k = 0; k < centers.length; c++) {
      let sum = 0;
      for (let i = at; i < at + width; i++, k++) {
        const off = values[i]! - centers[k]!;
        sum += off * off;
      }
      if (sum !== sum) sum = this.distanceOfSeen(values, at, c);
      if (sum < least) [best, least] = [c, sum];
    }
    return best;
  }

  private distanceOfSeen(values: Float64Array, at: number, c: number): number {
    let sum = 0;
    for (let i = 0; i < this.width; i++) {
      const off = values[at + i]! - this.centers[c * this.width + i]!;
      if (off === off) sum += off * off;
    }
    return sum;
  }

  private wait(values: Float64Array, at: number): void {
    const { width } = this;
    const { clusters, seedRows, seed } = this.options;
    for (let i = at; i < at + width; i++) this.waiting.push(Number.isFinite(values[i]) ? values[i]! : 0);
    if (this.waiting.length < seedRows * width) return;
    const rows = Float64Array.from(this.waiting);
    const points = { values: rows, weights: new Float64Array(seedRows).fill(1), width };
    this.centers = seedCenters(points, clusters, new SeededRandom(seed));
    this.weights = settleCenters(points, this.centers).weights;
    this.waiting = [];
  }
}
