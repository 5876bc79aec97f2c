import type Database from 'better-sqlite3';
import type { LogRecord } from './event-log.ts';

/** One batch holds at most this many bytes, unless its first record alone is larger. */
export const BATCH_BYTES_MAX = 1024 * 1024;

/** Records per entry of the time index: what a search by time has to look through at most. */
const CHUNK_RECORDS = 512;

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/** What the log knows of a partition without looking at its records. */
export interface PartitionState {
  /** Offset of the record to come. */
  next: number;
  /** Latest timestamp so far; -1 when there was no record. */
  timestampMax: number;
  /** Size of the largest record so far. */
  recordBytesMax: number;
}

/** A record that has been checked and is ready for its table. */
export interface NewRow {
  partition: number;
  timestamp: number;
  key: string | null;
  /** JSON: it carries any JavaScript string, and SQLite's own functions can read it. null = none. */
  headers: string | null;
  value: Uint8Array | null;
  /** See `recordBytes`. */
  bytes: number;
}

type Row = [
  offset: number,
  timestamp: number,
  key: string | null,
  headers: string | null,
  value: Buffer | null,
];

/** One partition's table of records. Its methods run within the caller's transaction, or each in its own. */
export class Partition {
  readonly index: number;
  readonly #compacted: boolean;
  readonly #insert: Database.Statement;
  readonly #deleteOlder: Database.Statement | undefined;
  readonly #getState: Database.Statement;
  readonly #setState: Database.Statement;
  readonly #indexTime: Database.Statement;
  readonly #select: Database.Statement;
  readonly #earliest: Database.Statement;
  readonly #chunkEnd: Database.Statement;
  readonly #firstAt: Database.Statement;
  #headersText = '';
  #headers = NO_HEADERS;

  constructor(db: Database.Database, topic: number, index: number, compacted: boolean) {
    this.index = index;
    this.#compacted = compacted;
    const table = `records_${topic}_${index}`;
    const here = `topic = ${topic} AND partition = ${index}`;
    this.#insert = db.prepare(`INSERT INTO ${table} VALUES (?, ?, ?, ?, ?)`);
    this.#deleteOlder = compacted ? db.prepare(`DELETE FROM ${table} WHERE key = ?`) : undefined;
    this.#getState = db
      .prepare(`SELECT next, timestamp_max, record_bytes_max FROM partitions WHERE ${here}`)
      .raw();
    this.#setState = db.prepare(
      `UPDATE partitions SET next = ?, timestamp_max = ?, record_bytes_max = ? WHERE ${here}`,
    );
    this.#indexTime = db.prepare(`INSERT OR IGNORE INTO time_index VALUES (${topic}, ${index}, ?, ?)`);
    this.#select = db
      .prepare(
        `SELECT offset, timestamp, key, headers, value FROM ${table}
         WHERE offset >= ? AND offset < ? ORDER BY offset LIMIT ?`,
      )
      .raw();
    this.#earliest = db.prepare(`SELECT min(offset) FROM ${table}`).pluck();
    this.#chunkEnd = db
      .prepare(`SELECT chunk_end FROM time_index WHERE ${here} AND timestamp >= ? ORDER BY timestamp LIMIT 1`)
      .pluck();
    this.#firstAt = db
      .prepare(`SELECT offset FROM ${table} WHERE offset >= ? AND timestamp >= ? ORDER BY offset LIMIT 1`)
      .pluck();
  }

  /** SQL that makes the table of a new partition. */
  static schema(topic: number, index: number, compacted: boolean): string {
    const table = `records_${topic}_${index}`;
    return `
      CREATE TABLE ${table} (
        offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key TEXT, headers TEXT, value BLOB
      );
      ${compacted ? `CREATE UNIQUE INDEX ${table}_key ON ${table} (key);` : ''}
      INSERT INTO partitions VALUES (${topic}, ${index}, 0, -1, 0);`;
  }

  state(): PartitionState {
    const [next, timestampMax, recordBytesMax] = this.#getState.get() as [number, number, number];
    return { next, timestampMax, recordBytesMax };
  }

  saveState(state: PartitionState): void {
    this.#setState.run(state.next, state.timestampMax, state.recordBytesMax);
  }

  /** Appends one record and moves `state` on; the caller saves it. */
  append(record: NewRow, state: PartitionState): void {
    const offset = state.next++;
    if (offset % CHUNK_RECORDS === 0 && offset > 0) this.#indexTime.run(state.timestampMax, offset);
    if (record.timestamp > state.timestampMax) state.timestampMax = record.timestamp;
    if (record.bytes > state.recordBytesMax) state.recordBytesMax = record.bytes;
    this.#deleteOlder?.run(record.key);
    this.#insert.run(offset, record.timestamp, record.key, record.headers, record.value);
  }

  /** First offset still there, or the next one when the partition is empty. */
  earliest(): number {
    return (this.#earliest.get() as number | null) ?? this.state().next;
  }

  /** Whether a reader may begin at this offset. In a compacted topic the gaps are no loss. */
  has(offset: number): boolean {
    return offset <= this.state().next && offset >= (this.#compacted ? 0 : this.earliest());
  }

  /**
   * First offset whose timestamp is not before `time`, or the next one when there is none. That record is
   * where the running maximum of the timestamps first reaches `time`. The time index has the end of the first
   * chunk in which it has done so; as it had not at the end of the chunk before, the record is not earlier.
   */
  firstAt(time: number): number {
    const { next, timestampMax } = this.state();
    if (timestampMax < time) return next;
    const chunkEnd = this.#chunkEnd.get(time) as number | undefined;
    const chunk =
      chunkEnd === undefined ? next - (next % CHUNK_RECORDS || CHUNK_RECORDS) : chunkEnd - CHUNK_RECORDS;
    return (this.#firstAt.get(Math.max(chunk, 0), time) as number | undefined) ?? next;
  }

  /**
   * Records from `from` up to `end` (exclusive), at most `recordsMax` of them and BATCH_BYTES_MAX bytes.
   * `next` is where to go on; it skips the gaps of a compacted topic.
   */
  read(from: number, end: number, recordsMax: number, recordBytesMax: number) {
    // All rows at once is faster than one by one, where no sum of sizes can go over the bound.
    const bounded = Math.min(recordsMax, end - from) * recordBytesMax <= BATCH_BYTES_MAX;
    const args = [from, end, recordsMax] as const;
    const rows = bounded ? (this.#select.all(...args) as Row[]) : this.#pages(...args, recordBytesMax);
    const records: LogRecord[] = [];
    let bytes = 0;
    let next = end;
    for (const [offset, timestamp, key, headers, value] of rows) {
      bytes += recordBytes(key, headers, value);
      if (bytes > BATCH_BYTES_MAX && records.length > 0) {
        next = offset;
        break;
      }
      records.push({ offset, key, value, timestamp, headers: this.#decodeHeaders(headers) });
    }
    if (records.length === recordsMax) next = records.at(-1)!.offset + 1;
    return { records, next };
  }

  /**
   * Rows in pages, none of which can go over the bound. Not the library's own iterator: that is an object that
   * becomes garbage (see `openSqlite`).
   */
  *#pages(from: number, end: number, recordsMax: number, recordBytesMax: number): Generator<Row> {
    const page = Math.max(1, Math.floor(BATCH_BYTES_MAX / recordBytesMax));
    let left = recordsMax;
    for (let at = from; left > 0;) {
      const wanted = Math.min(page, left);
      const rows = this.#select.all(at, end, wanted) as Row[];
      yield* rows;
      if (rows.length < wanted) return;
      at = rows[rows.length - 1]![0] + 1;
      left -= rows.length;
    }
  }

  /** Records that follow each other mostly have the same headers: those are parsed once. */
  #decodeHeaders(text: string | null): Readonly<Record<string, string>> {
    if (text === null) return NO_HEADERS;
    if (text !== this.#headersText) {
      this.#headers = Object.freeze(JSON.parse(text) as Record<string, string>);
      this.#headersText = text;
    }
    return this.#headers;
  }
}

/** What a record counts towards the bounds of batches and transactions. */
export function recordBytes(key: string | null, headers: string | null, value: Uint8Array | null): number {
  return (key?.length ?? 0) + (headers?.length ?? 0) + (value?.byteLength ?? 0);
}
