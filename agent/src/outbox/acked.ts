/** Beyond this the oldest ranges are forgotten, and sent again: copies only. */
const RANGES_MAX = 1000;

interface Range {
  first: number;
  last: number;
  /** How many of them are in the file. */
  count: number;
}

/** Sequence numbers that are in the log and could not be deleted from the file yet, as the disk takes not even that. */
export class AckedRanges {
  private ranges: Range[] = [];

  /** How many rows (events) of the file these are. */
  get count(): number {
    return this.ranges.reduce((sum, { count }) => sum + count, 0);
  }

  get oldest(): Readonly<Range> | undefined {
    return this.ranges[0];
  }

  has(sequence: number): boolean {
    return this.endOf(sequence) !== undefined;
  }

  /** The last number of the range that this one is in; undefined when it is in none. */
  endOf(sequence: number): number | undefined {
    return this.ranges.find(({ first, last }) => first <= sequence && sequence <= last)?.last;
  }

  /** `countOf` says how many of them are in the file. Both ends inclusive. */
  add(first: number, last: number, countOf: (first: number, last: number) => number): void {
    const from = (this.endOf(first) ?? first - 1) + 1;
    if (from > last) return;
    const count = countOf(from, last);
    const before = this.ranges.at(-1);
    // A connection that goes on while the disk does not makes one long range.
    if (before !== undefined && before.last + 1 === from) {
      before.last = last;
      before.count += count;
      return;
    }
    this.ranges.push({ first: from, last, count });
    if (this.ranges.length > RANGES_MAX) this.ranges.shift();
  }

  removeOldest(): void {
    this.ranges.shift();
  }

  clear(): void {
    this.ranges = [];
  }
}
