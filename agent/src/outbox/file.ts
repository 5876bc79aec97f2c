import { randomInt } from 'node:crypto';
import { existsSync, readdirSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CardanError, systemCode } from '@cardan/shared';
import { openSqlite } from '@cardan/shared/sqlite';
import type Database from 'better-sqlite3';
import { PRIORITIES, PRIORITY_DEFAULT, ROW_OVERHEAD_BYTES } from './row.ts';

/** ASCII "CrdO", so that no other program's database is taken for an outbox. */
const APPLICATION_ID = 0x4372644f;
const VERSION = 3;

/** Damaged files that are kept to be looked into: enough for a diagnosis, few enough for a small disk. */
const SET_ASIDE_MAX = 3;

/** The boot of rows that were written by version 1, which kept none. */
export const BOOT_BEFORE = 0;

export interface FileOptions {
  path: string;
  synchronous: 'NORMAL' | 'FULL';
  /** Most bytes of rows. */
  bytesMax: number;
}

/** An open file, and the bytes of rows that it may hold: fewer than were asked for on a disk that is too small. */
export interface OutboxFile {
  db: Database.Database;
  bytesMax: number;
  /** It was not there before. */
  created: boolean;
}

/**
 * Opens the file, makes it if there is none, and brings one of an older version up to date. Throws what SQLite throws if
 * the file is damaged or its disk full: `isCorrupt` and `isDiskTrouble` know it.
 */
export function openFile(options: FileOptions): OutboxFile {
  let db: Database.Database | undefined;
  try {
    db = openSqlite(options.path);
    db.pragma('journal_mode = WAL');
    db.pragma(`synchronous = ${options.synchronous}`);
    db.pragma('wal_autocheckpoint = 200');
    db.pragma('journal_size_limit = 1048576');
    const created = makeOrMigrate(db, options.path);
    const bytesMax = Math.min(options.bytesMax, Math.floor(spaceFor(options.path) / 2));
    // The bound of rows holds before this one does. It is here so that the file itself never fills the disk, for
    // on a full disk SQLite cannot even delete.
    const pageSize = db.pragma('page_size', { simple: true }) as number;
    db.pragma(`max_page_count = ${Math.ceil((1.25 * bytesMax) / pageSize) + 256}`);
    return { db, bytesMax, created };
  } catch (cause) {
    db?.close();
    if (cause instanceof CardanError || isCorrupt(cause)) throw cause;
    // It may be better later; a folder that is not there, or belongs to somebody else, will not.
    if (/^SQLITE_(FULL|IOERR)/.test(systemCode(cause) ?? '')) throw cause;
    throw new CardanError(
      'DATA_DIR_NOT_WRITABLE',
      `Cannot open the outbox ${options.path} (${systemCode(cause) ?? String(cause)}). ` +
        'Check that the folder can be written to and that the disk is not full.',
      { cause },
    );
  }
}

/** Whether SQLite says that the file is damaged, or no database at all. */
export function isCorrupt(error: unknown): boolean {
  const code = systemCode(error);
  return code !== undefined && (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB');
}

/** Whether a write may succeed later: no space, or a disk that does not do as it is told. */
export function isDiskTrouble(error: unknown): boolean {
  const code = systemCode(error);
  return code !== undefined && /^SQLITE_(FULL|IOERR|READONLY|CANTOPEN|BUSY|LOCKED)/.test(code);
}

/** Moves a damaged file away, with its write-ahead log; returns its new name. Of older ones a few are kept. */
export function setAside(path: string, now: number): string {
  const stamp = new Date(now).toISOString().replaceAll(':', '-');
  let target = `${path}.corrupt-${stamp}`;
  for (let again = 2; existsSync(target); again++) target = `${path}.corrupt-${stamp}-${again}`;
  // The log first: a file without its log is only older, a log without its file would be taken for the new one's.
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${target}-wal`);
  renameSync(path, target);
  rmSync(`${path}-shm`, { force: true });
  const prefix = `${basename(path)}.corrupt-`;
  const kept = readdirSync(dirname(path))
    .filter((name) => name.startsWith(prefix) && !name.endsWith('-wal') && !name.endsWith('-shm'))
    .map((name) => ({ name, changed: statSync(join(dirname(path), name)).ctimeMs }))
    .sort((a, b) => b.changed - a.changed);
  for (const { name } of kept.slice(SET_ASIDE_MAX))
    if (name !== basename(target))
      for (const end of ['', '-wal', '-shm']) rmSync(join(dirname(path), name + end), { force: true });
  return target;
}

/** Bytes that this file may use at most: those that it has, and those that are free. */
function spaceFor(path: string): number {
  const { bavail, bsize } = statfsSync(dirname(path));
  return bavail * bsize + statSync(path).size;
}

/** Returns whether it was made. */
function makeOrMigrate(db: Database.Database, path: string): boolean {
  const id = db.pragma('application_id', { simple: true });
  const version = db.pragma('user_version', { simple: true });
  const empty =
    id === 0 && (db.prepare('SELECT count(*) AS n FROM sqlite_master').get() as { n: number }).n === 0;
  if (empty) {
    db.transaction(() => {
      db.exec('CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID');
      db.prepare("INSERT INTO meta VALUES ('epoch', ?)").run(randomInt(1, 2 ** 47));
      db.exec(`
        CREATE TABLE contexts (
          id INTEGER PRIMARY KEY, signal_set TEXT NOT NULL, model_name TEXT NOT NULL, model_version TEXT NOT NULL);
        CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, json TEXT NOT NULL);
        CREATE TABLE rows_${PRIORITY_DEFAULT} (
          sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, "values" BLOB NOT NULL, score REAL, context INTEGER NOT NULL);
      `);
      addVersion2(db);
      addVersion3(db);
      db.pragma(`application_id = ${APPLICATION_ID}`);
    })();
    return true;
  }
  if (id === APPLICATION_ID && version === 1) {
    db.transaction(() => {
      // In place: a copy of all rows may find no room.
      db.exec(`ALTER TABLE rows RENAME TO rows_${PRIORITY_DEFAULT}`);
      addVersion2(db);
      addVersion3(db);
    })();
  } else if (id === APPLICATION_ID && version === 2) {
    db.transaction(() => addVersion3(db))();
  } else if (id !== APPLICATION_ID || version !== VERSION)
    throw new CardanError(
      'OUTBOX_VERSION',
      `${path} is not an outbox of this version (${String(version)} instead of ${VERSION}). ` +
        'Let the version that wrote it send what it holds, or move the file away to begin a new one.',
    );
  return false;
}

/** From version 1: a table of rows per priority, who lost how much, and when rows were taken by a clock that never jumps. */
function addVersion2(db: Database.Database): void {
  db.exec(`
    ALTER TABLE contexts ADD COLUMN campaign TEXT NOT NULL DEFAULT '';
    ALTER TABLE contexts ADD COLUMN priority INTEGER NOT NULL DEFAULT ${PRIORITY_DEFAULT};
    ALTER TABLE events ADD COLUMN priority INTEGER NOT NULL DEFAULT ${PRIORITY_DEFAULT};
    ALTER TABLE events ADD COLUMN boot INTEGER NOT NULL DEFAULT ${BOOT_BEFORE};
    ALTER TABLE events ADD COLUMN monotonic INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX events_by_priority ON events (priority, sequence);
    CREATE TABLE boots (
      id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL UNIQUE, first_sequence INTEGER NOT NULL,
      wall_offset INTEGER NOT NULL, known INTEGER NOT NULL);
    CREATE TABLE dropped (campaign TEXT PRIMARY KEY, rows INTEGER NOT NULL, events INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO dropped
      SELECT '', coalesce(max(CASE name WHEN 'dropped_rows' THEN value END), 0),
        coalesce(max(CASE name WHEN 'dropped_events' THEN value END), 0)
      FROM meta WHERE name IN ('dropped_rows', 'dropped_events') HAVING count(*) > 0;
    DELETE FROM meta WHERE name IN ('dropped_rows', 'dropped_events');
    CREATE TABLE partitions (
      priority INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, last_sequence INTEGER NOT NULL);
  `);
  for (let priority = 0; priority < PRIORITIES; priority++) {
    if (priority === PRIORITY_DEFAULT)
      db.exec(`
        ALTER TABLE rows_${priority} ADD COLUMN boot INTEGER NOT NULL DEFAULT ${BOOT_BEFORE};
        ALTER TABLE rows_${priority} ADD COLUMN monotonic INTEGER NOT NULL DEFAULT 0;
      `);
    else
      db.exec(`
        CREATE TABLE rows_${priority} (
          sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, "values" BLOB NOT NULL, score REAL,
          context INTEGER NOT NULL, boot INTEGER NOT NULL, monotonic INTEGER NOT NULL);
      `);
    db.prepare('INSERT INTO partitions VALUES (?, 0, 0, 0)').run(priority);
  }
  // Sequence numbers go on where AUTOINCREMENT of version 1 was, even if all its rows have gone.
  db.exec(`
    UPDATE partitions SET
      rows = (SELECT count(*) FROM rows_${PRIORITY_DEFAULT}),
      bytes = (SELECT coalesce(sum(length("values") + ${ROW_OVERHEAD_BYTES}), 0) FROM rows_${PRIORITY_DEFAULT}),
      last_sequence = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'rows_${PRIORITY_DEFAULT}'), 0)
    WHERE priority = ${PRIORITY_DEFAULT};
  `);
}

/** From version 2: how batches go up, and losses of events by campaign. */
function addVersion3(db: Database.Database): void {
  db.exec(`
    ALTER TABLE contexts ADD COLUMN compression TEXT NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN campaign TEXT NOT NULL DEFAULT '';
  `);
  db.pragma(`user_version = ${VERSION}`);
}
