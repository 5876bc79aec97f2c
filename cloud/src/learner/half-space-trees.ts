import { SeededRandom } from '../trainer/seeded-random.ts';
import { checkRow, checkSameOptions, checkWhole, type OnlineLearner } from './online-learner.ts';

export interface HalfSpaceTreesOptions {
  /** Values of a row. */
  width: number;
  trees: number;
  /** Splits from the root to a leaf. */
  height: number;
  /** Rows after which what was learned becomes the reference for the scores. */
  windowRows: number;
  /** Where the values of all columns mostly lie; beyond is an anomaly by itself. */
  low: number;
  high: number;
  seed: number;
}

/** Trees and rows of the paper; the range of standardised values. */
export const HALF_SPACE_TREES_DEFAULTS = {
  trees: 25,
  height: 8,
  windowRows: 250,
  low: -4,
  high: 4,
  seed: 1,
} as const;

/** The splits of all trees: the root of each at 1, below node i are 2 i (smaller values) and 2 i + 1. */
export interface HalfSpaceSplits {
  columns: number[];
  thresholds: number[];
}

/** Plain JSON. */
export interface HalfSpaceTreesState {
  options: HalfSpaceTreesOptions;
  /** Rows that the reference was made of, 0 before there is one. */
  referenceRows: number;
  /** Mass per node, tree by tree. */
  reference: number[];
  /** Rows per leaf since. */
  leaves: number[];
  rows: number;
  /** Only where they were given and not drawn under the seed. */
  splits?: HalfSpaceSplits;
}

const HEIGHT_MAX = 15;
/** Of the rows of the reference: in a node with fewer the walk ends (the paper's size limit). */
const SIZE_LIMIT = 0.1;

/**
 * Anomaly scores of a stream, from 0 to 1, without distances: random trees halve the space, and a row is an anomaly
 * where few rows of the last window were. A cheap baseline: it looks at ranges, and is blind where each signal is in
 * its range but they do not go together.
 *
 * Tan, Ting and Liu, "Fast anomaly detection for streaming data", IJCAI 2011. Rows are counted in the leaves only; the
 * masses above are added up once per window. A value that is NaN goes where more of the reference is.
 */
export class HalfSpaceTrees implements OnlineLearner<HalfSpaceTreesState> {
  readonly options: HalfSpaceTreesOptions;
  readonly width: number;
  /** Nodes of a tree, and leaves; place 0 of each tree is not used. */
  private readonly nodes: number;
  private readonly leafCount: number;
  private readonly columns: Int32Array;
  private readonly thresholds: Float64Array;
  private readonly given: boolean;
  private readonly reference: Float64Array;
  private readonly leaves: Float64Array;
  private referenceRows = 0;
  private rows = 0;

  /** Throws RangeError. */
  constructor(
    options: Partial<HalfSpaceTreesOptions> & Pick<HalfSpaceTreesOptions, 'width'>,
    splits?: HalfSpaceSplits,
  ) {
    this.options = { ...HALF_SPACE_TREES_DEFAULTS, ...options };
    const { width, trees, height, windowRows, low, high } = this.options;
    checkWhole({ width, trees, height, windowRows });
    if (height > HEIGHT_MAX) throw new RangeError(`height is ${height}; it is at most ${HEIGHT_MAX}.`);
    if (!(low < high)) throw new RangeError(`The range from ${low} to ${high} is empty.`);
    this.width = width;
    this.leafCount = 2 ** height;
    this.nodes = 2 * this.leafCount;
    this.given = splits !== undefined;
    const made = splits ?? drawSplits(this.options);
    const sound =
      made.columns.length === trees * this.leafCount &&
      made.thresholds.length === made.columns.length &&
      made.columns.every((column) => Number.isInteger(column) && column >= 0 && column < width);
    if (!sound) throw new RangeError('These splits are not of such trees.');
    this.columns = Int32Array.from(made.columns);
    this.thresholds = Float64Array.from(made.thresholds);
    this.reference = new Float64Array(trees * this.nodes);
    this.leaves = new Float64Array(trees * this.leafCount);
  }

  /** Goes on from a state. Throws RangeError when it is not one. */
  static from({
    options,
    splits,
    reference,
    leaves,
    rows,
    referenceRows,
  }: HalfSpaceTreesState): HalfSpaceTrees {
    const learner = new HalfSpaceTrees(options, splits);
    if (reference.length !== learner.reference.length || leaves.length !== learner.leaves.length)
      throw new RangeError('This is not the state of half-space trees with these options.');
    learner.reference.set(reference);
    learner.leaves.set(leaves);
    learner.rows = rows;
    learner.referenceRows = referenceRows;
    return learner;
  }

  learn(values: Float64Array, at = 0): number {
    const score = this.walk(values, at, 1);
    if (++this.rows >= this.options.windowRows) this.turn();
    return score;
  }

  /** Without learning. 0 while there is no reference. */
  score(values: Float64Array, at = 0): number {
    return this.walk(values, at, 0);
  }

  /**
   * Masses and rows add up: the scores are those of trees which have seen both references as one. Windows that are not
   * full add up as well, and the next turn comes with the next row when they are full together.
   */
  merge(other: this): void {
    checkSameOptions(this.options, other.options);
    const same =
      this.columns.every((column, i) => column === other.columns[i]) &&
      this.thresholds.every((threshold, i) => threshold === other.thresholds[i]);
    if (!same) throw new RangeError('Only half-space trees with the same splits merge.');
    for (let i = 0; i < this.reference.length; i++) this.reference[i]! += other.reference[i]!;
    for (let i = 0; i < this.leaves.length; i++) this.leaves[i]! += other.leaves[i]!;
    this.referenceRows += other.referenceRows;
    this.rows += other.rows;
  }

  state(): HalfSpaceTreesState {
    const { options, referenceRows, reference, leaves, rows, columns, thresholds } = this;
    const splits = { columns: [...columns], thresholds: [...thresholds] };
    return {
      options,
      referenceRows,
      reference: [...reference],
      leaves: [...leaves],
      rows,
      ...(this.given ? { splits } : {}),
    };
  }

  private walk(values: Float64Array, at: number, mass: number): number {
    checkRow(values, at, this.width);
    const { columns, thresholds, reference, leaves, nodes, leafCount, referenceRows } = this;
    const { trees } = this.options;
    const limit = SIZE_LIMIT * referenceRows;
    let sum = 0;
    for (let tree = 0; tree < trees; tree++) {
      const splits = tree * leafCount;
      const masses = tree * nodes;
      let [node, factor, walking] = [1, 1, true];
      while (node < leafCount) {
        if (walking) {
          const here = reference[masses + node]!;
          sum += here * factor;
          walking = here >= limit;
          factor *= 2;
        }
        const value = values[at + columns[splits + node]!]!;
        if (value < thresholds[splits + node]!) node = 2 * node;
        else if (value === value) node = 2 * node + 1;
        else node = 2 * node + (reference[masses + 2 * node + 1]! > reference[masses + 2 * node]! ? 1 : 0);
      }
      if (walking) sum += reference[masses + node]! * factor;
      leaves[splits + node - leafCount]! += mass;
    }
    return referenceRows === 0 ? 0 : 1 - sum / (trees * referenceRows * (nodes - 1));
  }

  /** What was learned becomes the reference. */
  private turn(): void {
    const { reference, leaves, nodes, leafCount } = this;
    for (let tree = 0; tree < this.options.trees; tree++) {
      const masses = tree * nodes;
      reference.set(leaves.subarray(tree * leafCount, (tree + 1) * leafCount), masses + leafCount);
      for (let node = leafCount - 1; node > 0; node--)
        reference[masses + node] = reference[masses + 2 * node]! + reference[masses + 2 * node + 1]!;
    }
    leaves.fill(0);
    this.referenceRows = this.rows;
    this.rows = 0;
  }
}

/**
 * Each tree has its own range per column, around a random middle and wide enough to hold all of `low` to `high`; each
 * node halves what its parents left of a random column.
 */
function drawSplits({ width, trees, height, low, high, seed }: HalfSpaceTreesOptions): HalfSpaceSplits {
  const random = new SeededRandom(seed);
  const leafCount = 2 ** height;
  const columns = new Array<number>(trees * leafCount).fill(0);
  const thresholds = new Array<number>(trees * leafCount).fill(0);
  for (let tree = 0; tree < trees; tree++) {
    const begins: number[] = [];
    const ends: number[] = [];
    for (let column = 0; column < width; column++) {
      const middle = random.uniform();
      const reach = 2 * Math.max(middle, 1 - middle);
      begins.push(low + (middle - reach) * (high - low));
      ends.push(low + (middle + reach) * (high - low));
    }
    const split = (node: number) => {
      if (node >= leafCount) return;
      const column = Math.floor(random.uniform() * width);
      const [begin, end] = [begins[column]!, ends[column]!];
      const threshold = (begin + end) / 2;
      columns[tree * leafCount + node] = column;
      thresholds[tree * leafCount + node] = threshold;
      ends[column] = threshold;
      split(2 * node);
      ends[column] = end;
      begins[column] = threshold;
      split(2 * node + 1);
      begins[column] = begin;
    };
    split(1);
  }
  return { columns, thresholds };
}
