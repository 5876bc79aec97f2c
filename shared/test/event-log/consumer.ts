import type { Batch, EventLog, SubscribeOptions } from '@cardan/shared/event-log';

/** A place to wait for a condition: it is looked at again whenever somebody says that something happened. */
export class Meeting {
  readonly #waiting = new Set<() => void>();

  happened(): void {
    for (const look of this.#waiting) look();
  }

  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition()) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }
}

/** A member of a group that finishes every batch at once and remembers what it was given. */
export class Consumer {
  readonly values: string[] = [];
  readonly partitions = new Set<number>();
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(
    log: EventLog,
    group: string,
    topics: readonly string[],
    meeting: Meeting,
    options: SubscribeOptions = {},
  ) {
    const batches = log.subscribe(group, topics, { ...options, signal: this.#abort.signal });
    this.#done = this.#run(batches, meeting);
  }

  /** Leaves the group; everything that was given has been committed. Rejects with what the log threw. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }

  async #run(batches: AsyncIterable<Batch>, meeting: Meeting): Promise<void> {
    for await (const { partition, records } of batches) {
      this.partitions.add(partition);
      for (const { value } of records) this.values.push(String(value));
      meeting.happened();
    }
  }
}
