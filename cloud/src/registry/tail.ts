import { setTimeout as delay } from 'node:timers/promises';
import { CardanError } from '@cardan/shared';
import type { Batch, EventLog, Offsets } from '@cardan/shared/event-log';
import { problemFrom } from './problem.ts';

/** After a failure of the log or of what is done with a batch. */
const RETRY_MS = 1000;

export interface TailOptions {
  log: EventLog;
  topic: string;
  /** Where a projection that is kept goes on; default with the first record. */
  from?: Offsets;
  /** Takes in a batch. After a failure it may get the same batch again, so doing it twice must be harmless. */
  apply: (batch: Batch) => void;
  /** Acts on what was taken in: once after the replay, then after every batch. */
  settle: () => Promise<void>;
  onProblem: (error: CardanError) => void;
}

/** Follows a topic: replays it from the beginning, then stays on its end. What projections are fed by. */
export class Tail {
  private readonly options: TailOptions;
  private readonly stop = new AbortController();
  private readonly position = new Map<number, number>();
  private waiting: { until: Offsets; resolve: () => void; reject: (error: unknown) => void }[] = [];
  private running: Promise<void> = Promise.resolve();

  private constructor(options: TailOptions) {
    this.options = options;
  }

  /** Resolves when everything that is in the topic now has been applied and settled. */
  static async start(options: TailOptions): Promise<Tail> {
    const tail = new Tail(options);
    const { log, topic, from = 'earliest', apply, settle } = options;
    const end = await log.resolve(topic, 'latest');
    for await (const batch of log.read(topic, { from, to: end })) apply(batch);
    for (const [partition, offset] of Object.entries(end)) tail.position.set(Number(partition), offset);
    await settle();
    tail.running = tail.follow();
    return tail;
  }

  /**
   * Resolves when everything that is in the log now has been applied and settled: read your own writes.
   * Rejects with what went wrong with it, or with LOG_CLOSED after `close`.
   */
  async caughtUp(): Promise<void> {
    const until = await this.options.log.resolve(this.options.topic, 'latest');
    if (this.isAt(until)) return;
    if (this.stop.signal.aborted) throw closed();
    await new Promise<void>((resolve, reject) => this.waiting.push({ until, resolve, reject }));
  }

  async close(): Promise<void> {
    this.stop.abort();
    await this.running;
    this.fail(closed());
  }

  private async follow(): Promise<void> {
    const { log, topic, apply, settle, onProblem } = this.options;
    const { signal } = this.stop;
    while (!signal.aborted) {
      try {
        const from = Object.fromEntries(this.position);
        for await (const batch of log.read(topic, { from, signal })) {
          apply(batch);
          await settle();
          this.advance(batch);
        }
      } catch (error) {
        this.fail(error);
        if (signal.aborted) return;
        if (error instanceof CardanError && error.code === 'LOG_CLOSED') return;
        onProblem(problemFrom(error));
        await delay(RETRY_MS, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  private advance({ partition, records }: Batch): void {
    this.position.set(partition, (records.at(-1)?.offset ?? -1) + 1);
    const here = this.waiting.filter(({ until }) => this.isAt(until));
    this.waiting = this.waiting.filter((waiter) => !here.includes(waiter));
    for (const { resolve } of here) resolve();
  }

  private isAt(until: Offsets): boolean {
    return Object.entries(until).every(
      ([partition, offset]) => (this.position.get(Number(partition)) ?? 0) >= offset,
    );
  }

  private fail(error: unknown): void {
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }
}

function closed(): CardanError {
  return new CardanError('LOG_CLOSED', 'The registry is shutting down; ask again when it is up.');
}
