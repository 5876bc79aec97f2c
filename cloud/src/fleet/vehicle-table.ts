import type Database from 'better-sqlite3';
import type { VehicleChanged, VehicleRegistered, VehicleRemoved } from '@cardan/shared';
import type { Vehicle, VehicleState } from './vehicle.ts';

/**
 * One row for each vehicle that was ever heard of. Two groups of columns, as each comes from one topic and the two have no
 * common order: whichever is read first, the row is the same in the end.
 *
 *   from `vehicles`         registered_at, attributes, registered_signal_set, token_sha256, events_from (JSON: offset per
 *                           partition of `vehicle-events` before which nothing counts; null unless it was removed)
 *   from `vehicle-events`   partition; signal_set, online, reported, seen_at, each with the offset that it is from
 *
 * `there`: it is registered or has an event that counts. `polls` stands apart: it changes all the time, and its rows must be
 * small. The index `polled` has all that a poll asks for, so that it need not read the row itself.
 */
export const VEHICLES_VERSION = 2;
export const VEHICLES_SCHEMA = `
  CREATE TABLE vehicles (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, there INTEGER NOT NULL DEFAULT 0,
    registered_at INTEGER, attributes TEXT NOT NULL DEFAULT '{}', registered_signal_set TEXT, token_sha256 TEXT,
    events_from TEXT,
    partition INTEGER,
    signal_set TEXT, signal_set_offset INTEGER,
    online INTEGER, online_offset INTEGER,
    reported TEXT, reported_offset INTEGER,
    seen_at INTEGER, seen_offset INTEGER
  );
  CREATE INDEX polled ON vehicles (id, there, signal_set, registered_signal_set, token_sha256);
  CREATE TABLE polls (n INTEGER PRIMARY KEY, at INTEGER NOT NULL);`;

const THERE = 'there = 1';
const SIGNAL_SET = 'coalesce(signal_set, registered_signal_set)';
const VEHICLE = `SELECT id, ${SIGNAL_SET} AS signalSet, attributes, registered_at AS registeredAt,
  max(coalesce(seen_at, polls.at), coalesce(polls.at, seen_at)) AS seenAt, online, reported
  FROM vehicles LEFT JOIN polls USING (n)`;

interface Row {
  id: string;
  signalSet: string | null;
  attributes: string;
  registeredAt: number | null;
  seenAt: number | null;
  online: number | null;
  reported: string | null;
}

/** What one event of a vehicle says. */
export interface Seen {
  partition: number;
  offset: number;
  /** Milliseconds since 1970. */
  at: number;
  signalSet?: string;
  online?: boolean;
  reported?: VehicleState;
}

/** Enough of a vehicle for a poll. */
export interface PolledVehicle {
  n: number;
  signalSet: string | null;
  tokenSha256: string | null;
}

/** The table of vehicles in the projection's file. What changes it is to be called in a transaction. */
export class VehicleTable {
  private readonly db: Database.Database;
  private readonly polledStatement: Database.Statement;

  constructor(db: Database.Database) {
    this.db = db;
    this.polledStatement = db.prepare(
      `SELECT n, ${SIGNAL_SET} AS signalSet, token_sha256 AS tokenSha256
       FROM vehicles INDEXED BY polled WHERE id = ? AND ${THERE}`,
    );
  }

  count(): number {
    return this.db
      .prepare(`SELECT count(*) FROM vehicles INDEXED BY polled WHERE ${THERE}`)
      .pluck()
      .get() as number;
  }

  polled(id: string): PolledVehicle | undefined {
    return this.polledStatement.get(id) as PolledVehicle | undefined;
  }

  get(id: string): Vehicle | undefined {
    const row = this.db.prepare(`${VEHICLE} WHERE id = ? AND ${THERE}`).get(id) as Row | undefined;
    return row === undefined ? undefined : vehicleOf(row);
  }

  /** What the topic `vehicles` says of it; undefined: nothing that counts. */
  registration(id: string): VehicleRegistered | undefined {
    const row = this.db
      .prepare(
        `SELECT attributes, registered_signal_set AS signalSet, token_sha256 AS tokenSha256
         FROM vehicles WHERE id = ? AND registered_at IS NOT NULL`,
      )
      .get(id) as { attributes: string; signalSet: string | null; tokenSha256: string | null } | undefined;
    if (row === undefined) return undefined;
    const { attributes, signalSet, tokenSha256 } = row;
    return {
      attributes: JSON.parse(attributes) as Record<string, string>,
      ...(signalSet === null ? {} : { signalSet }),
      ...(tokenSha256 === null ? {} : { tokenSha256 }),
    };
  }

  /** In the order of their ids, those after `after`; '' is before all. */
  page(after: string, limit: number): Vehicle[] {
    const select = this.db.prepare(`${VEHICLE} WHERE id > ? AND ${THERE} ORDER BY id LIMIT ?`);
    return (select.all(after, limit) as Row[]).map(vehicleOf);
  }

  /** The same, with the signal set only. */
  signalSets(after: string, limit: number): { id: string; signalSet: string | null }[] {
    return this.db
      .prepare(
        `SELECT id, ${SIGNAL_SET} AS signalSet FROM vehicles INDEXED BY polled WHERE id > ? AND ${THERE} ORDER BY id LIMIT ?`,
      )
      .all(after, limit) as { id: string; signalSet: string | null }[];
  }

  registered(id: string, at: number, { attributes, signalSet, tokenSha256 }: VehicleRegistered): void {
    this.db
      .prepare(
        `INSERT INTO vehicles (id, there, registered_at, attributes, registered_signal_set, token_sha256)
         VALUES (?, 1, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET
           there = 1, registered_at = coalesce(registered_at, excluded.registered_at), attributes = excluded.attributes,
           registered_signal_set = excluded.registered_signal_set, token_sha256 = excluded.token_sha256`,
      )
      .run(id, at, JSON.stringify(attributes), signalSet ?? null, tokenSha256 ?? null);
  }

  changed(id: string, { attributes, signalSet, tokenSha256 }: VehicleChanged): void {
    const { db } = this;
    const insert = db.prepare('INSERT INTO vehicles (id) VALUES (?) ON CONFLICT (id) DO NOTHING');
    insert.run(id);
    if (attributes !== undefined)
      // RFC 7396, which is what a change is: null takes away.
      db.prepare('UPDATE vehicles SET attributes = json_patch(attributes, ?) WHERE id = ?').run(
        JSON.stringify(attributes),
        id,
      );
    if (signalSet !== undefined)
      db.prepare('UPDATE vehicles SET registered_signal_set = ? WHERE id = ?').run(signalSet, id);
    if (tokenSha256 !== undefined)
      db.prepare('UPDATE vehicles SET token_sha256 = ? WHERE id = ?').run(tokenSha256, id);
  }

  removed(id: string, { eventsUntil }: VehicleRemoved): void {
    const { db } = this;
    db.prepare(
      `INSERT INTO vehicles (id, events_from) VALUES (?, ?)
       ON CONFLICT (id) DO UPDATE SET
         registered_at = NULL, attributes = '{}', registered_signal_set = NULL, token_sha256 = NULL,
         events_from = excluded.events_from`,
    ).run(id, JSON.stringify(eventsUntil));
    const row = db.prepare('SELECT n, partition FROM vehicles WHERE id = ?').get(id) as {
      n: number;
      partition: number | null;
    };
    db.prepare('DELETE FROM polls WHERE n = ?').run(row.n);
    const until = row.partition === null ? 0 : (eventsUntil[row.partition] ?? 0);
    for (const [column, offset] of [
      ['signal_set', 'signal_set_offset'],
      ['online', 'online_offset'],
      ['reported', 'reported_offset'],
      ['seen_at', 'seen_offset'],
    ])
      db.prepare(`UPDATE vehicles SET ${column} = NULL, ${offset} = NULL WHERE n = ? AND ${offset} < ?`).run(
        row.n,
        until,
      );
    db.prepare('UPDATE vehicles SET there = seen_offset IS NOT NULL WHERE n = ?').run(row.n);
  }

  /** Takes in an event; says whether the vehicle appeared, or sends other columns now. */
  seen(id: string, event: Seen): boolean {
    const { db } = this;
    const { partition, offset } = event;
    const before = db
      .prepare(
        `SELECT n, events_from AS eventsFrom, signal_set AS signalSet, seen_at AS seenAt, there
         FROM vehicles WHERE id = ?`,
      )
      .get(id) as
      | {
          n: number;
          eventsFrom: string | null;
          signalSet: string | null;
          seenAt: number | null;
          there: number;
        }
      | undefined;
    if (before?.eventsFrom != null) {
      const from = JSON.parse(before.eventsFrom) as Record<number, number>;
      if (offset < (from[partition] ?? 0)) return false;
    }
    const n = before?.n ?? Number(db.prepare('INSERT INTO vehicles (id) VALUES (?)').run(id).lastInsertRowid);
    db.prepare('UPDATE vehicles SET there = 1, partition = ?, seen_at = ?, seen_offset = ? WHERE n = ?').run(
      partition,
      Math.max(event.at, before?.seenAt ?? 0),
      offset,
      n,
    );
    if (event.signalSet !== undefined)
      db.prepare('UPDATE vehicles SET signal_set = ?, signal_set_offset = ? WHERE n = ?').run(
        event.signalSet,
        offset,
        n,
      );
    if (event.online !== undefined)
      db.prepare('UPDATE vehicles SET online = ?, online_offset = ? WHERE n = ?').run(
        event.online ? 1 : 0,
        offset,
        n,
      );
    if (event.reported !== undefined)
      db.prepare('UPDATE vehicles SET reported = ?, reported_offset = ? WHERE n = ?').run(
        JSON.stringify(event.reported),
        offset,
        n,
      );
    return before?.there !== 1 || (event.signalSet !== undefined && event.signalSet !== before.signalSet);
  }

  /** When vehicles have polled last, by the number of their row. */
  pollsAt(polls: ReadonlyMap<number, number>): void {
    const insert = this.db.prepare(
      'INSERT INTO polls (n, at) VALUES (?, ?) ON CONFLICT (n) DO UPDATE SET at = excluded.at',
    );
    for (const [n, at] of polls) insert.run(n, at);
  }
}

function vehicleOf({ id, signalSet, attributes, registeredAt, seenAt, online, reported }: Row): Vehicle {
  return {
    id,
    signalSet,
    attributes: JSON.parse(attributes) as Record<string, string>,
    registeredAt: timeOf(registeredAt),
    lastSeen: timeOf(seenAt),
    online: online === null ? null : online === 1,
    reported: reported === null ? null : (JSON.parse(reported) as VehicleState),
  };
}

function timeOf(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
