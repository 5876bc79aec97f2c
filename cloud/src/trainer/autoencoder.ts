import { CardanError, type DenseLayer } from '@cardan/shared';
import { Corruption } from './corruption.ts';
import { DenseTraining } from './dense-training.ts';
import { SeededRandom } from './seeded-random.ts';
import type { Turns } from './turns.ts';

export interface AutoencoderOptions {
  /** Units of the hidden layers, tanh each; the output is linear. */
  hidden: readonly number[];
  batchRows: number;
  /** Chance that a signal is hidden in a row, and the noise on the others (standard deviations). */
  maskChance: number;
  noise: number;
  seed: number;
}

/** Rows between two looks at the clock. */
const VALIDATION_ROWS = 1000;

/**
 * A denoising autoencoder in training (Vincent et al., "Extracting and composing robust features with denoising
 * autoencoders", ICML 2008): it is shown rows with some signals hidden and noise on the others, and learns to
 * give back the clean ones. So it learns what a signal must be, given the others, instead of copying it.
 */
export class AutoencoderTraining {
  private readonly rows: Float32Array;
  private readonly groups: readonly number[];
  private readonly options: AutoencoderOptions;
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
  constructor(rows: Float32Array, groups: readonly number[], options: AutoencoderOptions) {
    this.rows = rows;
    this.groups = groups;
    this.options = options;
    this.random = new SeededRandom(options.seed);
    this.training = new DenseTraining(
      initialLayers([groups.length, ...options.hidden, groups.length], this.random),
    );
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

  /** Mean squared error on rows as they are. Throws TRAINING_DIVERGED. */
  async validationLoss(rows: Float32Array, learningRate: number, turns: Turns): Promise<number> {
    const width = this.groups.length;
    let sum = 0;
    for (let at = 0; at < rows.length; at += VALIDATION_ROWS * width) {
      const block = rows.subarray(at, at + VALIDATION_ROWS * width);
      sum += block.length * this.training.loss(block, block, block.length / width);
      if (turns.due) await turns.give();
    }
    return checkLoss(sum / rows.length, learningRate);
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

/** Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010). */
export function initialLayers(sizes: readonly number[], random: SeededRandom): DenseLayer[] {
  return sizes.slice(1).map((units, i) => {
    const inputs = sizes[i]!;
    const limit = Math.sqrt(6 / (inputs + units));
    return {
      name: `dense_${i + 1}`,
      inputs,
      units,
      activation: i === sizes.length - 2 ? 'linear' : 'tanh',
      kernel: Float32Array.from({ length: inputs * units }, () => limit * (2 * random.uniform() - 1)),
      bias: new Float32Array(units),
    };
  });
}
