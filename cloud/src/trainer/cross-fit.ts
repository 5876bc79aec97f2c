import type { DenseLayer } from '@cardan/shared';
import { LeaveOneOutTraining, type LeaveOneOutOptions } from './leave-one-out-training.ts';
import type { Turns } from './turns.ts';

export interface CrossFitOptions extends LeaveOneOutOptions {
  epochs: number;
  /** Falls to a tenth over the epochs, along half a cosine. */
  learningRate: number;
  /** Epochs without a better validation loss after which training stops. */
  patience: number;
  onEpoch?: ((progress: EpochProgress) => void | Promise<void>) | undefined;
}

export interface EpochProgress {
  /** 1-based. */
  epoch: number;
  /** At most. */
  epochs: number;
  /** Mean squared error of the model on all rows, with noise. */
  loss: number;
  /** `validationError` of the other models, each on the rows that it has not seen. */
  validationLoss: number;
  /** Training rows, of all models. */
  rowsPerSecond: number;
}

export interface CrossFit {
  /** Of the model on all parts. */
  layers: DenseLayer[];
  /** Per part, of the model that has not seen it. */
  withoutPart: DenseLayer[][];
  /** The best epoch, 0 where training made nothing better, and its losses. */
  epoch: number;
  loss: number;
  validationLoss: number;
}

/**
 * Trains one network on all parts, and beside it, in step, one per part without that part. The latter tell
 * when to stop and, later, what residuals of unseen rows look like; so no row is lost to the former, and every
 * row says something of the threshold. (Cross-fitting: Stone, "Cross-validatory choice and assessment of
 * statistical predictions", 1974.)
 *
 * `parts` are blocks of features, row-major with a column per entry of `groups`. Throws TRAINING_DIVERGED.
 */
export async function crossFit(
  parts: readonly Float32Array[],
  groups: readonly number[],
  options: CrossFitOptions,
  turns: Turns,
): Promise<CrossFit> {
  const { epochs, patience } = options;
  const whole = new LeaveOneOutTraining(concatenated(parts), groups, options);
  const others = parts.map(
    (_, i) => new LeaveOneOutTraining(concatenated(parts.filter((_, j) => j !== i)), groups, options),
  );
  const rows = (parts.length * parts.reduce((sum, part) => sum + part.length, 0)) / groups.length;
  const validated = async (rate: number) => {
    let sum = 0;
    for (const [i, other] of others.entries()) sum += await other.validationError(parts[i]!, rate, turns);
    return sum / parts.length;
  };
  const as = (epoch: number, loss: number, validationLoss: number): CrossFit => ({
    layers: whole.layers(),
    withoutPart: others.map((other) => other.layers()),
    epoch,
    loss,
    validationLoss,
  });
  let best = as(0, whole.loss(options.learningRate), await validated(options.learningRate));
  // A linear network is there at once.
  for (let epoch = 1; epoch <= (options.units > 1 ? epochs : 0); epoch++) {
    const begun = performance.now();
    const rate = options.learningRate * decay((epoch - 1) / Math.max(1, epochs - 1));
    const loss = await whole.epoch(rate, turns);
    for (const other of others) await other.epoch(rate, turns);
    const validationLoss = await validated(rate);
    if (validationLoss < best.validationLoss) best = as(epoch, loss, validationLoss);
    const rowsPerSecond = (1000 * rows) / (performance.now() - begun);
    await options.onEpoch?.({ epoch, epochs, loss, validationLoss, rowsPerSecond });
    if (epoch - best.epoch >= patience) break;
  }
  return best;
}

/** 1 at the beginning, a tenth at the end. */
function decay(done: number): number {
  return 0.1 + 0.45 * (1 + Math.cos(Math.PI * done));
}

/** One block of all rows. */
export function concatenated(blocks: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    all.set(block, at);
    at += block.length;
  }
  return all;
}
