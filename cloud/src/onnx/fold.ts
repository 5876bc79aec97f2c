import { DenseExecutor, type Activation, type DenseLayer } from '@cardan/shared';
import type { DenseGraph, Step } from './dense-graph.ts';
import { unsupported } from './unsupported.ts';

interface Layer {
  inputs: number;
  units: number;
  kernel: Float64Array;
  bias: Float64Array;
  activation: Activation | undefined;
}

/** As many as `readDense` takes. */
const LAYERS_MAX = 32;
/** Rows by which the layers are compared with the graph; each has one value per input. */
const ROWS = 64;
/** Most by which they may differ, in the unit of a standardised feature, and relative beyond 1. */
const DIFFERENCE_MAX = 1e-5;

/**
 * A graph's steps → the dense layers that the car runs: additions and factors go into the layer beside them, so that
 * normalisation costs nothing. Throws ONNX_UNSUPPORTED.
 */
export function fold({ inputs, steps }: DenseGraph): DenseLayer[] {
  const layers: Layer[] = [];
  /** What is still to be done to the row before the next layer: scale · row + shift. */
  let pending: Step & { kind: 'scale' } = {
    kind: 'scale',
    scale: Float64Array.of(1),
    shift: Float64Array.of(0),
  };
  let width = inputs ?? widthOf(steps);
  const none = () =>
    pending.scale.every((value) => value === 1) && pending.shift.every((value) => value === 0);
  const open = () => (none() && layers.at(-1)?.activation === undefined ? layers.at(-1) : undefined);
  /** A layer that does only what is pending. */
  const diagonal = (): Layer => {
    const kernel = new Float64Array(width * width);
    for (let i = 0; i < width; i++) kernel[i * width + i] = at(pending.scale, i);
    const bias = Float64Array.from({ length: width }, (_, i) => at(pending.shift, i));
    const layer: Layer = { inputs: width, units: width, kernel, bias, activation: undefined };
    pending = { kind: 'scale', scale: Float64Array.of(1), shift: Float64Array.of(0) };
    layers.push(layer);
    return layer;
  };
  for (const step of steps) {
    if (step.kind === 'matrix') {
      layers.push(withPending(step, pending));
      pending = { kind: 'scale', scale: Float64Array.of(1), shift: Float64Array.of(0) };
      width = step.units;
    } else if (step.kind === 'activation') {
      (open() ?? diagonal()).activation = step.activation;
    } else {
      const layer = open();
      if (layer === undefined) pending = composed(pending, step, width);
      else rescale(layer, step);
    }
  }
  if (!none() || layers.length === 0) diagonal();
  if (layers.length > LAYERS_MAX)
    throw unsupported(`The graph has ${layers.length} layers; a car runs at most ${LAYERS_MAX}`);
  return layers.map(({ inputs, units, kernel, bias, activation = 'linear' }, i) => ({
    name: `dense_${i + 1}`,
    inputs,
    units,
    activation,
    kernel: Float32Array.from(kernel),
    bias: Float32Array.from(bias),
  }));
}

/** Where the graph's input does not say it: the first step that has one number per value. */
function widthOf(steps: readonly Step[]): number {
  for (const step of steps) {
    if (step.kind === 'matrix') return step.inputs;
    if (step.kind === 'scale' && Math.max(step.scale.length, step.shift.length) > 1)
      return Math.max(step.scale.length, step.shift.length);
  }
  throw unsupported('The graph does not say how many features it takes');
}

function at(values: Float64Array, i: number): number {
  return values[values.length === 1 ? 0 : i]!;
}

function withPending(
  { inputs, units, kernel, bias }: Step & { kind: 'matrix' },
  { scale, shift }: Step & { kind: 'scale' },
): Layer {
  const folded = kernel.map((weight, k) => weight * at(scale, Math.floor(k / units)));
  const shifted = bias.slice();
  for (let i = 0; i < inputs; i++)
    for (let unit = 0; unit < units; unit++) shifted[unit]! += at(shift, i) * kernel[i * units + unit]!;
  return { inputs, units, kernel: folded, bias: shifted, activation: undefined };
}

function rescale(layer: Layer, { scale, shift }: Step & { kind: 'scale' }): void {
  const { units, kernel, bias } = layer;
  layer.kernel = kernel.map((weight, k) => weight * at(scale, k % units));
  layer.bias = bias.map((value, unit) => value * at(scale, unit) + at(shift, unit));
}

function composed(
  first: Step & { kind: 'scale' },
  then: Step & { kind: 'scale' },
  width: number,
): Step & { kind: 'scale' } {
  const values = (of: (i: number) => number) => Float64Array.from({ length: width }, (_, i) => of(i));
  return {
    kind: 'scale',
    scale: values((i) => at(first.scale, i) * at(then.scale, i)),
    shift: values((i) => at(first.shift, i) * at(then.scale, i) + at(then.shift, i)),
  };
}

/**
 * The largest difference between the layers, as the car runs them, and the graph's own steps in double, on rows of
 * features within ±clip; relative where a value is over 1. Throws ONNX_UNSUPPORTED when it is too large: a factor or a
 * mean that is huge beside its weights does not survive float32.
 */
export function checkFold({ steps }: DenseGraph, layers: readonly DenseLayer[], clip: number): number {
  const executor = new DenseExecutor(layers);
  const row = new Float32Array(executor.inputs);
  let largest = 0;
  let x = 1;
  for (let n = 0; n < ROWS; n++) {
    for (let i = 0; i < row.length; i++) {
      // The generator of the self-test (Numerical Recipes).
      x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
      row[i] = clip * (x / 2 ** 31 - 1);
    }
    const expected = run(steps, row);
    const found = executor.run(row);
    expected.forEach((value, i) => {
      const difference = Math.abs(found[i]! - value) / Math.max(1, Math.abs(value));
      // Written so that NaN stays.
      if (!(difference <= largest)) largest = difference;
    });
  }
  if (!(largest <= DIFFERENCE_MAX))
    throw unsupported(
      `The network differs by ${largest.toPrecision(2)} when its weights are float32, as in a car; ` +
        'put the normalisation into the manifest (features.inputs) instead of the graph',
    );
  return largest;
}

function run(steps: readonly Step[], row: Float32Array): Float64Array {
  let values = Float64Array.from(row);
  for (const step of steps) {
    if (step.kind === 'scale')
      values = values.map((value, i) => value * at(step.scale, i) + at(step.shift, i));
    else if (step.kind === 'activation') values = values.map(FUNCTION_OF[step.activation]);
    else {
      const { units, kernel, bias } = step;
      const input = values;
      values = bias.map((sum, unit) => {
        for (let i = 0; i < input.length; i++) sum += input[i]! * kernel[i * units + unit]!;
        return sum;
      });
    }
  }
  return values;
}

const FUNCTION_OF: Readonly<Record<Activation, (value: number) => number>> = {
  linear: (value) => value,
  tanh: Math.tanh,
  relu: (value) => Math.max(0, value),
  sigmoid: (value) => 1 / (1 + Math.exp(-value)),
};
