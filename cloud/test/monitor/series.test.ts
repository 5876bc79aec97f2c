import { describe, expect, it } from 'vitest';
import { MemoryBudget, Series, SERIES_ROWS_MAX } from '../../src/monitor/series.ts';

const NONE = new Float32Array(0);

function push(series: Series, from: number, to: number): void {
  for (let row = from; row < to; row++) series.push(row * 1000, row, 1, Float32Array.of(row, -row), 0);
}

describe('Series', () => {
  it('keeps the newest rows and their numbers', () => {
    const series = new Series(2, new MemoryBudget(1e6));
    series.reserve();
    push(series, 0, 2000);
    const part = series.part();
    expect([part.from, part.to]).toEqual([2000 - SERIES_ROWS_MAX, 2000]);
    expect(part.times).toEqual(Array.from({ length: 600 }, (_, i) => (1400 + i) * 1000));
    expect(part.columns[1]).toEqual(part.scores.map((score) => -score!));
  });

  it('hands out only what is new', () => {
    const series = new Series(2, new MemoryBudget(1e6));
    series.reserve();
    push(series, 0, 100);
    expect(series.part(98).scores).toEqual([98, 99]);
    expect(series.part(100).scores).toEqual([]);
    // A number from somewhere else means: everything.
    expect(series.part(101).scores).toHaveLength(100);
  });

  it('writes what was not seen as null', () => {
    const series = new Series(1, new MemoryBudget(1e6));
    series.reserve();
    series.push(0, Number.NaN, 0, Float32Array.of(Number.NaN), 0);
    series.push(1, Number.POSITIVE_INFINITY, 0, Float32Array.of(1.25), 0);
    expect(series.part()).toMatchObject({ scores: [null, null], columns: [[null, 1.25]] });
  });

  it('stays as small as the budget wants it, and goes on with the newest rows', () => {
    // Room for the first 64 rows and no more.
    const series = new Series(0, new MemoryBudget(64 * 14));
    series.reserve();
    for (let row = 0; row < 200; row++) series.push(row, row, 0, NONE, 0);
    const part = series.part();
    expect([part.from, part.to]).toEqual([136, 200]);
    expect(part.scores[0]).toBe(136);
  });

  it('counts rows without memory, and shows none of them afterwards', () => {
    const budget = new MemoryBudget(1e6);
    const series = new Series(0, budget);
    series.reserve();
    for (let row = 0; row < 10; row++) series.push(row, row, 0, NONE, 0);
    series.release();
    series.push(10, 10, 0, NONE, 0);
    expect(series.part()).toMatchObject({ from: 11, to: 11, scores: [] });
    series.reserve();
    series.push(11, 11, 0, NONE, 0);
    expect(series.part()).toMatchObject({ from: 11, to: 12, scores: [11] });
    expect(series.scoreAt(5)).toBeNaN();
  });
});
