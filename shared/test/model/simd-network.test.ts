import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ACTIVATIONS, DenseExecutor, type DenseLayer } from '../../src/index.ts';
import { simdNetwork } from '../../src/model/simd-network.ts';

/** Any stack of layers, and rows for it, with what is not finite among them. */
const networks = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 2, maxLength: 6 }).chain((sizes) => {
  const floats = (length: number) =>
    fc.float32Array({ minLength: length, maxLength: length, min: -4, max: 4, noNaN: true });
  const layers = sizes.slice(1).map((units, i): fc.Arbitrary<DenseLayer> =>
    fc.record({
      name: fc.constant(`dense_${i}`),
      inputs: fc.constant(sizes[i]!),
      units: fc.constant(units),
      activation: fc.constantFrom(...ACTIVATIONS),
      kernel: floats(sizes[i]! * units),
      bias: floats(units),
    }),
  );
  const row = fc.array(fc.oneof(fc.float(), fc.float({ min: -10, max: 10, noNaN: true })), {
    minLength: sizes[0]!,
    maxLength: sizes[0]!,
  });
  return fc.tuple(fc.tuple(...layers), fc.array(row, { minLength: 1, maxLength: 4 }));
});

it('is what runs here', () => {
  const layer = { name: 'd', inputs: 1, units: 1, kernel: Float32Array.of(2), bias: Float32Array.of(1) };
  expect(simdNetwork([{ ...layer, activation: 'linear' }])).not.toBeInstanceOf(DenseExecutor);
});

it('gives the bits of the dense executor, whatever the network and the row', () => {
  fc.assert(
    fc.property(networks, ([layers, rows]) => {
      const [simd, plain] = [simdNetwork(layers), new DenseExecutor(layers)];
      expect([simd.inputs, simd.outputs]).toEqual([plain.inputs, plain.outputs]);
      // `toEqual` tells −0 from 0, and takes NaN for NaN.
      for (const row of rows) expect(Array.from(simd.run(row))).toEqual(Array.from(plain.run(row)));
    }),
    { numRuns: 500 },
  );
});
