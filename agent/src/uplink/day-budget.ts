const DAY_MS = 24 * 3_600_000;

/** Where the count of a day outlives the process. */
export interface KeptNumbers {
  number(name: string): number;
  keepNumbers(numbers: Record<string, number>): void;
}

/**
 * Bytes that may be sent on a metered link per day (UTC). A clock that is set to another day begins that day anew:
 * a jump can cost one budget more, and never blocks.
 */
export class DayBudget {
  readonly bytesMax: number;
  private readonly kept: KeptNumbers;
  private day: number;
  private bytes: number;

  constructor(bytesMax: number, kept: KeptNumbers) {
    this.bytesMax = bytesMax;
    this.kept = kept;
    this.day = kept.number('budget_day');
    this.bytes = kept.number('budget_bytes');
  }

  /** Bytes sent on the day of `now`. */
  spent(now: number): number {
    return Math.floor(now / DAY_MS) === this.day ? this.bytes : 0;
  }

  /** Bytes that may still go on the day of `now`. */
  left(now: number): number {
    return Math.max(0, this.bytesMax - this.spent(now));
  }

  /** Milliseconds until the next day begins. */
  nextDayMs(now: number): number {
    return DAY_MS - (now % DAY_MS);
  }

  spend(bytes: number, now: number): void {
    if (this.bytesMax === Number.POSITIVE_INFINITY) return;
    this.bytes = this.spent(now) + bytes;
    this.day = Math.floor(now / DAY_MS);
    this.kept.keepNumbers({ budget_day: this.day, budget_bytes: this.bytes });
  }
}
