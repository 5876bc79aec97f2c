import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Moments } from '@cardan/shared';

const values = fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { maxLength: 50 });

/** By definition, in two passes. */
function expected(all: number[]): { n: number; mean: number; variance: number } {
  const n = all.length;
  if (n === 0) return { n, mean: 0, variance: 0 };
  const mean = all.reduce((a, b) => a + b) / n;
  return { n, mean, variance: all.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n };
}

function of(all: number[]): Moments {
  const moments = new Moments();
  for (const value of all) moments.push(value);
  return moments;
}

test('are mean and variance by their definition, however the values are divided into sets', () => {
  fc.assert(
    fc.property(fc.array(values, { maxLength: 5 }), (sets) => {
      const together = new Moments();
      for (const set of sets) together.add(of(set).data);
      for (const moments of [together, of(sets.flat())]) {
        const { n, mean, variance } = expected(sets.flat());
        expect(moments.data.n).toBe(n);
        expect(moments.data.mean).toBeCloseTo(mean, 8);
        expect(Math.abs(moments.data.variance - variance)).toBeLessThan(1e-8 * (1 + variance));
      }
    }),
  );
});

test('keep the spread of values that are far from zero', () => {
  expect(of([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16]).data.variance).toBe(22.5);
});
