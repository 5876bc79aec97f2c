import { systemCode, type CloudEvent } from '@cardan/shared';
import type Database from 'better-sqlite3';
import type { Clock } from './clock.ts';
import { openFile, type FileOptions } from './file.ts';
import {
  PRIORITY_ALARM,
  PRIORITY_DEFAULT,
  priorityOf,
  ROW_OVERHEAD_BYTES,
  type Dropped,
  type NewRow,
  type RowContext,
} from './row.ts';

export interface StoreOptions extends FileOptions {
  rowsMax: number;
  eventsMax: number;
  /** Rows and events that have waited for longer go (milliseconds). */
  ageMaxMs: number;
  clock: Clock;
}

export interface StoredRow {
  sequence: number;
  time: number;
  values: Buffer;
  score: number | null;
  context: number;
  boot: number;
}

export type MakeEvent = (identity: { epoch: number; sequence: number }) => CloudEvent;

/** Age is looked at once a minute, and this many rows at a time. */
const AGE_EVERY_MS = 60_000;
const AGE_CHUNK = 500;

/** Boots that are remembered; of older ones it is only known that they were before this one. */
const BOOTS_MAX = 1000;

/** Rows that go at once when the file may not grow any more. */
const ROOM_ROWS = 100;

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
  private readonly db: Database.Database;
  private readonly options: StoreOptions;
  private readonly boot: number;
  private readonly openedMs: number;
  /** Of earlier boots: what their wall clock was ahead of their monotonic one, if it was known. */
  private readonly earlierBoots = new Map<number, number>();
  private partitions: Partition[] = [];
  private contexts = new Map<string, { id: number; context: RowContext }>();
  private readonly inserts: (Database.Statement | undefined)[] = [];
  private readonly saveCounts: Database.Statement;
  private readonly writeInOne: (rows: readonly NewRow[]) => void;
  private lastSequence = 0;
  private events = 0;
  private droppedBy = new Map<string, Dropped>();
  private agedMs = Number.NEGATIVE_INFINITY;
  private last: { context: RowContext; id: number; priority: number } | undefined;

  constructor(options: StoreOptions) {
    this.options = options;
    const { clock } = options;
    ({ db: this.db, bytesMax: this.bytesMax } = openFile(options));
    try {
      this.openedMs = clock.monotonicMs();
      this.epoch = this.number('epoch') ?? 0;
      this.saveCounts = this.db.prepare(
        'UPDATE partitions SET rows = ?, bytes = ?, last_sequence = ? WHERE priority = ?',
      );
      this.writeInOne = this.db.transaction((rows: readonly NewRow[]) => this.writeRows(rows));
      this.reload();
      this.boot = this.beginBoot();
      // Damage at the ends, where the work begins, is found now; a scan of everything would take too long.
      for (const { priority } of this.filled())
        this.db.prepare(`SELECT * FROM rows_${priority} ORDER BY sequence LIMIT 1`).get();
    } catch (error) {
      this.db.close();
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
    return this.events;
  }

  /** Sequence number that the next row will get. */
  get nextSequence(): number {
    return this.lastSequence + 1;
  }

  /** Losses by campaign since the file was made. */
  get losses(): ReadonlyMap<string, Dropped> {
    return this.droppedBy;
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
      for (const [campaign, { rows, events }] of losses) this.addDropped(campaign, rows, events);
    });
  }

  addEvent(make: MakeEvent, priority: number | undefined, monotonic: number): void {
    this.changing(() => {
      const insert = this.db.prepare("INSERT INTO events (json, boot, monotonic) VALUES ('', ?, ?)");
      const sequence = Number(insert.run(this.boot, monotonic).lastInsertRowid);
      const event = make({ epoch: this.epoch, sequence });
      const named = { ...event, outboxepoch: String(this.epoch), sequence: String(sequence) };
      const isAlarm = event.type === 'io.cardan.vehicle.anomaly';
      this.db
        .prepare('UPDATE events SET json = ?, priority = ? WHERE sequence = ?')
        .run(JSON.stringify(named), priority ?? (isAlarm ? PRIORITY_ALARM : PRIORITY_DEFAULT), sequence);
      this.events++;
      const over = this.events - this.options.eventsMax;
      if (over <= 0) return;
      this.db
        .prepare(
          'DELETE FROM events WHERE sequence IN (SELECT sequence FROM events ORDER BY priority, sequence LIMIT ?)',
        )
        .run(over);
      this.events -= over;
      this.addDropped('', 0, over);
    });
  }

  /** The oldest row from this sequence number on that may be sent. */
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

  /** Rows from `first` on, without gaps, of its context. */
  run(first: StoredRow, rowsMax: number): StoredRow[] {
    const { priority } = this.contextOf(first.context);
    return this.db
      .prepare<[number, number, number], StoredRow>(
        `SELECT * FROM rows_${priorityOf({ priority } as RowContext)}
         WHERE sequence BETWEEN ? AND ? AND context = ? ORDER BY sequence`,
      )
      .all(first.sequence, first.sequence + rowsMax - 1, first.context);
  }

  /** Whether this row's time may be wrong: it is of this boot, and the clock is not known yet. */
  timeUnknown({ boot }: { boot: number }): boolean {
    return boot === this.boot && !this.options.clock.known();
  }

  contextOf(id: number): RowContext {
    for (const known of this.contexts.values()) if (known.id === id) return known.context;
    throw new Error(`outbox context ${id} is unknown`);
  }

  /** What goes up next: events in their order, then alarms, the newest first. */
  nextEvents(eventsMax: number): { sequence: number; json: string; priority: number }[] {
    const hidden = this.options.clock.known() ? -1 : this.boot;
    // The + makes SQLite use the index: it would else read through all alarms to find none of the others.
    const others = this.db
      .prepare(
        `SELECT sequence, json, priority FROM events WHERE priority < ${PRIORITY_ALARM} AND boot <> ?
         ORDER BY +sequence LIMIT ?`,
      )
      .all(hidden, eventsMax);
    const alarms = this.db
      .prepare(
        `SELECT sequence, json, priority FROM events WHERE priority = ${PRIORITY_ALARM} AND boot <> ?
         ORDER BY sequence DESC LIMIT ?`,
      )
      .all(hidden, eventsMax - others.length);
    return [...others, ...alarms] as { sequence: number; json: string; priority: number }[];
  }

  oldestEvent(): number | undefined {
    return (
      (this.db.prepare('SELECT min(sequence) AS n FROM events').get() as { n: number | null }).n ?? undefined
    );
  }

  hasEvent(sequence: number): boolean {
    return this.db.prepare('SELECT 1 FROM events WHERE sequence = ?').get(sequence) !== undefined;
  }

  removeRows(first: number, last: number): void {
    this.changing(() => {
      for (const partition of this.filled()) this.deleteRows(partition, first, last);
    });
  }

  removeEvents(first: number, last: number): void {
    this.events -= this.db
      .prepare('DELETE FROM events WHERE sequence BETWEEN ? AND ?')
      .run(first, last).changes;
  }

  /** Moves the wall time of what is of this boot. */
  shiftTimes(offsetMs: number): void {
    this.changing(() => {
      const since = this.db.prepare('SELECT first_sequence AS n FROM boots WHERE id = ?').get(this.boot);
      for (const { priority } of this.filled())
        this.db
          .prepare(`UPDATE rows_${priority} SET time = max(0, time + ?) WHERE sequence >= ? AND boot = ?`)
          .run(offsetMs, (since as { n: number }).n, this.boot);
      const events = this.db.prepare('SELECT sequence, json FROM events WHERE boot = ?').all(this.boot);
      for (const { sequence, json } of events as { sequence: number; json: string }[]) {
        const event = JSON.parse(json) as CloudEvent;
        const time = new Date(Math.max(0, Date.parse(event.time) + offsetMs)).toISOString();
        this.db
          .prepare('UPDATE events SET json = ? WHERE sequence = ?')
          .run(JSON.stringify({ ...event, time }), sequence);
      }
      this.keepClock();
    });
  }

  close(): void {
    this.db.close();
  }

  private writeRows(rows: readonly NewRow[]): void {
    for (const row of rows) {
      const { id, priority } = this.place(row.context);
      const partition = this.partitions[priority]!;
      const insert = (this.inserts[priority] ??= this.db.prepare(
        `INSERT INTO rows_${priority} (sequence, time, "values", score, context, boot, monotonic) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      ));
      insert.run(++this.lastSequence, row.time, row.values, row.score, id, this.boot, row.monotonic);
      partition.rows++;
      partition.bytes += row.values.byteLength + ROW_OVERHEAD_BYTES;
      partition.changed = true;
    }
    this.dropTooOld();
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
    for (const { context, rows } of gone) this.addDropped(this.contextOf(context).campaign ?? '', rows, 0);
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

  private dropTooOld(): void {
    const now = this.options.clock.monotonicMs();
    if (now - this.agedMs < AGE_EVERY_MS) return;
    this.agedMs = now;
    this.keepClock();
    const tooOld = (row: Waiting) => this.waitedMs(row, now) > this.options.ageMaxMs;
    for (const partition of this.filled())
      for (let old = AGE_CHUNK; old === AGE_CHUNK;) {
        const rows = this.oldestOf(`rows_${partition.priority}`);
        old = leading(rows, tooOld);
        if (old > 0) this.dropOldest(partition, old);
      }
    for (let old = AGE_CHUNK; old === AGE_CHUNK;) {
      const events = this.oldestOf('events');
      old = leading(events, tooOld);
      if (old === 0) break;
      this.removeEvents(0, events[old - 1]!.sequence);
      this.addDropped('', 0, old);
    }
  }

  private oldestOf(table: string): Waiting[] {
    return this.db
      .prepare(`SELECT sequence, boot, monotonic FROM ${table} ORDER BY sequence LIMIT ${AGE_CHUNK}`)
      .all() as Waiting[];
  }

  /** How long it has waited: within this boot by the clock that never jumps, else by wall clocks that were known. */
  private waitedMs({ boot, monotonic }: Waiting, now: number): number {
    if (boot === this.boot) return now - monotonic;
    const offset = this.earlierBoots.get(boot);
    const { clock } = this.options;
    if (offset === undefined || !clock.known()) return now - this.openedMs;
    return clock.wallMs() - (monotonic + offset);
  }

  private addDropped(campaign: string, rows: number, events: number): void {
    const before = this.droppedBy.get(campaign) ?? { rows: 0, events: 0 };
    const after = { rows: before.rows + rows, events: before.events + events };
    this.db
      .prepare('INSERT OR REPLACE INTO dropped (campaign, rows, events) VALUES (?, ?, ?)')
      .run(campaign, after.rows, after.events);
    this.droppedBy.set(campaign, after);
  }

  private place(context: RowContext): { id: number; priority: number } {
    if (this.last?.context === context) return this.last;
    const priority = priorityOf(context);
    const { signalSet, modelName, modelVersion, campaign = '' } = context;
    const key = JSON.stringify([signalSet, modelName, modelVersion, campaign, priority]);
    let id = this.contexts.get(key)?.id;
    if (id === undefined) {
      const made = this.db
        .prepare(
          'INSERT INTO contexts (signal_set, model_name, model_version, campaign, priority) VALUES (?, ?, ?, ?, ?) RETURNING id',
        )
        .get(signalSet, modelName, modelVersion, campaign, priority);
      id = (made as { id: number }).id;
      this.contexts.set(key, { id, context: { ...context, priority } });
    }
    this.last = { context, id, priority };
    return this.last;
  }

  private atPageLimit(): boolean {
    const pragma = (name: string) => this.db.pragma(name, { simple: true }) as number;
    return pragma('page_count') - pragma('freelist_count') >= 0.9 * pragma('max_page_count');
  }

  /** What the file says: at the start, and after a transaction that was rolled back. */
  private reload(): void {
    const all = (text: string) => this.db.prepare(text).all();
    const partitions = all('SELECT * FROM partitions ORDER BY priority') as (Partition & {
      last_sequence: number;
    })[];
    this.lastSequence = Math.max(...partitions.map(({ last_sequence }) => last_sequence));
    this.partitions = partitions.map(({ priority, rows, bytes }) => ({
      priority,
      rows,
      bytes,
      changed: false,
    }));
    this.events = (all('SELECT count(*) AS n FROM events') as { n: number }[])[0]?.n ?? 0;
    this.droppedBy = new Map(
      (all('SELECT * FROM dropped') as (Dropped & { campaign: string })[]).map((row) => [
        row.campaign,
        { rows: row.rows, events: row.events },
      ]),
    );
    this.last = undefined;
    this.contexts = new Map();
    for (const row of all('SELECT * FROM contexts') as ContextRecord[]) {
      const { id, signal_set, model_name, model_version, campaign, priority } = row;
      this.contexts.set(JSON.stringify([signal_set, model_name, model_version, campaign, priority]), {
        id,
        context: {
          signalSet: signal_set,
          modelName: model_name,
          modelVersion: model_version,
          campaign,
          priority,
        },
      });
    }
  }

  private beginBoot(): number {
    const { boot } = this.options.clock;
    this.db
      .prepare('INSERT OR IGNORE INTO boots (boot, first_sequence, wall_offset, known) VALUES (?, ?, 0, 0)')
      .run(boot, this.nextSequence);
    const { id } = this.db.prepare('SELECT id FROM boots WHERE boot = ?').get(boot) as { id: number };
    this.db.prepare('DELETE FROM boots WHERE id <= ?').run(id - BOOTS_MAX);
    const known = this.db.prepare('SELECT id, wall_offset FROM boots WHERE known = 1 AND id <> ?').all(id);
    for (const earlier of known as { id: number; wall_offset: number }[])
      this.earlierBoots.set(earlier.id, earlier.wall_offset);
    return id;
  }

  /** Notes how this boot's monotonic clock and the wall clock belong together, for the boots that come after it. */
  private keepClock(): void {
    const { clock } = this.options;
    this.db
      .prepare('UPDATE boots SET wall_offset = ?, known = ? WHERE id = ?')
      .run(Math.round(clock.wallMs() - clock.monotonicMs()), clock.known() ? 1 : 0, this.boot);
  }
}

interface Waiting {
  sequence: number;
  boot: number;
  monotonic: number;
}

interface ContextRecord {
  id: number;
  signal_set: string;
  model_name: string;
  model_version: string;
  campaign: string;
  priority: number;
}

function leading<T>(items: readonly T[], test: (item: T) => boolean): number {
  const end = items.findIndex((item) => !test(item));
  return end === -1 ? items.length : end;
}
