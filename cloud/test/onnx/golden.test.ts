import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DenseExecutor, readDense, writeDense } from '@cardan/shared';
import { readDenseGraph } from '../../src/onnx/dense-graph.ts';
import { checkFold, fold } from '../../src/onnx/fold.ts';
import { decodeOnnx } from '../../src/onnx/onnx-format.ts';

interface Case {
  tool: string;
  file: string;
  /** Base64. */
  files: Record<string, string>;
  rows: number[][];
  /** Of onnxruntime. */
  outputs: number[][];
}
const golden = JSON.parse(readFileSync(`${import.meta.dirname}/golden.json`, 'utf8')) as Record<string, Case>;

/** make-golden.py stands beside: the files of scikit-learn's, PyTorch's and Keras' exporters. */
describe('the car’s executor gives what onnxruntime gives', () => {
  it.each(Object.entries(golden))('for %s', (_, { file, files, rows, outputs }) => {
    const external = (location: string) => Buffer.from(files[location]!, 'base64');
    const graph = readDenseGraph(decodeOnnx(external(file)), external);
    const layers = fold(graph);
    expect(checkFold(graph, layers, 5)).toBeLessThan(5e-6);
    // As the car gets it.
    const { modelJson, weights } = writeDense(layers);
    const network = new DenseExecutor(readDense(modelJson, weights));
    rows.forEach((row, r) => {
      expect(outputs[r]).toHaveLength(row.length);
      outputs[r]!.forEach((value, i) => {
        const found = network.run(Float32Array.from(row))[i]!;
        expect(Math.abs(found - value) / Math.max(1, Math.abs(value))).toBeLessThan(5e-6);
      });
    });
  });

  it('from exporters of three libraries', () => {
    const names = Object.keys(golden).join();
    for (const library of ['scikit-learn', 'PyTorch', 'Keras']) expect(names).toContain(library);
  });
});
