import type { MemoryBudget } from './memory-budget.ts';

/** Most samples of one window: 100 a second for 160 seconds. Over it the oldest leave early, and are counted. */
const SAMPLES_MAX = 16_384;
const SAMPLES_FIRST = 32;
/** A time, a value and a sum. */
const SAMPLE_BYTES = 24;

/** A statistic over the samples of one signal in the last `lengthMs`: those with time > now − lengthMs. */
export interface WindowStatistic {
  /** Samples that had to leave before their time. */
  readonly crowdedOut: number;
  /** Times must not decrease; the value is finite. */
  push(time: number, value: number): void;
  /** NaN while the window is empty. */
  value(time: number): number;
  clear(): void;
  release(): void;
}

/** A queue of samples in typed arrays, which doubles until the bound or the budget is reached. */
class SampleQueue {
  times = new Float64Array(0);
  values = new Float64Array(0);
  sums = new Float64Array(0);
  first = 0;
  count = 0;
  private readonly budget: MemoryBudget;

  constructor(budget: MemoryBudget) {
    this.budget = budget;
  }

  /** The place of the i-th oldest. */
  at(i: number): number {
    // The capacity is a power of two.
    return (this.first + i) & (this.times.length - 1);
  }

  shift(): void {
    this.first = this.at(1);
    this.count--;
  }

  /** Room for one more; false when there is none. */
  reserve(): boolean {
    const old = this.times.length;
    if (this.count < old) return true;
    const size = Math.max(SAMPLES_FIRST, 2 * old);
    if (size > SAMPLES_MAX || !this.budget.take((size - old) * SAMPLE_BYTES)) return false;
    const unrolled = (source: Float64Array<ArrayBuffer>) => {
      const target = new Float64Array(size);
      for (let i = 0; i < this.count; i++) target[i] = source[this.at(i)]!;
      return target;
    };
    const [times, values, sums] = [unrolled(this.times), unrolled(this.values), unrolled(this.sums)];
    this.times = times;
    this.values = values;
    this.sums = sums;
    this.first = 0;
    return true;
  }

  push(time: number, value: number): void {
    const at = this.at(this.count++);
    this.times[at] = time;
    this.values[at] = value;
  }

  clear(): void {
    this.first = 0;
    this.count = 0;
  }

  release(): void {
    this.budget.give(this.times.length * SAMPLE_BYTES);
    this.times = this.values = this.sums = new Float64Array(0);
    this.clear();
  }
}

/**
 * Least or greatest value by a monotonic deque: a sample that is older and not more extreme than a newer one can
 * never be the answer again, so it goes at once, and the oldest that is left is the answer.
 */
export class ExtremeWindow implements WindowStatistic {
  crowdedOut = 0;
  private readonly lengthMs: number;
  /** 1 for the greatest, −1 for the least. */
  private readonly sign: 1 | -1;
  private readonly queue: SampleQueue;

  constructor(which: 'min' | 'max', lengthMs: number, budget: MemoryBudget) {
    this.sign = which === 'max' ? 1 : -1;
    this.lengthMs = lengthMs;
    this.queue = new SampleQueue(budget);
  }

  push(time: number, value: number): void {
    const { queue, sign } = this;
    this.expire(time);
    while (queue.count > 0 && sign * queue.values[queue.at(queue.count - 1)]! <= sign * value) queue.count--;
    if (!queue.reserve()) {
      this.crowdedOut++;
      if (queue.count === 0) return;
      queue.shift();
    }
    queue.push(time, value);
  }

  value(time: number): number {
    this.expire(time);
    return this.queue.count === 0 ? Number.NaN : this.queue.values[this.queue.first]!;
  }

  clear(): void {
    this.queue.clear();
  }

  release(): void {
    this.queue.release();
  }

  private expire(time: number): void {
    const { queue } = this;
    while (queue.count > 0 && queue.times[queue.first]! <= time - this.lengthMs) queue.shift();
  }
}

/**
 * Mean of the samples. The sum is never subtracted from, since what a large value has rounded away would not come
 * back when it leaves. Instead the older part of the queue holds, with each sample, the sum from it to the part's
 * end, and the newer part has one running sum; when the older part is used up, the newer one becomes it. Each
 * sample is summed twice in its life.
 */
export class MeanWindow implements WindowStatistic {
  crowdedOut = 0;
  private readonly lengthMs: number;
  private readonly queue: SampleQueue;
  /** Samples of the older part, which is at the front of the queue. */
  private older = 0;
  private newerSum = 0;

  constructor(lengthMs: number, budget: MemoryBudget) {
    this.lengthMs = lengthMs;
    this.queue = new SampleQueue(budget);
  }

  push(time: number, value: number): void {
    const { queue } = this;
    this.expire(time);
    if (!queue.reserve()) {
      this.crowdedOut++;
      if (queue.count === 0) return;
      this.shift();
    }
    queue.push(time, value);
    this.newerSum += value;
  }

  value(time: number): number {
    this.expire(time);
    const { queue } = this;
    if (queue.count === 0) return Number.NaN;
    return ((this.older > 0 ? queue.sums[queue.first]! : 0) + this.newerSum) / queue.count;
  }

  clear(): void {
    this.queue.clear();
    this.older = 0;
    this.newerSum = 0;
  }

  release(): void {
    this.queue.release();
    this.clear();
  }

  private expire(time: number): void {
    const { queue } = this;
    while (queue.count > 0 && queue.times[queue.first]! <= time - this.lengthMs) this.shift();
  }

  private shift(): void {
    const { queue } = this;
    if (this.older === 0) {
      let sum = 0;
      for (let i = queue.count - 1; i >= 0; i--) {
        const at = queue.at(i);
        sum += queue.values[at]!;
        queue.sums[at] = sum;
      }
      this.older = queue.count;
      this.newerSum = 0;
    }
    queue.shift();
    this.older--;
  }
}
