import { setTimeout as delay } from 'node:timers/promises';
import { CardanError, messageOf, type LogTopic } from '@cardan/shared';
import type { EventLog, LogRecord, Offsets } from '@cardan/shared/event-log';

/** After a failure of the log. */
const RETRY_MS = 1000;

export interface TopicReaderOptions {
  log: EventLog;
  topic: LogTopic;
  /** Begin so many records per partition before the end; without it, with the first record. */
  recordsBack?: number;
  /** `live` is false for what was in the log when the reader was started. */
  apply: (topic: LogTopic, records: readonly LogRecord[], live: boolean) => void;
  onProblem: (problem: CardanError) => void;
  onRecovered: () => void;
}

/** Follows a topic, from a bounded past on. Survives failures of the log: it tries again from where it was. */
export class TopicReader {
  private readonly options: TopicReaderOptions;
  private readonly stop = new AbortController();
  private readonly position = new Map<number, number>();
  private end: Offsets = {};
  private running: Promise<void> = Promise.resolve();
  /** Records before the place where the reading began. */
  skipped = 0;
  /** Everything that was there at the start has been applied. */
  caughtUp = false;

  private constructor(options: TopicReaderOptions) {
    this.options = options;
  }

  /** Pins where the past ends; the reading itself goes on in the background until `close`. */
  static async start(options: TopicReaderOptions): Promise<TopicReader> {
    const { log, topic, recordsBack = Number.POSITIVE_INFINITY } = options;
    const reader = new TopicReader(options);
    reader.end = await log.resolve(topic, 'latest');
    for (const { partition, earliest, latest } of await log.offsets(topic)) {
      // Records that came between the two calls are live ones.
      const from = Math.max(earliest, Math.min(latest, reader.end[partition] ?? latest) - recordsBack);
      reader.position.set(partition, from);
      reader.skipped += from - earliest;
    }
    reader.running = reader.follow();
    return reader;
  }

  async close(): Promise<void> {
    this.stop.abort();
    await this.running;
  }

  private async follow(): Promise<void> {
    const { signal } = this.stop;
    while (!signal.aborted) {
      try {
        if (!this.caughtUp) await this.read(false, { to: this.end });
        this.caughtUp = !signal.aborted;
        await this.read(true, {});
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CardanError && error.code === 'LOG_CLOSED') return;
        this.options.onProblem(
          error instanceof CardanError
            ? error
            : new CardanError('SERVICE_FAILED', `The monitor failed: ${messageOf(error)}`, { cause: error }),
        );
        await delay(RETRY_MS, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  private async read(live: boolean, bounds: { to?: Offsets }): Promise<void> {
    const { log, topic, apply, onRecovered } = this.options;
    const from = Object.fromEntries(this.position);
    for await (const { partition, records } of log.read(topic, {
      from,
      ...bounds,
      signal: this.stop.signal,
    })) {
      apply(topic, records, live);
      this.position.set(partition, (records.at(-1)?.offset ?? -1) + 1);
      onRecovered();
    }
  }
}
