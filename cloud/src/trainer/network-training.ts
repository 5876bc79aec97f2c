import type { LayersModelFiles } from '@cardan/shared';
import type { TrainingState } from './adam.ts';

/**
 * A network in training, on the mean squared error with Adam. There are two: `DenseTraining` for stacks of dense
 * layers, `TfjsTraining` for all others. The same weights and batches give the same losses and weights on both, but
 * for rounding; on one of them, to the bit.
 */
export interface NetworkTraining {
  set learningRate(rate: number);

  /** One step on a batch: `rows` rows, row-major. Returns the mean squared error before the step. */
  step(inputs: Float32Array, targets: Float32Array, rows: number): number;

  /** Mean squared error over all rows and outputs. */
  loss(inputs: Float32Array, targets: Float32Array, rows: number): number;

  /** The network as it is now, as TensorFlow.js LayersModel files. */
  save(): LayersModelFiles;

  /** A copy of all that the next step depends on, but for the learning rate. */
  state(): TrainingState;

  /** Goes on from a state of the same network. Throws RangeError for one of another size. */
  restore(state: TrainingState): void;

  /** Frees what is not on the heap. */
  close(): void;
}
