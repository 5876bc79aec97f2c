import {
  activate,
  writeDense,
  type Activation,
  type DenseLayer,
  type LayersModelFiles,
} from '@cardan/shared';
import { Adam, type AdamOptions, type TrainingState } from './adam.ts';
import type { NetworkTraining } from './network-training.ts';

/**
 * Rows go through the network four at a time: each weight is loaded once for four rows, and their four sums
 * do not wait for each other. Blocks lie interleaved, value i of row r at [4 i + r].
 */
const BLOCK = 4;

/**
 * Trains a stack of dense layers. Everything is double and in one fixed order, so the same weights and batches give
 * the same bits.
 *
 * For nets of a car's size a framework's cost is per operation, not per number; here a batch is a few loops
 * over arrays that stay in the innermost cache.
 */
export class DenseTraining implements NetworkTraining {
  private readonly layers: LayerTraining[] = [];
  private readonly adam: Adam;
  private readonly gradients: Float64Array[];
  private readonly input: Float64Array;

  /**
   * Begins with a copy of the layers' weights. The layers must fit each other. `trained` says per layer which weights may
   * change: 1 per weight in the layout of its kernel, then 1 per bias; without it all may. Weights that are zero
   * and may not change cost nothing.
   */
  constructor(
    layers: readonly DenseLayer[],
    adam: Partial<AdamOptions> = {},
    trained?: readonly Uint8Array[],
  ) {
    this.input = new Float64Array(layers[0]!.inputs * BLOCK);
    let input = this.input;
    for (const [i, layer] of layers.entries()) {
      const training = new LayerTraining(layer, input, trained?.[i]);
      this.layers.push(training);
      input = training.output;
    }
    this.adam = new Adam(
      this.layers.map(({ parameters }) => parameters),
      adam,
    );
    this.gradients = this.layers.map(({ gradient }) => gradient);
  }

  set learningRate(rate: number) {
    this.adam.options.learningRate = rate;
  }

  /** One step of Adam on a batch: `rows` rows, row-major. Returns the mean squared error before the step. */
  step(inputs: Float32Array, targets: Float32Array, rows: number): number {
    const loss = this.computeGradient(inputs, targets, rows);
    this.adam.step(this.gradients);
    return loss;
  }

  /** Mean squared error over all rows and outputs. */
  loss(inputs: Float32Array, targets: Float32Array, rows: number): number {
    let sum = 0;
    for (let row = 0; row < rows; row += BLOCK) sum += this.forward(inputs, targets, row, rows);
    return sum / (rows * this.outputs);
  }

  /** Adds to `sums`, per output, the absolute errors of all rows. */
  addErrors(inputs: Float32Array, targets: Float32Array, rows: number, sums: Float64Array): void {
    const { delta, units } = this.layers[this.layers.length - 1]!;
    for (let row = 0; row < rows; row += BLOCK) {
      this.forward(inputs, targets, row, rows);
      for (let i = 0; i < units; i++)
        for (let r = 0; r < BLOCK; r++) sums[i]! += Math.abs(delta[i * BLOCK + r]!);
    }
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

  save(): LayersModelFiles {
    return writeDense(this.snapshot());
  }

  /** `values` has per layer its weights (units × inputs), its biases, and in the same layout what Adam keeps. */
  state(): TrainingState {
    return this.adam.state();
  }

  restore(state: TrainingState): void {
    this.adam.restore(state);
  }

  close(): void {
    // Everything is on the heap.
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
    for (const { gradient, frozen } of this.layers) {
      for (let i = 0; i < gradient.length; i++) gradient[i]! *= 2 * scale;
      for (const i of frozen) gradient[i] = 0;
    }
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
  /** Weights (units × inputs), then biases; and, in the same layout, their gradient. */
  readonly parameters: Float64Array;
  readonly gradient: Float64Array;
  readonly output: Float64Array;
  /** Derivative of the (halved) error by the output. */
  readonly delta: Float64Array;
  /** Places of `parameters` that do not change. */
  readonly frozen: Int32Array;
  private readonly input: Float64Array;
  /** Per unit the ranges of inputs that it is connected with, as [from, to, from, to, …]. */
  private readonly links: readonly Int32Array[];

  constructor(
    { name, inputs, units, activation, kernel, bias }: DenseLayer,
    input: Float64Array,
    trained?: Uint8Array,
  ) {
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
    const changes = (unit: number, i: number) => trained?.[i * units + unit] !== 0;
    const linked = (unit: number, i: number) => changes(unit, i) || kernel[i * units + unit] !== 0;
    this.links = Array.from({ length: units }, (_, unit) => {
      const ranges: number[] = [];
      for (let i = 0; i <= inputs; i++)
        if ((i < inputs && linked(unit, i)) !== (i > 0 && linked(unit, i - 1))) ranges.push(i);
      return Int32Array.from(ranges);
    });
    const frozen: number[] = [];
    for (let unit = 0; unit < units; unit++) {
      for (let i = 0; i < inputs; i++)
        if (linked(unit, i) && !changes(unit, i)) frozen.push(unit * inputs + i);
      if (!changes(unit, inputs)) frozen.push(inputs * units + unit);
    }
    this.frozen = Int32Array.from(frozen);
  }

  forward(): void {
    const { input, output, parameters, inputs, units, links } = this;
    for (let unit = 0; unit < units; unit++) {
      let sum0 = parameters[inputs * units + unit]!;
      let sum1 = sum0;
      let sum2 = sum0;
      let sum3 = sum0;
      const own = links[unit]!;
      for (let k = 0; k < own.length; k += 2) {
        let at = unit * inputs + own[k]!;
        const end = own[k + 1]! * BLOCK;
        for (let i = own[k]! * BLOCK; i < end; i += BLOCK) {
          const weight = parameters[at++]!;
          sum0 += weight * input[i]!;
          sum1 += weight * input[i + 1]!;
          sum2 += weight * input[i + 2]!;
          sum3 += weight * input[i + 3]!;
        }
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
    const { input, delta, parameters, gradient, inputs, units, links } = this;
    derive(this.activation, this.output, delta);
    before?.fill(0);
    for (let unit = 0; unit < units; unit++) {
      const d0 = delta[unit * BLOCK]!;
      const d1 = delta[unit * BLOCK + 1]!;
      const d2 = delta[unit * BLOCK + 2]!;
      const d3 = delta[unit * BLOCK + 3]!;
      gradient[inputs * units + unit]! += d0 + d1 + d2 + d3;
      const own = links[unit]!;
      for (let k = 0; k < own.length; k += 2) {
        let at = unit * inputs + own[k]!;
        const end = own[k + 1]! * BLOCK;
        if (before === undefined) {
          for (let i = own[k]! * BLOCK; i < end; i += BLOCK)
            gradient[at++]! += d0 * input[i]! + d1 * input[i + 1]! + d2 * input[i + 2]! + d3 * input[i + 3]!;
          continue;
        }
        for (let i = own[k]! * BLOCK; i < end; i += BLOCK) {
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
