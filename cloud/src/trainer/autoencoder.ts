import { CardanError, type DenseLayer } from '@cardan/shared';
import { DenseTraining } from './dense-training.ts';
import { SeededRandom } from './seeded-random.ts';
import type { Turns } from './turns.ts';

export interface AutoencoderOptions {
  /** Units of the hidden layers, for example [24, 12, 24]; tanh each, the output is linear. */
  hidden: readonly number[];
  epochs: number;
  batchRows: number;
  /** Falls to a tenth over the epochs, as half a cosine. */
  learningRate: number;
  /** Epochs without a better validation loss after which training stops. */
  patience: number;
  /** Chance that an input group is hidden from the network in a row. */
  maskChance: number;
  /** Standard deviation of the noise on the inputs. */
  noise: number;
  seed: number;
  onEpoch?: ((progress: EpochProgress) => void | Promise<void>) | undefined;
  turns: Turns;
}

export interface EpochProgress {
  /** 1-based. */
  epoch: number;
  epochs: number;
  loss: number;
  validationLoss: number;
  rowsPerSecond: number;
}

export interface Autoencoder {
  layers: DenseLayer[];
  epochs: number;
  loss: number;
  validationLoss: number;
}

/**
 * Trains a denoising autoencoder (Vincent et al., "Extracting and composing robust features with denoising
 * autoencoders", ICML 2008): it sees rows with some signals hidden and noise on the others, and learns to
 * give back the clean ones. So it learns what each signal must be, given the others, instead of copying it.
 *
 * `rows` and `validation` are row-major with `width` columns; `groups[column]` is the signal of the column,
 * for signals are hidden as a whole. Of all epochs the one with the best validation loss is kept.
 *
 * Throws TRAINING_DIVERGED; the signal's reason when aborted.
 */
export async function trainAutoencoder(
  rows: Float32Array,
  validation: Float32Array,
  groups: readonly number[],
  options: AutoencoderOptions,
): Promise<Autoencoder> {
  const { epochs, batchRows, seed, turns } = options;
  const width = groups.length;
  const count = rows.length / width;
  const random = new SeededRandom(seed);
  const training = new DenseTraining(initialLayers([width, ...options.hidden, width], random));
  const corruption = new Corruption(groups, options, random);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const inputs = new Float32Array(batchRows * width);
  const targets = new Float32Array(batchRows * width);
  let best: Autoencoder | undefined;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const begun = performance.now();
    random.shuffle(order);
    training.learningRate =
      options.learningRate * (0.1 + 0.45 * (1 + Math.cos((Math.PI * (epoch - 1)) / Math.max(1, epochs - 1))));
    let sum = 0;
    for (let from = 0; from < count; from += batchRows) {
      const size = Math.min(batchRows, count - from);
      for (let r = 0; r < size; r++) {
        const at = order[from + r]! * width;
        for (let i = 0; i < width; i++) targets[r * width + i] = rows[at + i]!;
      }
      corruption.apply(targets, inputs, size);
      sum += size * training.step(inputs, targets, size);
      if (turns.due) await turns.give();
    }
    const loss = sum / count;
    const validationLoss = training.loss(validation, validation, validation.length / width);
    if (!Number.isFinite(loss) || !Number.isFinite(validationLoss))
      throw new CardanError(
        'TRAINING_DIVERGED',
        `The loss became ${loss} in epoch ${epoch}. Train again with a smaller learning rate than ${options.learningRate}.`,
      );
    if (best === undefined || validationLoss < best.validationLoss)
      best = { layers: training.snapshot(), epochs: epoch, loss, validationLoss };
    const rowsPerSecond = (count * 1000) / (performance.now() - begun);
    await options.onEpoch?.({ epoch, epochs, loss, validationLoss, rowsPerSecond });
    if (epoch - best.epochs >= options.patience) break;
  }
  return best!;
}

/** Glorot and Bengio's uniform initialisation ("Understanding the difficulty of training deep feedforward neural networks", 2010). */
function initialLayers(sizes: readonly number[], random: SeededRandom): DenseLayer[] {
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

class Corruption {
  private readonly groups: readonly number[];
  private readonly hidden: Uint8Array;
  private readonly maskChance: number;
  private readonly noise: number;
  private readonly random: SeededRandom;

  constructor(
    groups: readonly number[],
    { maskChance, noise }: Pick<AutoencoderOptions, 'maskChance' | 'noise'>,
    random: SeededRandom,
  ) {
    this.groups = groups;
    this.hidden = new Uint8Array(Math.max(...groups) + 1);
    this.maskChance = maskChance;
    this.noise = noise;
    this.random = random;
  }

  apply(clean: Float32Array, into: Float32Array, rows: number): void {
    const { groups, hidden, maskChance, noise, random } = this;
    const width = groups.length;
    for (let row = 0; row < rows; row++) {
      for (let g = 0; g < hidden.length; g++) hidden[g] = random.uniform() < maskChance ? 1 : 0;
      for (let i = 0, at = row * width; i < width; i++, at++)
        into[at] = hidden[groups[i]!] === 1 ? 0 : clean[at]! + noise * random.normal();
    }
  }
}
