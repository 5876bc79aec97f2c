import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { CardanError, messageOf } from '@cardan/shared';
import { openSqlite } from '@cardan/shared/sqlite';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, secret_sha256 BLOB NOT NULL, name TEXT NOT NULL, roles TEXT NOT NULL, vehicle TEXT,
    created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER
  ) STRICT;
  CREATE TABLE IF NOT EXISTS answers (
    actor TEXT NOT NULL, key TEXT NOT NULL, request_sha256 BLOB NOT NULL, status INTEGER NOT NULL,
    headers TEXT NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (actor, key)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS answers_by_age ON answers (at);`;
/** The command line and the service write to the same file; neither holds it for long. */
const BUSY_TIMEOUT_MS = 5000;

/**
 * Tokens, and answers that are kept for their Idempotency-Key: `access.db` in the registry's folder. Like keys these live
 * beside the log: nobody who reads the log should have them. Throws DATA_DIR_NOT_WRITABLE.
 */
export function openAccessDatabase(dir: string): Database.Database {
  const path = join(dir, 'access.db');
  try {
    const db = openSqlite(path, { timeout: BUSY_TIMEOUT_MS });
    chmodSync(path, 0o600);
    db.pragma('journal_mode = WAL');
    // A token that was revoked must stay so through a power cut.
    db.pragma('synchronous = FULL');
    db.exec(SCHEMA);
    return db;
  } catch (cause) {
    throw new CardanError(
      'DATA_DIR_NOT_WRITABLE',
      `Cannot open ${path} (${messageOf(cause)}). Check the folder's rights and the space on its disk.`,
      { cause },
    );
  }
}
