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

/**
 * Runs a stack of dense layers on typed arrays: no tensors, no allocation per row. The weights are the file's
 * float32; sums are in double, in one fixed order, of operations that IEEE 754 fixes (see `tanh`). So the same
 * input gives the same bits in a car on arm64 as in the cloud on x64.
 */
export class DenseExecutor {
  readonly inputs: number;
  readonly outputs: number;
  private readonly stack: CompiledLayer[];

  /** The layers must fit each other, as `readDense` makes sure. */
  constructor(layers: readonly DenseLayer[]) {
    this.stack = layers.map(compile);
    this.inputs = layers[0]!.inputs;
    this.outputs = layers[layers.length - 1]!.units;
  }

  /** Runs one row of `inputs` values. The result has `outputs` values and is overwritten by the next call. */
  run(input: ArrayLike<number>): Float64Array {
    const first = this.stack[0]!;
    for (let i = 0; i < first.inputs; i++) first.input[i] = input[i]!;
    let output = first.input;
    for (const layer of this.stack) {
      forward(layer);
      output = layer.output;
    }
    return output;
  }
}

interface CompiledLayer {
  inputs: number;
  units: number;
  activation: Activation;
  /** units × inputs: the weights of one unit lie together. Doubles, so that the loop converts nothing. */
  weights: Float64Array;
  bias: Float64Array;
  /** The output of the layer before. */
  input: Float64Array;
  output: Float64Array;
}

function compile(layer: DenseLayer, index: number, layers: readonly DenseLayer[]): CompiledLayer {
  const { inputs, units, activation, kernel, bias } = layer;
  const weights = new Float64Array(inputs * units);
  for (let unit = 0; unit < units; unit++)
    for (let i = 0; i < inputs; i++) weights[unit * inputs + i] = kernel[i * units + unit]!;
  const input = index === 0 ? new Float64Array(inputs) : OUTPUTS.get(layers[index - 1]!)!;
  const output = new Float64Array(units);
  OUTPUTS.set(layer, output);
  return { inputs, units, activation, weights, bias: Float64Array.from(bias), input, output };
}
