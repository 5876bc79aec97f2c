/** Activations that the executor and the trainer know, by their names in Keras. */
export const ACTIVATIONS = ['linear', 'tanh', 'relu', 'sigmoid'] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/** One fully connected layer: output = activation(input · kernel + bias). */
export interface DenseLayer {
  name: string;
  inputs: number;
  units: number;
  activation: Activation;
  /** inputs × units, row-major, as in TensorFlow. */
  kernel: Float32Array;
  /** One per unit. */
  bias: Float32Array;
}

/** Runs a network, one row at a time. */
export interface Network {
  readonly inputs: number;
  readonly outputs: number;
  /** Runs one row of `inputs` values. The result has `outputs` values; the next call may overwrite it. */
  run(row: ArrayLike<number>): ArrayLike<number>;
  /** Frees what is not on the heap; it cannot run any more. */
  close?(): void;
}

/**
 * Runs a stack of dense layers on typed arrays: no tensors, nothing allocated per row. The weights are the
 * file's float32; sums are in double, in one fixed order, of operations that IEEE 754 fixes to the last bit
 * (see `tanh`). So a row gives the same bits in a car on arm64 as in the cloud on x64.
 */
export class DenseExecutor implements Network {
  readonly inputs: number;
  readonly outputs: number;
  private readonly input: Float64Array;
  private readonly layers: CompiledLayer[] = [];

  /** The layers must fit each other, as `readDense` makes sure. */
  constructor(layers: readonly DenseLayer[]) {
    this.inputs = layers[0]!.inputs;
    this.input = new Float64Array(this.inputs);
    let input = this.input;
    for (const layer of layers) {
      const compiled = new CompiledLayer(layer, input);
      this.layers.push(compiled);
      input = compiled.output;
    }
    this.outputs = input.length;
  }

  /** Runs one row of `inputs` values. The result has `outputs` values; the next call overwrites it. */
  run(row: ArrayLike<number>): Float64Array {
    const { input } = this;
    for (let i = 0; i < input.length; i++) input[i] = row[i]!;
    let output = input;
    for (const layer of this.layers) output = layer.forward();
    return output;
  }
}

/** Units are computed four at a time: each input is loaded once for four sums that do not wait for each other. */
const BLOCK = 4;

class CompiledLayer {
  readonly output: Float64Array;
  private readonly input: Float64Array;
  private readonly activation: Activation;
  /**
   * Per block of units its biases, then per input the weights of the block. Doubles, so that the loop converts
   * nothing; units that fill up the last block have weights of 0.
   */
  private readonly weights: Float64Array;
  /** Outputs, with those of the units that fill up the last block. */
  private readonly sums: Float64Array;

  constructor({ inputs, units, activation, kernel, bias }: DenseLayer, input: Float64Array) {
    const blocks = Math.ceil(units / BLOCK);
    this.input = input;
    this.sums = new Float64Array(blocks * BLOCK);
    this.output = this.sums.subarray(0, units);
    this.activation = activation;
    this.weights = new Float64Array(blocks * BLOCK * (inputs + 1));
    for (let unit = 0; unit < units; unit++) {
      const at = Math.floor(unit / BLOCK) * BLOCK * (inputs + 1) + (unit % BLOCK);
      this.weights[at] = bias[unit]!;
      for (let i = 0; i < inputs; i++) this.weights[at + (i + 1) * BLOCK] = kernel[i * units + unit]!;
    }
  }

  forward(): Float64Array {
    const { input, sums, weights } = this;
    const inputs = input.length;
    let at = 0;
    for (let unit = 0; unit < sums.length; unit += BLOCK) {
      let sum0 = weights[at]!;
      let sum1 = weights[at + 1]!;
      let sum2 = weights[at + 2]!;
      let sum3 = weights[at + 3]!;
      at += BLOCK;
      for (let i = 0; i < inputs; i++) {
        const value = input[i]!;
        sum0 += value * weights[at]!;
        sum1 += value * weights[at + 1]!;
        sum2 += value * weights[at + 2]!;
        sum3 += value * weights[at + 3]!;
        at += BLOCK;
      }
      sums[unit] = sum0;
      sums[unit + 1] = sum1;
      sums[unit + 2] = sum2;
      sums[unit + 3] = sum3;
    }
    activate(this.activation, this.output);
    return this.output;
  }
}

/** Applies an activation to `values[0..length)` in place. */
export function activate(activation: Activation, values: Float64Array, length = values.length): void {
  if (activation === 'tanh') for (let i = 0; i < length; i++) values[i] = tanh(values[i]!);
  else if (activation === 'relu') for (let i = 0; i < length; i++) values[i] = Math.max(0, values[i]!);
  else if (activation === 'sigmoid')
    for (let i = 0; i < length; i++) values[i] = 0.5 + 0.5 * tanh(0.5 * values[i]!);
}

/** Beyond this tanh is 1 in float32. */
const TANH_CLAMP = 7.90531110763549805;

/**
 * tanh as the rational function of degrees 13 and 6 that Eigen, XLA and so TensorFlow use, right to 3e-7.
 * `Math.tanh` is free to differ between engines and their versions; this is products, sums and one quotient,
 * which are not. It also takes a third of the time.
 */
export function tanh(value: number): number {
  // Written so that NaN stays NaN.
  const x = value > TANH_CLAMP ? TANH_CLAMP : value < -TANH_CLAMP ? -TANH_CLAMP : value;
  const s = x * x;
  let p = -2.76076847742355e-16 * s + 2.00018790482477e-13;
  p = p * s - 8.60467152213735e-11;
  p = p * s + 5.12229709037114e-8;
  p = p * s + 1.48572235717979e-5;
  p = p * s + 6.37261928875436e-4;
  p = p * s + 4.89352455891786e-3;
  let q = 1.19825839466702e-6 * s + 1.18534705686654e-4;
  q = q * s + 2.268434632439e-3;
  q = q * s + 4.89352518554385e-3;
  return (x * p) / q;
}
