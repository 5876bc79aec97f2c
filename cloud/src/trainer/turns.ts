import { setImmediate as immediate } from 'node:timers/promises';

/** Services share a process: a computation gives the event loop a turn this often. */
const TURN_MS = 12;

/** Gives the event loop its turns during a long computation, and stops it when its signal aborts. */
export class Turns {
  private readonly signal: AbortSignal | undefined;
  private last = performance.now();

  constructor(signal: AbortSignal | undefined) {
    this.signal = signal;
  }

  /** Whether `give` should be awaited: a promise per step would cost more than the step. */
  get due(): boolean {
    return performance.now() - this.last > TURN_MS;
  }

  /** Throws the signal's reason when it has aborted. */
  async give(): Promise<void> {
    await immediate();
    this.signal?.throwIfAborted();
    this.last = performance.now();
  }
}
