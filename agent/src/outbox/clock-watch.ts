import type { Clock } from './clock.ts';

/** What has to be done to times, since the clock that gave them was wrong. */
export interface Correction {
  /** Right time minus wrong time, milliseconds. */
  by: number;
  /** Whether a time, taken down at that monotonic time, is one that the wrong clock gave. */
  of: (time: number, monotonic: number) => boolean;
}

/** What the clock was when it was last looked at. */
export interface ClockState {
  /** Wall time minus monotonic time. */
  offset: number;
  known: boolean;
}

/** Smaller steps are what a clock does that is kept right; more than that is a clock that was set. */
const STEP_MS = 2000;

/** A row may be this much older or newer than the clock: the longest period of rows is an hour. */
const ROW_MS = 3_900_000;

/**
 * Notices that the wall clock has been set, by comparing it with the one that never jumps whenever there is
 * something to record: no timer wakes a sleeping car. Only what an unbelieved clock gave is corrected. When a
 * clock that was believed is set, nobody knows which of the two times is the right one, so each row keeps its own.
 */
export class ClockWatch {
  private readonly clock: Clock;
  private last: ClockState;
  private set: { atMs: number; by: number } | undefined;

  /** `last`: how an earlier process left the clock in this boot; it may have been set in between. */
  constructor(clock: Clock, last?: ClockState) {
    this.clock = clock;
    this.last = last ?? this.now();
  }

  get state(): ClockState {
    return this.last;
  }

  /** What has to be corrected since the clock was last looked at; undefined when nothing has. */
  check(): Correction | undefined {
    const before = this.last;
    this.last = this.now();
    const by = this.last.offset - before.offset;
    if (Math.abs(by) <= STEP_MS) return undefined;
    this.set = before.known ? undefined : { atMs: this.clock.monotonicMs(), by };
    if (before.known) return undefined;
    const { offset } = before;
    return { by, of: (time, monotonic) => Math.abs(time - monotonic - offset) <= ROW_MS };
  }

  /**
   * The right time of what is recorded now: a frame that waited, and the row that was being made when the clock was
   * set, still have the old one.
   */
  right(time: number): number {
    if (this.set === undefined) return time;
    const monotonic = this.clock.monotonicMs();
    if (monotonic - this.set.atMs > ROW_MS) {
      this.set = undefined;
      return time;
    }
    const now = monotonic + this.last.offset;
    const wrongNow = now - this.set.by;
    const isOld = Math.abs(time - wrongNow) < Math.abs(time - now) && Math.abs(time - wrongNow) <= ROW_MS;
    // The row that was being made had its time ahead of it; the one that follows must not be before it.
    return isOld ? Math.min(time + this.set.by, now) : time;
  }

  private now(): ClockState {
    return { offset: this.clock.wallMs() - this.clock.monotonicMs(), known: this.clock.known() };
  }
}
