import type { CanBus, CanFrame } from '@cardan/agent';

/** A bus in memory: what one node sends, all others get. */
export class MemoryBus {
  readonly #nodes = new Set<MemoryNode>();
  /** Every frame, in order. */
  readonly log: CanFrame[] = [];

  connect(): CanBus {
    const node = new MemoryNode((frame) => {
      this.log.push(frame);
      for (const other of this.#nodes) if (other !== node) other.take(frame);
    });
    this.#nodes.add(node);
    return node;
  }
}

class MemoryNode implements CanBus {
  readonly malformed = 0;
  readonly #put: (frame: CanFrame) => void;
  #waiting: CanFrame[] = [];
  #wake: () => void = () => {};

  constructor(put: (frame: CanFrame) => void) {
    this.#put = put;
  }

  take(frame: CanFrame): void {
    this.#waiting.push(frame);
    this.#wake();
  }

  async send(frame: CanFrame): Promise<void> {
    this.#put({ ...frame, time: Date.now(), data: frame.data.slice() });
  }

  async *frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    signal.addEventListener('abort', () => this.#wake(), { once: true });
    while (!signal.aborted) {
      if (this.#waiting.length > 0) {
        const batch = this.#waiting;
        this.#waiting = [];
        yield batch;
        continue;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
