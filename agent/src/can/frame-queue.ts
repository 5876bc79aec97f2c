import type { CanFrame } from './can-frame.ts';

/** Frames that may wait: about ten seconds of a busy bus, and 10 MB at most. */
const WAITING_MAX = 65_536;
/** Frames in one batch, so that a full queue does not block the event loop for long. */
const BATCH_MAX = 512;

/** Between events that push frames and a reader that pulls batches. What does not fit is dropped and counted. */
export class FrameQueue {
  dropped = 0;
  #waiting: CanFrame[] = [];
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  readonly #max: number;

  constructor(max = WAITING_MAX) {
    this.#max = max;
  }

  push(frame: CanFrame): void {
    if (this.#ended || this.#waiting.length >= this.#max) {
      this.dropped++;
      return;
    }
    this.#waiting.push(frame);
    this.#wake?.();
  }

  /** What waits is still read; then the reader ends, or gets the error. */
  end(error?: Error): void {
    this.#ended = true;
    this.#error ??= error;
    this.#wake?.();
  }

  async *batches(): AsyncGenerator<CanFrame[]> {
    for (;;) {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (let i = 0; i < waiting.length; i += BATCH_MAX) yield waiting.slice(i, i + BATCH_MAX);
      if (this.#waiting.length > 0) continue;
      if (this.#ended) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }
}
