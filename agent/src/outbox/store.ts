import { systemCode } from '@cardan/shared';
import type Database from 'better-sqlite3';
import { Boots, type Taken } from './boots.ts';
import type { Clock } from './clock.ts';
import type { Correction } from './clock-watch.ts';
import { Contexts } from './contexts.ts';
import { EventTable } from './event-table.ts';
import type { ReadyEvent } from './event.ts';
import { openFile, type FileOptions } from './file.ts';
import { Losses } from './losses.ts';
import { priorityOf, ROW_OVERHEAD_BYTES, type Dropped, type NewRow } from './row.ts';

export interface StoreOptions extends FileOptions {
  rowsMax: number;
  eventsMax: number;
  /** Rows and events that have waited for longer go (milliseconds). */
  ageMaxMs: number;
  /** How long a clock that may be right is waited for (milliseconds). */
  clockHoldMs: number;
  clock: Clock;
}

export interface StoredRow extends Taken {
  sequence: number;
  time: number;
  values: Buffer;
  score: number | null;
  context: number;
}

/** Age is looked at once a minute, and this many rows at a time. */
const AGE_EVERY_MS = 60_000;
const AGE_CHUNK = 500;

/** Rows that go at once when the file may not grow any more. */
const ROOM_ROWS = 100;

/** Rows that are in memory at once while times are corrected. */
const CORRECTED_CHUNK = 1000;

/**
 * Numbers that are left out after a process that did not close the file. A power cut may have taken the commits that
 * gave out the last ones, and rows in memory have numbers that were never written: all of them may be in the log. More
 * than a car samples in a hundred years at one row a second; 2^53 has room for two million such starts.
 */
const SKIPPED_NUMBERS = 2 ** 32;

/** The rows of one priority: a table of its own, so that the oldest of them are found and deleted in one go. */
interface Partition {
  priority: number;
  rows: number;
  bytes: number;
  changed: boolean;
}

/**
 * One SQLite file of rows and events. Every method is one transaction or none; what it throws is SQLite's, and
 * leaves things as they were.
 */
export class OutboxStore {
  readonly epoch: number;
  readonly bytesMax: number;
  readonly boots: Boots;
  readonly contexts: Contexts;
  private readonly db: Database.Database;
  private readonly options: StoreOptions;
  private readonly losses: Losses;
  private readonly events: EventTable;
  private partitions: Partition[] = [];
  private readonly inserts: (Database.Statement | undefined)[] = [];
  private readonly saveCounts: Database.Statement;
  private readonly writeInOne: (rows: readonly NewRow[]) => void;
  private lastSequence = 0;
  private agedMs = Number.NEGATIVE_INFINITY;

  constructor(options: StoreOptions) {
    this.options = options;
    const { db, bytesMax, created } = openFile(options);
    this.db = db;
    this.bytesMax = bytesMax;
    this.contexts = new Contexts(db);
    this.losses = new Losses(db);
    this.events = new EventTable(db, this.losses, options.eventsMax);
    try {
      this.epoch = this.number('epoch') ?? 0;
      this.saveCounts = db.prepare(
        'UPDATE partitions SET rows = ?, bytes = ?, last_sequence = ? WHERE priority = ?',
      );
      this.writeInOne = db.transaction((rows: readonly NewRow[]) => this.writeRows(rows));
      this.reload();
      this.beginNumbers(created);
      this.boots = new Boots(db, options.clock, this.nextSequence, options.clockHoldMs);
      // Damage at the ends, where the work begins, is found now; a scan of everything would take too long.
      for (const { priority } of this.filled())
        db.prepare(`SELECT * FROM rows_${priority} ORDER BY sequence LIMIT 1`).get();
    } catch (error) {
      db.close();
      throw error;
    }
  }

  get rowCount(): number {
    let rows = 0;
    for (const partition of this.partitions) rows += partition.rows;
    return rows;
  }

  get byteCount(): number {
    let bytes = 0;
    for (const partition of this.partitions) bytes += partition.bytes;
    return bytes;
  }

  get eventCount(): number {
    return this.events.count;
  }

  /** Sequence number that the next row will get. */
  get nextSequence(): number {
    return this.lastSequence + 1;
  }

  takeRowNumber(): number {
    return ++this.lastSequence;
  }

  takeEventNumber(): number {
    return this.events.takeNumber();
  }

  /** Losses by campaign since the file was made. */
  get lost(): ReadonlyMap<string, Dropped> {
    return this.losses.byCampaign;
  }

  /** A number that is kept by name. */
  number(name: string): number | undefined {
    const row = this.db.prepare('SELECT value FROM meta WHERE name = ?').get(name);
    return (row as { value: number } | undefined)?.value;
  }

  keepNumbers(numbers: Record<string, number>): void {
    const keep = this.db.prepare('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)');
    this.db.transaction(() => {
      for (const [name, value] of Object.entries(numbers)) keep.run(name, value);
    })();
  }

  /** Writes rows, and drops what is then too much. Makes room if the file may not grow any more. */
  write(rows: readonly NewRow[]): void {
    for (;;) {
      try {
        this.writeInOne(rows);
        return;
      } catch (error) {
        this.reload();
        // Each round drops rows, so there is an end.
        if (systemCode(error) !== 'SQLITE_FULL' || !this.atPageLimit() || this.rowCount === 0) throw error;
        this.changing(() => this.dropLowest(ROOM_ROWS));
      }
    }
  }

  /** Adds losses that happened before the rows had come here. */
  countDropped(losses: ReadonlyMap<string, Dropped>): void {
    this.changing(() => {
      for (const [campaign, { rows, events }] of losses) this.losses.add(campaign, rows, events);
    });
  }

  addEvent(event: ReadyEvent, campaign: string, monotonic: number): void {
    this.changing(() => this.events.insert(event, campaign, this.boots.id, monotonic));
  }

  /** The oldest row from this sequence number on. */
  oldestRow(from: number): StoredRow | undefined {
    let oldest: StoredRow | undefined;
    for (const { priority } of this.filled()) {
      const row = this.db
        .prepare<[number], StoredRow>(
          `SELECT * FROM rows_${priority} WHERE sequence >= ? ORDER BY sequence LIMIT 1`,
        )
        .get(from);
      if (row !== undefined && (oldest === undefined || row.sequence < oldest.sequence)) oldest = row;
    }
    return oldest;
  }

  /** Rows from `first` on of its context; there may be gaps between them. */
  run(first: StoredRow, rowsMax: number): StoredRow[] {
    const priority = priorityOf(this.contexts.get(first.context));
    return this.db
      .prepare<[number, number, number], StoredRow>(
        `SELECT * FROM rows_${priority} WHERE sequence BETWEEN ? AND ? AND context = ? ORDER BY sequence`,
      )
      .all(first.sequence, first.sequence + rowsMax - 1, first.context);
  }

  /** Whether this row's time may be wrong: it is of this boot, and the clock is not known yet. */
  timeUnknown({ boot }: { boot: number }): boolean {
    return boot === this.boots.id && this.boots.heldBack;
  }

  /** What goes up next: events in their order, then alarms, the newest first. */
  nextEvents(eventsMax: number): (ReadyEvent & Taken)[] {
    return this.events.next(eventsMax, this.boots.heldBack ? this.boots.id : -1);
  }

  oldestEvent(): number | undefined {
    return this.events.oldest();
  }

  hasEvent(sequence: number): boolean {
    return this.events.has(sequence);
  }

  /** How many of these there are. */
  count(kind: 'rows' | 'events', first: number, last: number): number {
    if (kind === 'events') return this.events.countBetween(first, last);
    let rows = 0;
    for (const { priority } of this.filled())
      rows += (
        this.db
          .prepare(`SELECT count(*) AS n FROM rows_${priority} WHERE sequence BETWEEN ? AND ?`)
          .get(first, last) as { n: number }
      ).n;
    return rows;
  }

  removeRows(first: number, last: number): void {
    this.changing(() => {
      for (const partition of this.filled()) this.deleteRows(partition, first, last);
    });
  }

  removeEvents(first: number, last: number): void {
    this.events.remove(first, last);
  }

  /** Sets wall times of this boot right. */
  correct(corrections: readonly Correction[]): void {
    const { id } = this.boots;
    this.changing(() => {
      const since = this.boots.firstSequence();
      for (const correction of corrections) {
        for (const { priority } of this.filled()) this.correctRows(`rows_${priority}`, since, correction);
        this.events.correct(correction, id);
      }
      this.noteClock();
    });
  }

  /** Notes how the clock is, for who comes after. */
  noteClock(): void {
    const { clock } = this.options;
    this.boots.note({ offset: clock.wallMs() - clock.monotonicMs(), known: clock.known() });
  }

  /** Lets go of what has waited for too long; looks once a minute. */
  dropTooOld(): void {
    if (this.options.clock.monotonicMs() - this.agedMs >= AGE_EVERY_MS)
      this.changing(() => this.dropTooOldNow());
  }

  /** Closes the file. Numbers go on from here only if all that was given out could be written down. */
  close(): void {
    try {
      this.db.transaction(() => {
        this.saveNumbers(0);
        this.noteClock();
        this.keepNumbers({ clean: 1 });
      })();
    } finally {
      this.db.close();
    }
  }

  /** Closes the file as it is. */
  abandon(): void {
    this.db.close();
  }

  /** No number is used twice within an epoch, whatever has happened to the one who used them last. */
  private beginNumbers(created: boolean): void {
    const { db } = this;
    const skipped = created || this.number('clean') === 1 ? 0 : SKIPPED_NUMBERS;
    // On the disk before the first number is used.
    db.pragma('synchronous = FULL');
    db.transaction(() => {
      this.saveNumbers(skipped);
      this.keepNumbers({ clean: 0 });
    })();
    db.pragma(`synchronous = ${this.options.synchronous}`);
  }

  private correctRows(table: string, since: number, { of, by }: Correction): void {
    const set = this.db.prepare(`UPDATE ${table} SET time = ? WHERE sequence = ?`);
    const find = this.db.prepare(
      `SELECT sequence, time, boot, monotonic FROM ${table} WHERE sequence >= ? ORDER BY sequence LIMIT ${CORRECTED_CHUNK}`,
    );
    for (let from = since; ;) {
      const rows = find.all(from) as StoredRow[];
      for (const { sequence, time, boot, monotonic } of rows)
        if (boot === this.boots.id && of(time, monotonic)) set.run(Math.max(0, time + by), sequence);
      if (rows.length < CORRECTED_CHUNK) return;
      from = rows.at(-1)!.sequence + 1;
    }
  }

  private saveNumbers(skipped: number): void {
    this.lastSequence += skipped;
    this.db.prepare('UPDATE partitions SET last_sequence = ?').run(this.lastSequence);
    this.events.saveNumber(skipped);
  }

  private writeRows(rows: readonly NewRow[]): void {
    for (const row of rows) {
      const { id, priority } = this.contexts.place(row.context);
      const partition = this.partitions[priority]!;
      const insert = (this.inserts[priority] ??= this.db.prepare(
        `INSERT INTO rows_${priority} (sequence, time, "values", score, context, boot, monotonic) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      ));
      insert.run(row.sequence, row.time, row.values, row.score, id, this.boots.id, row.monotonic);
      partition.rows++;
      partition.bytes += row.values.byteLength + ROW_OVERHEAD_BYTES;
      partition.changed = true;
    }
    if (this.options.clock.monotonicMs() - this.agedMs >= AGE_EVERY_MS) this.dropTooOldNow();
    this.dropTooMany();
    this.saveChanged();
  }

  /** Runs `work` as one transaction; whatever it has counted is taken back if it fails. */
  private changing(work: () => void): void {
    try {
      this.db.transaction(() => {
        work();
        this.saveChanged();
      })();
    } catch (error) {
      this.reload();
      throw error;
    }
  }

  private saveChanged(): void {
    for (const partition of this.partitions) {
      if (!partition.changed) continue;
      const { rows, bytes, priority } = partition;
      this.saveCounts.run(rows, bytes, this.lastSequence, priority);
      partition.changed = false;
    }
  }

  /** Partitions that hold rows, lowest priority first. */
  private filled(): Partition[] {
    return this.partitions.filter(({ rows }) => rows > 0);
  }

  private dropTooMany(): void {
    for (;;) {
      const rowsOver = this.rowCount - this.options.rowsMax;
      const bytesOver = this.byteCount - this.bytesMax;
      const [lowest] = this.filled();
      if ((rowsOver <= 0 && bytesOver <= 0) || lowest === undefined) return;
      this.dropLowest(Math.max(rowsOver, Math.floor(bytesOver / (lowest.bytes / lowest.rows)), 1));
    }
  }

  private dropLowest(rows: number): void {
    const [lowest] = this.filled();
    if (lowest !== undefined) this.dropOldest(lowest, Math.min(rows, lowest.rows));
  }

  private dropOldest(partition: Partition, rows: number): void {
    const table = `rows_${partition.priority}`;
    const end = this.db
      .prepare(`SELECT sequence FROM ${table} ORDER BY sequence LIMIT 1 OFFSET ?`)
      .get(rows - 1);
    const last = (end as { sequence: number } | undefined)?.sequence ?? Number.MAX_SAFE_INTEGER;
    const gone = this.db
      .prepare(`SELECT context, count(*) AS rows FROM ${table} WHERE sequence <= ? GROUP BY context`)
      .all(last) as { context: number; rows: number }[];
    for (const { context, rows } of gone) this.losses.add(this.contexts.get(context).campaign ?? '', rows, 0);
    this.deleteRows(partition, 0, last);
  }

  private deleteRows(partition: Partition, first: number, last: number): void {
    const table = `rows_${partition.priority}`;
    const found = this.db
      .prepare(
        `SELECT count(*) AS rows, coalesce(sum(length("values")), 0) AS bytes FROM ${table} WHERE sequence BETWEEN ? AND ?`,
      )
      .get(first, last) as { rows: number; bytes: number };
    if (found.rows === 0) return;
    this.db.prepare(`DELETE FROM ${table} WHERE sequence BETWEEN ? AND ?`).run(first, last);
    partition.rows -= found.rows;
    partition.bytes -= found.bytes + found.rows * ROW_OVERHEAD_BYTES;
    partition.changed = true;
  }

  private dropTooOldNow(): void {
    this.agedMs = this.options.clock.monotonicMs();
    this.noteClock();
    const tooOld = (taken: Taken) => this.boots.waitedMs(taken) > this.options.ageMaxMs;
    for (const partition of this.filled())
      for (let old = AGE_CHUNK; old === AGE_CHUNK;) {
        const rows = this.oldestOf(`rows_${partition.priority}`);
        old = leading(rows, tooOld);
        if (old > 0) this.dropOldest(partition, old);
      }
    for (let old = AGE_CHUNK; old === AGE_CHUNK;) {
      const events = this.oldestOf('events');
      old = leading(events, tooOld);
      if (old > 0) this.events.dropUpTo(events[old - 1]!.sequence);
    }
  }

  private oldestOf(table: string): (Taken & { sequence: number })[] {
    return this.db
      .prepare(`SELECT sequence, boot, monotonic FROM ${table} ORDER BY sequence LIMIT ${AGE_CHUNK}`)
      .all() as (Taken & { sequence: number })[];
  }

  private atPageLimit(): boolean {
    const pragma = (name: string) => this.db.pragma(name, { simple: true }) as number;
    return pragma('page_count') - pragma('freelist_count') >= 0.9 * pragma('max_page_count');
  }

  /** What the file says: at the start, and after a transaction that was rolled back. */
  private reload(): void {
    const partitions = this.db.prepare('SELECT * FROM partitions ORDER BY priority').all() as (Partition & {
      last_sequence: number;
    })[];
    // Numbers that have been given out are never given out again, whatever was rolled back.
    this.lastSequence = Math.max(this.lastSequence, ...partitions.map(({ last_sequence }) => last_sequence));
    this.partitions = partitions.map(({ priority, rows, bytes }) => ({
      priority,
      rows,
      bytes,
      changed: false,
    }));
    this.events.load();
    this.losses.load();
    this.contexts.load();
  }
}

function leading<T>(items: readonly T[], test: (item: T) => boolean): number {
  const end = items.findIndex((item) => !test(item));
  return end === -1 ? items.length : end;
}
