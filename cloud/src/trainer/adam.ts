export interface AdamOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
}

/** Those of Keras and TensorFlow.js. */
export const ADAM_DEFAULTS: AdamOptions = { learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };

/** All that the next step depends on, so that a training which is restored from it goes on with the same bits. */
export interface TrainingState {
  /** Steps of Adam until now. */
  steps: number;
  /** Per block of parameters these, then Adam's means, then Adam's squares; then what else the engine keeps. */
  values: Float64Array;
}

interface Block {
  parameters: Float64Array;
  mean: Float64Array;
  square: Float64Array;
}

/**
 * Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; `epsilon` beside the root, as in
 * TensorFlow.js. In double and in one fixed order, for all engines, so that a step depends on the gradient alone.
 */
export class Adam {
  readonly options: AdamOptions;
  private readonly blocks: Block[];
  private steps = 0;

  /** `parameters` are changed in place. */
  constructor(parameters: readonly Float64Array[], options: Partial<AdamOptions> = {}) {
    this.options = { ...ADAM_DEFAULTS, ...options };
    this.blocks = parameters.map((block) => ({
      parameters: block,
      mean: new Float64Array(block.length),
      square: new Float64Array(block.length),
    }));
  }

  /** One gradient per block of parameters, in its layout. */
  step(gradients: readonly ArrayLike<number>[]): void {
    const { learningRate, beta1, beta2, epsilon } = this.options;
    this.steps++;
    const rate = learningRate / (1 - beta1 ** this.steps);
    const correction = 1 / (1 - beta2 ** this.steps);
    for (const [b, { parameters, mean, square }] of this.blocks.entries()) {
      const gradient = gradients[b]!;
      for (let i = 0; i < parameters.length; i++) {
        const g = gradient[i]!;
        const m = beta1 * mean[i]! + (1 - beta1) * g;
        const s = beta2 * square[i]! + (1 - beta2) * g * g;
        mean[i] = m;
        square[i] = s;
        parameters[i]! -= (rate * m) / (Math.sqrt(s * correction) + epsilon);
      }
    }
  }

  /** A copy, with `more` behind it; the learning rate is the caller's. */
  state(more: ArrayLike<number> = []): TrainingState {
    const arrays = this.arrays();
    const length = arrays.reduce((sum, array) => sum + array.length, 0);
    const values = new Float64Array(length + more.length);
    let at = 0;
    for (const array of arrays) {
      values.set(array, at);
      at += array.length;
    }
    values.set(more, at);
    return { steps: this.steps, values };
  }

  /** Goes on from a state with so many values `more`, and returns these. Throws RangeError for another size. */
  restore({ steps, values }: TrainingState, more = 0): Float64Array {
    const arrays = this.arrays();
    const length = arrays.reduce((sum, array) => sum + array.length, 0);
    if (values.length !== length + more)
      throw new RangeError(`The state has ${values.length} values; this network has ${length + more}.`);
    let at = 0;
    for (const array of arrays) {
      array.set(values.subarray(at, at + array.length));
      at += array.length;
    }
    this.steps = steps;
    return values.slice(length);
  }

  private arrays(): Float64Array[] {
    return this.blocks.flatMap(({ parameters, mean, square }) => [parameters, mean, square]);
  }
}
