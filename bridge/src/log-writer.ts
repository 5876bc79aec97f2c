import { setTimeout as pause } from 'node:timers/promises';
import { CardanError, messageOf, type LogTopic } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { BRIDGE_DEFAULTS } from './config.ts';
import type { Delivery } from './mqtt-link.ts';
import type { VehicleRecord } from './vehicle-message.ts';

/** A message, and the record that it becomes; undefined when there is nothing to append, only to acknowledge. */
export interface Item {
  delivery: Delivery;
  content: VehicleRecord | undefined;
}

export interface LogWriterOptions {
  log: EventLog;
  queueBytesMax: number;
  /** 0 to 1, for the length of pauses. */
  random: () => number;
  /** Given what is in the log now, in the order in which it came. Nothing further is appended until it resolves. */
  onAppended: (items: readonly Item[]) => Promise<void>;
  /** Makes a dead letter of a record that the log refuses for good. */
  toDeadLetter: (item: Item, refusal: CardanError) => VehicleRecord;
  onRetry: (error: CardanError) => void;
  /** Told of each append that has resolved. */
  onSeconds: (topic: LogTopic, seconds: number) => void;
}

/** What an item takes in memory beside its payload: texts of the headers, objects; bytes. */
const OVERHEAD_BYTES = 1000;
const TRUNCATED = 'truncated-from';

/**
 * Puts items into the log, in bounded batches and in the order in which they came. While the log does not take them
 * it tries again with growing pauses, for ever. Only what the log will never take goes to `dead-letters` instead:
 * found by halving.
 */
export class LogWriter {
  private readonly options: LogWriterOptions;
  private queue: Item[] = [];
  /** Items and bytes that are not in the log yet, those being appended included. */
  private items = 0;
  private bytes = 0;
  private running: Promise<void> | undefined;
  private readonly givingUp = new AbortController();
  private readonly gaveUp = new Promise<void>((resolve) => {
    this.givingUp.signal.addEventListener('abort', () => resolve());
  });
  private readonly failing = new Map<LogTopic, CardanError>();

  constructor(options: LogWriterOptions) {
    this.options = options;
  }

  get heldItems(): number {
    return this.items;
  }

  get heldBytes(): number {
    return this.bytes;
  }

  get full(): boolean {
    return this.bytes >= this.options.queueBytesMax;
  }

  /** Why the log takes nothing now; undefined when it does. */
  get problem(): CardanError | undefined {
    const [problem] = this.failing.values();
    return problem;
  }

  add(item: Item): void {
    this.queue.push(item);
    this.items++;
    this.bytes += sizeOf(item);
    this.running ??= this.run();
  }

  /** Resolves when nothing is held any more, or after `giveUp`. */
  async idle(): Promise<void> {
    await Promise.race([this.running, this.gaveUp]);
  }

  /** Appends nothing more. What is held is not acknowledged. */
  giveUp(): void {
    this.givingUp.abort();
  }

  /** Appends until the queue is empty. What arrives meanwhile makes the next, larger batch. */
  private async run(): Promise<void> {
    // One turn of the event loop collects what one read of the socket has brought.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.queue.length > 0) {
      const { items, bytes } = this.next();
      await this.appendAll(items);
      this.items -= items.length;
      this.bytes -= bytes;
      await this.options.onAppended(items);
    }
    this.running = undefined;
  }

  /** The oldest items, as many as may be appended at once. */
  private next(): { items: Item[]; bytes: number } {
    const { appendBytesMax, appendRecordsMax } = BRIDGE_DEFAULTS;
    const { queue } = this;
    let count = 0;
    let bytes = 0;
    while (count < queue.length && count < appendRecordsMax) {
      const size = sizeOf(queue[count]!);
      if (count > 0 && bytes + size > appendBytesMax) break;
      bytes += size;
      count++;
    }
    if (count < queue.length) return { items: queue.splice(0, count), bytes };
    this.queue = [];
    return { items: queue, bytes };
  }

  private async appendAll(items: readonly Item[]): Promise<void> {
    const byTopic = new Map<LogTopic, Item[]>();
    for (const item of items) {
      if (item.content === undefined) continue;
      const group = byTopic.get(item.content.topic);
      if (group === undefined) byTopic.set(item.content.topic, [item]);
      else group.push(item);
    }
    await Promise.all([...byTopic].map(([topic, group]) => this.append(topic, group)));
  }

  /** Resolves when all of them are in the log, or dead letters of them are. */
  private async append(topic: LogTopic, items: readonly Item[]): Promise<void> {
    const { log, onRetry, onSeconds, toDeadLetter } = this.options;
    const records = items.map(({ content }) => content!.record);
    for (let tries = 0; !this.givingUp.signal.aborted; tries++) {
      let problem: CardanError;
      try {
        const began = performance.now();
        await log.append(topic, records);
        onSeconds(topic, (performance.now() - began) / 1000);
        this.failing.delete(topic);
        return;
      } catch (error) {
        problem = problemOf(error);
      }
      // With these two none of the records is in the log, and the same append will never succeed.
      if (problem.code === 'RECORD_REFUSED' || problem.code === 'USAGE') {
        if (items.length > 1) {
          const half = items.length >> 1;
          await this.append(topic, items.slice(0, half));
          await this.append(topic, items.slice(half));
          return;
        }
        const [item] = items as [Item];
        const letter = topic === 'dead-letters' ? truncated(item.content!) : toDeadLetter(item, problem);
        if (letter !== undefined) {
          item.content = letter;
          await this.append('dead-letters', items);
          return;
        }
      }
      this.failing.set(topic, problem);
      onRetry(problem);
      const { retryMs, retryMaxMs } = BRIDGE_DEFAULTS;
      const longest = Math.min(retryMs * 2 ** Math.min(tries, 20), retryMaxMs);
      // Bridges that lost the log together do not come back together.
      const ms = longest * (0.5 + 0.5 * this.options.random());
      await pause(ms, undefined, { signal: this.givingUp.signal }).catch(() => undefined);
    }
    // Given up: nobody waits for this any more.
    await new Promise(() => undefined);
  }
}

function sizeOf({ content }: Item): number {
  return (content?.record.value?.length ?? 0) + OVERHEAD_BYTES;
}

function problemOf(error: unknown): CardanError {
  if (error instanceof CardanError) return error;
  return new CardanError('LOG_CLOSED', `The log took no records: ${messageOf(error)}. Trying again.`, {
    cause: error,
  });
}

/** The beginning of a dead letter, for a log that does not take all of it; undefined if it is short already. */
function truncated(letter: VehicleRecord): VehicleRecord | undefined {
  const { value, headers } = letter.record;
  const { deadLetterBytes } = BRIDGE_DEFAULTS;
  if (value === null || value.length <= deadLetterBytes) return undefined;
  return {
    ...letter,
    record: {
      ...letter.record,
      value: value.subarray(0, deadLetterBytes),
      headers: { ...headers, [TRUNCATED]: String(value.length) },
    },
  };
}
