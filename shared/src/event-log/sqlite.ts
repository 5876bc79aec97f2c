import { setImmediate as nextTurn } from 'node:timers/promises';
import type Database from 'better-sqlite3';
import { CardanError } from '../errors.ts';
import { checkRecord, checkRecordsMax, checkSubscription, checkTopic } from './checks.ts';
import type {
  Batch,
  EventLog,
  NewRecord,
  Offsets,
  PartitionLag,
  PartitionOffsets,
  Position,
  ReadOptions,
  SubscribeOptions,
  TopicConfig,
  TopicInfo,
} from './event-log.ts';
import { partitionOf } from './murmur2.ts';
import { logError, openLogFile, transaction, whenFree } from './sqlite-file.ts';
import { Groups } from './sqlite-groups.ts';
import { type NewRow, Partition, recordBytes } from './sqlite-partition.ts';
import { ChangeWatch } from './sqlite-watch.ts';
import { Writer } from './sqlite-writer.ts';

export interface SqliteEventLogOptions {
  /** The file; its folder is made when it is missing. `-wal` and `-shm` files stand beside it while open. */
  path: string;
  /** A member of a group that gives no sign for so long has lost its partitions. */
  sessionTimeoutMs?: number;
  /** How often those who wait look for records of other processes. */
  pollMs?: number;
  /** Milliseconds since 1970; the same for all processes on the file. For the sessions of groups only. */
  clock?: () => number;
}

/** A bound for the number of tables; a topic of ours has 6. */
const PARTITIONS_MAX = 256;
/** An append is one transaction, which blocks the event loop. */
const APPEND_BYTES_MAX = 64 * 1024 * 1024;

/** Reading goes along the file, and the system caches files: a small cache of our own is enough. */
const CACHE_BYTES = 4 * 1024 * 1024;
const GROUPS_CACHE_BYTES = 256 * 1024;

interface Topic extends TopicInfo {
  id: number;
  /** By number of the partition. */
  tables: readonly Partition[];
  /** Records without a key: one partition per append, the next one after it, as Kafka's sticky choice. */
  keyless: number;
}

/**
 * The event log in one SQLite file, which several processes on one machine may share.
 *
 * - An append has resolved only when the disk has it. Its records must not change before.
 * - Offsets as a position: a partition that is not named is read from its first record as `from`, and not
 *   at all as `to`. A position is resolved when the first batch is asked for.
 * - After `close`, reads and subscriptions that are under way throw LOG_CLOSED; none ends as if it were
 *   complete. After an abort they end quietly.
 * - Commits of offsets are not synced to the disk one by one: after a loss of power (not of the process)
 *   batches may be delivered again.
 * - A tombstone in a compacted topic stays as the newest record of its key.
 *
 * Errors: LOG_CLOSED, LOG_CORRUPT, LOG_VERSION, DATA_DIR_NOT_WRITABLE, TOPIC_UNKNOWN, TOPIC_EXISTS,
 * OFFSET_OUT_OF_RANGE, USAGE.
 */
export class SqliteEventLog implements EventLog {
  readonly #path: string;
  readonly #db: Database.Database;
  readonly #groupsDb: Database.Database;
  readonly #groups: Groups;
  readonly #writer: Writer;
  readonly #watch: ChangeWatch;
  readonly #topics = new Map<string, Topic>();
  #closing: Promise<void> | undefined;

  private constructor(
    db: Database.Database,
    groupsDb: Database.Database,
    options: Required<SqliteEventLogOptions>,
  ) {
    this.#path = options.path;
    this.#db = db;
    this.#groupsDb = groupsDb;
    const version = db.prepare('PRAGMA data_version').pluck();
    this.#watch = new ChangeWatch(() => version.get() as number, options.pollMs);
    const changed = () => this.#watch.wake();
    this.#writer = new Writer(db, changed);
    this.#groups = new Groups(groupsDb, { ...options, changed });
  }

  /** Opens the log, and creates it when there is no file. Throws LOG_VERSION, LOG_CORRUPT, DATA_DIR_NOT_WRITABLE. */
  static async open(options: SqliteEventLogOptions): Promise<SqliteEventLog> {
    const { path, sessionTimeoutMs = 10_000, pollMs = 20, clock = Date.now } = options;
    if (path === '' || path.startsWith(':') || path.startsWith('file:'))
      throw new CardanError('USAGE', `"${path}" is no path for a log. Name a file.`);
    const db = await openLogFile(path, 'FULL', CACHE_BYTES);
    // A connection of its own: heartbeats and commits need not wait for the disk.
    const groupsDb = await openLogFile(path, 'NORMAL', GROUPS_CACHE_BYTES);
    return new SqliteEventLog(db, groupsDb, { path, sessionTimeoutMs, pollMs, clock });
  }

  async createTopic(topic: string, config: TopicConfig): Promise<void> {
    const { partitions, compacted = false } = config;
    checkTopic(topic, config, PARTITIONS_MAX);
    const there = await this.#write(() => {
      const found = this.#find(topic);
      if (found !== undefined) return found;
      const insert = this.#db.prepare('INSERT INTO topics (name, partitions, compacted) VALUES (?, ?, ?)');
      const id = Number(insert.run(topic, partitions, compacted ? 1 : 0).lastInsertRowid);
      for (let index = 0; index < partitions; index++) this.#db.exec(Partition.schema(id, index, compacted));
      return { partitions, compacted };
    });
    if (there.partitions !== partitions || there.compacted !== compacted)
      throw new CardanError(
        'TOPIC_EXISTS',
        `Topic "${topic}" is there with ${there.partitions} partitions, ${there.compacted ? '' : 'not '}compacted. ` +
          'Use it as it is, or choose another name.',
      );
  }

  async topics(): Promise<TopicInfo[]> {
    return this.#query(() => {
      const rows = this.#db.prepare('SELECT name, partitions, compacted FROM topics ORDER BY name').all();
      return (rows as { name: string; partitions: number; compacted: number }[]).map(
        ({ name, partitions, compacted }) => ({ topic: name, partitions, compacted: compacted === 1 }),
      );
    });
  }

  async append(topic: string, records: readonly NewRecord[]): Promise<void> {
    const there = this.#query(() => this.#topic(topic));
    if (records.length === 0) return;
    let keyless: number | undefined;
    let bytes = 0;
    const rows = records.map((record, i): NewRow => {
      checkRecord(record, i, there);
      const { key, value, timestamp } = record;
      const headers = headersText(record.headers);
      const size = recordBytes(key, headers, value);
      bytes += size;
      const partition =
        key === null ? (keyless ??= there.keyless++ % there.partitions) : partitionOf(key, there.partitions);
      return { partition, timestamp, key, headers, value, bytes: size };
    });
    if (bytes > APPEND_BYTES_MAX)
      throw new CardanError(
        'USAGE',
        `An append of ${bytes} bytes is too large; at most ${APPEND_BYTES_MAX} are allowed. Append in parts.`,
      );
    try {
      await this.#writer.append(there.tables, rows, bytes);
    } catch (error) {
      throw logError(error, this.#path);
    }
  }

  async *read(topic: string, options: ReadOptions): AsyncGenerator<Batch, void, undefined> {
    const { signal } = options;
    const recordsMax = checkRecordsMax(options.recordsMax);
    const there = this.#query(() => this.#topic(topic));
    const chosen = new Set(options.partitions ?? there.tables.keys());
    for (const partition of chosen) checkPartition(there, partition);
    const cursors = this.#query(() => {
      const from = offsetsAt(there, options.from);
      const to = options.to === undefined ? undefined : offsetsAt(there, options.to);
      const unnamed = options.to === undefined ? Infinity : 0;
      return there.tables
        .filter((table) => chosen.has(table.index))
        .map((table) => ({
          table,
          next: from[table.index] ?? table.earliest(),
          to: to?.[table.index] ?? unnamed,
        }));
    });
    for (;;) {
      let idle = true;
      for (const cursor of cursors) {
        if (signal?.aborted) return;
        const read = this.#query(() => readBatch(there, cursor.table, cursor.next, recordsMax, cursor.to));
        if (read === undefined) continue;
        cursor.next = read.next;
        idle = false;
        if (read.batch !== undefined) yield read.batch;
        // Otherwise a long read would keep timers and sockets waiting for its end.
        await nextTurn();
      }
      if (cursors.every((cursor) => cursor.next >= cursor.to) || signal?.aborted) return;
      this.#query(() => {});
      if (idle) await this.#watch.changed(signal);
    }
  }

  async *subscribe(
    group: string,
    topics: readonly string[],
    options: SubscribeOptions = {},
  ): AsyncGenerator<Batch, void, undefined> {
    const { signal, from = 'earliest' } = options;
    const recordsMax = checkRecordsMax(options.recordsMax);
    checkSubscription(group, topics);
    const byId = new Map(
      topics.map((topic) => this.#query(() => this.#topic(topic))).map((topic) => [topic.id, topic]),
    );
    const start = (table: Partition) => (from === 'earliest' ? table.earliest() : table.state().next);
    const members = [...byId.values()].map(({ id, partitions, tables }) => ({
      id,
      partitions,
      start: (partition: number) => start(tables[partition]!),
    }));
    const member = await this.#tried(this.#groups.join(group, members));
    try {
      for (let turn = 0; ;) {
        if (signal?.aborted) return;
        const leases = await this.#tried(member.leases());
        let delivered = false;
        for (let i = 0; i < leases.length && !delivered; i++) {
          const lease = leases[(turn + i) % leases.length]!;
          const topic = byId.get(lease.topic)!;
          const table = topic.tables[lease.partition]!;
          const read = this.#query(() => readBatch(topic, table, lease.next, recordsMax));
          if (read === undefined) continue;
          if (read.batch === undefined) {
            lease.next = read.next;
            continue;
          }
          delivered = true;
          turn = (turn + i + 1) % leases.length;
          member.take(lease);
          yield read.batch;
          await this.#tried(member.commit(read.next));
          await nextTurn();
        }
        if (!delivered) await this.#watch.changed(signal);
        this.#query(() => {});
      }
    } finally {
      await this.#groups.leave(member);
    }
  }

  async resolve(topic: string, position: Position): Promise<Offsets> {
    return this.#query(() => {
      const there = this.#topic(topic);
      const offsets = offsetsAt(there, position);
      return Object.fromEntries(
        there.tables.map((table) => [table.index, offsets[table.index] ?? table.earliest()]),
      );
    });
  }

  async offsets(topic: string): Promise<PartitionOffsets[]> {
    return this.#query(() =>
      this.#topic(topic).tables.map((table) => ({
        partition: table.index,
        earliest: table.earliest(),
        latest: table.state().next,
      })),
    );
  }

  async commit(group: string, topic: string, offsets: Offsets): Promise<void> {
    checkSubscription(group, [topic]);
    const there = this.#query(() => this.#topic(topic));
    const next = this.#query(() => offsetsAt(there, offsets));
    await this.#tried(this.#groups.commit(group, there.id, next));
  }

  async groups(): Promise<string[]> {
    return this.#query(() => this.#groups.names());
  }

  async lag(group: string): Promise<PartitionLag[]> {
    return this.#query(() => this.#groups.lag(group));
  }

  /** Writes what has been appended, leaves the groups, and closes the file. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#writer.drained();
      await this.#groups.leaveAll();
      this.#watch.stop();
      this.#groupsDb.close();
      this.#db.close();
    })();
    return this.#closing;
  }

  /** A query, or anything else that must not happen after `close`. Throws LOG_CLOSED then. */
  #query<T>(work: () => T): T {
    if (this.#closing !== undefined) throw this.#closed();
    try {
      return work();
    } catch (error) {
      throw logError(error, this.#path);
    }
  }

  /** The same for what is not done at once. */
  async #tried<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw this.#closing === undefined ? logError(error, this.#path) : this.#closed();
    }
  }

  #write<T>(work: () => T): Promise<T> {
    const attempt = () => {
      if (this.#closing !== undefined) throw this.#closed();
      return transaction(this.#db, work);
    };
    return this.#tried(whenFree(attempt));
  }

  #closed(): CardanError {
    return new CardanError('LOG_CLOSED', `The log ${this.#path} has been closed. Open it again.`);
  }

  #topic(name: string): Topic {
    const topic = this.#find(name);
    if (topic !== undefined) return topic;
    throw new CardanError(
      'TOPIC_UNKNOWN',
      `The log ${this.#path} has no topic "${name}". Create it, or check the name.`,
    );
  }

  /** Topics do not change once they are there, so that what was found may be kept. */
  #find(name: string): Topic | undefined {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    const row = this.#db.prepare('SELECT id, partitions, compacted FROM topics WHERE name = ?').get(name) as
      { id: number; partitions: number; compacted: number } | undefined;
    if (row === undefined) return undefined;
    const compacted = row.compacted === 1;
    const tables = Array.from(
      { length: row.partitions },
      (_, index) => new Partition(this.#db, row.id, index, compacted),
    );
    const topic = { topic: name, id: row.id, partitions: row.partitions, compacted, tables, keyless: 0 };
    this.#topics.set(name, topic);
    return topic;
  }
}

/** The next batch of a partition, or undefined when there is nothing to read before `to`. */
function readBatch(
  topic: Topic,
  table: Partition,
  from: number,
  recordsMax: number,
  to = Infinity,
): { batch: Batch | undefined; next: number } | undefined {
  const { next: endOffset, recordBytesMax } = table.state();
  const end = Math.min(to, endOffset);
  if (from >= end) return undefined;
  const { records, next } = table.read(from, end, recordsMax, recordBytesMax);
  // All records of the span may have been compacted away.
  if (records.length === 0) return { batch: undefined, next };
  return { batch: { topic: topic.topic, partition: table.index, records, endOffset }, next };
}

/** The offsets that a position means. Partitions that it does not name are left out. */
function offsetsAt(topic: Topic, position: Position): Record<number, number> {
  const every = (offset: (table: Partition) => number) =>
    Object.fromEntries(topic.tables.map((table) => [table.index, offset(table)]));
  if (position === 'earliest') return every((table) => table.earliest());
  if (position === 'latest') return every((table) => table.state().next);
  if (position instanceof Date) {
    const time = position.getTime();
    if (Number.isNaN(time)) throw new CardanError('USAGE', 'A position in the log is not a valid date.');
    return every((table) => table.firstAt(time));
  }
  const offsets: Record<number, number> = {};
  for (const [name, offset] of Object.entries(position)) {
    const partition = Number(name);
    checkPartition(topic, partition);
    const table = topic.tables[partition]!;
    if (!Number.isInteger(offset) || !table.has(offset))
      throw new CardanError(
        'OFFSET_OUT_OF_RANGE',
        `Partition ${partition} of topic "${topic.topic}" has no offset ${offset}; it has ` +
          `${table.earliest()} to ${table.state().next}. Is this the log that the offset was taken from?`,
      );
    offsets[partition] = offset;
  }
  return offsets;
}

function checkPartition(topic: Topic, partition: number): void {
  if (topic.tables[partition] === undefined)
    throw new CardanError(
      'USAGE',
      `Topic "${topic.topic}" has no partition ${partition}; it has 0 to ${topic.partitions - 1}.`,
    );
}

function headersText(headers: NewRecord['headers']): string | null {
  return headers === undefined || Object.keys(headers).length === 0 ? null : JSON.stringify(headers);
}
