import type { CanFrame, CanSource, SourceCounters } from './can-frame.ts';

/**
 * Several buses as one source. Batches come as each bus delivers them; every source keeps its own counters. It ends when
 * all have ended, and fails when one fails.
 */
export class SeveralSources implements CanSource {
  readonly sources: readonly CanSource[];
  readonly #buses: { name: string; source: CanSource; received: number; open: boolean }[];

  /** @param names of the sources, for their counters; two of the same name are told apart by a number */
  constructor(sources: readonly CanSource[], names: readonly string[] = []) {
    this.sources = sources;
    const used = new Map<string, number>();
    this.#buses = sources.map((source, i) => {
      const name = names[i] ?? `bus ${i}`;
      const count = (used.get(name) ?? 0) + 1;
      used.set(name, count);
      return { name: count === 1 ? name : `${name} (${count})`, source, received: 0, open: false };
    });
  }

  get counters(): Record<string, SourceCounters> {
    return Object.fromEntries(
      this.#buses.map(({ name, source, received, open }) => [
        name,
        {
          state: source.state ?? (open ? 'open' : 'closed'),
          received,
          malformed: source.malformed,
          dropped: source.dropped ?? 0,
          errors: source.errors ?? 0,
        },
      ]),
    );
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
    const readers = this.#buses.map((bus) => {
      bus.open = true;
      return { bus, frames: bus.source.frames(stop.signal)[Symbol.asyncIterator]() };
    });
    type Reader = (typeof readers)[number];
    type Next = { reader: Reader; result: IteratorResult<CanFrame[]> };
    const next = (reader: Reader): Promise<Next> =>
      reader.frames.next().then((result) => ({ reader, result }));
    // One batch per bus is asked for at a time, so that a slow reader slows all of them and nothing piles up here.
    const waiting = new Map(readers.map((reader) => [reader, next(reader)]));
    try {
      while (waiting.size > 0) {
        const { reader, result } = await Promise.race(waiting.values());
        // To the end of the line: a busy bus must not keep a quiet one waiting.
        waiting.delete(reader);
        if (result.done === true) {
          reader.bus.open = false;
          continue;
        }
        waiting.set(reader, next(reader));
        reader.bus.received += result.value.length;
        yield result.value;
      }
    } finally {
      signal.removeEventListener('abort', forward);
      stop.abort();
      await Promise.allSettled(waiting.values());
      await Promise.allSettled(readers.map(async ({ frames }) => frames.return?.()));
      for (const { bus } of readers) bus.open = false;
    }
  }
}
