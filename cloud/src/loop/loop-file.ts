import { CardanError, decodeScores, QuantileSketch } from '@cardan/shared';
import type { Batch, EventLog, LogRecord, Offsets } from '@cardan/shared/event-log';
import { ProjectionFile } from '../fleet/projection-file.ts';
import { telemetryOf } from '../telemetry-record.ts';
import {
  binsOf,
  countRow,
  endsTrip,
  TRIP_ROWS_MIN,
  TripScores,
  type OpenScores,
  type OpenSignals,
  type ScoreTrip,
  type SignalTrip,
} from './trips.ts';

export const EVIDENCE_TOPICS = ['predictions', 'telemetry'] as const;
export type EvidenceTopic = (typeof EVIDENCE_TOPICS)[number];

const VERSION = 2;
/** Of each signal set and model: some days of a small fleet, and one trip of each vehicle of a large one's sample. */
export const SCORE_TRIPS_MAX = 1024;
/** Only the newest are compared with the training. */
export const SIGNAL_TRIPS_MAX = 128;

const SCHEMA = `
  CREATE TABLE open_scores (vehicle TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE open_signals (
    vehicle TEXT PRIMARY KEY, signal_set TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL, rows INTEGER NOT NULL,
    counts BLOB
  ) WITHOUT ROWID;
  CREATE TABLE score_trips (
    n INTEGER PRIMARY KEY, signal_set TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, vehicle TEXT NOT NULL,
    first REAL NOT NULL, last REAL NOT NULL, rows INTEGER NOT NULL, level REAL NOT NULL, alarmed REAL NOT NULL
  );
  CREATE INDEX score_trips_of ON score_trips (signal_set, last);
  CREATE TABLE signal_trips (
    n INTEGER PRIMARY KEY, signal_set TEXT NOT NULL, vehicle TEXT NOT NULL,
    first REAL NOT NULL, last REAL NOT NULL, rows INTEGER NOT NULL, counts BLOB NOT NULL
  );
  CREATE INDEX signal_trips_of ON signal_trips (signal_set, last);
  CREATE TABLE bins (signal_set TEXT PRIMARY KEY, edges TEXT NOT NULL) WITHOUT ROWID;`;

/**
 * Trips, out of `predictions` and `telemetry`: those that go on, one row per vehicle, and the newest that are over. All of
 * it is in an SQLite file with the offsets that it was made of, in one transaction per batch: what a crash takes is read
 * again, and memory does not grow with the fleet. The file may be deleted, and is made anew from the log.
 *
 * A row that is not newer than its vehicle's last is a copy or came late, and is passed over.
 */
export class LoopFile {
  /** Records that could not be read, and were passed over. Since the start. */
  malformed = 0;
  private readonly file: ProjectionFile;
  /** By signal set: the bins in which values are counted; without them they are not. */
  private readonly edges = new Map<string, readonly (readonly number[])[]>();

  private constructor(file: ProjectionFile) {
    this.file = file;
    for (const { signal_set, edges } of this.all<{ signal_set: string; edges: string }>('SELECT * FROM bins'))
      this.edges.set(signal_set, JSON.parse(edges) as number[][]);
  }

  /** Throws DATA_DIR_NOT_WRITABLE. */
  static async open({ path, log }: { path: string; log: EventLog }): Promise<LoopFile> {
    return new LoopFile(
      await ProjectionFile.open({ path, log, topics: EVIDENCE_TOPICS, schema: SCHEMA, version: VERSION }),
    );
  }

  close(): void {
    this.file.close();
  }

  position(topic: EvidenceTopic): Offsets {
    return this.file.position(topic);
  }

  /** From now on the values of this signal set are counted in these bins; what was counted in others is forgotten. */
  countIn(signalSet: string, edges: readonly (readonly number[])[]): void {
    const text = JSON.stringify(edges);
    if (JSON.stringify(this.edges.get(signalSet)) === text) return;
    this.file.transaction(() => {
      this.run('INSERT OR REPLACE INTO bins VALUES (?, ?)', signalSet, text);
      this.run('UPDATE open_signals SET counts = NULL WHERE signal_set = ?', signalSet);
      this.run('DELETE FROM signal_trips WHERE signal_set = ?', signalSet);
    });
    this.edges.set(signalSet, edges);
  }

  /** Takes in a batch of one of the two topics. The same one again changes nothing. */
  apply({ topic, partition, records }: Pick<Batch, 'topic' | 'partition' | 'records'>): void {
    const next = this.file.position(topic)[partition] ?? 0;
    const last = records.at(-1);
    if (last === undefined || last.offset < next) return;
    this.file.transaction(() => {
      for (const record of records) {
        if (record.offset < next || record.key === null || record.value === null) continue;
        if (topic === 'predictions') this.takeScores(record.key, record.value);
        else this.takeTelemetry(record.key, record);
      }
      this.file.advance(topic, partition, last);
    });
  }

  /**
   * Trips that a model scored, in the order in which they were driven, not in that in which they came: what is read anew
   * comes partition by partition. The newest ones.
   */
  scoreTrips(signalSet: string, model: { name: string; version: string }): ScoreTrip[] {
    return this.all<ScoreTrip>(
      `SELECT vehicle, first, last, rows, level, alarmed FROM score_trips
       WHERE signal_set = ? AND model = ? AND version = ? ORDER BY last DESC, vehicle DESC LIMIT ?`,
      signalSet,
      model.name,
      model.version,
      SCORE_TRIPS_MAX,
    ).reverse();
  }

  /** The newest trips whose values were counted, in the order in which they were driven. */
  signalTrips(signalSet: string): SignalTrip[] {
    return this.all<Omit<SignalTrip, 'counts'> & { counts: Buffer }>(
      `SELECT vehicle, first, last, rows, counts FROM signal_trips
       WHERE signal_set = ? ORDER BY last DESC, vehicle DESC LIMIT ?`,
      signalSet,
      SIGNAL_TRIPS_MAX,
    )
      .reverse()
      .map((trip) => ({ ...trip, counts: countsOf(trip.counts) }));
  }

  /** Vehicles that sent rows of this signal set last, at most `limit`. */
  vehicles(signalSet: string, limit: number): string[] {
    const sql = 'SELECT vehicle FROM open_signals WHERE signal_set = ? ORDER BY vehicle LIMIT ?';
    return this.all<{ vehicle: string }>(sql, signalSet, limit).map(({ vehicle }) => vehicle);
  }

  /** Time of the newest row of a signal set; null without one. */
  newest(signalSet: string): number | null {
    const sql = 'SELECT max(last) AS newest FROM open_signals WHERE signal_set = ?';
    return this.all<{ newest: number | null }>(sql, signalSet)[0]!.newest;
  }

  private takeScores(vehicle: string, value: Buffer): void {
    let batch;
    try {
      batch = decodeScores(value);
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      this.malformed++;
      return;
    }
    // A writer that does not say whose columns these are says it by the name of the model.
    const signalSet = batch.signalSet || batch.modelName.replace(/^anomaly-/, '');
    const { modelName: model, modelVersion: version, threshold } = batch;
    const row = this.all<{ data: string }>('SELECT data FROM open_scores WHERE vehicle = ?', vehicle)[0];
    let trip = row === undefined ? undefined : new TripScores(JSON.parse(row.data) as OpenScores);
    for (let i = 0; i < batch.times.length; i++) {
      const time = batch.times[i]!;
      if (trip !== undefined && time <= trip.open.last) continue;
      const { open } = trip ?? {};
      const same = open?.model === model && open.version === version && open.signalSet === signalSet;
      if (trip === undefined || !same || endsTrip(trip.open, time)) {
        if (trip !== undefined) this.addScoreTrip(trip.open, trip.finish(vehicle));
        const sketch = new QuantileSketch().data;
        const extent = { first: time, last: time, rows: 0, over: 0 };
        trip = new TripScores({ signalSet, model, version, threshold, ...extent, sketch });
      }
      trip.push(time, batch.scores[i]!);
    }
    if (trip !== undefined)
      this.run('INSERT OR REPLACE INTO open_scores VALUES (?, ?)', vehicle, JSON.stringify(trip.data));
  }

  private addScoreTrip({ signalSet, model, version }: OpenScores, trip: ScoreTrip | undefined): void {
    if (trip === undefined) return;
    const { vehicle, first, last, rows, level, alarmed } = trip;
    this.run(
      'INSERT INTO score_trips VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...[signalSet, model, version, vehicle, first, last, rows, level, alarmed],
    );
    this.run(
      `DELETE FROM score_trips WHERE signal_set = ? AND last < (
         SELECT last FROM score_trips WHERE signal_set = ? ORDER BY last DESC LIMIT 1 OFFSET ?)`,
      ...[signalSet, signalSet, SCORE_TRIPS_MAX - 1],
    );
  }

  private takeTelemetry(vehicle: string, { value }: LogRecord): void {
    const batch = telemetryOf(value!, () => this.malformed++);
    // What a campaign collects is another kind of rows.
    if (batch === undefined || batch.campaign !== undefined || batch.times.length === 0) return;
    const { signalSet, times, values } = batch;
    const edges = this.edges.get(signalSet);
    const signals = values.length / times.length;
    let trip = this.openSignals(vehicle);
    for (let i = 0; i < times.length; i++) {
      const time = times[i]!;
      if (trip !== undefined && time <= trip.last) continue;
      if (trip?.signalSet !== signalSet || endsTrip(trip, time)) {
        if (trip !== undefined) this.addSignalTrip(vehicle, trip);
        trip = { signalSet, first: time, last: time, rows: 0, counts: null };
      }
      trip.last = time;
      trip.rows++;
      if (edges?.length !== signals) continue;
      // A trip under way when the bins were made counts from there on.
      trip.counts ??= new Uint32Array(edges.reduce((sum, ends) => sum + binsOf(ends), 0));
      countRow(trip.counts, edges, values, i * signals);
    }
    if (trip === undefined) return;
    const { first, last, rows, counts } = trip;
    this.run(
      'INSERT OR REPLACE INTO open_signals VALUES (?, ?, ?, ?, ?, ?)',
      ...[vehicle, trip.signalSet, first, last, rows, counts === null ? null : bytesOf(counts)],
    );
  }

  private openSignals(vehicle: string): OpenSignals | undefined {
    const sql =
      'SELECT signal_set AS signalSet, first, last, rows, counts FROM open_signals WHERE vehicle = ?';
    const row = this.all<Omit<OpenSignals, 'counts'> & { counts: Buffer | null }>(sql, vehicle)[0];
    return row && { ...row, counts: row.counts === null ? null : countsOf(row.counts) };
  }

  private addSignalTrip(vehicle: string, { signalSet, first, last, rows, counts }: OpenSignals): void {
    if (counts === null || rows < TRIP_ROWS_MIN) return;
    this.run(
      'INSERT INTO signal_trips VALUES (NULL, ?, ?, ?, ?, ?, ?)',
      ...[signalSet, vehicle, first, last, rows, bytesOf(counts)],
    );
    this.run(
      `DELETE FROM signal_trips WHERE signal_set = ? AND last < (
         SELECT last FROM signal_trips WHERE signal_set = ? ORDER BY last DESC LIMIT 1 OFFSET ?)`,
      ...[signalSet, signalSet, SIGNAL_TRIPS_MAX - 1],
    );
  }

  private all<T>(sql: string, ...values: (string | number)[]): T[] {
    return this.file.db.prepare(sql).all(...values) as T[];
  }

  private run(sql: string, ...values: (string | number | Buffer | null)[]): void {
    this.file.db.prepare(sql).run(...values);
  }
}

function bytesOf(counts: Uint32Array): Buffer {
  return Buffer.from(counts.buffer, counts.byteOffset, counts.byteLength);
}

/** A copy: what SQLite gives may lie at any byte. */
function countsOf(bytes: Buffer): Uint32Array {
  return new Uint32Array(Uint8Array.from(bytes).buffer);
}
