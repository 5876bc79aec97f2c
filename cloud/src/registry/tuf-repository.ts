import { createHash } from 'node:crypto';
import { access, mkdir, readFile, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import {
  MetaFile,
  Metadata,
  type MetadataKind,
  Root,
  Snapshot,
  TargetFile,
  Targets,
  Timestamp,
} from '@tufjs/models';
import { CardanError, systemCode, replaceFile } from '@cardan/shared';
import { TUF_ROLES, type KeyRing, type TufRole } from './tuf-keys.ts';

/** A file that cars may fetch, as it is signed. */
export interface Target {
  /** Path among the targets, `models/{name}/{version}/{file}` or `campaigns/{id}/{version}.json`. */
  path: string;
  /** Bytes. */
  length: number;
  sha256: string;
  custom: { model: string; version: string; signalSet: string } | { id: string; version: string };
}

const SPEC_VERSION = '1.0.31';
const DAY_MS = 86_400_000;
/** How long a signature is good for. Signed anew when half of it has passed. */
const LIFETIME_MS: Record<TufRole, number> = {
  root: 365 * DAY_MS,
  targets: 90 * DAY_MS,
  snapshot: 7 * DAY_MS,
  timestamp: DAY_MS,
};
/** Snapshots and targets metadata that stay after newer ones: a car in the middle of a refresh still finds its own. */
const OLD_VERSIONS_KEPT = 16;
const FILE_NAME = /^(?:([1-9][0-9]{0,14})\.(root|targets|snapshot)|timestamp)\.json$/;

interface Signed {
  root: Root;
  targets: Targets;
  snapshot: Snapshot;
  timestamp: Timestamp;
}
/** What is signed now, with the exact bytes of its file: they are what others hash. */
interface Current<Role extends TufRole> {
  signed: Signed[Role];
  bytes: Buffer;
}

/**
 * TUF 1.0 metadata with consistent snapshots, as plain files: `{n}.root.json`, `{n}.targets.json`,
 * `{n}.snapshot.json` and `timestamp.json`. The timestamp is replaced last, so that readers see the old
 * snapshot or the new one, whole. Versions only grow: cars refuse anything else.
 */
export class TufRepository {
  readonly dir: string;
  private readonly ring: KeyRing;
  private readonly clock: () => number;
  private readonly current: { [Role in TufRole]?: Current<Role> | undefined } = {};
  /** Highest version that was ever written, per role; 0 when none is known. */
  private readonly highest: Record<TufRole, number> = { root: 0, targets: 0, snapshot: 0, timestamp: 0 };
  private work: Promise<unknown> = Promise.resolve();

  private constructor(options: { dir: string; ring: KeyRing; clock: () => number }) {
    this.dir = options.dir;
    this.ring = options.ring;
    this.clock = options.clock;
  }

  /**
   * Opens the folder and takes over what is validly signed there; `publish` signs the rest anew.
   * Throws TUF_SIGNATURE when the keys are not the ones that the newest root names.
   */
  static async open(options: { dir: string; ring: KeyRing; clock: () => number }): Promise<TufRepository> {
    await mkdir(options.dir, { recursive: true });
    const repository = new TufRepository(options);
    await repository.load();
    return repository;
  }

  /** The root that a car is given in the factory. */
  get rootPath(): string {
    return join(this.dir, '1.root.json');
  }

  /** Whether this can be the name of a metadata file; says if its content can ever change. */
  static fileName(name: string): { immutable: boolean } | undefined {
    const match = FILE_NAME.exec(name);
    return match === null ? undefined : { immutable: match[1] !== undefined };
  }

  /** Whether this metadata file is there now. */
  async has(name: string): Promise<boolean> {
    if (TufRepository.fileName(name) === undefined) return false;
    return access(join(this.dir, name)).then(
      () => true,
      () => false,
    );
  }

  /** Signs exactly these targets, if they are not signed already. Resolves to whether anything was signed. */
  publish(targets: readonly Target[]): Promise<boolean> {
    const files: Record<string, TargetFile> = {};
    for (const { path, length, sha256, custom } of targets)
      files[path] = new TargetFile({ path, length, hashes: { sha256 }, unrecognizedFields: { custom } });
    return this.inTurn(() => this.bringUpToDate(files));
  }

  /** Signs anew what has used up half of its life. Resolves to whether there was any. */
  renew(): Promise<boolean> {
    return this.inTurn(() => this.bringUpToDate(this.current.targets?.signed.targets ?? {}));
  }

  private inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.work.then(task);
    this.work = result.catch(() => {});
    return result;
  }

  private async bringUpToDate(files: Record<string, TargetFile>): Promise<boolean> {
    const { current } = this;
    let signed = false;
    if (this.isAged('root')) {
      await this.write(
        'root',
        new Root({ ...this.next('root'), ...this.rootContent(), consistentSnapshot: true }),
      );
      signed = true;
    }
    if (this.isAged('targets') || !isDeepStrictEqual(current.targets?.signed.targets, files)) {
      await this.write('targets', new Targets({ ...this.next('targets'), targets: files }));
      signed = true;
    }
    const targets = metaFile(current.targets);
    if (
      this.isAged('snapshot') ||
      !isDeepStrictEqual(current.snapshot?.signed.meta['targets.json'], targets)
    ) {
      await this.write(
        'snapshot',
        new Snapshot({ ...this.next('snapshot'), meta: { 'targets.json': targets } }),
      );
      signed = true;
    }
    const snapshot = metaFile(current.snapshot);
    if (this.isAged('timestamp') || !isDeepStrictEqual(current.timestamp?.signed.snapshotMeta, snapshot)) {
      await this.write('timestamp', new Timestamp({ ...this.next('timestamp'), snapshotMeta: snapshot }));
      signed = true;
    }
    if (signed) await this.prune();
    return signed;
  }

  private isAged(role: TufRole): boolean {
    const signed = this.current[role]?.signed;
    return signed === undefined || this.clock() >= Date.parse(signed.expires) - LIFETIME_MS[role] / 2;
  }

  private next(role: TufRole): { specVersion: string; version: number; expires: string } {
    // TUF 4.1: whole seconds.
    const expires = new Date(this.clock() + LIFETIME_MS[role]).toISOString().replace(/\.\d+Z$/, 'Z');
    const specVersion = SPEC_VERSION;
    if (this.highest[role] > 0) return { specVersion, version: this.highest[role] + 1, expires };
    // The files are gone, but the keys have signed before and cars remember the versions. Seconds since 1970 are
    // more than any count of signings. The root begins at 1 always: it is the one that cars have from the factory.
    const isFirst = role === 'root' || this.ring.created;
    return { specVersion, version: isFirst ? 1 : Math.floor(this.clock() / 1000), expires };
  }

  private async write<Role extends TufRole>(role: Role, signed: Signed[Role]): Promise<void> {
    const metadata = new Metadata(signed);
    metadata.sign((toSign) => this.ring.keys[role].sign(toSign));
    const bytes = Buffer.from(JSON.stringify(metadata.toJSON()));
    await replaceFile(join(this.dir, fileNameOf(role, signed.version)), bytes);
    (this.current as Record<TufRole, Current<TufRole>>)[role] = { signed, bytes };
    this.highest[role] = signed.version;
  }

  private rootContent() {
    const root = new Root({ version: 1, specVersion: SPEC_VERSION, expires: '' });
    for (const role of TUF_ROLES) root.addKey(this.ring.keys[role].publicKey, role);
    return { keys: root.keys, roles: root.roles };
  }

  private async load(): Promise<void> {
    for (const name of await readdir(this.dir)) {
      if (name.endsWith('.tmp')) await unlink(join(this.dir, name));
      const [, version, role] = FILE_NAME.exec(name) ?? [];
      if (version !== undefined)
        this.highest[role as TufRole] = Math.max(this.highest[role as TufRole], Number(version));
    }
    this.current.root = await this.read('root', this.highest.root);
    const root = this.current.root?.signed;
    if (root === undefined) {
      if (this.highest.root > 0) throw this.unusable('The newest root.json there is damaged');
      return;
    }
    for (const role of TUF_ROLES)
      if (root.roles[role]?.keyIDs.includes(this.ring.keys[role].publicKey.keyID) !== true)
        throw this.unusable(`The key of the role ${role} is not the one that root.json names`);
    this.current.timestamp = await this.read('timestamp', 0);
    this.highest.timestamp = this.current.timestamp?.signed.version ?? 0;
    const snapshot = this.current.timestamp?.signed.snapshotMeta.version;
    if (snapshot !== undefined) this.current.snapshot = await this.read('snapshot', snapshot);
    const targets = this.current.snapshot?.signed.meta['targets.json']?.version;
    if (targets !== undefined) this.current.targets = await this.read('targets', targets);
    this.highest.snapshot = Math.max(this.highest.snapshot, snapshot ?? 0);
    this.highest.targets = Math.max(this.highest.targets, targets ?? 0);
  }

  /** The metadata in the file, or undefined when it is missing, damaged, or not signed by our key. */
  private async read<Role extends TufRole>(role: Role, version: number): Promise<Current<Role> | undefined> {
    try {
      const bytes = await readFile(join(this.dir, fileNameOf(role, version)));
      const json = JSON.parse(bytes.toString('utf8')) as never;
      const metadata = Metadata.fromJSON(role as unknown as MetadataKind.Root, json);
      const root = this.current.root === undefined ? metadata : new Metadata(this.current.root.signed);
      root.verifyDelegate(role, metadata);
      return { signed: metadata.signed as unknown as Signed[Role], bytes };
    } catch (error) {
      const code = systemCode(error);
      if (code !== undefined && code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  private async prune(): Promise<void> {
    for (const name of await readdir(this.dir)) {
      const [, version, role] = FILE_NAME.exec(name) ?? [];
      // Every root stays: a car that was away for years walks the whole chain.
      if (version === undefined || role === 'root') continue;
      const current = this.current[role as TufRole]?.signed.version ?? 0;
      if (Number(version) < current - OLD_VERSIONS_KEPT) await unlink(join(this.dir, name));
    }
  }

  private unusable(why: string): CardanError {
    return new CardanError(
      'TUF_SIGNATURE',
      `Cannot sign for the cars with ${this.dir}: ${why}. Restore the folders "keys" and "tuf" from one backup; ` +
        'only if no car trusts this registry yet, remove both.',
    );
  }
}

function fileNameOf(role: TufRole, version: number): string {
  return role === 'timestamp' ? 'timestamp.json' : `${version}.${role}.json`;
}

/** What the snapshot says of the targets, and the timestamp of the snapshot. */
function metaFile(file: Current<'targets'> | Current<'snapshot'> | undefined): MetaFile {
  if (file === undefined) throw new Error('Metadata is referred to before it is signed.');
  const sha256 = createHash('sha256').update(file.bytes).digest('hex');
  return new MetaFile({ version: file.signed.version, length: file.bytes.length, hashes: { sha256 } });
}
