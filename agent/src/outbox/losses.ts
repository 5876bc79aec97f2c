import type Database from 'better-sqlite3';
import type { Dropped } from './row.ts';

/** Rows and events that had to go, by campaign, since the file was made. */
export class Losses {
  private readonly db: Database.Database;
  private counts = new Map<string, Dropped>();

  constructor(db: Database.Database) {
    this.db = db;
  }

  get byCampaign(): ReadonlyMap<string, Dropped> {
    return this.counts;
  }

  load(): void {
    const all = this.db.prepare('SELECT * FROM dropped').all() as (Dropped & { campaign: string })[];
    this.counts = new Map(all.map(({ campaign, rows, events }) => [campaign, { rows, events }]));
  }

  add(campaign: string, rows: number, events: number): void {
    const before = this.counts.get(campaign) ?? { rows: 0, events: 0 };
    const after = { rows: before.rows + rows, events: before.events + events };
    this.db
      .prepare('INSERT OR REPLACE INTO dropped (campaign, rows, events) VALUES (?, ?, ?)')
      .run(campaign, after.rows, after.events);
    this.counts.set(campaign, after);
  }
}
