import { CardanError, type DenseLayer } from '@cardan/shared';
import { Corruption } from './corruption.ts';
import { DenseTraining } from './dense-training.ts';
import { leaveOneOut } from './leave-one-out.ts';
import { SeededRandom } from './seeded-random.ts';
import type { Turns } from './turns.ts';

export interface LeaveOneOutOptions {
  /** Hidden units per output; 1: a linear network. */
  units: number;
  batchRows: number;
  /** Chance that a signal is hidden in a row, and the noise on the others (standard deviations). */
  maskChance: number;
  noise: number;
  seed: number;
}

/** Rows between two looks at the clock. */
const VALIDATION_ROWS = 1000;
/** Nothing is predicted better than that, in standard deviations. */
const ERROR_MIN = 1e-3;

/**
 * A leave-one-out network in training: it learns what a signal must be, given the others. It is shown rows with noise on
 * them and learns to give back the clean ones, so that it leans on many signals a little and on none alone (Vincent et al.,
 * "Extracting and composing robust features with denoising autoencoders", ICML 2008).
 */
export class LeaveOneOutTraining {
  private readonly rows: Float32Array;
  private readonly groups: readonly number[];
  private readonly options: LeaveOneOutOptions;
  private readonly random: SeededRandom;
  private readonly training: DenseTraining;
  private readonly order: Uint32Array;
  private readonly inputs: Float32Array;
  private readonly targets: Float32Array;
  private readonly corruption: Corruption;

  /**
   * `rows` is row-major with a column per entry of `groups`, which names the signal of the column: signals are
   * hidden as a whole.
   */
  constructor(rows: Float32Array, groups: readonly number[], options: LeaveOneOutOptions) {
    this.rows = rows;
    this.groups = groups;
    this.options = options;
    this.random = new SeededRandom(options.seed);
    const { layers, trained } = leaveOneOut(rows, groups, options.units, this.random);
    this.training = new DenseTraining(layers, {}, trained);
    this.order = Uint32Array.from({ length: rows.length / groups.length }, (_, i) => i);
    this.inputs = new Float32Array(options.batchRows * groups.length);
    this.targets = new Float32Array(options.batchRows * groups.length);
    this.corruption = new Corruption(groups, options);
  }

  /** Shows all rows once, in a new order. Resolves to their mean loss. Throws TRAINING_DIVERGED. */
  async epoch(learningRate: number, turns: Turns): Promise<number> {
    const { order, rows, inputs, targets, training, corruption, random } = this;
    const { batchRows } = this.options;
    const width = this.groups.length;
    training.learningRate = learningRate;
    random.shuffle(order);
    let sum = 0;
    for (let from = 0; from < order.length; from += batchRows) {
      const size = Math.min(batchRows, order.length - from);
      for (let r = 0; r < size; r++) {
        const at = order[from + r]! * width;
        for (let i = 0; i < width; i++) targets[r * width + i] = rows[at + i]!;
      }
      corruption.apply(targets, inputs, size, random);
      sum += size * training.step(inputs, targets, size);
      if (turns.due) await turns.give();
    }
    return checkLoss(sum / order.length, learningRate);
  }

  /** Mean squared error on the rows of the training as they are. Throws TRAINING_DIVERGED. */
  loss(learningRate: number): number {
    return checkLoss(this.training.loss(this.rows, this.rows, this.order.length), learningRate);
  }

  /**
   * How far off the network is on rows that it has not seen: the geometric mean over the columns of their mean absolute
   * errors. So a column that is predicted well counts as much as one that hardly can be, and a few rows of a kind
   * that it does not know do not decide. Throws TRAINING_DIVERGED.
   */
  async validationError(rows: Float32Array, learningRate: number, turns: Turns): Promise<number> {
    const width = this.groups.length;
    const sums = new Float64Array(width);
    for (let at = 0; at < rows.length; at += VALIDATION_ROWS * width) {
      const block = rows.subarray(at, at + VALIDATION_ROWS * width);
      this.training.addErrors(block, block, block.length / width, sums);
      if (turns.due) await turns.give();
    }
    let logs = 0;
    for (const sum of sums) logs += Math.log(ERROR_MIN + sum / (rows.length / width));
    return checkLoss(Math.exp(logs / width), learningRate);
  }

  layers(): DenseLayer[] {
    return this.training.snapshot();
  }
}

/** Throws TRAINING_DIVERGED for a loss that is no number. */
export function checkLoss(loss: number, learningRate: number): number {
  if (Number.isFinite(loss)) return loss;
  throw new CardanError(
    'TRAINING_DIVERGED',
    `The loss became ${loss}. Train again with a smaller learning rate than ${learningRate}.`,
  );
}
