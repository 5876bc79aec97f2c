/**
 * Turns values that arrive one by one into rows at a fixed period. A row at time t holds, for each signal,
 * the last value that was seen before t; NaN when it was never seen or is older than `staleMs`.
 *
 * The time is that of the frames, not of a clock: the same frames give the same rows at any speed, and
 * nothing wakes up while the bus is asleep.
 */
export class Sampler {
  /** Called with a row; the array is reused after the call. */
  private readonly onRow: (time: number, values: Float32Array) => void;
  private readonly periodMs: number;
  private readonly staleMs: number;
  private readonly latest: Float64Array;
  private readonly seenAt: Float64Array;
  private readonly row: Float32Array;
  private next = Number.NaN;

  constructor(options: {
    signals: number;
    /** Time between rows, milliseconds. */
    periodMs: number;
    staleMs: number;
    onRow: (time: number, values: Float32Array) => void;
  }) {
    this.onRow = options.onRow;
    this.periodMs = options.periodMs;
    this.staleMs = options.staleMs;
    this.latest = new Float64Array(options.signals);
    this.seenAt = new Float64Array(options.signals).fill(Number.NEGATIVE_INFINITY);
    this.row = new Float32Array(options.signals);
  }

  /** Moves time on to that of a frame, before its values are set; emits the row that has become due. */
  advance(time: number): void {
    if (time < this.next) {
      // Time went back by more than a row: a clock was set, or a recording begins again. Start over.
      if (time < this.next - 2 * this.periodMs) this.restart(time);
      return;
    }
    if (Number.isNaN(this.next)) {
      this.restart(time);
      return;
    }
    this.emit(this.next);
    // While the bus was silent there was nothing to sample: jump to the period that holds this frame.
    this.next = Math.max(this.next + this.periodMs, Math.ceil(time / this.periodMs) * this.periodMs);
    if (this.next <= time) this.next += this.periodMs;
  }

  /** A signal's value, seen at the time of the last `advance`. */
  set(column: number, value: number, time: number): void {
    this.latest[column] = value;
    this.seenAt[column] = time;
  }

  private restart(time: number): void {
    this.seenAt.fill(Number.NEGATIVE_INFINITY);
    this.next = (Math.floor(time / this.periodMs) + 1) * this.periodMs;
  }

  private emit(time: number): void {
    let seen = false;
    for (let column = 0; column < this.row.length; column++) {
      const fresh = time - this.seenAt[column]! <= this.staleMs;
      this.row[column] = fresh ? this.latest[column]! : Number.NaN;
      seen ||= fresh;
    }
    if (seen) this.onRow(time, this.row);
  }
}
