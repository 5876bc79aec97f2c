import type { StandstillSpec } from './manifest.ts';

/**
 * Signals that show the very same value row after row. A sensor that works trembles in its last digit; one that sticks
 * shows a value that may fit all others well, so that no residual tells.
 *
 * Counts at most `countMax` rows, so that whoever has seen these alone comes to the same counts.
 */
export class StandingValues {
  /** Per signal what it adds to the last score: rows that it has stood, by those after which it is stuck; or 0. */
  readonly parts: Float64Array;
  private readonly afterRows: readonly number[];
  /** NaN: at none. */
  private readonly restAt: Float64Array;
  private readonly weight: number;
  private readonly countMax: number;
  private readonly last: Float32Array;
  /** Per signal the rows that were the same as the one before them. */
  private readonly counts: Int32Array;

  constructor({ afterRows, restAt, weight }: StandstillSpec, countMax: number) {
    this.afterRows = afterRows;
    this.restAt = Float64Array.from(afterRows, (_, i) => restAt?.[i] ?? Number.NaN);
    this.weight = weight;
    this.countMax = countMax;
    this.parts = new Float64Array(afterRows.length);
    this.last = new Float32Array(afterRows.length).fill(Number.NaN);
    this.counts = new Int32Array(afterRows.length);
  }

  /** What was before is no longer known: the next row is the first one. */
  restart(): void {
    this.last.fill(Number.NaN);
  }

  /** Takes a row; what is not seen (NaN) or at rest does not stand. Returns the score, 0 while nothing is stuck. */
  push(values: Float32Array, offset: number): number {
    const { afterRows, restAt, parts, last, counts, countMax } = this;
    let most = 0;
    for (let i = 0; i < last.length; i++) {
      const value = values[offset + i]!;
      if (value !== last[i]! || value === restAt[i]!) counts[i] = 0;
      else if (counts[i]! < countMax) counts[i]!++;
      last[i] = value;
      const after = afterRows[i]!;
      const part = after > 0 && counts[i]! >= after ? counts[i]! / after : 0;
      parts[i] = part;
      if (part > most) most = part;
    }
    return this.weight * most;
  }
}
