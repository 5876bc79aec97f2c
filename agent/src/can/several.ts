import type { CanFrame, CanSource } from './can-frame.ts';

/**
 * Several buses as one source. Batches come as each bus delivers them; every source keeps its own counters. It ends when
 * all have ended, and fails when one fails.
 */
export class SeveralSources implements CanSource {
  readonly sources: readonly CanSource[];

  constructor(sources: readonly CanSource[]) {
    this.sources = sources;
  }

  get malformed(): number {
    return this.sources.reduce((sum, source) => sum + source.malformed, 0);
  }

  get dropped(): number {
    return this.sources.reduce((sum, source) => sum + (source.dropped ?? 0), 0);
  }

  async *frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    const stop = new AbortController();
    const forward = () => stop.abort();
    signal.addEventListener('abort', forward, { once: true });
    if (signal.aborted) stop.abort();
    const readers = this.sources.map((source) => source.frames(stop.signal)[Symbol.asyncIterator]());
    type Next = { reader: AsyncIterator<CanFrame[]>; result: IteratorResult<CanFrame[]> };
    const next = (reader: AsyncIterator<CanFrame[]>): Promise<Next> =>
      reader.next().then((result) => ({ reader, result }));
    // One batch per bus is asked for at a time, so that a slow reader slows all of them and nothing piles up here.
    const waiting = new Map(readers.map((reader) => [reader, next(reader)]));
    try {
      while (waiting.size > 0) {
        const { reader, result } = await Promise.race(waiting.values());
        // To the end of the line: a busy bus must not keep a quiet one waiting.
        waiting.delete(reader);
        if (result.done === true) continue;
        waiting.set(reader, next(reader));
        yield result.value;
      }
    } finally {
      signal.removeEventListener('abort', forward);
      stop.abort();
      await Promise.allSettled(waiting.values());
      await Promise.allSettled(readers.map(async (reader) => reader.return?.()));
    }
  }
}
