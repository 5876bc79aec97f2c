import { rmSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { CardanError, messageOf, systemCode } from '@cardan/shared';
import type { EventLog, LogRecord, Offsets } from '@cardan/shared/event-log';
import { openSqlite } from '@cardan/shared/sqlite';

/** Half of a page of vehicles is read again and again; the system caches the rest of the file. */
const CACHE_KIB = 8192;

/** A process that ends lets go of the file within this time. */
const BUSY_MS = 2000;

export interface ProjectionFileOptions {
  path: string;
  log: EventLog;
  /** What it is made from. They must be there. */
  topics: readonly string[];
  /** SQL that makes its tables. */
  schema: string;
  /** Of schema and meaning: a file of another version is made anew. */
  version: number;
}

/**
 * An SQLite file that is made from topics of the log alone, with how far it has read them: both change in one
 * transaction, so after a crash it goes on where it was. It may be deleted at any time, and is made anew from the log;
 * so it is when it is damaged, of another version, or of another log.
 */
export class ProjectionFile {
  readonly db: Database.Database;

  private constructor(db: Database.Database) {
    this.db = db;
  }

  /** Throws DATA_DIR_NOT_WRITABLE. */
  static async open(options: ProjectionFileOptions): Promise<ProjectionFile> {
    const there = ProjectionFile.tryOpen(options);
    if (there !== undefined) {
      if (await there.isOf(options.log, options.topics)) return there;
      there.close();
    }
    for (const suffix of ['', '-wal', '-shm']) rmSync(options.path + suffix, { force: true });
    try {
      return new ProjectionFile(openFile(options));
    } catch (cause) {
      throw new CardanError(
        'DATA_DIR_NOT_WRITABLE',
        `Cannot write ${options.path} (${messageOf(cause)}). Check the folder's rights and the space on its disk.`,
        { cause },
      );
    }
  }

  private static tryOpen(options: ProjectionFileOptions): ProjectionFile | undefined {
    try {
      const db = openFile(options);
      if (db.pragma('user_version', { simple: true }) === options.version) return new ProjectionFile(db);
      db.close();
    } catch (cause) {
      if (isBusy(cause))
        throw new CardanError(
          'DATA_DIR_NOT_WRITABLE',
          `Another process uses ${options.path}. Stop it, or give each registry a folder of its own.`,
          { cause },
        );
      // No database, or a damaged one.
    }
    return undefined;
  }

  /** The next offsets to read. */
  position(topic: string): Offsets {
    const rows = this.db.prepare('SELECT partition, next FROM positions WHERE topic = ?').all(topic);
    return Object.fromEntries(
      (rows as { partition: number; next: number }[]).map(({ partition, next }) => [partition, next]),
    );
  }

  /** To be called in the transaction that applies a batch; `last` is its last record. */
  advance(topic: string, partition: number, last: LogRecord): void {
    this.db
      .prepare('INSERT OR REPLACE INTO positions (topic, partition, next, last) VALUES (?, ?, ?, ?)')
      .run(topic, partition, last.offset + 1, nameOf(last));
  }

  /** Everything that `work` changes, or nothing. */
  transaction(work: () => void): void {
    this.db.prepare('BEGIN IMMEDIATE').run();
    try {
      work();
      this.db.prepare('COMMIT').run();
    } catch (error) {
      // SQLite may have rolled back by itself, for instance on a full disk.
      if (this.db.inTransaction) this.db.prepare('ROLLBACK').run();
      throw error;
    }
  }

  close(): void {
    this.db.close();
  }

  /** Whether the records that it has read last are where they were. Gone ones (retention) tell nothing. */
  private async isOf(log: EventLog, topics: readonly string[]): Promise<boolean> {
    for (const topic of topics) {
      const ends = new Map((await log.offsets(topic)).map((offsets) => [offsets.partition, offsets]));
      const read = this.db.prepare('SELECT partition, next, last FROM positions WHERE topic = ?').all(topic);
      for (const { partition, next, last } of read as { partition: number; next: number; last: string }[]) {
        const there = ends.get(partition);
        if (there === undefined || next > there.latest) return false;
        // What was deleted since was never read: the state would have a hole.
        if (next < there.earliest) return false;
        if (next === there.earliest) continue;
        const only = { partitions: [partition], recordsMax: 1 };
        const from = { [partition]: next - 1 };
        for await (const { records } of log.read(topic, { ...only, from, to: { [partition]: next } }))
          for (const record of records)
            if (record.offset === next - 1 && nameOf(record) !== last) return false;
      }
    }
    return true;
  }
}

function openFile({ path, schema, version }: ProjectionFileOptions): Database.Database {
  const db = openSqlite(path, { timeout: BUSY_MS });
  try {
    // One process has it. Without this each look-up of a poll would lock and unlock the file, and take three times as long.
    db.pragma('locking_mode = EXCLUSIVE');
    db.pragma('journal_mode = WAL');
    // What a loss of power takes from the end is read from the log again.
    db.pragma('synchronous = NORMAL');
    db.pragma(`cache_size = -${CACHE_KIB}`);
    const empty = db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get() === 0;
    if (empty)
      db.exec(`
        BEGIN;
        CREATE TABLE positions (
          topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL, last TEXT NOT NULL,
          PRIMARY KEY (topic, partition)
        ) WITHOUT ROWID;
        ${schema}
        PRAGMA user_version = ${version};
        COMMIT;`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** What tells a record from those that stand at the same place of another log. */
function nameOf({ key, timestamp, headers }: LogRecord): string {
  return `${key ?? ''} ${timestamp} ${headers.ce_id ?? ''}`;
}

function isBusy(error: unknown): boolean {
  return systemCode(error)?.startsWith('SQLITE_BUSY') ?? false;
}
