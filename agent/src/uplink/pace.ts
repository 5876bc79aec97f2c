/** Keeps to a rate on average: what is sent now is paid for by waiting before the next. */
export class Pace {
  private readonly perSecond: number;
  private freeAtMs = Number.NEGATIVE_INFINITY;

  /** `perSecond` of anything, rows or bytes; infinite for no limit. */
  constructor(perSecond: number) {
    this.perSecond = perSecond;
  }

  /** Milliseconds until something may be sent; 0 now. `nowMs` is of a clock that does not jump. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.freeAtMs - nowMs);
  }

  spend(amount: number, nowMs: number): void {
    this.freeAtMs = Math.max(nowMs, this.freeAtMs) + (1000 * amount) / this.perSecond;
  }
}
