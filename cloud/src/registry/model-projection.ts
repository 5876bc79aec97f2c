import {
  type EventData,
  isEvent,
  type ModelManifest,
  type ModelRef,
  parseManifest,
  recordToEvent,
  type RolloutDecided,
  type VehicleDesired,
} from '@cardan/shared';
import type { Batch, EventLog, LogRecord, Offsets } from '@cardan/shared/event-log';
import { ProjectionFile } from '../fleet/projection-file.ts';
import { modelTargetMetadata, type ModelTargetMetadata } from './target-metadata.ts';

export const MODELS_TOPIC = 'models';
const SHA256 = /^[0-9a-f]{64}$/;
/** As of names of models and versions: aliases stand in the same places of URLs and command lines. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export interface ModelVersion {
  manifest: ModelManifest;
  /** SHA-256 of manifest.json. */
  manifestSha256: string;
}

/** A version in a list. */
export interface ModelSummary {
  /** Place among all publications. */
  n: number;
  version: string;
  createdAt: string;
  /** When it came into the log (RFC 3339). */
  publishedAt: string;
  signalSet: string;
  manifestSha256: string;
  rows: number;
  threshold: number;
  aliases: string[];
  tags: Record<string, string>;
}

/** What is signed of a version. */
export interface SignedVersion {
  name: string;
  version: string;
  manifestSha256: string;
  files: ModelManifest['files'];
  custom: ModelTargetMetadata;
}

/**
 * Of each model the newest versions stay signed for cars; older ones only while a decision or an alias names them. It
 * keeps the targets metadata, which every car fetches, at a few hundred kilobytes however long the fleet learns.
 */
export const SIGNED_VERSIONS_MAX = 50;

const UNDECIDED: VehicleDesired = { generation: 0, active: null };

/** Of the tables below, and of what they mean. */
const VERSION = 2;
const SCHEMA = `
  CREATE TABLE versions (
    n INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, published_at TEXT NOT NULL,
    created_at TEXT NOT NULL, signal_set TEXT NOT NULL, manifest_sha256 TEXT NOT NULL, rows INTEGER NOT NULL,
    threshold REAL NOT NULL, signed TEXT NOT NULL, UNIQUE (name, version)
  );
  CREATE TABLE manifests (n INTEGER PRIMARY KEY, manifest TEXT NOT NULL);
  CREATE TABLE aliases (
    name TEXT NOT NULL, alias TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (name, alias)
  ) WITHOUT ROWID;
  CREATE TABLE tags (
    name TEXT NOT NULL, version TEXT NOT NULL, tag TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (name, version, tag)
  ) WITHOUT ROWID;
  CREATE TABLE decisions (signal_set TEXT PRIMARY KEY, generation INTEGER NOT NULL, decision TEXT NOT NULL);
  CREATE TABLE undecided (signal_set TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL);`;

interface VersionRow {
  n: number;
  version: string;
  published_at: string;
  created_at: string;
  signal_set: string;
  manifest_sha256: string;
  rows: number;
  threshold: number;
}

/** A change that a record makes, checked. */
type Change =
  | { kind: 'published'; model: ModelVersion; at: string; trial: boolean }
  | { kind: 'alias'; data: EventData['io.cardan.model.alias-set'] }
  | { kind: 'tags'; data: EventData['io.cardan.model.tagged'] }
  | { kind: 'decided'; decision: RolloutDecided };

/**
 * What the `models` topic says: every version that was published, what names it, and what each signal set should run. In
 * an SQLite file, so that neither memory nor the time to start grows with the versions; it may be deleted, and is made
 * anew from the log.
 */
export class ModelProjection {
  /** Records that could not be read, and were passed over. Since the start. */
  malformed = 0;
  /** The highest generation that was ever decided. */
  generation = 0;
  private readonly file: ProjectionFile;
  /** Newest decision per signal set: they are few, and every poll asks for one. */
  private readonly decisions = new Map<string, RolloutDecided>();
  /** The same as vehicles are told: one object for all of them. */
  private readonly desiredOf = new Map<string, VehicleDesired>();

  private constructor(file: ProjectionFile) {
    this.file = file;
    this.remember();
  }

  /** Opens the file as it is. Throws DATA_DIR_NOT_WRITABLE. */
  static async open({ path, log }: { path: string; log: EventLog }): Promise<ModelProjection> {
    return new ModelProjection(
      await ProjectionFile.open({ path, log, topics: [MODELS_TOPIC], schema: SCHEMA, version: VERSION }),
    );
  }

  close(): void {
    this.file.close();
  }

  /** Where in the topic it goes on. */
  position(): Offsets {
    return this.file.position(MODELS_TOPIC);
  }

  /** Takes in a batch; says whether anything changed by it. The same one again changes nothing. */
  apply({ partition, records }: Pick<Batch, 'partition' | 'records'>): boolean {
    const next = this.position()[partition] ?? 0;
    const last = records.at(-1);
    if (last === undefined || last.offset < next) return false;
    let changed = false;
    try {
      this.file.transaction(() => {
        for (const record of records) {
          if (record.offset < next) continue;
          const change = this.read(record);
          if (change !== undefined && this.make(change)) changed = true;
        }
        this.file.advance(MODELS_TOPIC, partition, last);
      });
    } catch (error) {
      // Nothing of it counts, also not in memory.
      this.remember();
      throw error;
    }
    return changed;
  }

  names(): string[] {
    const sql = 'SELECT name FROM versions GROUP BY name ORDER BY min(n)';
    return this.all<{ name: string }>(sql).map(({ name }) => name);
  }

  /** The newest versions, in the order in which they were published. */
  newest(name: string, limit: number): ModelSummary[] {
    const sql = 'SELECT * FROM versions WHERE name = ? ORDER BY n DESC LIMIT ?';
    return this.summaries(name, this.all<VersionRow>(sql, name, limit).reverse());
  }

  /** All of them after the n-th publication, in the order in which they were published; read as they are taken. */
  *published(name: string, after: number): Generator<ModelSummary> {
    for (let from = after; ;) {
      const sql = 'SELECT * FROM versions WHERE name = ? AND n > ? ORDER BY n LIMIT 100';
      const rows = this.all<VersionRow>(sql, name, from);
      yield* this.summaries(name, rows);
      if (rows.length === 0) return;
      from = rows.at(-1)!.n;
    }
  }

  private summaries(name: string, rows: VersionRow[]): ModelSummary[] {
    if (rows.length === 0) return [];
    const aliases = Object.entries(this.aliases(name));
    const tags = new Map<string, Record<string, string>>();
    for (const { version, tag, value } of this.all<{ version: string; tag: string; value: string }>(
      `SELECT version, tag, value FROM tags JOIN versions USING (name, version)
       WHERE name = ? AND n BETWEEN ? AND ? ORDER BY tag`,
      name,
      rows[0]!.n,
      rows.at(-1)!.n,
    ))
      tags.set(version, { ...tags.get(version), [tag]: value });
    return rows.map((row) => ({
      n: row.n,
      version: row.version,
      createdAt: row.created_at,
      publishedAt: row.published_at,
      signalSet: row.signal_set,
      manifestSha256: row.manifest_sha256,
      rows: row.rows,
      threshold: row.threshold,
      aliases: aliases.flatMap(([alias, version]) => (version === row.version ? [alias] : [])),
      tags: tags.get(row.version) ?? {},
    }));
  }

  /** In the order in which they were published. */
  versions(name: string): ModelVersion[] {
    return this.all<{ manifest: string; manifest_sha256: string }>(
      'SELECT manifest, manifest_sha256 FROM versions JOIN manifests USING (n) WHERE name = ? ORDER BY n',
      name,
    ).map(toVersion);
  }

  version({ name, version }: ModelRef): ModelVersion | undefined {
    const row = this.all<{ manifest: string; manifest_sha256: string }>(
      'SELECT manifest, manifest_sha256 FROM versions JOIN manifests USING (n) WHERE name = ? AND version = ?',
      name,
      version,
    )[0];
    return row && toVersion(row);
  }

  /** The version that a word names: its own, `latest`, or an alias. */
  resolve(name: string, word: string): string | undefined {
    const known = 'SELECT version FROM versions WHERE name = ?';
    const row =
      word === 'latest'
        ? this.all<{ version: string }>(`${known} ORDER BY n DESC LIMIT 1`, name)[0]
        : this.all<{ version: string }>(`${known} AND version = ?`, name, word)[0];
    if (row !== undefined) return row.version;
    const named = 'SELECT version FROM aliases WHERE name = ? AND alias = ?';
    return this.all<{ version: string }>(named, name, word)[0]?.version;
  }

  /** Alias → version. */
  aliases(name: string): Record<string, string> {
    const rows = this.all<{ alias: string; version: string }>(
      'SELECT alias, version FROM aliases WHERE name = ? ORDER BY alias',
      name,
    );
    return Object.fromEntries(rows.map(({ alias, version }) => [alias, version]));
  }

  tags({ name, version }: ModelRef): Record<string, string> {
    const rows = this.all<{ tag: string; value: string }>(
      'SELECT tag, value FROM tags WHERE name = ? AND version = ? ORDER BY tag',
      name,
      version,
    );
    return Object.fromEntries(rows.map(({ tag, value }) => [tag, value]));
  }

  desired(signalSet: string): VehicleDesired {
    return this.desiredOf.get(signalSet) ?? UNDECIDED;
  }

  allDecisions(): RolloutDecided[] {
    return [...this.decisions.values()];
  }

  /** The newest version of each signal set that no decision has followed yet. */
  undecided(): ModelVersion[] {
    return this.all<ModelRef>('SELECT name, version FROM undecided ORDER BY rowid').flatMap(
      (ref) => this.version(ref) ?? [],
    );
  }

  /** The versions that cars may fetch; `others` are some that must be among them. */
  signedVersions(others: readonly ModelRef[] = []): SignedVersion[] {
    const signed = this.signedByRule();
    const have = new Set(signed.map(({ name, version }) => `${name}/${version}`));
    for (const { name, version } of others) {
      if (have.has(`${name}/${version}`)) continue;
      have.add(`${name}/${version}`);
      const sql = 'SELECT signed FROM versions WHERE name = ? AND version = ?';
      for (const row of this.all<{ signed: string }>(sql, name, version))
        signed.push(JSON.parse(row.signed) as SignedVersion);
    }
    return signed;
  }

  private signedByRule(): SignedVersion[] {
    return this.all<{ signed: string }>(
      `SELECT signed FROM (
         SELECT n, name, version, signed, row_number() OVER (PARTITION BY name ORDER BY n DESC) AS age FROM versions
       ) AS v
       WHERE age <= ? OR EXISTS (SELECT 1 FROM aliases AS a WHERE a.name = v.name AND a.version = v.version)
         OR EXISTS (
           SELECT 1 FROM decisions
           WHERE decision ->> '$.active.name' = v.name AND decision ->> '$.active.version' = v.version
         )
       ORDER BY n`,
      SIGNED_VERSIONS_MAX,
    ).map(({ signed }) => JSON.parse(signed) as SignedVersion);
  }

  private all<T>(sql: string, ...values: (string | number)[]): T[] {
    return this.file.db.prepare(sql).all(...values) as T[];
  }

  private run(sql: string, ...values: (string | number)[]): boolean {
    return this.file.db.prepare(sql).run(...values).changes > 0;
  }

  private remember(): void {
    this.decisions.clear();
    this.desiredOf.clear();
    this.generation = 0;
    for (const { decision } of this.all<{ decision: string }>(
      'SELECT decision FROM decisions ORDER BY rowid',
    ))
      this.know(JSON.parse(decision) as RolloutDecided);
  }

  private know(decision: RolloutDecided): void {
    const { generation, signalSet, active } = decision;
    this.generation = Math.max(this.generation, generation);
    this.decisions.set(signalSet, decision);
    this.desiredOf.set(signalSet, { generation, active });
  }

  /** What a record says; undefined for what is not about this, or cannot be read. */
  private read(record: LogRecord): Change | undefined {
    try {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.model.published')) {
        const { manifest, manifestSha256 } = event.data;
        if (!SHA256.test(manifestSha256)) throw new TypeError('no hash of the manifest');
        const model = { manifest: parseManifest(Buffer.from(JSON.stringify(manifest))), manifestSha256 };
        return { kind: 'published', model, at: event.time, trial: event.data.trial === true };
      }
      if (isEvent(event, 'io.cardan.model.alias-set')) {
        const { name, alias, version } = event.data;
        if (![name, alias].every(isLabel) || !(version === null || isLabel(version)))
          throw new TypeError('no alias');
        return { kind: 'alias', data: event.data };
      }
      if (isEvent(event, 'io.cardan.model.tagged')) {
        const { name, version, tags } = event.data;
        if (![name, version].every(isLabel)) throw new TypeError('no version');
        if (!Object.entries(tags).every(([tag, value]) => isLabel(tag) && (value === null || isText(value))))
          throw new TypeError('no tags');
        return { kind: 'tags', data: event.data };
      }
      if (isEvent(event, 'io.cardan.rollout.decided')) {
        const { generation, signalSet, active } = event.data;
        if (!Number.isSafeInteger(generation) || ![signalSet, active.name, active.version].every(isText))
          throw new TypeError('no decision');
        return { kind: 'decided', decision: event.data };
      }
    } catch {
      this.malformed++;
    }
    return undefined;
  }

  private make(change: Change): boolean {
    switch (change.kind) {
      case 'published':
        return this.addVersion(change.model, change.at, change.trial);
      case 'alias':
        return this.aliasSet(change.data);
      case 'tags':
        return this.tagged(change.data);
      case 'decided':
        return this.decided(change.decision);
    }
  }

  private addVersion({ manifest, manifestSha256 }: ModelVersion, at: string, trial: boolean): boolean {
    const { name, version, createdAt, signalSet, files, lineage, alarm } = manifest;
    const custom = modelTargetMetadata(manifest);
    const signed: SignedVersion = { name, version, manifestSha256, files, custom };
    // A version never changes: what came first stays.
    const isNew = this.run(
      `INSERT INTO versions
         (name, version, published_at, created_at, signal_set, manifest_sha256, rows, threshold, signed)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
      name,
      version,
      at,
      createdAt,
      signalSet.id,
      manifestSha256,
      lineage.rows,
      alarm.threshold,
      JSON.stringify(signed),
    );
    if (!isNew) return false;
    this.run('INSERT INTO manifests VALUES (last_insert_rowid(), ?)', JSON.stringify(manifest));
    if (trial) return true;
    this.run('INSERT OR REPLACE INTO undecided VALUES (?, ?, ?)', signalSet.id, name, version);
    this.run('INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)', name, 'candidate', version);
    return true;
  }

  private aliasSet({ name, alias, version }: EventData['io.cardan.model.alias-set']): boolean {
    if (version === null) return this.run('DELETE FROM aliases WHERE name = ? AND alias = ?', name, alias);
    return this.run('INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)', name, alias, version);
  }

  private tagged({ name, version, tags }: EventData['io.cardan.model.tagged']): boolean {
    let changed = false;
    for (const [tag, value] of Object.entries(tags)) {
      const done =
        value === null
          ? this.run('DELETE FROM tags WHERE name = ? AND version = ? AND tag = ?', name, version, tag)
          : this.run('INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?)', name, version, tag, value);
      changed ||= done;
    }
    return changed;
  }

  private decided(decision: RolloutDecided): boolean {
    const { generation, signalSet, active } = decision;
    if (generation <= this.desired(signalSet).generation) return false;
    this.know(decision);
    this.run(
      'INSERT OR REPLACE INTO decisions VALUES (?, ?, ?)',
      signalSet,
      generation,
      JSON.stringify(decision),
    );
    this.run(
      'DELETE FROM undecided WHERE signal_set = ? AND name = ? AND version = ?',
      signalSet,
      active.name,
      active.version,
    );
    // What all its cars should run is what the others are compared with, and no candidate any more.
    const { name, version } = active;
    this.run('INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)', name, 'champion', version);
    this.run("DELETE FROM aliases WHERE name = ? AND alias = 'candidate' AND version = ?", name, version);
    return true;
  }
}

function toVersion({
  manifest,
  manifest_sha256: manifestSha256,
}: {
  manifest: string;
  manifest_sha256: string;
}): ModelVersion {
  // It was checked before it came into the file.
  return { manifest: JSON.parse(manifest) as ModelManifest, manifestSha256 };
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isLabel(value: unknown): value is string {
  return isText(value) && LABEL.test(value);
}
