import type { CanFrame } from '../can/can-frame.ts';
import { pidFrame } from './obd-signals.ts';
import type { ObdValue } from './obd2-pids.ts';

/** The agent forgets a value after five seconds. One that is asked for more often than this needs no help. */
const PERIOD_MS_MIN = 2000;
/** A value is given again this often while it holds. */
const AGAIN_MS = 2000;
/** It holds for so many periods: one answer may be missing. */
const PERIODS_HELD = 2.5;

interface Held {
  values: ObdValue[];
  /** Until then it holds, by the time of the bus. */
  until: number;
  /** Then it is given again. */
  next: number;
}

/**
 * A coolant temperature that is asked for once a minute is known for that minute: what is asked for seldom is given to the
 * agent again between two answers, as a control unit repeats its frames.
 */
export class HeldValues {
  readonly #held = new Map<number, Held>();
  readonly #accept: (frame: CanFrame) => void;

  constructor(accept: (frame: CanFrame) => void) {
    this.#accept = accept;
  }

  /** An answer. */
  answer(pid: number, periodMs: number, values: ObdValue[], time: number): void {
    this.#accept(pidFrame(pid, values, time));
    if (periodMs > PERIOD_MS_MIN)
      this.#held.set(pid, { values, until: time + PERIODS_HELD * periodMs, next: time + AGAIN_MS });
  }

  /** The bus is at this time now. */
  advance(time: number): void {
    for (const [pid, held] of this.#held) {
      // Beyond its time; or the clock went back, and nobody knows how old it is.
      if (time > held.until || time < held.next - AGAIN_MS) this.#held.delete(pid);
      else if (time >= held.next) {
        held.next = time + AGAIN_MS;
        this.#accept(pidFrame(pid, held.values, time));
      }
    }
  }
}
