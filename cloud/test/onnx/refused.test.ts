import { describe, expect, it } from 'vitest';
import { INPUT, makeNode, OUTPUT, rowsOf } from '../../src/onnx/dense-to-onnx.ts';
import { readDenseGraph } from '../../src/onnx/dense-graph.ts';
import { checkFold, fold } from '../../src/onnx/fold.ts';
import {
  decodeOnnx,
  DOUBLE,
  encodeOnnx,
  FLOAT,
  type OnnxModel,
  type OnnxNode,
  type OnnxTensor,
} from '../../src/onnx/onnx-format.ts';

const WIDTH = 3;
const vector = (name: string, values: number[], dims = [values.length]): OnnxTensor => ({
  name,
  dims,
  dataType: FLOAT,
  floatData: values,
});
const KERNEL = vector('kernel', [1, 0, 2, 0, 1, 0, 0, 3, 1], [3, 3]);

/** From the last node's output the graph's output comes. */
function model(node: OnnxNode[], change: (model: OnnxModel) => void = () => undefined): OnnxModel {
  const made: OnnxModel = {
    irVersion: 7,
    producerName: 'test',
    producerVersion: '',
    opsetImport: [{ domain: '', version: 13 }],
    metadataProps: [],
    functions: [],
    graph: {
      name: 'test',
      node,
      initializer: [{ ...KERNEL }, vector('three', [1, 2, 4]), vector('two', [1, 2]), vector('one', [2], [])],
      sparseInitializer: [],
      input: [rowsOf(INPUT, WIDTH)],
      output: [rowsOf(OUTPUT, WIDTH)],
    },
  };
  change(made);
  return made;
}
const int = (name: string, i: number) => ({ name, type: 2, i });
const read = (made: OnnxModel) =>
  readDenseGraph(decodeOnnx(encodeOnnx(made)), (location) => {
    throw new Error(`${location} was asked for`);
  });
const refusal = (made: OnnxModel): string => {
  try {
    fold(read(made));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ONNX_UNSUPPORTED' });
    return (error as Error).message;
  }
  throw new Error('it is not refused');
};
const product = makeNode('', 'MatMul', [INPUT, 'kernel'], 'a');

describe('a graph that a car cannot run is refused, naming the node and its operator:', () => {
  it.each<[string, OnnxNode[], string]>([
    ['an operator that is not known', [makeNode('n', 'Gelu', [INPUT], OUTPUT)], 'node "n" (Gelu): a car’s'],
    ['a branch', [product, makeNode('n', 'Add', ['a', INPUT], OUTPUT)], 'node "n" (Add): it uses "features"'],
    ['a square', [makeNode('n', 'Mul', [INPUT, INPUT], OUTPUT)], 'node "n" (Mul): it combines the row'],
    [
      'a matrix of another width',
      [makeNode('', 'Add', [INPUT, 'two'], OUTPUT)],
      'node "reconstruction" (Add)',
    ],
    ['a quotient by the row', [makeNode('n', 'Div', ['one', INPUT], OUTPUT)], '(Div): it divides by the row'],
    [
      'the row at the right',
      [makeNode('n', 'MatMul', ['kernel', INPUT], OUTPUT)],
      '(MatMul): the row stands',
    ],
    [
      'whole numbers',
      [makeNode('n', 'Cast', [INPUT], OUTPUT, [int('to', 7)])],
      'node "n" (Cast): it makes the type 7',
    ],
    [
      'a transposed row',
      [makeNode('n', 'Gemm', [INPUT, 'kernel'], OUTPUT, [int('transA', 1)])],
      'node "n" (Gemm): it transposes the row',
    ],
    [
      'an operator of somebody else',
      [{ ...makeNode('n', 'Attention', [INPUT], OUTPUT), domain: 'com.microsoft' }],
      'node "n" (com.microsoft.Attention): operators of the domain com.microsoft',
    ],
    ['an input that nobody gives', [makeNode('n', 'Tanh', ['x'], OUTPUT)], 'nothing gives its input "x"'],
    [
      'constants that are computed',
      [makeNode('n', 'Add', ['three', 'one'], 'c'), makeNode('', 'Add', [INPUT, 'c'], OUTPUT)],
      'node "n" (Add): it computes with constants',
    ],
    ['an end that is not the output', [product], 'The graph gives "reconstruction", which is not the end'],
    [
      'more than 32 layers',
      Array.from({ length: 40 }, (_, i) =>
        makeNode('', 'MatMul', [i === 0 ? INPUT : `v${i}`, 'kernel'], i === 39 ? OUTPUT : `v${i + 1}`),
      ),
      'The graph has 40 layers; a car runs at most 32',
    ],
  ])('%s', (_, nodes, words) => {
    expect(refusal(model(nodes))).toContain(words);
  });

  it('two inputs, functions, weights outside of its folder, other types', () => {
    const nodes = [makeNode('', 'MatMul', [INPUT, 'kernel'], OUTPUT)];
    expect(refusal(model(nodes, ({ graph }) => graph.input.push(rowsOf('more', 2))))).toContain('2 inputs');
    expect(refusal(model(nodes, (made) => made.functions.push(Buffer.from('x'))))).toContain('1 functions');
    for (const location of ['../secret', '/etc/passwd', 'a/b', '.hidden'])
      expect(
        refusal(
          model(nodes, ({ graph }) => {
            const externalData = [{ key: 'location', value: location }];
            graph.initializer[0] = { ...KERNEL, floatData: [], dataLocation: 1, externalData };
          }),
        ),
      ).toContain(`is in the file "${location}", which is not beside`);
    expect(refusal(model(nodes, ({ graph }) => (graph.initializer[0]!.dataType = 10)))).toContain(
      '"kernel" has the type 10',
    );
    expect(refusal(model(nodes, ({ graph }) => (graph.initializer[0]!.dims = [3, 4])))).toContain(
      'has 9 values where its shape [3, 4] has 12',
    );
  });

  it('what does not survive float32', () => {
    // Two units that are huge and nearly equal; what follows is their difference.
    const nodes = [
      makeNode('', 'Sub', [INPUT, 'far'], 'a'),
      makeNode('', 'MatMul', ['a', 'wide'], 'b'),
      makeNode('', 'MatMul', ['b', 'differences'], OUTPUT),
    ];
    const graph = read(
      model(nodes, ({ graph }) => {
        graph.initializer.push(
          vector('far', [1e6, -1e6, 1e6]),
          vector('differences', [1, 0, 0, -1, 0, 0, 0, 0, 1], [3, 3]),
          {
            name: 'wide',
            dims: [3, 3],
            dataType: DOUBLE,
            doubleData: [0.1, 0.1000001, 0, 0.4, 0.4, 0, 0.7, 0.7, 0],
          },
        );
      }),
    );
    expect(() => checkFold(graph, fold(graph), 5)).toThrow(
      /differs by .* put the normalisation into the manifest/,
    );
  });
});

it('bytes that are no ONNX are told from a model', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('{"format":"layers-model"}'), Buffer.alloc(100, 255)])
    expect(() => decodeOnnx(bytes)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }) as Error);
});

it('what changes no value, and factors and sums beside a layer, make no layer', () => {
  const steps = ['Identity', 'Mul', 'Dropout', 'Sub', 'MatMul', 'Div', 'Add', 'Neg', 'Tanh'];
  const nodes = steps.map((op, i) => {
    const second = op === 'MatMul' ? ['kernel'] : ['Mul', 'Sub', 'Div', 'Add'].includes(op) ? ['three'] : [];
    return makeNode(
      '',
      op,
      [i === 0 ? INPUT : `v${i}`, ...second],
      i === steps.length - 1 ? OUTPUT : `v${i + 1}`,
    );
  });
  const graph = read(model(nodes));
  const layers = fold(graph);
  expect(layers).toMatchObject([{ inputs: 3, units: 3, activation: 'tanh' }]);
  expect(checkFold(graph, layers, 5)).toBeLessThan(1e-6);
});
