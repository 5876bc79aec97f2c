import { setTimeout as wait } from 'node:timers/promises';

/**
 * Holds a reader to a number of rows a second, over its whole run: it reads by pulling, so that whoever is slow keeps
 * nobody else waiting, and nothing gathers in its memory.
 */
export class Pace {
  readonly #rowsPerSecond: number;
  readonly #signal: AbortSignal;
  #rows = 0;
  #started = performance.now();

  /** Without `rowsPerSecond` it holds nothing back. */
  constructor(rowsPerSecond: number | undefined, signal: AbortSignal) {
    this.#rowsPerSecond = rowsPerSecond ?? Number.POSITIVE_INFINITY;
    this.#signal = signal;
  }

  /** Most records to be read at once: a slow reader takes small steps. Records hold some tens of rows. */
  get recordsMax(): number {
    return Math.min(1000, Math.ceil(this.#rowsPerSecond / 100));
  }

  /** Resolves when the next ones may be read; at once when the signal aborts. */
  async took(rows: number): Promise<void> {
    if (this.#rowsPerSecond === Number.POSITIVE_INFINITY) return;
    const now = performance.now();
    this.#rows += rows;
    const due = this.#started + (1000 * this.#rows) / this.#rowsPerSecond;
    if (due <= now) {
      // Time that was not used is not caught up on.
      this.#started = now;
      this.#rows = 0;
      return;
    }
    await wait(due - now, undefined, { signal: this.#signal }).catch(() => undefined);
  }
}
