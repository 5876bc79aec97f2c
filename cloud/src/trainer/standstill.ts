import type { Span } from './split.ts';
import type { Turns } from './turns.ts';

/** Fewer rows are no standstill, however restless a signal is: a bus may repeat a frame for as long as that. */
const AFTER_MIN = 20;
/** So many times the rows must have been watched without any standstill near that long: hours, with red lights and parking. */
const WATCHED = 1000;

/**
 * Per signal after how many rows without a change it is stuck: `factor` times the longest standstill in rows of normal
 * running, at least 20. 0 for a signal that may stand: where that is more than `rowsMax`, or too few rows were watched to
 * know (speed stands at a red light, though not on a motorway).
 */
export async function standstillOf(
  spans: readonly Span[],
  { signals, gapMs, factor, rowsMax }: { signals: number; gapMs: number; factor: number; rowsMax: number },
  turns: Turns,
): Promise<number[]> {
  const longest = new Int32Array(signals);
  const counts = new Int32Array(signals);
  const watched = new Float64Array(signals);
  for (const { times, values } of spans) {
    counts.fill(0);
    for (let row = 1; row < times.length; row++) {
      const passed = times[row]! - times[row - 1]!;
      const gap = !(passed >= 0 && passed <= gapMs);
      for (let i = 0, at = row * signals; i < signals; i++, at++) {
        counts[i] = !gap && values[at] === values[at - signals] ? counts[i]! + 1 : 0;
        if (counts[i]! > longest[i]!) longest[i] = counts[i]!;
        if (!Number.isNaN(values[at]!)) watched[i]!++;
      }
      if (row % 1024 === 0 && turns.due) await turns.give();
    }
  }
  return Array.from(longest, (rows, i) => {
    const after = Math.max(AFTER_MIN, Math.ceil(factor * rows));
    return after > rowsMax || watched[i]! < WATCHED * after ? 0 : after;
  });
}
