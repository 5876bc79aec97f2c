import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MovingMean } from '../../src/index.ts';

/** Rows with restarts in between; a value may be not seen, or infinite. */
const runs = fc
  .tuple(fc.integer({ min: 1, max: 11 }), fc.integer({ min: 1, max: 7 }))
  .chain(([columns, rows]) => {
    const calm = fc.double({ min: -1e3, max: 1e3, noNaN: true });
    const value = fc.oneof({ weight: 60, arbitrary: calm }, fc.constantFrom(Number.NaN, Infinity, -Infinity));
    const row = fc.oneof(
      fc.array(calm, { minLength: columns, maxLength: columns }),
      fc.array(value, { minLength: columns, maxLength: columns }),
    );
    const step = fc.record({ restart: fc.integer({ min: 0, max: 20 }).map((n) => n === 0), row });
    return fc.record({
      columns: fc.constant(columns),
      rows: fc.constant(rows),
      steps: fc.array(step, { maxLength: 40 }),
    });
  });

const plainMeans = (kept: number[][], columns: number) =>
  Array.from({ length: columns }, (_, column) => {
    const seen = kept.map((values) => values[column]!).filter((value) => !Number.isNaN(value));
    return seen.some((value) => !Number.isFinite(value))
      ? Infinity
      : seen.reduce((sum, value) => sum + value, 0) / seen.length;
  });

function push(mean: MovingMean, row: readonly number[]): number[] {
  mean.row().set(row);
  mean.advance();
  mean.average();
  return Array.from(mean.values);
}

it('is the mean of the last rows since the restart', () => {
  fc.assert(
    fc.property(runs, ({ columns, rows, steps }) => {
      const mean = new MovingMean(columns, rows);
      let kept: number[][] = [];
      for (const { restart, row } of steps) {
        if (restart) {
          mean.restart();
          kept = [];
        }
        kept = [...kept, row].slice(-rows);
        const means = push(mean, row);
        for (const [i, expected] of plainMeans(kept, columns).entries())
          if (Number.isFinite(expected)) expect(means[i]).toBeCloseTo(expected, 9);
          else expect(means[i]).toBe(expected);
      }
    }),
    { numRuns: 500 },
  );
});

it('depends on the last rows and on nothing before, to the bit', () => {
  fc.assert(
    fc.property(runs, ({ columns, rows, steps }) => {
      const all = new MovingMean(columns, rows);
      const means = steps.map(({ row }) => push(all, row)).at(-1);
      const last = new MovingMean(columns, rows);
      expect(
        steps
          .slice(-rows)
          .map(({ row }) => push(last, row))
          .at(-1),
      ).toEqual(means);
    }),
    { numRuns: 500 },
  );
});

it('takes what is far off for no more than a bound, so that sums stay exact', () => {
  const mean = new MovingMean(1, 4);
  for (const value of [1e200, 1, 2, 3]) push(mean, [value]);
  expect(mean.values[0]).toBeCloseTo((2 ** 17 + 6) / 4, 6);
  expect(push(mean, [4])).toEqual([2.5]);
});
