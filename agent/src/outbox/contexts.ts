import type Database from 'better-sqlite3';
import { priorityOf, type Compression, type RowContext } from './row.ts';

/** What runs of rows have in common: written once, and named by a number in each row. */
export class Contexts {
  private readonly db: Database.Database;
  private byKey = new Map<string, number>();
  private byId = new Map<number, RowContext>();
  private last: { context: RowContext; id: number; priority: number } | undefined;

  constructor(db: Database.Database) {
    this.db = db;
  }

  /** What the file says: at the start, and after a transaction that was rolled back. */
  load(): void {
    this.last = undefined;
    this.byKey = new Map();
    this.byId = new Map();
    for (const row of this.db.prepare('SELECT * FROM contexts').all() as ContextRecord[])
      this.remember(row.id, {
        signalSet: row.signal_set,
        modelName: row.model_name,
        modelVersion: row.model_version,
        campaign: row.campaign,
        priority: row.priority,
        ...(row.compression === '' ? {} : { compression: row.compression }),
      });
  }

  get(id: number): RowContext {
    const context = this.byId.get(id);
    if (context === undefined) throw new Error(`outbox context ${id} is unknown`);
    return context;
  }

  /** Its number, new if need be, and its priority. */
  place(context: RowContext): { id: number; priority: number } {
    if (this.last?.context === context) return this.last;
    const priority = priorityOf(context);
    let id = this.byKey.get(keyOf({ ...context, priority }));
    if (id === undefined) {
      const { signalSet, modelName, modelVersion, campaign = '', compression = '' } = context;
      const made = this.db
        .prepare(
          `INSERT INTO contexts (signal_set, model_name, model_version, campaign, priority, compression)
           VALUES (?, ?, ?, ?, ?, ?) RETURNING id`,
        )
        .get(signalSet, modelName, modelVersion, campaign, priority, compression);
      ({ id } = made as { id: number });
      this.remember(id, { ...context, priority });
    }
    this.last = { context, id, priority };
    return this.last;
  }

  private remember(id: number, context: RowContext): void {
    this.byKey.set(keyOf(context), id);
    this.byId.set(id, context);
  }
}

interface ContextRecord {
  id: number;
  signal_set: string;
  model_name: string;
  model_version: string;
  campaign: string;
  priority: number;
  compression: Compression | '';
}

function keyOf(context: RowContext): string {
  const { signalSet, modelName, modelVersion, campaign = '', priority, compression = '' } = context;
  return JSON.stringify([signalSet, modelName, modelVersion, campaign, priority, compression]);
}
