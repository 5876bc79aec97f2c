import { randomInt } from 'node:crypto';
import { CardanError, systemCode, type CloudEvent, type TelemetryBatch } from '@cardan/shared';
import { openSqlite } from '@cardan/shared/sqlite';
import type Database from 'better-sqlite3';

/** ASCII "CrdO", so that no other program's database is taken for an outbox. */
const APPLICATION_ID = 0x4372644f;
const VERSION = 1;

/** What a run of rows has in common; a batch on the wire has one of these. */
export interface RowContext {
  signalSet: string;
  modelName: string;
  modelVersion: string;
}

export interface OutboxOptions {
  path: string;
  /** Most rows that are kept while nothing can be sent; then the oldest go, and are counted. */
  rowsMax: number;
  eventsMax: number;
  /** NORMAL survives kill -9, and may lose the last commits at a power cut; FULL does not. */
  synchronous: 'NORMAL' | 'FULL';
}

/**
 * What has been measured and is not yet known to be in the log. Rows and events wait here, in SQLite, until a
 * bridge has acknowledged their sequence numbers. Sequence numbers are never used twice within an epoch; the
 * epoch changes only when an outbox is created anew.
 */
export class Outbox {
  readonly epoch: number;
  private readonly db: Database.Database;
  private readonly options: OutboxOptions;
  private readonly statements;
  private readonly contexts = new Map<string, number>();
  private buffered: { time: number; values: Buffer; score: number | null; context: number }[] = [];
  private flushing: NodeJS.Immediate | undefined;
  private rows: number;
  private events: number;
  private droppedRows: number;
  private droppedEvents: number;
  private onFlush: () => void = () => undefined;

  constructor(options: OutboxOptions) {
    this.options = options;
    this.db = open(options);
    const meta = this.db.prepare<[string], { value: number }>('SELECT value FROM meta WHERE name = ?');
    const number = (name: string) => meta.get(name)?.value ?? 0;
    this.epoch = number('epoch');
    this.droppedRows = number('dropped_rows');
    this.droppedEvents = number('dropped_events');
    this.statements = {
      context: this.db.prepare(
        'INSERT INTO contexts (signal_set, model_name, model_version) VALUES (?, ?, ?) RETURNING id',
      ),
      insertRow: this.db.prepare('INSERT INTO rows (time, "values", score, context) VALUES (?, ?, ?, ?)'),
      insertEvent: this.db.prepare('INSERT INTO events (json) VALUES (?)'),
      oldestRow: this.db.prepare<[], { n: number | null }>('SELECT min(sequence) AS n FROM rows'),
      oldestEvent: this.db.prepare<[], { n: number | null }>('SELECT min(sequence) AS n FROM events'),
      first: this.db.prepare<[], RowRecord>('SELECT * FROM rows ORDER BY sequence LIMIT 1'),
      run: this.db.prepare<[number, number, number], RowRecord>(
        'SELECT * FROM rows WHERE sequence >= ? AND context = ? ORDER BY sequence LIMIT ?',
      ),
      contextById: this.db.prepare<[number], ContextRecord>('SELECT * FROM contexts WHERE id = ?'),
      firstEvents: this.db.prepare<[number], { sequence: number; json: string }>(
        'SELECT sequence, json FROM events ORDER BY sequence LIMIT ?',
      ),
      deleteRows: this.db.prepare('DELETE FROM rows WHERE sequence BETWEEN ? AND ?'),
      deleteEvents: this.db.prepare('DELETE FROM events WHERE sequence BETWEEN ? AND ?'),
      dropRows: this.db.prepare(
        'DELETE FROM rows WHERE sequence IN (SELECT sequence FROM rows ORDER BY sequence LIMIT ?)',
      ),
      dropEvents: this.db.prepare(
        'DELETE FROM events WHERE sequence IN (SELECT sequence FROM events ORDER BY sequence LIMIT ?)',
      ),
      count: this.db.prepare('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)'),
    };
    for (const { id, ...context } of this.db.prepare<[], ContextRecord>('SELECT * FROM contexts').all())
      this.contexts.set(contextKey(fromRecord(context)), id);
    this.rows = countOf(this.db, 'rows');
    this.events = countOf(this.db, 'events');
  }

  /** Rows that are not yet acknowledged, those still in memory included. */
  get pendingRows(): number {
    return this.rows + this.buffered.length;
  }

  get pendingEvents(): number {
    return this.events;
  }

  /** Sequence number of the oldest row (event) that is not acknowledged; infinite when there is none. */
  get oldestRow(): number {
    return this.statements.oldestRow.get()?.n ?? Number.POSITIVE_INFINITY;
  }

  get oldestEvent(): number {
    return this.statements.oldestEvent.get()?.n ?? Number.POSITIVE_INFINITY;
  }

  /** Sequence number that the next row will get. */
  get nextSequence(): number {
    const last = this.db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").get() as
      { seq: number } | undefined;
    return (last?.seq ?? 0) + this.buffered.length + 1;
  }

  /** Losses since the outbox was created: what had to go because it was full. */
  get dropped(): { rows: number; events: number } {
    return { rows: this.droppedRows, events: this.droppedEvents };
  }

  /** Called whenever rows or events have become ready to be sent. */
  notify(onFlush: () => void): void {
    this.onFlush = onFlush;
  }

  /** Takes a row. Rows of one turn of the event loop are written in one transaction. */
  addRow(time: number, values: Float32Array, score: number | undefined, context: RowContext): void {
    this.buffered.push({
      time,
      values: Buffer.from(values.slice().buffer),
      score: score === undefined || Number.isNaN(score) ? null : score,
      context: this.contextId(context),
    });
    this.flushing ??= setImmediate(() => this.flush());
  }

  /** Takes an event at once; `make` is given the sequence number that the event will have. */
  addEvent(make: (identity: { epoch: number; sequence: number }) => CloudEvent): void {
    this.db.transaction(() => {
      const { lastInsertRowid } = this.statements.insertEvent.run('');
      const sequence = Number(lastInsertRowid);
      const event = make({ epoch: this.epoch, sequence });
      const named = { ...event, outboxepoch: String(this.epoch), sequence: String(sequence) };
      this.db.prepare('UPDATE events SET json = ? WHERE sequence = ?').run(JSON.stringify(named), sequence);
      this.events++;
      if (this.events > this.options.eventsMax) {
        const gone = this.statements.dropEvents.run(this.events - this.options.eventsMax).changes;
        this.events -= gone;
        this.droppedEvents += gone;
        this.statements.count.run('dropped_events', this.droppedEvents);
      }
    })();
    this.onFlush();
  }

  /** Writes buffered rows. Happens by itself; called at shutdown, or before the outbox is looked into. */
  flush(): void {
    if (this.flushing !== undefined) clearImmediate(this.flushing);
    this.flushing = undefined;
    if (this.buffered.length === 0) return;
    const rows = this.buffered;
    this.buffered = [];
    this.db.transaction(() => {
      for (const row of rows) this.statements.insertRow.run(row.time, row.values, row.score, row.context);
      this.rows += rows.length;
      if (this.rows > this.options.rowsMax) {
        const gone = this.statements.dropRows.run(this.rows - this.options.rowsMax).changes;
        this.rows -= gone;
        this.droppedRows += gone;
        this.statements.count.run('dropped_rows', this.droppedRows);
      }
    })();
    this.onFlush();
  }

  /** The oldest rows that make one batch: in sequence, of one context, in rising time; or undefined. */
  oldestRows(rowsMax: number): TelemetryBatch | undefined {
    const first = this.statements.first.get();
    if (first === undefined) return undefined;
    const records = this.statements.run.all(first.sequence, first.context, rowsMax);
    let rows = 1;
    // A batch ends where rows were dropped between, or where the clock went back.
    for (; rows < records.length; rows++) {
      const [before, row] = [records[rows - 1]!, records[rows]!];
      if (
        row.sequence !== before.sequence + 1 ||
        row.time < before.time ||
        row.time - before.time > 0xffffffff
      )
        break;
    }
    const signals = first.values.byteLength / 4;
    const values = new Float32Array(rows * signals);
    const bytes = Buffer.from(values.buffer);
    const times = new Float64Array(rows);
    const scores = new Float32Array(rows);
    for (let i = 0; i < rows; i++) {
      const record = records[i]!;
      record.values.copy(bytes, i * signals * 4);
      times[i] = record.time;
      scores[i] = record.score ?? Number.NaN;
    }
    const context = this.statements.contextById.get(first.context);
    if (context === undefined) throw new Error(`outbox row ${first.sequence} has no context`);
    const scored = context.model_name !== '';
    return {
      ...fromRecord(context),
      epoch: this.epoch,
      firstSequence: first.sequence,
      times,
      values,
      scores: scored ? scores : new Float32Array(0),
    };
  }

  /** The oldest events, as JSON. */
  oldestEvents(eventsMax: number): { sequence: number; json: string }[] {
    return this.statements.firstEvents.all(eventsMax);
  }

  /** These rows are in the log: they can go. Both ends inclusive. */
  acknowledgeRows(first: number, last: number): void {
    this.rows -= this.statements.deleteRows.run(first, last).changes;
  }

  /** These events are in the log: they can go. Both ends inclusive. */
  acknowledgeEvents(first: number, last: number): void {
    this.events -= this.statements.deleteEvents.run(first, last).changes;
  }

  close(): void {
    this.flush();
    this.db.close();
  }

  private contextId(context: RowContext): number {
    const key = contextKey(context);
    let id = this.contexts.get(key);
    if (id === undefined) {
      const row = this.statements.context.get(context.signalSet, context.modelName, context.modelVersion) as {
        id: number;
      };
      id = row.id;
      this.contexts.set(key, id);
    }
    return id;
  }
}

interface RowRecord {
  sequence: number;
  time: number;
  values: Buffer;
  score: number | null;
  context: number;
}

interface ContextRecord {
  id: number;
  signal_set: string;
  model_name: string;
  model_version: string;
}

function fromRecord(record: Omit<ContextRecord, 'id'>): RowContext {
  return { signalSet: record.signal_set, modelName: record.model_name, modelVersion: record.model_version };
}

function contextKey(context: RowContext): string {
  return `${context.signalSet} ${context.modelName} ${context.modelVersion}`;
}

function countOf(db: Database.Database, table: 'rows' | 'events'): number {
  return (db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
}

function open(options: OutboxOptions): Database.Database {
  let db: Database.Database;
  try {
    db = openSqlite(options.path);
    db.pragma('journal_mode = WAL');
  } catch (cause) {
    throw new CardanError(
      'DATA_DIR_NOT_WRITABLE',
      `Cannot open the outbox ${options.path} (${systemCode(cause) ?? String(cause)}). ` +
        'Check that the folder can be written to and that the file is an outbox; move it away to begin a new one.',
      { cause },
    );
  }
  db.pragma(`synchronous = ${options.synchronous}`);
  db.pragma('wal_autocheckpoint = 200');
  db.pragma('journal_size_limit = 1048576');
  const id = db.pragma('application_id', { simple: true });
  const version = db.pragma('user_version', { simple: true });
  const empty =
    id === 0 && (db.prepare('SELECT count(*) AS n FROM sqlite_master').get() as { n: number }).n === 0;
  if (!empty && (id !== APPLICATION_ID || version !== VERSION)) {
    db.close();
    throw new CardanError(
      'OUTBOX_VERSION',
      `${options.path} is not an outbox of this version (${String(version)} instead of ${VERSION}). ` +
        'Let the version that wrote it send what it holds, or move the file away to begin a new one.',
    );
  }
  if (empty)
    db.transaction(() => {
      // AUTOINCREMENT keeps the highest number for good: a sequence number is never used twice.
      db.exec(`
        CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE contexts (
          id INTEGER PRIMARY KEY, signal_set TEXT NOT NULL, model_name TEXT NOT NULL, model_version TEXT NOT NULL);
        CREATE TABLE rows (
          sequence INTEGER PRIMARY KEY AUTOINCREMENT,
          time INTEGER NOT NULL, "values" BLOB NOT NULL, score REAL, context INTEGER NOT NULL);
        CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, json TEXT NOT NULL);
      `);
      db.prepare("INSERT INTO meta VALUES ('epoch', ?)").run(randomInt(1, 2 ** 47));
      db.pragma(`application_id = ${APPLICATION_ID}`);
      db.pragma(`user_version = ${VERSION}`);
    })();
  return db;
}
