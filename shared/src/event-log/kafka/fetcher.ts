import { CardanError } from '../../errors.ts';
import type { LogRecord } from '../event-log.ts';
import { type Connection, ConnectionClosed, TROUBLE_ATTEMPTS } from './cluster.ts';
import { decodeRecordBatches } from './record-batch.ts';
import { fetch, type FetchAnswer, type FetchPartition } from './requests.ts';

/** As the batches of the SQLite log: one holds at most this many bytes, unless its first record alone is larger. */
const BATCH_BYTES_MAX = 1024 * 1024;
/** What one fetch may bring per partition, and in all. */
const PARTITION_BYTES_MAX = 1024 * 1024;
const FETCH_BYTES_MAX = 8 * 1024 * 1024;
/** Fetching ahead stops when this much waits to be read: a slow consumer does not fill the memory. */
const AHEAD_BYTES_MAX = 8 * 1024 * 1024;
/** How long a fetch that tails waits at the broker for a record. */
const TAIL_WAIT_MS = 500;
/** A bounded read that gets no answer for so long gives up. */
const BOUNDED_PATIENCE_MS = 30_000;

/** Codes of the protocol. https://kafka.apache.org/protocol#protocol_error_codes */
const OFFSET_OUT_OF_RANGE = 1;
const CORRUPT_MESSAGE = 2;
const TOPIC_AUTHORIZATION_FAILED = 29;

/** What passes when the broker, or another one, is back. */
const TEMPORARY = new Set(['LOG_UNREACHABLE', 'TOPIC_UNKNOWN']);

export interface Start {
  topic: string;
  partition: number;
  next: number;
  /** Exclusive; Infinity to tail. */
  to: number;
}

/** A batch, and where its reader goes on after it. */
export interface Fetched {
  topic: string;
  partition: number;
  records: LogRecord[];
  endOffset: number;
  next: number;
}

/** One partition that is read. */
interface Cursor extends Start {
  /** The broker that leads the partition; undefined until it is known, and again when it no longer does. */
  leader: number | undefined;
  /** Where the next fetch begins; `next` is where the consumer is. */
  fetchNext: number;
  endOffset: number;
  /** What has been fetched and not been read yet. */
  ahead: { records: LogRecord[]; index: number; next: number; bytes: number }[];
}

export interface FetcherOptions {
  recordsMax: number;
  /** The topic's name as the caller knows it, for messages. */
  plainName: (topic: string) => string;
  onTrouble: (error: CardanError) => void;
}

/**
 * Reads partitions by manual assignment: it fetches ahead in the background, within bounds, and hands out batches in
 * turn. Where a broker has gone it finds the new leader; a reader that tails does so for as long as it takes.
 */
export class Fetcher {
  readonly #connection: Connection;
  readonly #options: FetcherOptions;
  #cursors: Cursor[] = [];
  #turn = 0;
  #aheadBytes = 0;
  /** Grows with every assignment: what an older one has fetched is thrown away. */
  #assignment = 0;
  /** Leaders at which a fetch of this assignment waits. */
  #asked = new Set<number>();
  #locating = false;
  /** Failures in a row, and when there was an answer last. */
  #attempts = 0;
  #answeredAt = 0;
  #failure: unknown;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(connection: Connection, options: FetcherOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  assign(starts: readonly Start[]): void {
    this.#assignment++;
    this.#asked = new Set();
    this.#locating = false;
    this.#attempts = 0;
    this.#answeredAt = performance.now();
    this.#aheadBytes = 0;
    this.#cursors = starts.map((start) => ({
      ...start,
      leader: undefined,
      fetchNext: start.next,
      endOffset: start.next,
      ahead: [],
    }));
  }

  /** Whether every partition has been read to its end. */
  get done(): boolean {
    return this.#cursors.every((cursor) => cursor.next >= cursor.to && cursor.ahead.length === 0);
  }

  /** What is there to be read now; undefined when nothing is. Throws what made fetching impossible. */
  take(): Fetched | undefined {
    this.#pump();
    if (this.#failure !== undefined) throw this.#failure as Error;
    const { length } = this.#cursors;
    for (let i = 0; i < length; i++) {
      const cursor = this.#cursors[(this.#turn + i) % length]!;
      const batch = this.#slice(cursor);
      if (batch === undefined) continue;
      this.#turn = (this.#turn + i + 1) % length;
      return batch;
    }
    return undefined;
  }

  /** Resolves when it is worth calling `take` again, or when `wake` or `close` was called. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (this.#closed || this.#failure !== undefined) resolve();
    });
  }

  wake(): void {
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.assign([]);
    this.#wake();
  }

  /** The next batch out of what one fetch has brought; gaps (compaction, transactions) are passed over. */
  #slice(cursor: Cursor): Fetched | undefined {
    for (;;) {
      const piece = cursor.ahead[0];
      if (piece === undefined) return undefined;
      const { records, index } = piece;
      let end = index;
      let bytes = 0;
      while (end < records.length && end - index < this.#options.recordsMax) {
        bytes += bytesOf(records[end]!);
        if (bytes > BATCH_BYTES_MAX && end > index) break;
        end++;
      }
      const finished = end === records.length;
      const next = finished ? piece.next : records[end]!.offset;
      if (finished) {
        cursor.ahead.shift();
        this.#aheadBytes -= piece.bytes;
      } else piece.index = end;
      cursor.next = next;
      if (end === index) continue;
      return {
        topic: cursor.topic,
        partition: cursor.partition,
        records: index === 0 && finished ? records : records.slice(index, end),
        endOffset: cursor.endOffset,
        next,
      };
    }
  }

  /** Keeps one fetch under way at each leader while there is something to fetch and room for it. */
  #pump(): void {
    if (this.#closed || this.#failure !== undefined || this.#aheadBytes >= AHEAD_BYTES_MAX) return;
    const byLeader = new Map<number, Cursor[]>();
    for (const cursor of this.#cursors) {
      if (cursor.fetchNext >= cursor.to) continue;
      if (cursor.leader === undefined) {
        if (!this.#locating) void this.#locate(this.#assignment);
        continue;
      }
      const group = byLeader.get(cursor.leader);
      if (group === undefined) byLeader.set(cursor.leader, [cursor]);
      else group.push(cursor);
    }
    for (const [leader, cursors] of byLeader) {
      // One piece in hand and one behind it. A fetch without the full ones would wait for the others' records, and
      // the next one for it.
      if (this.#asked.has(leader) || cursors.some(({ ahead }) => ahead.length > 1)) continue;
      this.#asked.add(leader);
      void this.#fetch(leader, cursors, this.#assignment);
    }
  }

  /** Finds the leaders that are not known, with fresh metadata after a failure. */
  async #locate(assignment: number): Promise<void> {
    this.#locating = true;
    try {
      if (this.#attempts > 0) await this.#connection.backoff(this.#attempts - 1);
      if (assignment !== this.#assignment) return;
      const topics = [...new Set(this.#cursors.map(({ topic }) => topic))];
      await this.#connection.run(
        async (cluster) => {
          if (this.#attempts > 0) await cluster.refreshMetadata();
          for (const cursor of this.#cursors) {
            if (cursor.leader !== undefined) continue;
            const partitions = cluster.findTopicPartitionMetadata(cursor.topic);
            const leader =
              partitions.find(({ partitionId }) => partitionId === cursor.partition)?.leader ?? -1;
            if (leader >= 0) cursor.leader = leader;
          }
        },
        {
          topics,
          patienceMs: this.#bounded ? BOUNDED_PATIENCE_MS : Number.POSITIVE_INFINITY,
          onTrouble: this.#options.onTrouble,
        },
      );
      if (this.#cursors.some(({ leader }) => leader === undefined)) this.#stumble(assignment);
    } catch (error) {
      this.#fail(error, assignment);
    }
    if (assignment !== this.#assignment) return;
    this.#locating = false;
    this.#pump();
  }

  async #fetch(leader: number, cursors: readonly Cursor[], assignment: number): Promise<void> {
    const parts = cursors.map(({ topic, partition, fetchNext }): FetchPartition => ({
      topic,
      partition,
      offset: fetchNext,
      bytesMax: PARTITION_BYTES_MAX,
    }));
    const lost = (cursor: Cursor) => {
      cursor.leader = undefined;
    };
    try {
      const waitMs = this.#bounded ? 0 : TAIL_WAIT_MS;
      const answers = await this.#connection.once(async (cluster) => {
        const broker = await cluster.findBroker({ nodeId: leader });
        return broker.connectionPool.send(fetch(parts, waitMs, FETCH_BYTES_MAX));
      });
      if (assignment !== this.#assignment) return;
      let stale = false;
      for (const answer of answers) {
        const cursor = cursors.find(
          (one) => one.topic === answer.topic && one.partition === answer.partition,
        );
        if (cursor === undefined || (await this.#keep(cursor, answer, assignment))) continue;
        lost(cursor);
        stale = true;
      }
      if (stale) this.#stumble(assignment);
      else {
        this.#attempts = 0;
        this.#answeredAt = performance.now();
      }
    } catch (error) {
      if (error instanceof CardanError && !TEMPORARY.has(error.code)) this.#fail(error, assignment);
      else {
        if (assignment === this.#assignment) cursors.forEach(lost);
        this.#stumble(assignment, error);
      }
    }
    if (assignment !== this.#assignment) return;
    this.#asked.delete(leader);
    this.#wake();
    this.#pump();
  }

  get #bounded(): boolean {
    return this.#cursors.every(({ to }) => to !== Number.POSITIVE_INFINITY);
  }

  /** Something failed that may pass: it is tried again, by a bounded read not for ever. */
  #stumble(assignment: number, error?: unknown): void {
    if (assignment !== this.#assignment) return;
    this.#attempts++;
    if (error instanceof CardanError && this.#attempts > TROUBLE_ATTEMPTS) this.#options.onTrouble(error);
    if (!this.#bounded || performance.now() - this.#answeredAt < BOUNDED_PATIENCE_MS) return;
    const names = this.#cursors.map(({ topic }) => this.#options.plainName(topic));
    this.#fail(
      error instanceof CardanError
        ? error
        : new CardanError(
            'LOG_UNREACHABLE',
            `No broker leads topic "${[...new Set(names)].join('", "')}" now.`,
          ),
      assignment,
    );
  }

  #fail(error: unknown, assignment: number): void {
    if (assignment !== this.#assignment || error instanceof ConnectionClosed) return;
    this.#failure = error;
    this.#wake();
  }

  /** Takes in what one partition has brought; false when its leader is another broker now. */
  async #keep(cursor: Cursor, answer: FetchAnswer, assignment: number): Promise<boolean> {
    const { topic, partition, errorCode } = answer;
    if (errorCode === OFFSET_OUT_OF_RANGE)
      throw new CardanError(
        'OFFSET_OUT_OF_RANGE',
        `Partition ${partition} of topic "${this.#options.plainName(topic)}" no longer has offset ${cursor.fetchNext}: the oldest records were deleted before they were read. Read from earliest, or keep records longer.`,
      );
    if (errorCode === TOPIC_AUTHORIZATION_FAILED)
      throw new CardanError('LOG_DENIED', `Kafka does not let this user read topic "${topic}".`);
    if (errorCode === CORRUPT_MESSAGE)
      throw new CardanError(
        'LOG_CORRUPT',
        `Kafka says that partition ${partition} of "${topic}" is damaged.`,
      );
    if (errorCode !== 0) return false;
    const { records, next } = await decodeRecordBatches(answer.batches, cursor.fetchNext, answer.aborted);
    if (assignment !== this.#assignment) return true;
    cursor.endOffset = answer.endOffset;
    if (next === cursor.fetchNext) return true;
    const over = records.findIndex(({ offset }) => offset >= cursor.to);
    if (over >= 0) records.length = over;
    const bytes = answer.batches.length;
    cursor.fetchNext = Math.min(next, cursor.to);
    cursor.ahead.push({ records, index: 0, next: cursor.fetchNext, bytes });
    this.#aheadBytes += bytes;
    return true;
  }
}

function bytesOf({ key, value, headers }: LogRecord): number {
  let bytes = (key?.length ?? 0) + (value?.length ?? 0);
  for (const name in headers) bytes += name.length + headers[name]!.length;
  return bytes;
}
