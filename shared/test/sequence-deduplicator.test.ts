import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SequenceDeduplicator } from '@cardan/shared';

describe('SequenceDeduplicator', () => {
  it('lets new rows pass, and drops and counts copies', () => {
    const seen = new SequenceDeduplicator();
    expect(seen.fresh('car', 1, 0, 10)).toEqual([[0, 10]]);
    expect(seen.fresh('car', 1, 0, 10)).toEqual([]);
    expect(seen.fresh('car', 1, 5, 10)).toEqual([[5, 10]]);
    expect(seen.dropped).toBe(15);
    expect(seen.fresh('car', 1, 100, 0)).toEqual([]);
  });

  it('finds what is new on both sides of what is not', () => {
    const seen = new SequenceDeduplicator();
    seen.fresh('car', 1, 20, 5);
    seen.fresh('car', 1, 30, 5);
    expect(seen.fresh('car', 1, 15, 25)).toEqual([
      [0, 5],
      [10, 15],
      [20, 25],
    ]);
    expect(seen.dropped).toBe(10);
  });

  it('keeps vehicles and outboxes apart', () => {
    const seen = new SequenceDeduplicator();
    seen.fresh('a', 1, 0, 5);
    expect(seen.fresh('b', 1, 0, 5)).toEqual([[0, 5]]);
    expect(seen.fresh('a', 2, 0, 5)).toEqual([[0, 5]]);
    expect(seen.dropped).toBe(0);
  });

  it('agrees with a set of all rows, in any order of delivery, also when it goes on from a snapshot', () => {
    const batch = fc.record({
      vehicle: fc.constantFrom('a', 'b'),
      epoch: fc.constantFrom(7, 8),
      first: fc.nat(60),
      count: fc.nat(15),
    });
    fc.assert(
      fc.property(fc.array(batch, { maxLength: 60 }), fc.nat(60), (batches, restart) => {
        let seen = new SequenceDeduplicator();
        const oracle = new Set<string>();
        let copies = 0;
        batches.forEach(({ vehicle, epoch, first, count }, i) => {
          if (i === restart)
            seen = SequenceDeduplicator.restore(
              JSON.parse(JSON.stringify(seen.snapshot())) as ReturnType<typeof seen.snapshot>,
            );
          const expected: number[] = [];
          for (let row = 0; row < count; row++) {
            const name = `${vehicle} ${epoch} ${first + row}`;
            if (oracle.has(name)) copies++;
            else expected.push(row);
            oracle.add(name);
          }
          const rows = seen
            .fresh(vehicle, epoch, first, count)
            .flatMap(([from, to]) => Array.from({ length: to - from }, (_, k) => from + k));
          expect(rows).toEqual(expected);
          expect(seen.dropped).toBe(copies);
        });
      }),
    );
  });

  const numbers = (seen: SequenceDeduplicator) => JSON.stringify(seen.snapshot()).split(',').length;

  it('needs no more memory for more rows, only for gaps', () => {
    const seen = new SequenceDeduplicator();
    seen.fresh('car', 1, 0, 50);
    const small = numbers(seen);
    for (let first = 50; first < 1_000_000; first += 50) seen.fresh('car', 1, first, 50);
    expect(numbers(seen)).toBe(small);
    // Out of order, with every gap filled in the end.
    for (let i = 0; i < 1000; i++) seen.fresh('car', 1, 1_000_000 + 2 * i + 1, 1);
    for (let i = 0; i < 1000; i++) seen.fresh('car', 1, 1_000_000 + 2 * i, 1);
    expect(numbers(seen)).toBe(small);
  });

  it('needs no more memory when it skips what is of no use, and does not count it', () => {
    const [seen, plain] = [new SequenceDeduplicator(), new SequenceDeduplicator()];
    plain.fresh('a', 1, 0, 1000);
    for (let first = 0; first < 1000; first += 2) {
      expect(seen.fresh('a', 1, first, 1)).toEqual([[0, 1]]);
      seen.skip('a', 1, first + 1, 1);
    }
    seen.skip('a', 1, 0, 1000);
    expect(seen.snapshot()).toEqual(plain.snapshot());
  });

  it('remembers a bounded number of gaps and outboxes, and forgets the oldest', () => {
    const seen = new SequenceDeduplicator();
    for (let i = 0; i < 100_000; i++) seen.fresh('car', 1, 2 * i, 1);
    expect(numbers(seen)).toBeLessThan(3000);
    expect(seen.fresh('car', 1, 199_998, 1)).toEqual([]);
    for (let epoch = 2; epoch <= 5; epoch++) seen.fresh('car', epoch, 0, 5);
    expect(seen.fresh('car', 2, 0, 5)).toEqual([]);
    expect(seen.fresh('car', 1, 199_998, 1)).toEqual([[0, 1]]);
  });
});
