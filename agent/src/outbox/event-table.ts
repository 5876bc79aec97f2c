import type { CloudEvent } from '@cardan/shared';
import type Database from 'better-sqlite3';
import type { Correction } from './clock-watch.ts';
import { withTime, type ReadyEvent } from './event.ts';
import type { Losses } from './losses.ts';
import { PRIORITY_ALARM } from './row.ts';

/** The events of the file. */
export class EventTable {
  private readonly db: Database.Database;
  private readonly losses: Losses;
  private readonly max: number;
  private rows = 0;
  private lastSequence = 0;

  /** `max`: when there are more, the oldest of the lowest priority go, and are counted. */
  constructor(db: Database.Database, losses: Losses, max: number) {
    this.db = db;
    this.losses = losses;
    this.max = max;
  }

  get count(): number {
    return this.rows;
  }

  load(): void {
    this.rows = (this.db.prepare('SELECT count(*) AS n FROM events').get() as { n: number }).n;
    const last = this.db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'events'").get();
    // Numbers that have been given out are never given out again, whatever was rolled back.
    this.lastSequence = Math.max(this.lastSequence, (last as { seq: number } | undefined)?.seq ?? 0);
  }

  takeNumber(): number {
    return ++this.lastSequence;
  }

  /** Writes down which numbers have been used, and leaves `skipped` of them out. */
  saveNumber(skipped: number): void {
    this.lastSequence += skipped;
    const { changes } = this.db
      .prepare("UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'")
      .run(this.lastSequence);
    if (changes === 0)
      this.db.prepare("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)").run(this.lastSequence);
  }

  insert(event: ReadyEvent, campaign: string, boot: number, monotonic: number): void {
    this.db
      .prepare(
        'INSERT INTO events (sequence, json, priority, campaign, boot, monotonic) VALUES (?, ?, ?, ?, ?, ?)',
      )
      .run(event.sequence, event.json, event.priority, campaign, boot, monotonic);
    this.rows++;
    const over = this.rows - this.max;
    if (over > 0)
      this.drop(
        this.db
          .prepare('SELECT sequence, campaign FROM events ORDER BY priority, sequence LIMIT ?')
          .all(over) as Gone[],
      );
  }

  /** What goes up next: events in their order, then alarms, the newest first; none of the boot `hidden`. */
  next(max: number, hidden: number): (ReadyEvent & { boot: number; monotonic: number })[] {
    // The + makes SQLite use the index: it would else read through all alarms to find none of the others.
    const others = this.db
      .prepare(
        `SELECT sequence, json, priority, boot, monotonic FROM events WHERE priority < ${PRIORITY_ALARM} AND boot <> ?
         ORDER BY +sequence LIMIT ?`,
      )
      .all(hidden, max);
    const alarms = this.db
      .prepare(
        `SELECT sequence, json, priority, boot, monotonic FROM events WHERE priority = ${PRIORITY_ALARM} AND boot <> ?
         ORDER BY sequence DESC LIMIT ?`,
      )
      .all(hidden, max - others.length);
    return [...others, ...alarms] as (ReadyEvent & { boot: number; monotonic: number })[];
  }

  oldest(): number | undefined {
    return (
      (this.db.prepare('SELECT min(sequence) AS n FROM events').get() as { n: number | null }).n ?? undefined
    );
  }

  has(sequence: number): boolean {
    return this.db.prepare('SELECT 1 FROM events WHERE sequence = ?').get(sequence) !== undefined;
  }

  countBetween(first: number, last: number): number {
    const found = this.db
      .prepare('SELECT count(*) AS n FROM events WHERE sequence BETWEEN ? AND ?')
      .get(first, last);
    return (found as { n: number }).n;
  }

  /** They are in the log. */
  remove(first: number, last: number): void {
    this.rows -= this.db
      .prepare('DELETE FROM events WHERE sequence BETWEEN ? AND ?')
      .run(first, last).changes;
  }

  /** The oldest ones up to this one go, and are counted. */
  dropUpTo(last: number): void {
    this.drop(
      this.db.prepare('SELECT sequence, campaign FROM events WHERE sequence <= ?').all(last) as Gone[],
    );
  }

  correct({ of, by }: Correction, boot: number): void {
    const events = this.db.prepare('SELECT sequence, json, monotonic FROM events WHERE boot = ?').all(boot);
    for (const { sequence, json, monotonic } of events as {
      sequence: number;
      json: string;
      monotonic: number;
    }[]) {
      const event = JSON.parse(json) as CloudEvent;
      const right = withTime(event, (time) => (of(time, monotonic) ? time + by : time));
      if (right !== event)
        this.db.prepare('UPDATE events SET json = ? WHERE sequence = ?').run(JSON.stringify(right), sequence);
    }
  }

  private drop(gone: readonly Gone[]): void {
    for (const { sequence, campaign } of gone) {
      this.db.prepare('DELETE FROM events WHERE sequence = ?').run(sequence);
      this.losses.add(campaign, 0, 1);
    }
    this.rows -= gone.length;
  }
}

interface Gone {
  sequence: number;
  campaign: string;
}
