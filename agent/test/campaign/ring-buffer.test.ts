import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryBudget } from '../../src/campaign/memory-budget.ts';
import { RingBuffer } from '../../src/campaign/ring-buffer.ts';

const ROW_BYTES = 8 + 2 * 4;

function drained(ring: RingBuffer, time: number): [number, number[]][] {
  const rows: [number, number[]][] = [];
  ring.drain(time, (at, row) => rows.push([at, [...row]]));
  return rows;
}

describe('RingBuffer', () => {
  it('hands over what is not too old, oldest first, once', () => {
    const ring = new RingBuffer({ width: 2, keepMs: 100, bytesMax: 1e6, budget: new MemoryBudget(1e6) });
    for (let i = 0; i < 50; i++) ring.push(i * 10, Float32Array.of(i, -i));
    expect(drained(ring, 500)).toEqual(
      Array.from({ length: 10 }, (_, i) => [400 + i * 10, [40 + i, -40 - i]]),
    );
    expect(drained(ring, 500)).toEqual([]);
    expect(ring.overwritten).toBe(0);
  });

  it('loses the oldest when its bytes are used up, and counts them', () => {
    const budget = new MemoryBudget(1e6);
    const ring = new RingBuffer({ width: 2, keepMs: 1e9, bytesMax: 20 * ROW_BYTES, budget });
    for (let i = 0; i < 50; i++) ring.push(i, Float32Array.of(i, 0));
    expect(ring.bytes).toBe(20 * ROW_BYTES);
    expect(ring.overwritten).toBe(30);
    expect(drained(ring, 50).map(([time]) => time)).toEqual(Array.from({ length: 20 }, (_, i) => 30 + i));
    ring.release();
    expect(budget.free).toBe(1e6);
  });

  it('holds nothing when not one row fits', () => {
    const ring = new RingBuffer({ width: 2, keepMs: 1e9, bytesMax: 1e6, budget: new MemoryBudget(10) });
    ring.push(1, Float32Array.of(1, 2));
    expect(drained(ring, 1)).toEqual([]);
    expect(ring.overwritten).toBe(1);
  });

  it('is a list that is cut at the front', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(20), fc.boolean()), { maxLength: 300 }),
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 40 }),
        (steps, keepMs, rowsMax) => {
          const budget = new MemoryBudget(1e6);
          const ring = new RingBuffer({ width: 2, keepMs, bytesMax: rowsMax * ROW_BYTES, budget });
          let list: [number, number[]][] = [];
          let time = 0;
          steps.forEach(([gap, drain], i) => {
            time += gap;
            list = list.filter(([at]) => at >= time - keepMs);
            if (drain && i % 7 === 0) {
              expect(drained(ring, time)).toEqual(list);
              list = [];
            } else {
              ring.push(time, Float32Array.of(i, 1));
              list.push([time, [i, 1]]);
              list = list.slice(-rowsMax);
            }
          });
          expect(ring.length).toBe(list.length);
          expect(drained(ring, time)).toEqual(list);
        },
      ),
    );
  });
});
