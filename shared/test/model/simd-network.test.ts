import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ACTIVATIONS, DenseExecutor, type DenseLayer } from '../../src/index.ts';
import { activate } from '../../src/model/dense.ts';
import { simdNetwork } from '../../src/model/simd-network.ts';

/** Any stack of layers, with stretches of weights that are zero, and rows for it, with what is not finite among them. */
const networks = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 2, maxLength: 6 }).chain((sizes) => {
  const floats = (length: number) =>
    fc.float32Array({ minLength: length, maxLength: length, min: -4, max: 4, noNaN: true });
  const layers = sizes.slice(1).map((units, i): fc.Arbitrary<DenseLayer> =>
    fc.record({
      name: fc.constant(`dense_${i}`),
      inputs: fc.constant(sizes[i]!),
      units: fc.constant(units),
      activation: fc.constantFrom(...ACTIVATIONS),
      kernel: fc
        .tuple(floats(sizes[i]! * units), fc.nat(sizes[i]! - 1), fc.nat(sizes[i]!), fc.boolean())
        .map(([kernel, first, behind, isSparse]) =>
          kernel.map((weight, k) => {
            const input = Math.floor(k / units);
            return isSparse && (input < first || input >= behind) ? 0 * weight : weight;
          }),
        ),
      bias: fc.oneof(floats(units), fc.constant(new Float32Array(units).fill(-0))),
    }),
  );
  const calm = fc.float({ min: -10, max: 10, noNaN: true });
  const row = fc.oneof(
    fc.array(calm, { minLength: sizes[0]!, maxLength: sizes[0]! }),
    fc.array(fc.oneof(fc.float(), calm), { minLength: sizes[0]!, maxLength: sizes[0]! }),
  );
  return fc.tuple(fc.tuple(...layers), fc.array(row, { minLength: 1, maxLength: 4 }));
});

it('is what runs here', () => {
  const layer = { name: 'd', inputs: 1, units: 1, kernel: Float32Array.of(2), bias: Float32Array.of(1) };
  expect(simdNetwork([{ ...layer, activation: 'linear' }])).not.toBeInstanceOf(DenseExecutor);
});

/** Every weight of every layer, in the order of the inputs. */
function byDefinition(layers: readonly DenseLayer[], row: readonly number[]): number[] {
  return layers.reduce((input, { units, activation, kernel, bias }) => {
    const output = Float64Array.from({ length: units }, (_, unit) =>
      input.reduce((sum, value, i) => sum + value * kernel[i * units + unit]!, bias[unit]!),
    );
    activate(activation, output);
    return Array.from(output);
  }, Array.from(row));
}

it('gives the bits of the dense executor and of the definition, whatever the network and the row', () => {
  fc.assert(
    fc.property(networks, ([layers, rows]) => {
      const [simd, plain] = [simdNetwork(layers), new DenseExecutor(layers)];
      expect([simd.inputs, simd.outputs]).toEqual([plain.inputs, plain.outputs]);
      // `toEqual` tells −0 from 0, and takes NaN for NaN.
      for (const row of rows) {
        const expected = byDefinition(layers, row);
        expect(Array.from(plain.run(row))).toEqual(expected);
        expect(Array.from(simd.run(row))).toEqual(expected);
      }
    }),
    { numRuns: 1000 },
  );
});
