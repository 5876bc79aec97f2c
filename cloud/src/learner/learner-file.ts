import { SequenceDeduplicator, type DeduplicatorSnapshot } from '@cardan/shared';
import type { EventLog, LogRecord, NewRecord, Offsets } from '@cardan/shared/event-log';
import { ProjectionFile } from '../fleet/projection-file.ts';
import { DrivingStates, type DrivingStatesState, type VehicleWindows } from './driving-states.ts';
import type { FleetClusters } from './fleet-clusters.ts';

/** Of the tables below and of the states in them. */
const VERSION = 1;
const SCHEMA = `
  CREATE TABLE learners (
    signal_set TEXT NOT NULL, partition INTEGER NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (signal_set, partition)
  ) WITHOUT ROWID;
  CREATE TABLE windows (
    signal_set TEXT NOT NULL, partition INTEGER NOT NULL, vehicle TEXT NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (signal_set, partition, vehicle)
  ) WITHOUT ROWID;
  CREATE TABLE seen (
    partition INTEGER NOT NULL, vehicle TEXT NOT NULL, rows TEXT NOT NULL,
    PRIMARY KEY (partition, vehicle)
  ) WITHOUT ROWID;
  CREATE TABLE fleets (
    signal_set TEXT PRIMARY KEY, looks INTEGER NOT NULL, fresh INTEGER NOT NULL, state TEXT
  ) WITHOUT ROWID;
  CREATE TABLE assigned (
    signal_set TEXT NOT NULL, vehicle TEXT NOT NULL, cluster INTEGER NOT NULL,
    PRIMARY KEY (signal_set, vehicle)
  ) WITHOUT ROWID;
  CREATE TABLE outbox (id INTEGER PRIMARY KEY, record TEXT NOT NULL);`;

/** What was learned of a signal set as a whole. */
export interface Fleet {
  /** How often it was looked at, and the windows since. */
  looks: number;
  fresh: number;
  /** Undefined until there was something to see. */
  clusters: FleetClusters | undefined;
}

/**
 * The learner's memory on disk: what it has learned, how far it has read, and what it has still to say, all changed in
 * one transaction. So each record has its effect once, wherever the process dies.
 */
export class LearnerFile {
  private readonly file: ProjectionFile;

  private constructor(file: ProjectionFile) {
    this.file = file;
  }

  /** Throws DATA_DIR_NOT_WRITABLE. */
  static async open(path: string, log: EventLog): Promise<LearnerFile> {
    const options = { path, log, topics: ['telemetry'], schema: SCHEMA, version: VERSION };
    return new LearnerFile(await ProjectionFile.open(options));
  }

  /** The next offsets to read. */
  get position(): Offsets {
    return this.file.position('telemetry');
  }

  /** Everything that `work` saves, and that the batch with this last record is done; or nothing. */
  checkpoint(partition: number, last: LogRecord, work: () => void): void {
    this.file.transaction(() => {
      work();
      this.file.advance('telemetry', partition, last);
    });
  }

  /** By signal set and partition. */
  learners(): { signalSet: string; partition: number; states: DrivingStates }[] {
    const { db } = this.file;
    const rows = db.prepare('SELECT signal_set, partition, state FROM learners').all();
    return (rows as { signal_set: string; partition: number; state: string }[]).map((row) => {
      const windows = db
        .prepare('SELECT vehicle, state FROM windows WHERE signal_set = ? AND partition = ?')
        .all(row.signal_set, row.partition) as { vehicle: string; state: string }[];
      const vehicles = windows.map(
        ({ vehicle, state }) => [vehicle, JSON.parse(state) as VehicleWindows] as const,
      );
      const states = DrivingStates.from(JSON.parse(row.state) as DrivingStatesState, vehicles);
      return { signalSet: row.signal_set, partition: row.partition, states };
    });
  }

  /** Saves the clusters, and the vehicles that have changed. */
  saveLearner(signalSet: string, partition: number, states: DrivingStates): void {
    const { db } = this.file;
    db.prepare('INSERT OR REPLACE INTO learners VALUES (?, ?, ?)').run(
      signalSet,
      partition,
      JSON.stringify(states.state()),
    );
    const windows = db.prepare('INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?)');
    for (const id of states.touched)
      windows.run(signalSet, partition, id, JSON.stringify(states.vehicles.get(id)));
  }

  seen(partition: number, vehicle: string): SequenceDeduplicator {
    const rows = this.file.db
      .prepare('SELECT rows FROM seen WHERE partition = ? AND vehicle = ?')
      .pluck()
      .get(partition, vehicle) as string | undefined;
    return rows === undefined
      ? new SequenceDeduplicator()
      : SequenceDeduplicator.restore(JSON.parse(rows) as DeduplicatorSnapshot);
  }

  saveSeen(partition: number, vehicle: string, seen: SequenceDeduplicator): void {
    this.file.db
      .prepare('INSERT OR REPLACE INTO seen VALUES (?, ?, ?)')
      .run(partition, vehicle, JSON.stringify(seen.snapshot()));
  }

  fleet(signalSet: string): Fleet {
    const row = this.file.db
      .prepare('SELECT looks, fresh, state FROM fleets WHERE signal_set = ?')
      .get(signalSet) as { looks: number; fresh: number; state: string | null } | undefined;
    const { looks, fresh, state } = row ?? { looks: 0, fresh: 0, state: null };
    return { looks, fresh, clusters: state === null ? undefined : (JSON.parse(state) as FleetClusters) };
  }

  saveFleet(signalSet: string, { looks, fresh, clusters }: Fleet): void {
    this.file.db
      .prepare('INSERT OR REPLACE INTO fleets VALUES (?, ?, ?, ?)')
      .run(signalSet, looks, fresh, clusters === undefined ? null : JSON.stringify(clusters));
  }

  assigned(signalSet: string): Map<string, number> {
    const rows = this.file.db
      .prepare('SELECT vehicle, cluster FROM assigned WHERE signal_set = ?')
      .all(signalSet) as { vehicle: string; cluster: number }[];
    return new Map(rows.map(({ vehicle, cluster }) => [vehicle, cluster]));
  }

  saveAssigned(signalSet: string, vehicle: string, cluster: number): void {
    this.file.db.prepare('INSERT OR REPLACE INTO assigned VALUES (?, ?, ?)').run(signalSet, vehicle, cluster);
  }

  /** Notes a record that is to be appended to the log once the transaction stands. */
  say(record: NewRecord): void {
    const value = record.value === null ? null : Buffer.from(record.value).toString('base64');
    this.file.db.prepare('INSERT INTO outbox (record) VALUES (?)').run(JSON.stringify({ ...record, value }));
  }

  /** What is to be appended, oldest first, and the number of the last one. */
  unsaid(): { records: NewRecord[]; last: number } {
    const rows = this.file.db.prepare('SELECT id, record FROM outbox ORDER BY id').all() as {
      id: number;
      record: string;
    }[];
    const records = rows.map(({ record }) => {
      const parsed = JSON.parse(record) as Omit<NewRecord, 'value'> & { value: string | null };
      return { ...parsed, value: parsed.value === null ? null : Buffer.from(parsed.value, 'base64') };
    });
    return { records, last: rows.at(-1)?.id ?? 0 };
  }

  said(last: number): void {
    this.file.db.prepare('DELETE FROM outbox WHERE id <= ?').run(last);
  }

  close(): void {
    this.file.close();
  }
}
