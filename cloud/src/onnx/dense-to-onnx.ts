import type { Activation, DenseLayer } from '@cardan/shared';
import { FLOAT, type OnnxGraph, type OnnxNode, type OnnxTensor, type OnnxValue } from './onnx-format.ts';

export const OPERATOR_OF: Readonly<Record<Activation, string | undefined>> = {
  linear: undefined,
  tanh: 'Tanh',
  relu: 'Relu',
  sigmoid: 'Sigmoid',
};

/** Input and output of every graph: standardised features, and what the autoencoder makes of them. */
export const INPUT = 'features';
export const OUTPUT = 'reconstruction';

/** Dense layers → one Gemm each, with its activation behind it. */
export function denseGraph(layers: readonly DenseLayer[]): OnnxGraph {
  const node: OnnxNode[] = [];
  const initializer: OnnxTensor[] = [];
  let row = INPUT;
  layers.forEach(({ name, inputs, units, activation, kernel, bias }, i) => {
    const operator = OPERATOR_OF[activation];
    const end = i === layers.length - 1 ? OUTPUT : `${name}/output`;
    const sum = operator === undefined ? end : `${name}/sum`;
    initializer.push(
      floatTensor(`${name}/kernel`, [inputs, units], kernel),
      floatTensor(`${name}/bias`, [units], bias),
    );
    node.push(makeNode(`${name}/gemm`, 'Gemm', [row, `${name}/kernel`, `${name}/bias`], sum));
    if (operator !== undefined) node.push(makeNode(`${name}/${activation}`, operator, [sum], end));
    row = end;
  });
  return {
    name: 'autoencoder',
    node,
    initializer,
    sparseInitializer: [],
    input: [rowsOf(INPUT, layers[0]!.inputs)],
    output: [rowsOf(OUTPUT, layers.at(-1)!.units)],
  };
}

export function makeNode(
  name: string,
  opType: string,
  input: string[],
  output: string,
  attribute: OnnxNode['attribute'] = [],
): OnnxNode {
  return { name, opType, domain: '', input, output: [output], attribute };
}

/** Little-endian in `rawData`, which every reader takes. */
export function floatTensor(name: string, dims: number[], values: Float32Array): OnnxTensor {
  const rawData = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => rawData.writeFloatLE(value, i * 4));
  return { name, dims, dataType: FLOAT, rawData };
}

/** Any number of rows of `width` values. */
export function rowsOf(name: string, width: number): OnnxValue {
  return {
    name,
    type: { tensorType: { elemType: FLOAT, shape: { dim: [{ dimParam: 'rows' }, { dimValue: width }] } } },
  };
}
