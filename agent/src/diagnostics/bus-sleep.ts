import type { Timers } from '../can/timers.ts';

/** A bus without a frame for this long sleeps: control units of a car that is on send many times a second. */
const SILENCE_MS = 10_000;

/** Whether the others on the bus are awake, by their frames. A bus is taken as awake at the start. */
export class BusSleep {
  readonly #timers: Timers;
  readonly #silenceMs: number;
  #heardAt: number;
  #wake: () => void = () => {};

  constructor(timers: Timers, silenceMs = SILENCE_MS) {
    this.#timers = timers;
    this.#silenceMs = silenceMs;
    this.#heardAt = timers.now();
  }

  /** A frame of somebody else has come. */
  heard(): void {
    this.#heardAt = this.#timers.now();
    this.#wake();
  }

  /** Resolves when the bus has fallen asleep, or `signal` aborts. */
  async asleep(signal: AbortSignal): Promise<void> {
    for (let left; (left = this.#heardAt + this.#silenceMs - this.#timers.now()) > 0 && !signal.aborted;)
      await this.#pause(left, signal);
  }

  /** Resolves with the next frame, after `ms`, or when `signal` aborts. The bus then counts as awake. */
  async awake(signal: AbortSignal, ms: number | null): Promise<void> {
    await this.#pause(ms, signal, true);
    this.#heardAt = this.#timers.now();
  }

  #pause(ms: number | null, signal: AbortSignal, byFrame = false): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        forget();
        signal.removeEventListener('abort', done);
        this.#wake = () => {};
        resolve();
      };
      const forget = ms === null ? () => {} : this.#timers.after(ms, done);
      signal.addEventListener('abort', done, { once: true });
      if (byFrame) this.#wake = done;
    });
  }
}
