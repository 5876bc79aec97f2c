import type { Activation } from '@cardan/shared';
import { readConstant, type Constant, type ExternalFile } from './constant.ts';
import { DOUBLE, FLOAT, type OnnxAttribute, type OnnxModel, type OnnxNode } from './onnx-format.ts';
import { nodeText, unsupported } from './unsupported.ts';

/** One operation on a row, as the graph has it; `fold` makes layers of them. */
export type Step =
  /** row · kernel + bias; the kernel is inputs × units, row-major. */
  | { kind: 'matrix'; inputs: number; units: number; kernel: Float64Array; bias: Float64Array }
  /** scale · row + shift, each one number or one per value of the row. */
  | { kind: 'scale'; scale: Float64Array; shift: Float64Array }
  | { kind: 'activation'; activation: Activation };

/** A graph that is one chain of steps from its input to its output. */
export interface DenseGraph {
  /** Values of a row; undefined where the graph does not say. */
  inputs: number | undefined;
  steps: Step[];
}

const ACTIVATION_OF: Readonly<Record<string, Activation>> = {
  Tanh: 'tanh',
  Relu: 'relu',
  Sigmoid: 'sigmoid',
};
const KNOWN =
  'Gemm, MatMul, Add, Sub, Mul, Div, Neg, Scaler, BatchNormalization, Tanh, Relu, Sigmoid, and what changes no value';
/** A stack of 32 layers has far fewer; files of other kinds may have millions. */
const NODES_MAX = 1000;

/**
 * Reads the graph of a network of dense layers, as scikit-learn (skl2onnx), PyTorch (both exporters), Keras (tf2onnx) and
 * Cardan write it. Throws ONNX_UNSUPPORTED, naming the node and its operator, for whatever is not a chain of operations
 * that the car's dense executor has.
 */
export function readDenseGraph(model: OnnxModel, external: ExternalFile): DenseGraph {
  return new GraphReader(model, external).read();
}

class GraphReader {
  private readonly model: OnnxModel;
  private readonly external: ExternalFile;
  private readonly constants = new Map<string, Constant>();
  private readonly steps: Step[] = [];
  /** Name of the value that the row is now, and how many numbers that has. */
  private row: string;
  private width: number | undefined;
  private readonly inputs: number | undefined;
  /** Values that the row was, or that nobody computes here: each may be used once only. */
  private readonly passed = new Set<string>();

  constructor(model: OnnxModel, external: ExternalFile) {
    this.model = model;
    this.external = external;
    const { graph } = model;
    if (model.functions.length > 0)
      throw unsupported(`The file brings ${model.functions.length} functions of its own; export it without`);
    if (graph.sparseInitializer.length > 0)
      throw unsupported('The graph has sparse tensors; export dense ones');
    if (graph.node.length > NODES_MAX)
      throw unsupported(`The graph has ${graph.node.length} nodes; ${NODES_MAX} are the most`);
    for (const tensor of graph.initializer) this.constants.set(tensor.name, readConstant(tensor, external));
    // Old files list initializers among the inputs.
    const inputs = graph.input.filter(({ name }) => !this.constants.has(name));
    if (inputs.length !== 1 || graph.output.length !== 1)
      throw unsupported(
        `The graph has ${inputs.length} inputs (${inputs.map(({ name }) => name).join(', ')}) and ${graph.output.length} outputs; ` +
          'a car gives it one row of features and takes one row back',
      );
    const [input] = inputs;
    const dims = input!.type?.tensorType?.shape?.dim;
    if (dims !== undefined && dims.length !== 2)
      throw unsupported(
        `The input "${input!.name}" has ${dims.length} dimensions; expected is [rows, features]`,
      );
    const width = dims?.[1]?.dimValue;
    this.inputs = this.width = width === undefined || width <= 0 ? undefined : width;
    this.row = input!.name;
  }

  read(): DenseGraph {
    const { graph } = this.model;
    for (const node of graph.node) this.take(node);
    const output = graph.output[0]!.name;
    if (output !== this.row)
      throw unsupported(`The graph gives "${output}", which is not the end of its chain ("${this.row}")`);
    return { inputs: this.inputs, steps: this.steps };
  }

  private take(node: OnnxNode): void {
    if (node.domain !== '' && node.domain !== 'ai.onnx' && node.domain !== 'ai.onnx.ml')
      throw refused(node, `operators of the domain ${node.domain} are not known`);
    const operands = node.input.filter((name) => name !== '');
    const rows = operands.filter((name) => !this.constants.has(name));
    if (rows.length === 0) {
      this.constants.set(node.output[0] ?? '', this.compute(node));
      return;
    }
    for (const name of rows) {
      if (name === this.row) continue;
      throw refused(
        node,
        this.passed.has(name)
          ? `it uses "${name}", which another node uses too; a car runs one layer after the other`
          : `nothing gives its input "${name}"`,
      );
    }
    if (rows.length > 1) throw refused(node, `it combines the row with itself`);
    this.apply(node, operands);
    this.passed.add(this.row);
    this.row = node.output[0] ?? '';
  }

  /** A node of constants alone. */
  private compute(node: OnnxNode): Constant {
    const value = (i: number) => this.constants.get(node.input[i] ?? '')!;
    switch (node.opType) {
      case 'Constant':
        return this.constantOf(node);
      case 'Identity':
      case 'Cast':
        return value(0);
      case 'Transpose':
        return transposed(value(0), attribute(node, 'perm')?.ints, node);
      case 'Squeeze':
      case 'Unsqueeze':
      case 'Reshape':
      case 'Flatten': {
        // Only vectors are reshaped on the way to a layer; the values stay in their order.
        const { dims, values } = value(0);
        if (dims.filter((dim) => dim !== 1).length <= 1) return { dims: [values.length], values };
        throw refused(node, `it reshapes a constant of the shape [${dims.join(', ')}]`);
      }
      default:
        throw refused(node, 'it computes with constants; export with constants folded');
    }
  }

  private constantOf(node: OnnxNode): Constant {
    const [given] = node.attribute;
    if (node.attribute.length !== 1 || given === undefined) throw refused(node, 'it has no value');
    if (given.name === 'value' && given.t) return readConstant(given.t, this.external);
    const list = (values: readonly number[], dims: number[]): Constant => ({
      dims,
      values: Float64Array.from(values),
    });
    if (given.name === 'value_float') return list([given.f ?? 0], []);
    if (given.name === 'value_int') return list([given.i ?? 0], []);
    if (given.name === 'value_floats') return list(given.floats ?? [], [given.floats?.length ?? 0]);
    if (given.name === 'value_ints') return list(given.ints ?? [], [given.ints?.length ?? 0]);
    throw refused(node, `its value is given as "${given.name}"`);
  }

  /** A node that the row goes through. */
  private apply(node: OnnxNode, operands: readonly string[]): void {
    const activation = ACTIVATION_OF[node.opType];
    if (activation !== undefined) {
      this.steps.push({ kind: 'activation', activation });
      return;
    }
    switch (node.opType) {
      case 'Identity':
      case 'Dropout':
        return;
      case 'Cast':
        this.cast(node);
        return;
      case 'Flatten':
        if ((attribute(node, 'axis')?.i ?? 1) !== 1) throw refused(node, 'its axis is not 1');
        return;
      case 'Reshape':
        this.reshape(node);
        return;
      case 'Gemm':
        this.gemm(node);
        return;
      case 'MatMul':
        if (node.input[0] !== this.row) throw refused(node, 'the row stands at the right of the product');
        this.matrix(node, this.operand(node, 1), false, 1);
        return;
      case 'Add':
      case 'Sub':
      case 'Mul':
      case 'Div':
        this.elementwise(node, operands);
        return;
      case 'Neg':
        this.scale(node, Float64Array.of(-1), Float64Array.of(0));
        return;
      case 'Scaler':
        this.scaler(node);
        return;
      case 'BatchNormalization':
        this.batchNormalization(node);
        return;
      default:
        throw refused(node, `a car’s dense executor has no such operator; it has ${KNOWN}`);
    }
  }

  private cast(node: OnnxNode): void {
    const to = attribute(node, 'to')?.i;
    if (to !== FLOAT && to !== DOUBLE)
      throw refused(node, `it makes the type ${to} of ONNX of a row; a car computes in float and double`);
  }

  /**
   * [rows, n] may become [rows, n] only; and at the end of the graph [rows × n, 1], which are the same numbers in the same
   * order: so skl2onnx ends an MLPRegressor, however many outputs that has.
   */
  private reshape(node: OnnxNode): void {
    const shape = [...this.operand(node, 1).values];
    const free = (size: number | undefined) => size === -1 || size === 0;
    const kept = shape.length === 2 && free(shape[0]) && (free(shape[1]) || shape[1] === this.width);
    const last = node.output[0] === this.model.graph.output[0]!.name;
    const flat = last && shape[0] === -1 && (shape.length === 1 || (shape.length === 2 && shape[1] === 1));
    if (!(kept && !(shape[0] === -1 && shape[1] === -1)) && !flat)
      throw refused(node, `it makes the shape [${shape.join(', ')}] of a row of ${this.width ?? '?'} values`);
  }

  private gemm(node: OnnxNode): void {
    if (node.input[0] !== this.row) throw refused(node, 'the row is not its first input');
    if ((attribute(node, 'transA')?.i ?? 0) !== 0) throw refused(node, 'it transposes the row (transA)');
    const alpha = attribute(node, 'alpha')?.f ?? 1;
    const beta = attribute(node, 'beta')?.f ?? 1;
    this.matrix(node, this.operand(node, 1), (attribute(node, 'transB')?.i ?? 0) !== 0, alpha);
    if ((node.input[2] ?? '') === '') return;
    const shift = this.vector(node, this.operand(node, 2)).map((value) => beta * value);
    this.scale(node, Float64Array.of(1), shift);
  }

  private matrix(node: OnnxNode, { dims, values }: Constant, turned: boolean, factor: number): void {
    if (dims.length !== 2) throw refused(node, `its matrix has the shape [${dims.join(', ')}]`);
    const [inputs, units] = (turned ? [dims[1], dims[0]] : dims) as [number, number];
    if (this.width !== undefined && this.width !== inputs)
      throw refused(node, `its matrix takes ${inputs} values, and the row has ${this.width}`);
    const kernel = new Float64Array(inputs * units);
    for (let i = 0; i < inputs; i++)
      for (let unit = 0; unit < units; unit++)
        kernel[i * units + unit] = factor * values[turned ? unit * inputs + i : i * units + unit]!;
    this.steps.push({ kind: 'matrix', inputs, units, kernel, bias: new Float64Array(units) });
    this.width = units;
  }

  private elementwise(node: OnnxNode, operands: readonly string[]): void {
    const first = node.input[0] === this.row;
    const other = this.constants.get(operands[first ? 1 : 0] ?? '');
    if (other === undefined) throw refused(node, 'it has only one input');
    const values = this.vector(node, other);
    const [one, zero] = [Float64Array.of(1), Float64Array.of(0)];
    if (node.opType === 'Add') this.scale(node, one, values);
    else if (node.opType === 'Mul') this.scale(node, values, zero);
    else if (node.opType === 'Sub' && first)
      this.scale(
        node,
        one,
        values.map((value) => -value),
      );
    else if (node.opType === 'Sub') this.scale(node, Float64Array.of(-1), values);
    else if (first)
      this.scale(
        node,
        values.map((value) => 1 / value),
        zero,
      );
    else throw refused(node, 'it divides by the row');
  }

  /** (row − offset) · scale, of the operators for machine learning (ai.onnx.ml). */
  private scaler(node: OnnxNode): void {
    const offset = Float64Array.from(attribute(node, 'offset')?.floats ?? [0]);
    const scale = Float64Array.from(attribute(node, 'scale')?.floats ?? [1]);
    this.scale(
      node,
      Float64Array.of(1),
      offset.map((value) => -value),
    );
    this.scale(node, scale, Float64Array.of(0));
  }

  /** As it is after training: (row − mean) / √(variance + ε) · scale + bias. */
  private batchNormalization(node: OnnxNode): void {
    if ((attribute(node, 'training_mode')?.i ?? 0) !== 0) throw refused(node, 'it is still in training');
    const epsilon = attribute(node, 'epsilon')?.f ?? 1e-5;
    const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => this.operand(node, i).values);
    const factor = scale!.map((value, i) => value / Math.sqrt(variance![i]! + epsilon));
    this.scale(
      node,
      factor,
      bias!.map((value, i) => value - factor[i]! * mean![i]!),
    );
  }

  private scale(node: OnnxNode, scale: Float64Array, shift: Float64Array): void {
    for (const { length } of [scale, shift]) {
      if (length === 1) continue;
      this.width ??= length;
      if (length !== this.width)
        throw refused(node, `it has ${length} numbers for a row of ${this.width} values`);
    }
    this.steps.push({ kind: 'scale', scale, shift });
  }

  /** A constant that is the same for all rows: one number, or one per value of a row. */
  private vector(node: OnnxNode, { dims, values }: Constant): Float64Array {
    if (dims.slice(0, -1).some((dim) => dim !== 1) || values.length === 0)
      throw refused(node, `its constant has the shape [${dims.join(', ')}]`);
    return values;
  }

  private operand(node: OnnxNode, i: number): Constant {
    const found = this.constants.get(node.input[i] ?? '');
    if (found === undefined) throw refused(node, `its input ${i + 1} is not a constant`);
    return found;
  }
}

function refused(node: OnnxNode, why: string): Error {
  return unsupported(`The car cannot run ${nodeText(node)}: ${why}`);
}

function attribute({ attribute }: OnnxNode, name: string): OnnxAttribute | undefined {
  return attribute.find((one) => one.name === name);
}

function transposed(
  { dims, values }: Constant,
  perm: readonly number[] | undefined,
  node: OnnxNode,
): Constant {
  if (dims.length !== 2) throw refused(node, `it transposes a constant of the shape [${dims.join(', ')}]`);
  if (perm !== undefined && perm.length > 0 && perm[0] === 0) return { dims, values };
  const [rows, columns] = dims as [number, number];
  return {
    dims: [columns, rows],
    values: values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!),
  };
}
