import { checkRow, checkSameOptions, checkWhole, type OnlineLearner } from './online-learner.ts';
import { squaredDistance } from './weighted-k-means.ts';

export interface DenStreamOptions {
  /** Values of a row. */
  width: number;
  /** Largest radius of a micro-cluster, in the unit of the values: root of the mean squared distance from its center. */
  epsilon: number;
  /** Weight (rows, older ones counted less) from which a micro-cluster is the core of a cluster. */
  mu: number;
  /** Part of `mu` that makes a micro-cluster a potential one; beta × mu is above 1. */
  beta: number;
  /** Rows after which a row counts half. */
  halfLife: number;
  /**
   * How many epsilon the centers of one cluster are apart at most. 2 in the paper, which suits many columns; along a
   * thin line micro-clusters stand up to 2 √3 apart, as the root of the mean square is less than half their length.
   */
  reach: number;
  /** When there are more, the outlier with the least weight goes; bounds time and memory per row. */
  microClustersMax: number;
}

export const DEN_STREAM_DEFAULTS = {
  mu: 10,
  beta: 0.3,
  halfLife: 1000,
  reach: 2,
  microClustersMax: 500,
} as const;

export interface MicroCluster {
  center: number[];
  /** At row `updated`, as the spread. */
  weight: number;
  /** Sum of the squared distances from the center, faded like the weight. */
  spread: number;
  updated: number;
  created: number;
}

/** Plain JSON. */
export interface DenStreamState {
  options: DenStreamOptions;
  /** Rows until now. */
  rows: number;
  potential: MicroCluster[];
  outliers: MicroCluster[];
  /** Outliers that had to go before their time. */
  dropped: number;
}

/**
 * Clusters of any shape by density, and which rows are outliers, in a stream that changes: micro-clusters of rows near
 * each other, whose weight fades. A row joins the nearest potential one, else the nearest outlier, if that stays within
 * `epsilon`; else it begins an outlier, which becomes a potential one when it has gained enough weight.
 *
 * Cao, Ester, Qian and Zhou, "Density-based clustering over an evolving data stream with noise", SIAM Data Mining 2006.
 * Time is counted in rows. In place of the paper's sums of values and squares there are center and spread, which keep
 * all digits also far away from the origin. The start is the same as all else: there is no first clustering of a buffer.
 */
export class DenStream implements OnlineLearner<DenStreamState> {
  readonly options: DenStreamOptions;
  readonly width: number;
  /** Squared distance of centers of one cluster. */
  private readonly reach: number;
  /** Rows from one look for what has faded to the next. */
  private readonly period: number;
  private rows = 0;
  private dropped = 0;
  private potential: MicroCluster[] = [];
  private outliers: MicroCluster[] = [];

  /** Throws RangeError. */
  constructor(options: Partial<DenStreamOptions> & Pick<DenStreamOptions, 'width' | 'epsilon'>) {
    this.options = { ...DEN_STREAM_DEFAULTS, ...options };
    const { width, epsilon, mu, beta, halfLife, reach, microClustersMax } = this.options;
    checkWhole({ width, microClustersMax });
    if (!(epsilon > 0) || !(halfLife > 0) || !(reach > 0))
      throw new RangeError('epsilon, halfLife and reach are above 0.');
    if (!(beta > 0 && beta <= 1 && beta * mu > 1))
      throw new RangeError(`beta is ${beta} and mu ${mu}; beta is at most 1 and their product above 1.`);
    this.width = width;
    this.reach = (reach * epsilon) ** 2;
    // The time in which a potential micro-cluster of the least weight fades by one row.
    this.period = Math.ceil(halfLife * Math.log2((beta * mu) / (beta * mu - 1)));
  }

  /** Goes on from a state. Throws RangeError when it is not one. */
  static from({ options, rows, potential, outliers, dropped }: DenStreamState): DenStream {
    const learner = new DenStream(options);
    if ([...potential, ...outliers].some(({ center }) => center.length !== options.width))
      throw new RangeError('This is not the state of a DenStream with these options.');
    learner.rows = rows;
    learner.dropped = dropped;
    learner.potential = potential.map(copy);
    learner.outliers = outliers.map(copy);
    return learner;
  }

  /** A row with a value that is not finite counts as an outlier and is not learned. */
  learn(values: Float64Array, at = 0): number {
    checkRow(values, at, this.width);
    for (let i = at; i < at + this.width; i++) if (!Number.isFinite(values[i])) return 1;
    this.rows++;
    const outlier = this.join(values, at);
    if (this.rows % this.period === 0) this.prune();
    return outlier;
  }

  /**
   * The clusters: potential micro-clusters with weight of `mu` or more are cores, cores whose centers are within
   * `reach` epsilon of each other are of one cluster, and what is as near to a core belongs to it (the paper's
   * definitions 3.5 to 3.7). One label per potential micro-cluster; −1 for none.
   */
  clusters(): { microClusters: MicroCluster[]; labels: Int32Array } {
    const { mu } = this.options;
    const microClusters = this.potential.map((cluster) => this.faded(copy(cluster)));
    const labels = new Int32Array(microClusters.length).fill(-1);
    const near = (a: number, b: number) =>
      squaredDistance(microClusters[a]!.center, 0, microClusters[b]!.center, 0, this.width) <= this.reach;
    let label = 0;
    for (const [first, { weight }] of microClusters.entries()) {
      if (weight < mu || labels[first] !== -1) continue;
      labels[first] = label;
      const cores = [first];
      for (let core = cores.pop(); core !== undefined; core = cores.pop())
        for (const [other, { weight: others }] of microClusters.entries()) {
          if (labels[other] !== -1 || !near(core, other)) continue;
          labels[other] = label;
          if (others >= mu) cores.push(other);
        }
      label++;
    }
    return { microClusters, labels };
  }

  /** The cluster of a row: that of the nearest potential micro-cluster, when it is within `reach` epsilon; else −1. */
  assign(values: Float64Array, at = 0): number {
    checkRow(values, at, this.width);
    const { index, squared } = nearestOf(this.potential, values, at, this.width);
    return squared <= this.reach ? this.clusters().labels[index]! : -1;
  }

  /**
   * Micro-clusters join where that stays within `epsilon`, else they stand beside each other. Kept are the sum of the
   * weights, the mean and the spread of all rows, unless there are too many; ages are kept, time goes on as here.
   */
  merge(other: this): void {
    checkSameOptions(this.options, other.options);
    const { epsilon, beta, mu } = this.options;
    for (const theirs of [...other.potential, ...other.outliers]) {
      const cluster = other.faded(copy(theirs));
      cluster.created += this.rows - other.rows;
      cluster.updated = this.rows;
      const joined = [this.potential, this.outliers].some((list) => {
        const { index } = nearestOf(list, cluster.center, 0, this.width);
        const mine = list[index];
        if (mine === undefined) return false;
        const sum = add(this.faded(copy(mine)), cluster);
        if (sum.spread > epsilon * epsilon * sum.weight) return false;
        list[index] = sum;
        return true;
      });
      if (!joined) this.outliers.push(cluster);
    }
    for (const cluster of [...this.outliers])
      if (this.faded(cluster).weight > beta * mu) {
        this.outliers.splice(this.outliers.indexOf(cluster), 1);
        this.potential.push(cluster);
      }
    this.dropped += other.dropped;
    this.bound();
  }

  state(): DenStreamState {
    const { options, rows, dropped } = this;
    return {
      options,
      rows,
      potential: this.potential.map(copy),
      outliers: this.outliers.map(copy),
      dropped,
    };
  }

  private join(values: Float64Array, at: number): number {
    const { beta, mu } = this.options;
    const core = nearestOf(this.potential, values, at, this.width);
    if (core.index >= 0 && this.insert(this.potential[core.index]!, values, at, core.squared)) return 0;
    const outlier = nearestOf(this.outliers, values, at, this.width);
    const cluster = this.outliers[outlier.index];
    if (cluster === undefined || !this.insert(cluster, values, at, outlier.squared)) {
      const center = [...values.subarray(at, at + this.width)];
      this.outliers.push({ center, weight: 1, spread: 0, updated: this.rows, created: this.rows });
      this.bound();
      return 1;
    }
    if (cluster.weight <= beta * mu) return 1;
    this.outliers.splice(outlier.index, 1);
    this.potential.push(cluster);
    return 0;
  }

  /** Takes the row in, unless the radius would be too large then. */
  private insert(cluster: MicroCluster, values: Float64Array, at: number, squared: number): boolean {
    const { epsilon, halfLife } = this.options;
    const left = 2 ** ((cluster.updated - this.rows) / halfLife);
    const weight = cluster.weight * left + 1;
    const spread = cluster.spread * left + (squared * (weight - 1)) / weight;
    if (spread > epsilon * epsilon * weight) return false;
    cluster.weight = weight;
    cluster.spread = spread;
    cluster.updated = this.rows;
    for (let i = 0; i < this.width; i++)
      cluster.center[i]! += (values[at + i]! - cluster.center[i]!) / weight;
    return true;
  }

  private faded(cluster: MicroCluster): MicroCluster {
    const left = 2 ** ((cluster.updated - this.rows) / this.options.halfLife);
    cluster.weight *= left;
    cluster.spread *= left;
    cluster.updated = this.rows;
    return cluster;
  }

  /** What has faded goes: potential ones below beta × mu, outliers below what they would have if they were growing. */
  private prune(): void {
    const { beta, mu, halfLife } = this.options;
    const fade = (rows: number) => 2 ** (-rows / halfLife);
    this.potential = this.potential.filter(
      ({ weight, updated }) => weight * fade(this.rows - updated) >= beta * mu,
    );
    this.outliers = this.outliers.filter(({ weight, updated, created }) => {
      const least = (fade(this.rows - created + this.period) - 1) / (fade(this.period) - 1);
      return weight * fade(this.rows - updated) >= least;
    });
  }

  private bound(): void {
    while (this.potential.length + this.outliers.length > this.options.microClustersMax) {
      const list = this.outliers.length > 0 ? this.outliers : this.potential;
      const weights = list.map((cluster) => this.faded(copy(cluster)).weight);
      list.splice(weights.indexOf(Math.min(...weights)), 1);
      this.dropped++;
    }
  }
}

function nearestOf(
  list: readonly MicroCluster[],
  values: ArrayLike<number>,
  at: number,
  width: number,
): { index: number; squared: number } {
  let [index, squared] = [-1, Number.POSITIVE_INFINITY];
  for (let i = 0; i < list.length; i++) {
    const distance = squaredDistance(values, at, list[i]!.center, 0, width);
    if (distance < squared) [index, squared] = [i, distance];
  }
  return { index, squared };
}

/** Chan, Golub and LeVeque's sum of two sets. Both faded to the same row. */
function add(a: MicroCluster, b: MicroCluster): MicroCluster {
  const weight = a.weight + b.weight;
  const squared = squaredDistance(a.center, 0, b.center, 0, a.center.length);
  return {
    center: a.center.map((value, i) => value + ((b.center[i]! - value) * b.weight) / weight),
    weight,
    spread: a.spread + b.spread + (squared * a.weight * b.weight) / weight,
    updated: a.updated,
    created: Math.min(a.created, b.created),
  };
}

function copy(cluster: MicroCluster): MicroCluster {
  return { ...cluster, center: [...cluster.center] };
}
