import { createHash } from 'node:crypto';
import { mkdir, open, readFile, unlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import {
  type MetaFile,
  Metadata,
  type MetadataKind,
  type Root,
  type Snapshot,
  type TargetFile,
  type Targets,
  type Timestamp,
} from '@tufjs/models';
import { CardanError, messageOf, systemCode, replaceFile } from '@cardan/shared';
import { type Downloader, HttpStatusError } from './download.ts';

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
}

/** Largest metadata that is taken in, bytes (the bounds W, X, Y and Z of the specification). */
const BYTES_MAX = { root: 512_000, timestamp: 16_384, snapshot: 2_000_000, targets: 5_000_000 };
/** Most steps from the factory root to the newest one: Y in 5.3.3, with the value that the specification names. */
const ROOT_STEPS_MAX = 1024;

interface Signed {
  root: Root;
  timestamp: Timestamp;
  snapshot: Snapshot;
  targets: Targets;
}
type Role = keyof Signed;

/**
 * The client workflow of TUF 1.0. Numbers in comments are sections of the specification
 * (https://theupdateframework.github.io/specification/v1.0.33/), with the attack that each check stops.
 *
 * Nothing on disk is believed: at each refresh the cached files are verified again, up from the factory root.
 * What is broken or no longer fits is left aside and fetched anew.
 */
export class TufClient {
  private readonly options: TufClientOptions;
  private trusted: { root: Root; targets: Targets } | undefined;
  private refreshing: Promise<unknown> = Promise.resolve();

  constructor(options: TufClientOptions) {
    this.options = options;
  }

  /**
   * Brings the metadata up to date. After a failure what was trusted before stays in force.
   * Throws TUF_SIGNATURE, TUF_VERSION, TUF_EXPIRED, TUF_HASH, TUF_MALFORMED, HTTP_UNREACHABLE, HTTP_STATUS, or
   * FILE_NOT_READABLE for the factory root.
   */
  refresh(): Promise<void> {
    // Models and campaigns refresh on their own; two at once would write the same files. Joining the one under way
    // would not do: what is asked for may have been signed since it began.
    const refreshed = this.refreshing.then(() => this.update());
    this.refreshing = refreshed.catch(() => {});
    return refreshed;
  }

  private async update(): Promise<void> {
    await mkdir(this.options.dir, { recursive: true });
    // 5.1 One time for the whole update, so that nothing expires in the middle of it.
    const now = this.options.clock();
    const root = await this.updateRoot(now);
    const timestamp = await this.updateTimestamp(root, now);
    const snapshot = await this.updateSnapshot(root, timestamp, now);
    const targets = await this.updateTargets(root, snapshot, now);
    this.trusted = { root: root.signed, targets };
  }

  /** The signed description of a file. Throws TUF_TARGET_UNKNOWN; needs a `refresh` that went well. */
  target(path: string): TargetFile {
    // 5.7.2
    const targets = this.trusted?.targets.targets ?? {};
    const target = Object.hasOwn(targets, path) ? targets[path] : undefined;
    if (target === undefined)
      throw new CardanError(
        'TUF_TARGET_UNKNOWN',
        `The signed metadata names no file ${path}. Publish it first.`,
      );
    return target;
  }

  /**
   * Downloads a file to `path` and flushes it to the disk. Throws TUF_HASH, and leaves nothing behind, when it is
   * not what was signed; TUF_MALFORMED when no SHA-256 was.
   */
  async download(target: TargetFile, path: string): Promise<void> {
    const sha256 = sha256Of(target);
    const { dir, base } = posix.parse(target.path);
    const name = this.trusted?.root.consistentSnapshot === true ? `${sha256}.${base}` : base;
    const url = [this.options.targetsUrl, ...posix.join(dir, name).split('/').map(encodeURIComponent)].join(
      '/',
    );
    const file = await open(path, 'w');
    try {
      try {
        // 5.7.3 No more bytes than were signed (endless data), and these bytes only (arbitrary software).
        const hash = createHash('sha256');
        let length = 0;
        for await (const chunk of this.options.downloader.stream(url, target.length)) {
          hash.update(chunk);
          length += chunk.length;
          await file.writeFile(chunk);
        }
        if (length !== target.length || hash.digest('hex') !== sha256)
          throw new CardanError(
            'TUF_HASH',
            `${url} is not the file that was signed (${length} bytes); discarded.`,
          );
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await unlink(path).catch(() => {});
      throw error;
    }
  }

  private async updateRoot(now: number): Promise<Metadata<Root>> {
    // 5.2 Its expiry does not matter: it is only where the chain begins.
    let root = parse('root', await this.readFactoryRoot());
    verify(root, 'root', root);
    // 5.3.1 … 5.3.9 From root to root, each signed by the one before (arbitrary software, key compromise). Roots that
    // were verified once are on disk; verified again, so a damaged one is only fetched again.
    for (let steps = 0; steps < ROOT_STEPS_MAX; steps++) {
      const name = `${root.signed.version + 1}.root.json`;
      const next = (await this.cachedRoot(root, name)) ?? (await this.fetchRoot(root, name));
      if (next === undefined) break;
      root = next;
    }
    // 5.3.10 (freeze)
    checkExpiry('root', root.signed, now);
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

  private async cachedRoot(root: Metadata<Root>, name: string): Promise<Metadata<Root> | undefined> {
    const bytes = await this.cached(name);
    try {
      return bytes && nextRoot(root, bytes);
    } catch {
      return undefined;
    }
  }

  private async fetchRoot(root: Metadata<Root>, name: string): Promise<Metadata<Root> | undefined> {
    let bytes: Buffer;
    try {
      bytes = await this.fetch(name, BYTES_MAX.root);
    } catch (error) {
      // 5.3.3 Not there, so this root is the newest. Plain file stores say 403 for what is not there.
      if (error instanceof HttpStatusError && (error.status === 404 || error.status === 403))
        return undefined;
      throw error;
    }
    const next = nextRoot(root, bytes);
    await this.persist(name, bytes); // 5.3.8
    return next;
  }

  private async updateTimestamp(root: Metadata<Root>, now: number): Promise<Timestamp> {
    // 5.3.11 When its keys were rotated, the old one no longer verifies, and is forgotten with its version numbers
    // (recovers from a fast-forward attack).
    const old = await this.cachedMetadata('timestamp', root);
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
    const { bytes, isNew } = await this.named('snapshot', meta, root); // 5.5.1, 5.5.2 (mix and match)
    const fresh = parse('snapshot', bytes);
    verify(root, 'snapshot', fresh); // 5.5.3 (arbitrary software)
    checkNamedVersion('snapshot.json', meta, fresh.signed.version); // 5.5.4 (mix and match)
    // 5.5.5 (rollback) Nothing goes back, and nothing that was listed disappears.
    for (const [name, { version }] of Object.entries(old?.meta ?? {}))
      checkNotOlder(name, version, fresh.signed.meta[name]?.version ?? 0);
    checkExpiry('snapshot', fresh.signed, now); // 5.5.6 (freeze)
    if (isNew) await this.persist('snapshot.json', bytes); // 5.5.7
    return fresh.signed;
  }

  private async updateTargets(root: Metadata<Root>, snapshot: Snapshot, now: number): Promise<Targets> {
    const meta = snapshot.meta['targets.json'];
    if (meta === undefined) throw malformed('snapshot', 'it does not name targets.json');
    const { bytes, isNew } = await this.named('targets', meta, root); // 5.6.1, 5.6.2 (mix and match)
    const fresh = parse('targets', bytes);
    verify(root, 'targets', fresh); // 5.6.3 (arbitrary software)
    checkNamedVersion('targets.json', meta, fresh.signed.version); // 5.6.4 (mix and match)
    checkExpiry('targets', fresh.signed, now); // 5.6.5 (freeze)
    if (isNew) await this.persist('targets.json', bytes); // 5.6.6
    return fresh.signed;
  }

  /** The file that other metadata names by version, and by length and hash if it does: from the cache, or fetched. */
  private async named(role: 'snapshot' | 'targets', meta: MetaFile, root: Metadata<Root>) {
    const cached = await this.cached(`${role}.json`);
    if (cached !== undefined && isWhole(role, cached, meta, root)) return { bytes: cached, isNew: false };
    const name = root.signed.consistentSnapshot ? `${meta.version}.${role}.json` : `${role}.json`;
    const bytes = await this.fetch(name, Math.min(meta.length ?? BYTES_MAX[role], BYTES_MAX[role]));
    checkNamedBytes(name, meta, bytes);
    return { bytes, isNew: true };
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
  private async cachedMetadata<R extends Role>(
    role: R,
    root: Metadata<Root>,
  ): Promise<Signed[R] | undefined> {
    const bytes = await this.cached(`${role}.json`);
    if (bytes === undefined) return undefined;
    try {
      const metadata = parse(role, bytes);
      verify(root, role, metadata);
      return metadata.signed;
    } catch {
      return undefined;
    }
  }

  private persist(name: string, bytes: Buffer): Promise<void> {
    return replaceFile(join(this.options.dir, name), bytes);
  }
}

/** The SHA-256 that was signed for a file. Throws TUF_MALFORMED. */
export function sha256Of(target: TargetFile): string {
  const { sha256 } = target.hashes;
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256))
    throw malformed('targets', 'a file has no SHA-256');
  return sha256;
}

function nextRoot(root: Metadata<Root>, bytes: Buffer): Metadata<Root> {
  const next = parse('root', bytes);
  // 5.3.4 By the keys of the old root, and by its own (arbitrary software).
  verify(root, 'root', next);
  verify(next, 'root', next);
  // 5.3.5 (rollback)
  const expected = root.signed.version + 1;
  if (next.signed.version !== expected)
    throw new CardanError(
      'TUF_VERSION',
      `${expected}.root.json has version ${next.signed.version}; refused.`,
    );
  return next;
}

function parse<R extends Role>(role: R, bytes: Buffer): Metadata<Signed[R]> {
  let metadata: Metadata<Root>;
  try {
    const json = JSON.parse(bytes.toString('utf8')) as never;
    metadata = Metadata.fromJSON(role as unknown as MetadataKind.Root, json);
  } catch (cause) {
    throw malformed(role, messageOf(cause), cause);
  }
  const { version, expires } = metadata.signed;
  if (!Number.isSafeInteger(version) || version < 1)
    throw malformed(role, 'its version is not a whole number');
  // A date that cannot be read would never expire.
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(expires) || Number.isNaN(Date.parse(expires)))
    throw malformed(role, 'its "expires" is not a date');
  return metadata as unknown as Metadata<Signed[R]>;
}

function verify<R extends Role>(root: Metadata<Root>, role: R, metadata: Metadata<Signed[R]>): void {
  try {
    root.verifyDelegate(role, metadata);
  } catch (cause) {
    throw new CardanError(
      'TUF_SIGNATURE',
      `The ${role} metadata is not signed as the root of trust asks (${messageOf(cause)}); refused.`,
      { cause },
    );
  }
}

function checkExpiry(role: Role, signed: { expires: string }, now: number): void {
  if (now < Date.parse(signed.expires)) return;
  throw new CardanError(
    'TUF_EXPIRED',
    `The ${role} metadata expired at ${signed.expires}; by this clock it is ${new Date(now).toISOString()}. ` +
      'Check the clock, and that the registry runs: it signs anew by itself.',
  );
}

function checkNotOlder(name: string, trusted: number, offered: number): void {
  if (offered >= trusted) return;
  throw new CardanError(
    'TUF_VERSION',
    `Version ${offered} of ${name} is offered after version ${trusted}; refused. Roll back by publishing anew.`,
  );
}

function checkNamedVersion(name: string, meta: MetaFile, version: number): void {
  if (version === meta.version) return;
  throw new CardanError(
    'TUF_VERSION',
    `${name} has version ${version}, but version ${meta.version} was named.`,
  );
}

function checkNamedBytes(name: string, meta: MetaFile, bytes: Buffer): void {
  try {
    meta.verify(bytes);
  } catch (cause) {
    throw new CardanError(
      'TUF_HASH',
      `${name} is not the file that was named (${messageOf(cause)}); refused.`,
      {
        cause,
      },
    );
  }
}

function isWhole(role: 'snapshot' | 'targets', bytes: Buffer, meta: MetaFile, root: Metadata<Root>): boolean {
  try {
    checkNamedBytes(role, meta, bytes);
    const metadata = parse(role, bytes);
    verify(root, role, metadata);
    return metadata.signed.version === meta.version;
  } catch {
    return false;
  }
}

function malformed(role: Role, why: string, cause?: unknown): CardanError {
  return new CardanError('TUF_MALFORMED', `The ${role} metadata cannot be read: ${why}.`, { cause });
}
