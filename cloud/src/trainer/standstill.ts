import type { StandstillSpec } from '@cardan/shared';
import type { Span } from './split.ts';
import type { Turns } from './turns.ts';

/** Fewer rows are no standstill, however restless a signal is: a bus may repeat a frame for as long as that. */
const AFTER_MIN = 20;
/** So many times the rows must have been watched without any standstill near that long: hours, with red lights and parking. */
const WATCHED = 1000;

export interface StandstillOptions {
  signals: number;
  gapMs: number;
  /** A signal is stuck when it stands so many times as long as it ever did. */
  factor: number;
  /** Most rows that a score can count. */
  rowsMax: number;
}

/**
 * Per signal after how many rows without a change it is stuck: `factor` times the longest standstill in rows of normal
 * running, at least 20. Where that is more than `rowsMax`, the value of the longest one is where the signal rests (no air
 * flows through an engine that is off), and the others count. 0 for a signal that stands for long at other values, too, or
 * was watched for too few rows to know.
 */
export async function standstillOf(
  spans: readonly Span[],
  options: StandstillOptions,
  turns: Turns,
): Promise<Required<Omit<StandstillSpec, 'weight'>>> {
  const { signals, factor, rowsMax } = options;
  const nowhere = new Float64Array(signals).fill(Number.NaN);
  const afterOf = (rows: number) => Math.max(AFTER_MIN, Math.ceil(factor * rows));
  const all = await longestStands(spans, options, nowhere, turns);
  const rests = all.at.map((value, i) => (afterOf(all.rows[i]!) > rowsMax ? value : Number.NaN));
  const moving = await longestStands(spans, options, rests, turns);
  const afterRows = Array.from(moving.rows, (rows, i) => {
    const after = afterOf(rows);
    return after > rowsMax || moving.watched[i]! < WATCHED * after ? 0 : after;
  });
  return {
    afterRows,
    restAt: Array.from(rests, (value, i) => (afterRows[i]! > 0 && !Number.isNaN(value) ? value : null)),
  };
}

/** Per signal the longest standstill, the value of it, and how many rows have a value; but for those at rest. */
async function longestStands(
  spans: readonly Span[],
  { signals, gapMs }: StandstillOptions,
  rests: Float64Array,
  turns: Turns,
): Promise<{ rows: Int32Array; at: Float64Array; watched: Float64Array }> {
  const [longest, counts] = [new Int32Array(signals), new Int32Array(signals)];
  const [at, watched] = [new Float64Array(signals).fill(Number.NaN), new Float64Array(signals)];
  for (const { times, values } of spans) {
    counts.fill(0);
    for (let row = 1; row < times.length; row++) {
      const passed = times[row]! - times[row - 1]!;
      const gap = !(passed >= 0 && passed <= gapMs);
      for (let i = 0; i < signals; i++) {
        const value = values[row * signals + i]!;
        if (Number.isNaN(value) || value === rests[i]!) {
          counts[i] = 0;
          continue;
        }
        watched[i]!++;
        counts[i] = !gap && value === values[(row - 1) * signals + i] ? counts[i]! + 1 : 0;
        if (counts[i]! > longest[i]!) {
          longest[i] = counts[i]!;
          at[i] = value;
        }
      }
      if (row % 1024 === 0 && turns.due) await turns.give();
    }
  }
  return { rows: longest, at, watched };
}
