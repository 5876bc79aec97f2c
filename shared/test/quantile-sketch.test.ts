import fc from 'fast-check';
import { expect, test } from 'vitest';
import { QuantileSketch } from '@cardan/shared';

const values = fc.array(fc.double({ min: 0.001, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 200 });
const part = fc.double({ min: 0, max: 1, noNaN: true });

function of(all: number[]): QuantileSketch {
  const sketch = new QuantileSketch();
  for (const value of all) sketch.push(value);
  return sketch;
}

test('a quantile is within one per cent of the value that is really there', () => {
  fc.assert(
    fc.property(values, part, (all, q) => {
      const exact = all.toSorted((a, b) => a - b)[Math.floor(q * (all.length - 1))]!;
      expect(Math.abs(of(all).quantile(q) / exact - 1)).toBeLessThan(0.01 + 1e-9);
    }),
  );
});

test('sketches of parts add up to the sketch of the whole, and survive JSON', () => {
  fc.assert(
    fc.property(values, values, (a, b) => {
      const together = new QuantileSketch();
      for (const set of [a, b])
        together.add(JSON.parse(JSON.stringify(of(set).data)) as QuantileSketch['data']);
      expect(together.data).toEqual(of([...a, ...b]).data);
      expect(together.n).toBe(a.length + b.length);
    }),
  );
});

test('what is beyond its range counts at the end of it; without values there is no quantile', () => {
  expect(of([0, 1e-9, 5]).quantile(0.5)).toBe(0);
  expect(of([0, 1e-9, 5]).data.zero).toBe(2);
  expect(of([1e30]).quantile(1)).toBeCloseTo(1e9, -7.5);
  expect(of([]).quantile(0.5)).toBeNaN();
  expect(of([Number.NaN, -1]).n).toBe(0);
});

test('a sketch with bins of another width is refused', () => {
  expect(() => new QuantileSketch().add({ accuracy: 0.02, zero: 0, bins: [] })).toThrow(
    expect.objectContaining({ code: 'EVENT_MALFORMED' }),
  );
});
