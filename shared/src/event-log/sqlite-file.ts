import type Database from 'better-sqlite3';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CardanError, messageOf, systemCode } from '../errors.ts';
import { openSqlite } from '../sqlite.ts';

/**
 * The log's file. `records_{topic}_{partition}` holds the records of one partition: its primary key is the
 * offset, so an append always writes at the end of the B-tree, and dropping old records frees whole pages.
 *
 *   topics             id, name, partitions, compacted
 *   partitions         per partition: next offset, latest timestamp so far, bytes of the largest record
 *   time_index         per partition, sparse: the first chunk end at which the running maximum of the
 *                      timestamps has reached a value (see Partition.firstAt)
 *   groups             id, name, generation (grows whenever the members or the owners change)
 *   group_members      who is in a group, and until when without a further heartbeat
 *   group_partitions   committed offset, owner (null = free), and an epoch that grows with every change of
 *                      the owner: the fencing token of its commits
 */
const SCHEMA = `
  CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL, compacted INTEGER NOT NULL
  );
  CREATE TABLE partitions (
    topic INTEGER NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    timestamp_max INTEGER NOT NULL, record_bytes_max INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
  ) WITHOUT ROWID;
  CREATE TABLE time_index (
    topic INTEGER NOT NULL, partition INTEGER NOT NULL, timestamp INTEGER NOT NULL, chunk_end INTEGER NOT NULL,
    PRIMARY KEY (topic, partition, timestamp)
  ) WITHOUT ROWID;
  CREATE TABLE groups (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL
  );
  CREATE TABLE group_members (
    grp INTEGER NOT NULL, member TEXT NOT NULL, topics TEXT NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (grp, member)
  ) WITHOUT ROWID;
  CREATE TABLE group_partitions (
    grp INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL,
    committed INTEGER NOT NULL, owner TEXT, epoch INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, partition)
  ) WITHOUT ROWID;
`;

/** "CrdL": tells a Cardan log from other SQLite databases. */
const APPLICATION_ID = 0x4372644c;
const SCHEMA_VERSION = 1;

/**
 * Measured (bench/event-log.ts) with records of 4.5 kB, as telemetry has them: 4 kB pages take 4.7 kB a record
 * and 18 µs, 8 kB pages 8.4 kB and 24 µs (one record per page), 16 kB pages 5.6 kB and 13 µs. A commit of one
 * small record takes 0.27 ms instead of 0.21 ms. Memory mapping brought nothing for small records.
 */
const PAGE_BYTES = 16_384;
/** A checkpoint blocks the event loop: with 4 MiB to copy it stays short. */
const CHECKPOINT_PAGES = (4 * 1024 * 1024) / PAGE_BYTES;
/** SQLite's own wait for a lock blocks the event loop; the longer wait is `whenFree`'s. */
const LOCK_BLOCK_MS = 5;
/** With the pauses between them about 10 s: far more than any transaction of ours lasts. */
const LOCK_ATTEMPTS = 400;

/**
 * Opens the file, and creates it with its folder when there is none. `synchronous` FULL makes a commit
 * durable, NORMAL leaves that to a later FULL commit (a loss of power may take it back, a crash may not).
 *
 * Throws LOG_VERSION, LOG_CORRUPT (not a log), DATA_DIR_NOT_WRITABLE.
 */
export async function openLogFile(
  path: string,
  synchronous: 'FULL' | 'NORMAL',
  cacheBytes: number,
): Promise<Database.Database> {
  let db: Database.Database | undefined;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const opened = (db = openSqlite(path, { timeout: LOCK_BLOCK_MS }));
    await whenFree(() => create(opened, path));
    opened.pragma(`synchronous = ${synchronous}`);
    opened.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    opened.pragma(`journal_size_limit = ${16 * 1024 * 1024}`);
    opened.pragma(`cache_size = ${-Math.ceil(cacheBytes / 1024)}`);
    return opened;
  } catch (error) {
    db?.close();
    throw logError(error, path);
  }
}

/** Idempotent, also when several processes do it at once. */
function create(db: Database.Database, path: string): void {
  if (isLog(db, path)) return;
  db.pragma(`page_size = ${PAGE_BYTES}`);
  db.pragma('journal_mode = WAL');
  transaction(db, () => {
    if (isLog(db, path)) return;
    db.exec(SCHEMA);
    db.pragma(`application_id = ${APPLICATION_ID}`);
    db.pragma(`user_version = ${SCHEMA_VERSION}`);
  });
}

/** False when the file is empty; throws when it is something else than a log of this version. */
function isLog(db: Database.Database, path: string): boolean {
  const application = db.pragma('application_id', { simple: true });
  const version = db.pragma('user_version', { simple: true });
  if (application === APPLICATION_ID && version === SCHEMA_VERSION) return true;
  if (application === APPLICATION_ID)
    throw new CardanError(
      'LOG_VERSION',
      `The log ${path} has format ${String(version)}; this version of Cardan reads format ${SCHEMA_VERSION}. ` +
        'Open it with the version of Cardan that wrote it, or name another data folder.',
    );
  const tables = db.prepare('SELECT count(*) FROM sqlite_master').pluck().get();
  if (application === 0 && version === 0 && tables === 0) return false;
  throw new CardanError(
    'LOG_CORRUPT',
    `${path} is an SQLite database, but not an event log of Cardan. Name another file.`,
  );
}

/** Runs `work` in one transaction that takes the write lock at once; rolls back when it throws. */
export function transaction<T>(db: Database.Database, work: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    // Some errors (disk full, for one) have rolled back already.
    if (db.inTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

/** Runs `attempt` again while another process has the lock, with pauses in which the event loop goes on. */
export async function whenFree<T>(attempt: () => T): Promise<T> {
  for (let i = 1; ; i++) {
    try {
      return attempt();
    } catch (error) {
      if (!systemCode(error)?.startsWith('SQLITE_BUSY') || i === LOCK_ATTEMPTS) throw error;
    }
    await pause(Math.min(i, 20));
  }
}

/** What went wrong with the file, as a CardanError that says what to do. Other errors pass. */
export function logError(error: unknown, path: string): unknown {
  const code = systemCode(error);
  if (error instanceof CardanError || code === undefined) return error;
  const made = (name: 'LOG_CORRUPT' | 'LOG_FULL' | 'LOG_BUSY' | 'DATA_DIR_NOT_WRITABLE', text: string) =>
    new CardanError(name, `${text} (${messageOf(error)})`, { cause: error });
  if (code === 'SQLITE_NOTADB')
    return made(
      'LOG_CORRUPT',
      `${path} is not an event log. Name another file, or move it away: a new log begins empty.`,
    );
  if (code.startsWith('SQLITE_CORRUPT'))
    return made(
      'LOG_CORRUPT',
      `The log ${path} is damaged. Restore it from a copy, or save what is left with "sqlite3 ${path} .recover".`,
    );
  if (code === 'SQLITE_FULL')
    return made('LOG_FULL', `No space is left for the log ${path}. Free some, then go on.`);
  if (code.startsWith('SQLITE_BUSY'))
    return made(
      'LOG_BUSY',
      `Another process has kept the log ${path} locked. Find out which one (a backup, an SQL shell?) and stop it.`,
    );
  if (/^(SQLITE_(CANTOPEN|READONLY|IOERR|PERM|AUTH)|E[A-Z]+$)/.test(code))
    return made(
      'DATA_DIR_NOT_WRITABLE',
      `The log ${path} cannot be written. Check that its folder exists and is yours to write, or name another one.`,
    );
  return error;
}
