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

it('gives the bits of the plain sum over the rows, from the oldest to the newest', () => {
  fc.assert(
    fc.property(runs, ({ columns, rows, steps }) => {
      const mean = new MovingMean(columns, rows);
      let kept: number[][] = [];
      for (const { restart, row } of steps) {
        if (restart) {
          mean.restart();
          kept = [];
        }
        mean.row().set(row);
        mean.advance();
        mean.average();
        kept = [...kept, row].slice(-rows);
        const plain = row.map((_, column) => {
          const seen = kept.map((values) => values[column]!).filter((value) => !Number.isNaN(value));
          return seen.reduce((sum, value) => sum + value, 0) / seen.length;
        });
        expect(Array.from(mean.values)).toEqual(plain);
      }
    }),
    { numRuns: 500 },
  );
});
