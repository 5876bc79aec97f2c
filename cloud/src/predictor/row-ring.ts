import { SCORE_ROWS_MAX } from '@cardan/shared';

/** Rows that there is room for at first: what a vehicle with the default model needs. */
const ROWS_FIRST = 64;

/**
 * The last rows of a vehicle, as many as a score may depend on: a model that comes while it drives is given them first,
 * and so scores from its first row on. Two flat arrays, as there is one of these for each vehicle of the fleet.
 */
export class RowRing {
  /** Values of a row. */
  readonly signals: number;
  private times = new Float64Array(ROWS_FIRST);
  private values: Float32Array;
  private next = 0;
  private filled = 0;

  constructor(signals: number) {
    this.signals = signals;
    this.values = new Float32Array(ROWS_FIRST * signals);
  }

  get rows(): number {
    return this.filled;
  }

  /** Takes the row at `values[offset…]`. */
  push(time: number, values: Float32Array, offset: number): void {
    const { signals } = this;
    if (this.filled === this.times.length && this.filled < SCORE_ROWS_MAX) this.grow();
    this.times[this.next] = time;
    const begin = this.next * signals;
    for (let i = 0; i < signals; i++) this.values[begin + i] = values[offset + i]!;
    this.next = this.next + 1 === this.times.length ? 0 : this.next + 1;
    if (this.filled < this.times.length) this.filled++;
  }

  /** Gives the last `rows` rows, or as many as there are, from the oldest to the newest. */
  replay(rows: number, take: (time: number, values: Float32Array, offset: number) => void): void {
    const size = this.times.length;
    const count = Math.min(rows, this.filled);
    for (let k = count; k > 0; k--) {
      const row = (this.next - k + size) % size;
      take(this.times[row]!, this.values, row * this.signals);
    }
  }

  /** Only a ring that is full grows, so its oldest row is at `next`. */
  private grow(): void {
    const { times, values, next, signals } = this;
    const size = Math.min(2 * times.length, SCORE_ROWS_MAX);
    this.times = new Float64Array(size);
    this.times.set(times.subarray(next));
    this.times.set(times.subarray(0, next), times.length - next);
    this.values = new Float32Array(size * signals);
    this.values.set(values.subarray(next * signals));
    this.values.set(values.subarray(0, next * signals), (times.length - next) * signals);
    this.next = times.length;
  }
}
