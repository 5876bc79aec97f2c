import { describe, expect, it } from 'vitest';
import { Sampler } from '../src/sampler.ts';

function sampler(staleMs = 5000) {
  const rows: [number, number[]][] = [];
  const made = new Sampler({
    signals: 2,
    periodMs: 1000,
    staleMs,
    onRow: (time, values) => rows.push([time, [...values]]),
  });
  const see = (time: number, column: number, value: number) => {
    made.advance(time);
    made.set(column, value, time);
  };
  return { rows, see, made };
}

describe('Sampler', () => {
  it('emits one row per period with the last values seen before it', () => {
    const { rows, see } = sampler();
    see(100, 0, 1);
    see(900, 0, 2);
    see(950, 1, 7);
    see(1000, 0, 3); // belongs to the next period
    see(2500, 0, 4);
    expect(rows).toEqual([
      [1000, [2, 7]],
      [2000, [3, 7]],
    ]);
  });

  it('marks what was never seen, and what is too old, as not seen', () => {
    const { rows, see } = sampler(1500);
    see(100, 0, 1);
    see(1100, 0, 2);
    see(2100, 0, 3);
    see(2200, 1, 9);
    see(3100, 0, 4);
    for (let time = 3200; time <= 5200; time += 500) see(time, 0, 5);
    expect(rows.map(([, values]) => values[1])).toEqual([NaN, NaN, 9, NaN, NaN]);
  });

  it('does not invent rows for the time that the bus was silent', () => {
    const { rows, see } = sampler();
    see(100, 0, 1);
    see(60_500, 0, 2);
    see(61_100, 0, 3);
    expect(rows).toEqual([
      [1000, [1, NaN]],
      [61_000, [2, NaN]],
    ]);
  });

  it('starts over when time goes back, and keeps no value from the future', () => {
    const { rows, see } = sampler();
    see(100_100, 0, 1);
    see(101_100, 0, 1);
    see(5_100, 1, 2);
    see(6_100, 1, 3);
    expect(rows).toEqual([
      [101_000, [1, NaN]],
      [6_000, [NaN, 2]],
    ]);
  });

  it('gives the same rows whatever the pace at which frames are handed over', () => {
    const one = sampler();
    const other = sampler();
    for (let time = 0; time < 20_000; time += 130) one.see(time, time % 2, time);
    const times = Array.from({ length: Math.ceil(20_000 / 130) }, (_, i) => i * 130);
    for (const time of times) other.see(time, time % 2, time);
    expect(other.rows).toEqual(one.rows);
  });
});
