import Database from 'better-sqlite3';

/** Everything that this process has opened: see `openSqlite`. */
const kept = new Set<Database.Database>();

/**
 * Opens an SQLite database whose statements live as long as the process: a statement is prepared once per text,
 * and is the same object each time.
 *
 * better-sqlite3 12 is the newest that runs on Node 20. On Node 24.19 and newer it aborts the process when the
 * garbage collector happens to finalise one of its objects while no JavaScript runs (`RemoveEnvironmentCleanupHook
 * … Assertion failed: (env) != nullptr`, WiseLibs/better-sqlite3#1515, fixed in 13). So none of its objects is ever
 * garbage here.
 */
export function openSqlite(path: string, options?: Database.Options): Database.Database {
  const db = new Database(path, options);
  kept.add(db);
  const statements = new Map<string, Database.Statement>();
  const prepare = db.prepare.bind(db);
  db.prepare = ((text: string) => {
    let statement = statements.get(text);
    if (statement === undefined) {
      statement = prepare(text);
      statements.set(text, statement);
    }
    return statement;
  }) as typeof db.prepare;
  // The library's own makes a statement per call.
  db.pragma = (text, { simple = false } = {}) =>
    simple ? db.prepare(`PRAGMA ${text}`).pluck().get() : db.exec(`PRAGMA ${text}`);
  return db;
}
