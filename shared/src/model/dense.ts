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
  private readonly source: readonly DenseLayer[];
  private readonly input: Float64Array;
  private readonly layers: readonly CompiledLayer[];
  /** With the weights that are zero, for rows that `linkedInputs` does not hold for. */
  private whole: readonly CompiledLayer[] | undefined;

  /** The layers must fit each other, as `readDense` makes sure. */
  constructor(layers: readonly DenseLayer[]) {
    this.source = layers;
    this.inputs = layers[0]!.inputs;
    this.input = new Float64Array(this.inputs);
    const linked = linkedInputs(layers, BLOCK);
    this.layers = this.compiled((i) => linked[i]!);
    this.outputs = layers.at(-1)!.units;
  }

  /** Runs one row of `inputs` values. The result has `outputs` values; the next call overwrites it. */
  run(row: ArrayLike<number>): Float64Array {
    const { input } = this;
    let squares = 0;
    for (let i = 0; i < input.length; i++) {
      const value = row[i]!;
      input[i] = value;
      squares += value * value;
    }
    let output = input;
    // Written so that NaN takes the long way.
    const layers =
      squares < Infinity
        ? this.layers
        : (this.whole ??= this.compiled((i) => allInputs(this.source[i]!, BLOCK)));
    for (const layer of layers) output = layer.forward();
    return output;
  }

  private compiled(linked: (layer: number) => Int32Array): CompiledLayer[] {
    let { input } = this;
    return this.source.map((layer, i) => {
      const compiled = new CompiledLayer(layer, input, linked(i));
      input = compiled.output;
      return compiled;
    });
  }
}

/**
 * Per layer and block of so many units the inputs from the first to the last one that has a weight other than zero for one
 * of them: [first, behind the last, of the next block …], at least one. What is left out gives the same bits: to add 0 or −0
 * changes no sum, but for −0, and none is −0 that does not begin so. It must be 0, so the input must be finite: it is where
 * the row's squares have a finite sum, and where the layer before cannot give anything else.
 */
export function linkedInputs(layers: readonly DenseLayer[], block: number): Int32Array[] {
  let areBounded = true;
  return layers.map((layer) => {
    const { units, kernel, bias } = layer;
    const linked = allInputs(layer, block);
    if (areBounded)
      for (let b = 0; b < linked.length / 2; b++) {
        const mine = Array.from({ length: Math.min(block, units - b * block) }, (_, k) => b * block + k);
        if (mine.some((unit) => Object.is(bias[unit], -0))) continue;
        const isLinked = (i: number) => mine.some((unit) => kernel[i * units + unit] !== 0);
        while (linked[2 * b + 1]! > 1 && !isLinked(linked[2 * b + 1]! - 1)) linked[2 * b + 1]!--;
        while (linked[2 * b]! < linked[2 * b + 1]! - 1 && !isLinked(linked[2 * b]!)) linked[2 * b]!++;
      }
    areBounded &&=
      (layer.activation === 'tanh' || layer.activation === 'sigmoid') &&
      kernel.every(Number.isFinite) &&
      bias.every(Number.isFinite);
    return linked;
  });
}

export function allInputs({ inputs, units }: DenseLayer, block: number): Int32Array {
  return Int32Array.from({ length: 2 * Math.ceil(units / block) }, (_, k) => (k % 2 === 0 ? 0 : inputs));
}

/** Units are computed four at a time: each input is loaded once for four sums that do not wait for each other. */
const BLOCK = 4;

class CompiledLayer {
  readonly output: Float64Array;
  private readonly input: Float64Array;
  private readonly activation: Activation;
  /** Per block the first of its inputs, and the one behind the last. */
  private readonly linked: Int32Array;
  /**
   * Per block of units its biases, then per linked input the weights of the block. Doubles, so that the loop converts
   * nothing; units that fill up the last block have weights of 0.
   */
  private readonly weights: Float64Array;
  /** Outputs, with those of the units that fill up the last block. */
  private readonly sums: Float64Array;

  constructor(layer: DenseLayer, input: Float64Array, linked: Int32Array) {
    this.input = input;
    this.linked = linked;
    this.sums = new Float64Array(Math.ceil(layer.units / BLOCK) * BLOCK);
    this.output = this.sums.subarray(0, layer.units);
    this.activation = layer.activation;
    this.weights = new Float64Array(placesOf(linked, BLOCK));
    placeWeights(layer, linked, BLOCK, this.weights);
  }

  forward(): Float64Array {
    const { input, sums, weights, linked } = this;
    let at = 0;
    for (let unit = 0, block = 0; unit < sums.length; unit += BLOCK, block += 2) {
      const behind = linked[block + 1]!;
      let sum0 = weights[at]!;
      let sum1 = weights[at + 1]!;
      let sum2 = weights[at + 2]!;
      let sum3 = weights[at + 3]!;
      at += BLOCK;
      for (let i = linked[block]!; i < behind; i++) {
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

/** Numbers that `placeWeights` writes. */
export function placesOf(linked: Int32Array, block: number): number {
  let places = 0;
  for (let k = 0; k < linked.length; k += 2) places += block * (linked[k + 1]! - linked[k]! + 1);
  return places;
}

/** Per block of units its biases, then per linked input the weights of the block. */
export function placeWeights(
  { units, kernel, bias }: DenseLayer,
  linked: Int32Array,
  block: number,
  into: Float64Array,
): void {
  let at = 0;
  for (let k = 0; k < linked.length; k += 2) {
    const first = (k / 2) * block;
    const count = Math.min(block, units - first);
    for (let unit = 0; unit < count; unit++) into[at + unit] = bias[first + unit]!;
    at += block;
    for (let i = linked[k]!; i < linked[k + 1]!; i++, at += block)
      for (let unit = 0; unit < count; unit++) into[at + unit] = kernel[i * units + first + unit]!;
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
