import { SCORE_ROWS_MAX } from '@cardan/shared';

/**
 * The last rows, as many as a score may depend on: a model that begins while the car drives is given them first,
 * and so scores from its first row on. The arrays are used again, so that driving makes no garbage.
 */
export class RecentRows {
  private readonly rows: { time: number; values: Float32Array }[] = [];
  private next = 0;

  push(time: number, values: Float32Array): void {
    const row = this.rows[this.next];
    if (row === undefined) this.rows.push({ time, values: values.slice() });
    else {
      row.time = time;
      row.values.set(values);
    }
    this.next = this.next + 1 === SCORE_ROWS_MAX ? 0 : this.next + 1;
  }

  /** From the oldest to the newest. */
  *[Symbol.iterator](): Generator<Readonly<{ time: number; values: Float32Array }>> {
    const { rows, next } = this;
    for (let i = 0; i < rows.length; i++)
      yield rows[(rows.length < SCORE_ROWS_MAX ? i : next + i) % rows.length]!;
  }
}
