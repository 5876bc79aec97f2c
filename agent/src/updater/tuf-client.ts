import { mkdir, readFile, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { MetaFile, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp } from '@tufjs/models';
import { CardanError, systemCode, replaceFile } from '@cardan/shared';
import { type Downloader, HttpStatusError } from './download.ts';
import { TargetDownload } from './target-download.ts';
import {
  checkExpiry,
  checkNamedBytes,
  checkNamedVersion,
  checkNotOlder,
  type Delegator,
  fileNameOf,
  issuedAt,
  malformed,
  nextRoot,
  parse,
  type Signed,
  stepsFor,
  verify,
} from './tuf-metadata.ts';

export interface TufClientOptions {
  /** For metadata that has been verified. Losing it, or a power cut at any point, costs one more download. */
  dir: string;
  /** The root.json that the car got in the factory: the begin of all trust, and the way back. */
  rootPath: string;
  metadataUrl: string;
  targetsUrl: string;
  downloader: Downloader;
  /** Milliseconds since 1970. */
  clock: () => number;
  /** The true time cannot be before this (milliseconds since 1970), whatever the clock says: when the agent was built. */
  notBefore?: number;
}

/** Largest metadata that is taken in, bytes (the bounds W, X, Y and Z of the specification). */
const BYTES_MAX = { root: 512_000, timestamp: 16_384, snapshot: 2_000_000, targets: 5_000_000 };
/** Most steps from the factory root to the newest one: Y in 5.3.3, with the value that the specification names. */
const ROOT_STEPS_MAX = 1024;
/** Most roles that are looked into for one target (5.6.7.1). Ours are three; cycles end here at the latest. */
const ROLES_MAX = 32;

/** Top-level roles; all others are delegated. */
const TOP_LEVEL = ['root', 'timestamp', 'snapshot', 'targets'];

/** Metadata of a targets role, with the bytes that it was read from. */
interface TargetsRole {
  metadata: Metadata<Targets>;
  bytes: Buffer;
}

/** What the last refresh has verified. */
interface Trusted {
  root: Metadata<Root>;
  snapshot: Snapshot;
  targets: TargetsRole;
  /** The time that all of it was judged by, milliseconds since 1970. */
  now: number;
}

/**
 * The client workflow of TUF 1.0. Numbers in comments are sections of the specification
 * (https://theupdateframework.github.io/specification/v1.0.33/), with the attack that each check stops.
 *
 *     root.json  timestamp.json  snapshot.json  targets.json  {role}.json    the newest that were verified
 *     roots/{n}.root.json                                                    the steps from the factory root on
 *     partial/                                                               files that have come in part
 *
 * Nothing on disk is believed: at each refresh the cached files are verified again, up from the factory root.
 * What is broken or no longer fits is left aside and fetched anew.
 */
export class TufClient {
  private readonly options: TufClientOptions;
  private readonly downloads: TargetDownload;
  private trusted: Trusted | undefined;
  private working: Promise<unknown> = Promise.resolve();

  constructor(options: TufClientOptions) {
    this.options = options;
    const { downloader, targetsUrl, dir } = options;
    this.downloads = new TargetDownload({ downloader, targetsUrl, partialDir: join(dir, 'partial') });
  }

  /**
   * Brings the top-level metadata up to date. After a failure what was trusted before stays in force.
   * Throws TUF_SIGNATURE, TUF_VERSION, TUF_EXPIRED, TUF_HASH, TUF_MALFORMED, HTTP_UNREACHABLE, HTTP_STATUS, or
   * FILE_NOT_READABLE for the factory root.
   */
  refresh(): Promise<void> {
    // Models and campaigns refresh on their own; two at once would write the same files. Joining the one under way
    // would not do: what is asked for may have been signed since it began.
    return this.inTurn(() => this.update());
  }

  /**
   * The signed description of a file, by targets or by the roles that it delegates to, which are fetched if need be.
   * Throws TUF_TARGET_UNKNOWN when none of them names it, and what `refresh` throws; needs a `refresh` that went well.
   */
  target(path: string): Promise<TargetFile> {
    return this.inTurn(async () => {
      const target = this.trusted && (await this.find(path, this.trusted));
      if (target !== undefined) return target;
      throw new CardanError(
        'TUF_TARGET_UNKNOWN',
        `The signed metadata names no file ${path}. Publish it first.`,
      );
    });
  }

  /**
   * Downloads a file to `path`, over several connections if it must, and flushes it to the disk. Throws TUF_HASH, and
   * leaves nothing behind, when it is not what was signed; TUF_MALFORMED when no hash was that can be checked.
   */
  download(target: TargetFile, path: string): Promise<void> {
    return this.downloads.fetch(target, path, this.trusted?.root.signed.consistentSnapshot === true);
  }

  private inTurn<T>(task: () => Promise<T>): Promise<T> {
    const done = this.working.then(task);
    this.working = done.catch(() => {});
    return done;
  }

  private async update(): Promise<void> {
    await mkdir(join(this.options.dir, 'roots'), { recursive: true });
    // 5.1 One time for the whole update, so that nothing expires in the middle of it.
    const clock = Math.max(this.options.clock(), this.options.notBefore ?? 0);
    const root = await this.updateRoot();
    // 5.3.11 When its keys were rotated, the old one no longer verifies, and is forgotten with its version numbers
    // (recovers from a fast-forward attack).
    const old = await this.cachedMetadata('timestamp', root);
    // A clock that stands at 1970 until it is set would not see that anything has expired: what was signed at a time
    // tells that it is later now.
    const seen = Math.max(clock, issuedAt(old));
    checkExpiry('root', root.signed, seen); // 5.3.10 (freeze)
    const timestamp = await this.updateTimestamp(root, old, seen);
    const now = Math.max(seen, issuedAt(timestamp));
    const snapshot = await this.updateSnapshot(root, timestamp, now);
    const targets = await this.updateTargets('targets', root, { root, snapshot, now });
    await this.forgetRoles(snapshot);
    this.trusted = { root, snapshot, targets, now };
  }

  /** Looks a target up: in targets, then in the roles that it is delegated to, in order and depth first (5.6.7). */
  private async find(path: string, trusted: Trusted): Promise<TargetFile | undefined> {
    const visited = new Set<string>();
    const search = async (role: string, { metadata, bytes }: TargetsRole): Promise<Found> => {
      visited.add(role);
      const { targets } = metadata.signed;
      if (Object.hasOwn(targets, path)) return { target: targets[path], done: true };
      for (const step of stepsFor(path, metadata, bytes)) {
        // 5.6.7.1 Each role once, and no more than so many: no cycle keeps the car.
        if (visited.has(step.role)) continue;
        if (visited.size >= ROLES_MAX)
          throw malformed('targets', `more than ${ROLES_MAX} roles would have to be searched for ${path}`);
        const found = await search(step.role, await this.updateTargets(step.role, metadata, trusted));
        if (found.done || step.terminating) return { ...found, done: true };
      }
      return { target: undefined, done: false };
    };
    return (await search('targets', trusted.targets)).target;
  }

  private async updateRoot(): Promise<Metadata<Root>> {
    // 5.2 Its expiry does not matter: it is only where the chain begins.
    let bytes = await this.readFactoryRoot();
    let root = parse('root', bytes);
    verify(root, 'root', root);
    // 5.3.1 … 5.3.9 From root to root, each signed by the one before (arbitrary software, key compromise). Roots that
    // were verified once are on disk; verified again, so a damaged one is only fetched again.
    try {
      for (let steps = 0; steps < ROOT_STEPS_MAX; steps++) {
        const name = `${root.signed.version + 1}.root.json`;
        const next = (await this.cachedRoot(root, name)) ?? (await this.fetchRoot(root, name));
        if (next === undefined) break;
        ({ metadata: root, bytes } = next);
      }
    } finally {
      // For whoever looks; the client itself goes up from the factory root each time.
      if ((await this.cached('root.json'))?.equals(bytes) !== true) await this.persist('root.json', bytes);
    }
    return root;
  }

  private async readFactoryRoot(): Promise<Buffer> {
    const { rootPath } = this.options;
    try {
      return await readFile(rootPath);
    } catch (cause) {
      throw new CardanError(
        systemCode(cause) === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_NOT_READABLE',
        `Cannot read the root of trust ${rootPath}. Copy 1.root.json of the registry there (--root).`,
        { cause },
      );
    }
  }

  private async cachedRoot(root: Metadata<Root>, name: string): Promise<RootStep | undefined> {
    const bytes = await this.cached(join('roots', name));
    try {
      return bytes && { metadata: nextRoot(root, bytes), bytes };
    } catch {
      return undefined;
    }
  }

  private async fetchRoot(root: Metadata<Root>, name: string): Promise<RootStep | undefined> {
    let bytes: Buffer;
    try {
      bytes = await this.fetch(name, BYTES_MAX.root);
    } catch (error) {
      // 5.3.3 Not there, so this root is the newest. Plain file stores say 403 for what is not there.
      if (error instanceof HttpStatusError && (error.status === 404 || error.status === 403))
        return undefined;
      throw error;
    }
    const metadata = nextRoot(root, bytes);
    await this.persist(join('roots', name), bytes); // 5.3.8
    return { metadata, bytes };
  }

  private async updateTimestamp(
    root: Metadata<Root>,
    old: Timestamp | undefined,
    now: number,
  ): Promise<Timestamp> {
    const bytes = await this.fetch('timestamp.json', BYTES_MAX.timestamp); // 5.4.1
    const fresh = parse('timestamp', bytes);
    verify(root, 'timestamp', fresh); // 5.4.2 (arbitrary software)
    if (old !== undefined) {
      // 5.4.3 (rollback)
      checkNotOlder('timestamp.json', old.version, fresh.signed.version);
      checkNotOlder('snapshot.json', old.snapshotMeta.version, fresh.signed.snapshotMeta.version);
      if (old.version === fresh.signed.version) {
        checkExpiry('timestamp', old, now);
        return old;
      }
    }
    checkExpiry('timestamp', fresh.signed, now); // 5.4.4 (freeze)
    await this.persist('timestamp.json', bytes); // 5.4.5
    return fresh.signed;
  }

  private async updateSnapshot(root: Metadata<Root>, timestamp: Timestamp, now: number): Promise<Snapshot> {
    const meta = timestamp.snapshotMeta;
    const old = await this.cachedMetadata('snapshot', root);
    const { bytes, isNew } = await this.named('snapshot', 'snapshot', meta, root, root); // 5.5.1, 5.5.2 (mix and match)
    const fresh = parse('snapshot', bytes);
    verify(root, 'snapshot', fresh); // 5.5.3 (arbitrary software)
    checkNamedVersion('snapshot.json', meta, fresh.signed.version); // 5.5.4 (mix and match)
    // 5.5.5 (rollback) Nothing goes back, and nothing that was listed disappears.
    for (const [name, { version }] of Object.entries(old?.meta ?? {}))
      checkNotOlder(name, version, metaOf(fresh.signed, name)?.version ?? 0);
    checkExpiry('snapshot', fresh.signed, now); // 5.5.6 (freeze)
    if (isNew) await this.persist('snapshot.json', bytes); // 5.5.7
    return fresh.signed;
  }

  /**
   * The metadata of targets, or of a role that it or another role delegates to. It counts only as far as this delegator
   * has it signed, whoever else has used the same file before.
   */
  private async updateTargets(
    role: string,
    delegator: Delegator,
    { root, snapshot, now }: Omit<Trusted, 'targets'>,
  ): Promise<TargetsRole> {
    const meta = metaOf(snapshot, `${role}.json`);
    if (meta === undefined) throw malformed('snapshot', `it does not name ${role}.json`);
    const { bytes, isNew } = await this.named('targets', role, meta, root, delegator); // 5.6.1, 5.6.2 (mix and match)
    const fresh = parse('targets', bytes, role);
    verify(delegator, role, fresh); // 5.6.3 (arbitrary software)
    checkNamedVersion(`${role}.json`, meta, fresh.signed.version); // 5.6.4 (mix and match)
    checkExpiry(role, fresh.signed, now); // 5.6.5 (freeze)
    if (isNew) await this.persist(fileNameOf(role), bytes); // 5.6.6
    return { metadata: fresh, bytes };
  }

  /** The file that other metadata names by version, and by length and hash if it does: from the cache, or fetched. */
  private async named(
    kind: 'snapshot' | 'targets',
    role: string,
    meta: MetaFile,
    root: Metadata<Root>,
    delegator: Delegator,
  ): Promise<{ bytes: Buffer; isNew: boolean }> {
    const file = fileNameOf(role);
    const cached = await this.cached(file);
    if (cached !== undefined && isWhole(kind, role, cached, meta, delegator))
      return { bytes: cached, isNew: false };
    const name = root.signed.consistentSnapshot ? `${meta.version}.${file}` : file;
    const bytes = await this.fetch(name, Math.min(meta.length ?? BYTES_MAX[kind], BYTES_MAX[kind]));
    checkNamedBytes(name, meta, bytes);
    return { bytes, isNew: true };
  }

  /** Removes the metadata of roles that there are no more. */
  private async forgetRoles({ meta }: Snapshot): Promise<void> {
    const known = new Set(TOP_LEVEL.map(fileNameOf));
    for (const file of await readdir(this.options.dir)) {
      if (!file.endsWith('.json') || known.has(file)) continue;
      if (!Object.hasOwn(meta, roleFileOf(file))) await unlink(join(this.options.dir, file));
    }
  }

  private fetch(name: string, bytesMax: number): Promise<Buffer> {
    return this.options.downloader.bytes(`${this.options.metadataUrl}/${name}`, bytesMax);
  }

  private async cached(name: string): Promise<Buffer | undefined> {
    try {
      return await readFile(join(this.options.dir, name));
    } catch {
      return undefined;
    }
  }

  /** What was trusted before, if it still verifies. Its expiry does not matter: it only tells rollbacks. */
  private async cachedMetadata<K extends 'timestamp' | 'snapshot'>(
    kind: K,
    root: Metadata<Root>,
  ): Promise<Signed[K] | undefined> {
    const bytes = await this.cached(`${kind}.json`);
    if (bytes === undefined) return undefined;
    try {
      const metadata = parse(kind, bytes);
      verify(root, kind, metadata);
      return metadata.signed;
    } catch {
      return undefined;
    }
  }

  private persist(name: string, bytes: Buffer): Promise<void> {
    return replaceFile(join(this.options.dir, name), bytes);
  }
}

interface RootStep {
  metadata: Metadata<Root>;
  bytes: Buffer;
}

interface Found {
  target: TargetFile | undefined;
  /** Whether the search ends here: it is found, or a terminating role does not name it. */
  done: boolean;
}

/** As a snapshot names it. */
function roleFileOf(file: string): string {
  try {
    return decodeURIComponent(file);
  } catch {
    return ''; // not one of ours
  }
}

function metaOf({ meta }: Snapshot, name: string): MetaFile | undefined {
  return Object.hasOwn(meta, name) ? meta[name] : undefined;
}

function isWhole(
  kind: 'snapshot' | 'targets',
  role: string,
  bytes: Buffer,
  meta: MetaFile,
  delegator: Delegator,
): boolean {
  try {
    checkNamedBytes(role, meta, bytes);
    const metadata = parse(kind, bytes, role);
    verify(delegator, role, metadata);
    return metadata.signed.version === meta.version;
  } catch {
    return false;
  }
}
