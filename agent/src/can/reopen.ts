import { setTimeout as delay } from 'node:timers/promises';
import { CardanError } from '@cardan/shared';
import type { CanFrame } from './can-frame.ts';

/** A bus that is gone is looked for again after this long, then after twice as long, up to the second one. Milliseconds. */
const WAIT_MS = 1000;
const WAIT_MS_MAX = 30_000;

export interface ReopenOptions {
  /** Told of each failure; the bus is opened again afterwards. */
  onProblem?: ((error: CardanError) => void) | undefined;
  /** Resolves after `ms`; may reject when `signal` is aborted. */
  sleep?: ((ms: number, signal: AbortSignal) => Promise<unknown>) | undefined;
}

/**
 * Reads a bus, and opens it again when it ends by itself, for as long as the agent runs: adapters are unplugged, and
 * interfaces go down and up.
 *
 * @param open yields until the bus is gone, then throws a CardanError that says so
 */
export async function* reopening(
  open: (signal: AbortSignal) => AsyncIterable<CanFrame[]>,
  signal: AbortSignal,
  { onProblem, sleep = (ms, s) => delay(ms, undefined, { signal: s }) }: ReopenOptions,
): AsyncGenerator<CanFrame[]> {
  let wait = WAIT_MS;
  while (!signal.aborted) {
    try {
      for await (const frames of open(signal)) {
        wait = WAIT_MS;
        yield frames;
      }
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      if (!signal.aborted) onProblem?.(error);
    }
    if (signal.aborted) return;
    await sleep(wait, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    wait = Math.min(2 * wait, WAIT_MS_MAX);
  }
}
