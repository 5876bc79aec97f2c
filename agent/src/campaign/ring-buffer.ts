import type { MemoryBudget } from './memory-budget.ts';

/** Rows that a ring begins with; it doubles from there as long as rows are still wanted. */
const ROWS_FIRST = 16;

/**
 * The last rows before a trigger: times and values in typed arrays, oldest first. It keeps what is at most
 * `keepMs` old, in at most `bytesMax` bytes; a row that had to go before its time is counted.
 */
export class RingBuffer {
  /** Rows that were overwritten while they were still wanted. */
  overwritten = 0;
  private readonly width: number;
  private readonly keepMs: number;
  private readonly rowsMax: number;
  private readonly budget: MemoryBudget;
  private times = new Float64Array(0);
  private values = new Float32Array(0);
  private first = 0;
  private count = 0;

  constructor(options: { width: number; keepMs: number; bytesMax: number; budget: MemoryBudget }) {
    this.width = options.width;
    this.keepMs = options.keepMs;
    this.budget = options.budget;
    this.rowsMax = Math.floor(options.bytesMax / this.rowBytes);
  }

  get length(): number {
    return this.count;
  }

  /** Bytes that are taken now. */
  get bytes(): number {
    return this.times.length * this.rowBytes;
  }

  /** Times must not decrease; the values are copied. */
  push(time: number, row: Float32Array): void {
    this.expire(time);
    if (this.count === this.times.length && !this.grow()) {
      this.overwritten++;
      if (this.count === 0) return; // there is no room for a single row
      this.shift();
    }
    const at = (this.first + this.count) % this.times.length;
    this.times[at] = time;
    this.values.set(row, at * this.width);
    this.count++;
  }

  /** Hands over the rows that are not older than `keepMs` at `time`, oldest first, and is empty afterwards. */
  drain(time: number, take: (time: number, row: Float32Array) => void): void {
    this.expire(time);
    const { width } = this;
    for (; this.count > 0; this.shift()) {
      const at = this.first;
      take(this.times[at]!, this.values.subarray(at * width, (at + 1) * width));
    }
  }

  clear(): void {
    this.first = 0;
    this.count = 0;
  }

  /** Gives the memory back. */
  release(): void {
    this.budget.give(this.bytes);
    this.times = new Float64Array(0);
    this.values = new Float32Array(0);
    this.clear();
  }

  private get rowBytes(): number {
    return 8 + 4 * this.width;
  }

  private expire(time: number): void {
    while (this.count > 0 && this.times[this.first]! < time - this.keepMs) this.shift();
  }

  private shift(): void {
    this.first = (this.first + 1) % this.times.length;
    this.count--;
  }

  private grow(): boolean {
    const rows = Math.min(this.rowsMax, Math.max(ROWS_FIRST, 2 * this.times.length));
    const more = rows - this.times.length;
    if (more <= 0 || !this.budget.take(more * this.rowBytes)) return false;
    const { width } = this;
    const times = new Float64Array(rows);
    const values = new Float32Array(rows * width);
    for (let i = 0; i < this.count; i++) {
      const at = (this.first + i) % this.times.length;
      times[i] = this.times[at]!;
      values.set(this.values.subarray(at * width, (at + 1) * width), i * width);
    }
    this.times = times;
    this.values = values;
    this.first = 0;
    return true;
  }
}
