import { activate, type Activation, type DenseLayer } from '@cardan/shared';

export interface AdamOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
}

/** Those of Keras and TensorFlow.js. */
export const ADAM_DEFAULTS: AdamOptions = { learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };

/**
 * All that the next step depends on, so that a training which is restored from it goes on with the same bits.
 * `values` has per layer its parameters (weights as units × inputs, then biases), then Adam's means, then Adam's
 * squares, each in the same order.
 */
export interface DenseTrainingState {
  /** Steps of Adam until now. */
  steps: number;
  values: Float64Array;
}

/**
 * Rows go through the network four at a time: each weight is loaded once for four rows, and their four sums
 * do not wait for each other. Blocks lie interleaved, value i of row r at [4 i + r].
 */
const BLOCK = 4;

/**
 * Trains a stack of dense layers on the mean squared error with Adam (Kingma and Ba, "Adam: a method for
 * stochastic optimization", ICLR 2015; `epsilon` beside the root, as in TensorFlow.js). Everything is double
 * and in one fixed order, so the same weights and batches give the same bits.
 *
 * For nets of a car's size a framework's cost is per operation, not per number; here a batch is a few loops
 * over arrays that stay in the innermost cache.
 */
export class DenseTraining {
  private readonly layers: LayerTraining[] = [];
  private readonly adam: AdamOptions;
  private readonly input: Float64Array;
  private steps = 0;

  /** Begins with a copy of the layers' weights. The layers must fit each other. */
  constructor(layers: readonly DenseLayer[], adam: Partial<AdamOptions> = {}) {
    this.adam = { ...ADAM_DEFAULTS, ...adam };
    this.input = new Float64Array(layers[0]!.inputs * BLOCK);
    let input = this.input;
    for (const layer of layers) {
      const training = new LayerTraining(layer, input);
      this.layers.push(training);
      input = training.output;
    }
  }

  set learningRate(rate: number) {
    this.adam.learningRate = rate;
  }

  /** One step of Adam on a batch: `rows` rows, row-major. Returns the mean squared error before the step. */
  step(inputs: Float32Array, targets: Float32Array, rows: number): number {
    const loss = this.computeGradient(inputs, targets, rows);
    const { learningRate, beta1, beta2, epsilon } = this.adam;
    this.steps++;
    const rate = learningRate / (1 - beta1 ** this.steps);
    const correction = 1 / (1 - beta2 ** this.steps);
    for (const { parameters, gradient, mean, square } of this.layers)
      for (let i = 0; i < parameters.length; i++) {
        const g = gradient[i]!;
        const m = beta1 * mean[i]! + (1 - beta1) * g;
        const s = beta2 * square[i]! + (1 - beta2) * g * g;
        mean[i] = m;
        square[i] = s;
        parameters[i]! -= (rate * m) / (Math.sqrt(s * correction) + epsilon);
      }
    return loss;
  }

  /** Mean squared error over all rows and outputs. */
  loss(inputs: Float32Array, targets: Float32Array, rows: number): number {
    let sum = 0;
    for (let row = 0; row < rows; row += BLOCK) sum += this.forward(inputs, targets, row, rows);
    return sum / (rows * this.outputs);
  }

  /** The gradient of the loss, per layer in the layout of its kernel and bias; for tests. */
  gradient(
    inputs: Float32Array,
    targets: Float32Array,
    rows: number,
  ): { kernel: Float64Array; bias: Float64Array }[] {
    this.computeGradient(inputs, targets, rows);
    return this.layers.map(({ inputs, units, gradient }) => ({
      kernel: transposed(gradient, units, inputs),
      bias: gradient.slice(inputs * units),
    }));
  }

  /** The layers as they are now, in float32. */
  snapshot(): DenseLayer[] {
    return this.layers.map(({ name, inputs, units, activation, parameters }) => ({
      name,
      inputs,
      units,
      activation,
      kernel: Float32Array.from(transposed(parameters, units, inputs)),
      bias: Float32Array.from(parameters.subarray(inputs * units)),
    }));
  }

  /** A copy; the learning rate is the caller's. */
  state(): DenseTrainingState {
    const blocks = this.stateBlocks();
    const values = new Float64Array(blocks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const block of blocks) {
      values.set(block, at);
      at += block.length;
    }
    return { steps: this.steps, values };
  }

  /** Goes on from a state of a training with layers of the same sizes. Throws RangeError for another one. */
  restore({ steps, values }: DenseTrainingState): void {
    const blocks = this.stateBlocks();
    const length = blocks.reduce((sum, block) => sum + block.length, 0);
    if (values.length !== length)
      throw new RangeError(`The state has ${values.length} values; these layers have ${length}.`);
    let at = 0;
    for (const block of blocks) {
      block.set(values.subarray(at, at + block.length));
      at += block.length;
    }
    this.steps = steps;
  }

  private stateBlocks(): Float64Array[] {
    return this.layers.flatMap(({ parameters, mean, square }) => [parameters, mean, square]);
  }

  private get outputs(): number {
    return this.layers[this.layers.length - 1]!.units;
  }

  private computeGradient(inputs: Float32Array, targets: Float32Array, rows: number): number {
    for (const { gradient } of this.layers) gradient.fill(0);
    let sum = 0;
    for (let row = 0; row < rows; row += BLOCK) {
      sum += this.forward(inputs, targets, row, rows);
      for (let i = this.layers.length - 1; i >= 0; i--) this.layers[i]!.backward(this.layers[i - 1]?.delta);
    }
    const scale = 1 / (rows * this.outputs);
    // The derivative of a square is twice its root.
    for (const { gradient } of this.layers)
      for (let i = 0; i < gradient.length; i++) gradient[i]! *= 2 * scale;
    return sum * scale;
  }

  /** Runs the block that begins at `row`. Returns its sum of squared errors; the errors are the last `delta`. */
  private forward(inputs: Float32Array, targets: Float32Array, row: number, rows: number): number {
    const { input } = this;
    const width = input.length / BLOCK;
    const count = Math.min(BLOCK, rows - row);
    if (count < BLOCK) input.fill(0);
    for (let r = 0; r < count; r++)
      for (let i = 0, at = (row + r) * width; i < width; i++) input[i * BLOCK + r] = inputs[at + i]!;
    for (const layer of this.layers) layer.forward();

    const { output, delta, units } = this.layers[this.layers.length - 1]!;
    // Rows that fill up the last block have no error, and so no gradient.
    if (count < BLOCK) delta.fill(0);
    let sum = 0;
    for (let r = 0; r < count; r++)
      for (let i = 0, at = (row + r) * units; i < units; i++) {
        const error = output[i * BLOCK + r]! - targets[at + i]!;
        delta[i * BLOCK + r] = error;
        sum += error * error;
      }
    return sum;
  }
}

class LayerTraining {
  readonly name: string;
  readonly inputs: number;
  readonly units: number;
  readonly activation: Activation;
  /** Weights (units × inputs), then biases; and, in the same layout, what Adam keeps for each. */
  readonly parameters: Float64Array;
  readonly gradient: Float64Array;
  readonly mean: Float64Array;
  readonly square: Float64Array;
  readonly output: Float64Array;
  /** Derivative of the (halved) error by the output. */
  readonly delta: Float64Array;
  private readonly input: Float64Array;

  constructor({ name, inputs, units, activation, kernel, bias }: DenseLayer, input: Float64Array) {
    this.name = name;
    this.inputs = inputs;
    this.units = units;
    this.activation = activation;
    this.input = input;
    this.output = new Float64Array(units * BLOCK);
    this.delta = new Float64Array(units * BLOCK);
    this.parameters = new Float64Array(inputs * units + units);
    this.parameters.set(transposed(kernel, inputs, units));
    this.parameters.set(bias, inputs * units);
    this.gradient = new Float64Array(this.parameters.length);
    this.mean = new Float64Array(this.parameters.length);
    this.square = new Float64Array(this.parameters.length);
  }

  forward(): void {
    const { input, output, parameters, inputs, units } = this;
    const biases = inputs * units;
    for (let unit = 0, at = 0; unit < units; unit++) {
      let sum0 = parameters[biases + unit]!;
      let sum1 = sum0;
      let sum2 = sum0;
      let sum3 = sum0;
      for (let i = 0; i < input.length; i += BLOCK) {
        const weight = parameters[at++]!;
        sum0 += weight * input[i]!;
        sum1 += weight * input[i + 1]!;
        sum2 += weight * input[i + 2]!;
        sum3 += weight * input[i + 3]!;
      }
      const out = unit * BLOCK;
      output[out] = sum0;
      output[out + 1] = sum1;
      output[out + 2] = sum2;
      output[out + 3] = sum3;
    }
    activate(this.activation, output);
  }

  /** Adds to the gradient, and sets the `delta` of the layer before. */
  backward(before: Float64Array | undefined): void {
    const { input, delta, parameters, gradient, inputs, units } = this;
    derive(this.activation, this.output, delta);
    before?.fill(0);
    const biases = inputs * units;
    for (let unit = 0, at = 0; unit < units; unit++) {
      const d0 = delta[unit * BLOCK]!;
      const d1 = delta[unit * BLOCK + 1]!;
      const d2 = delta[unit * BLOCK + 2]!;
      const d3 = delta[unit * BLOCK + 3]!;
      gradient[biases + unit]! += d0 + d1 + d2 + d3;
      if (before === undefined) {
        for (let i = 0; i < input.length; i += BLOCK)
          gradient[at++]! += d0 * input[i]! + d1 * input[i + 1]! + d2 * input[i + 2]! + d3 * input[i + 3]!;
        continue;
      }
      for (let i = 0; i < input.length; i += BLOCK) {
        const weight = parameters[at]!;
        gradient[at]! += d0 * input[i]! + d1 * input[i + 1]! + d2 * input[i + 2]! + d3 * input[i + 3]!;
        before[i]! += d0 * weight;
        before[i + 1]! += d1 * weight;
        before[i + 2]! += d2 * weight;
        before[i + 3]! += d3 * weight;
        at++;
      }
    }
  }
}

/** Multiplies `delta` by the activation's derivative, which its output tells. */
function derive(activation: Activation, output: Float64Array, delta: Float64Array): void {
  if (activation === 'linear') return;
  for (let i = 0; i < delta.length; i++) {
    const y = output[i]!;
    const slope = activation === 'tanh' ? 1 - y * y : activation === 'sigmoid' ? y * (1 - y) : y > 0 ? 1 : 0;
    delta[i]! *= slope;
  }
}

/** rows × columns → columns × rows. */
function transposed(values: ArrayLike<number>, rows: number, columns: number): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column]!;
  return result;
}
