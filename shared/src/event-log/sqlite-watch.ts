/**
 * Wakes those who wait for the log to change. Changes of this connection are told to it (`wake`); those of
 * others show in the database's version, which it polls while somebody waits, and only then.
 */
export class ChangeWatch {
  readonly #version: () => number;
  readonly #pollMs: number;
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;

  /** `version` is a number that differs after every commit of another connection. */
  constructor(version: () => number, pollMs: number) {
    this.#version = version;
    this.#pollMs = pollMs;
  }

  /** Resolves at the next change (or without one: look again), and when `signal` aborts. Never rejects. */
  changed(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      if (signal?.aborted) return resolve();
      signal?.addEventListener('abort', done);
      this.#waiting.add(done);
      this.#poll();
    });
  }

  wake(): void {
    for (const done of this.#waiting) done();
  }

  /** Wakes all; who waits from now on is woken by `wake` only. */
  stop(): void {
    clearInterval(this.#timer);
    this.wake();
  }

  /** The timer keeps the process alive, as any read that is under way does; it ends when nobody waits. */
  #poll(): void {
    if (this.#timer !== undefined) return;
    // Unknown at first: what was committed between the caller's last look and now must wake it, too.
    let seen: number | undefined;
    this.#timer = setInterval(() => {
      if (this.#waiting.size === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
        return;
      }
      const version = this.#readVersion();
      if (version === undefined || version !== seen) this.wake();
      seen = version;
    }, this.#pollMs);
  }

  /** Undefined when it cannot be read: those who wait are woken and meet the error in their own query. */
  #readVersion(): number | undefined {
    try {
      return this.#version();
    } catch {
      return undefined;
    }
  }
}
