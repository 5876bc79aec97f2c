import { access, mkdir, readFile, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { canonicalize } from '@tufjs/canonical-json';
import { type Key, Metadata, Snapshot, TargetFile, Targets, Timestamp } from '@tufjs/models';
import { CardanError, systemCode, replaceFile } from '@cardan/shared';
import { incompleteRoles, type KeyFolder, keysByRole, type SigningKey } from './tuf-keys.ts';
import {
  authority,
  type Common,
  hasSigned,
  type Held,
  holdMetadata,
  isSameContent,
  metaFileOf,
  parseMetadata,
  renewed,
  rootWith,
  type Signed,
  targetsWith,
  verifies,
} from './tuf-metadata.ts';
import {
  DELEGATED_ROLES,
  type DelegatedRole,
  isDelegated,
  isOnline,
  LIFETIME_MS,
  ONLINE_ROLES,
  SPEC_VERSION,
  TUF_ROLES,
  type TufRole,
} from './tuf-roles.ts';

/** A file that cars may fetch, as it is signed. */
export interface Target {
  /** Path among the targets, `models/{name}/{version}/{file}` or `campaigns/{id}/{version}.json`. */
  path: string;
  /** Bytes. */
  length: number;
  sha256: string;
  /** What a car reads before it downloads; plain JSON. */
  custom: object;
}

/** Metadata that is made, but not signed by enough keys yet. */
export interface Waiting {
  /** `{version}.{role}.json` */
  file: string;
  role: TufRole;
  version: number;
  expires: string;
  /** How many keys must sign, and which of those that may have not. */
  threshold: number;
  signatures: number;
  missing: string[];
}

/** Versions of metadata that stay after newer ones: a car in the middle of a refresh still finds its own. */
const OLD_VERSIONS_KEPT = 16;
const SNAPSHOT_NAMES = ['targets', ...DELEGATED_ROLES] as const;
const FILE_NAME = /^(?:([1-9][0-9]{0,14})\.(root|targets|snapshot|models|campaigns)|timestamp)\.json$/;

type PerRole = { [Role in TufRole]?: Held<Role> | undefined };

/**
 * TUF 1.0 metadata with consistent snapshots and delegations, as plain files: `{n}.root.json`, `{n}.targets.json`,
 * `{n}.models.json`, `{n}.campaigns.json`, `{n}.snapshot.json` and `timestamp.json`. The timestamp is replaced last,
 * so that readers see the old snapshot or the new one, whole. Versions only grow: cars refuse anything else.
 *
 * What lacks signatures, because their keys are kept elsewhere, waits in `pending/` until they are brought. What is
 * published meanwhile stays in force, and its snapshot and timestamp are renewed.
 */
export class TufRepository {
  readonly dir: string;
  private readonly folder: KeyFolder;
  private readonly clock: () => number;
  private keys: SigningKey[] = [];
  private readonly current: PerRole = {};
  private readonly pending: PerRole = {};
  /** What the delegated roles should name; unknown until the first `publish`. */
  private readonly wanted: Partial<Record<DelegatedRole, Record<string, TargetFile>>> = {};
  /** Highest version that was ever written, per role; 0 when none is known. */
  private readonly highest: Record<TufRole, number> = {
    root: 0,
    targets: 0,
    models: 0,
    campaigns: 0,
    snapshot: 0,
    timestamp: 0,
  };
  /** When there was no key before, no metadata can have been signed either. */
  private created = false;
  private work: Promise<unknown> = Promise.resolve();

  private constructor(options: { dir: string; keys: KeyFolder; clock: () => number }) {
    this.dir = options.dir;
    this.folder = options.keys;
    this.clock = options.clock;
  }

  /**
   * Opens the folder and takes over what is validly signed there; `publish` signs the rest anew. A folder without keys
   * and metadata gets both. Throws TUF_SIGNATURE when the keys of snapshot and timestamp are not the ones that the newest
   * root names, or the root is not fully signed; KEY_INVALID.
   */
  static async open(options: { dir: string; keys: KeyFolder; clock: () => number }): Promise<TufRepository> {
    await mkdir(join(options.dir, 'pending'), { recursive: true });
    const repository = new TufRepository(options);
    await repository.load();
    return repository;
  }

  /** The root that a car is given in the factory. */
  get rootPath(): string {
    return join(this.dir, '1.root.json');
  }

  /** Roles whose private keys could be kept elsewhere, and are here, enough of them to sign. */
  get keysHere(): TufRole[] {
    return TUF_ROLES.filter((role) => {
      const delegator = this.delegator(role);
      if (isOnline(role) || delegator === undefined) return false;
      const { keys, threshold } = authority(delegator, role);
      return keys.filter(({ keyID }) => this.keyOf(keyID) !== undefined).length >= threshold;
    });
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

  /** Whether cars can get this target: it is signed, not only waiting for signatures. */
  isPublished(path: string): boolean {
    return DELEGATED_ROLES.some((role) =>
      Object.hasOwn(this.current[role]?.metadata.signed.targets ?? {}, path),
    );
  }

  /** Signs exactly these targets, if they are not signed already. Resolves to whether anything was signed. */
  publish(targets: readonly Target[]): Promise<boolean> {
    const files: Record<DelegatedRole, Record<string, TargetFile>> = { models: {}, campaigns: {} };
    for (const { path, length, sha256, custom } of targets) {
      // As it comes back from the file: without what is undefined.
      const json = JSON.parse(JSON.stringify({ length, hashes: { sha256 }, custom })) as never;
      files[path.startsWith('models/') ? 'models' : 'campaigns'][path] = TargetFile.fromJSON(path, json);
    }
    return this.inTurn(() => {
      Object.assign(this.wanted, files);
      return this.bringUpToDate();
    });
  }

  /** Signs anew what has used up half of its life. Resolves to whether there was any. */
  renew(): Promise<boolean> {
    return this.inTurn(() => this.bringUpToDate());
  }

  /** What waits for signatures. */
  waiting(): Waiting[] {
    return TUF_ROLES.flatMap((role) => {
      const held = this.pending[role];
      if (held === undefined) return [];
      const { version, expires } = held.metadata.signed;
      const { keys, threshold } = this.signers(role, held);
      const missing = keys.filter((key) => !hasSigned(held, key)).map(({ keyID }) => keyID);
      return {
        file: fileNameOf(role, version),
        role,
        version,
        expires,
        threshold,
        signatures: keys.length - missing.length,
        missing,
      };
    });
  }

  /** A file that waits for signatures, with those that it has. Throws SIGNING_UNKNOWN. */
  waitingFile(file: string): Buffer {
    for (const role of TUF_ROLES) {
      const held = this.pending[role];
      if (held !== undefined && fileNameOf(role, held.metadata.signed.version) === file) return held.bytes;
    }
    throw unknownFile(file);
  }

  /**
   * Takes the signatures on a file that waits, or a new root or targets that somebody proposes who may sign it (a rotation
   * of keys). What is then signed by enough is published. Resolves to whether anything was.
   *
   * Throws TUF_MALFORMED, SIGNING_UNKNOWN when something else waits by now, SIGNATURE_REFUSED when no signature is by a key
   * that may sign, or what is proposed would lock out the service or the cars.
   */
  bringSignatures(file: string, bytes: Buffer): Promise<boolean> {
    return this.inTurn(async () => {
      const [, , role] = FILE_NAME.exec(file) ?? [];
      if (role === undefined || isOnline(role as TufRole)) throw unknownFile(file);
      await this.take(role as Exclude<TufRole, 'snapshot' | 'timestamp'>, file, bytes);
      return this.bringUpToDate();
    });
  }

  private inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.work.then(task);
    this.work = result.catch(() => {});
    return result;
  }

  private async take<Role extends 'root' | 'targets' | DelegatedRole>(
    role: Role,
    file: string,
    bytes: Buffer,
  ): Promise<void> {
    const brought = parseMetadata(role, bytes);
    if (fileNameOf(role, brought.metadata.signed.version) !== file) throw unknownFile(file);
    const waiting = this.pending[role];
    const isKnown = waiting !== undefined && isSameContent(waiting, brought);
    if (!isKnown && isDelegated(role)) throw unknownFile(file);
    const { keys } = this.signers(role, brought);
    const signed = keys.filter((key) => hasSigned(brought, key));
    if (signed.length === 0)
      throw new CardanError('SIGNATURE_REFUSED', `${file} brings no signature by a key that may sign it.`);
    if (!isKnown) this.checkProposal(role, brought);
    const into = isKnown ? waiting.metadata : new Metadata(brought.metadata.signed);
    for (const { keyID } of signed) into.signatures[keyID] = brought.metadata.signatures[keyID]!;
    await this.setPending(role, holdMetadata<Role>(into));
  }

  private checkProposal(role: TufRole, { metadata }: Held): void {
    const { signed } = metadata;
    const refused = (why: string) =>
      new CardanError('SIGNATURE_REFUSED', `The new ${role} metadata cannot be taken: ${why}.`);
    const next = this.highest[role] + 1;
    if (signed.version !== next) throw refused(`its version must be ${next}`);
    if (Date.parse(signed.expires) <= this.clock()) throw refused('it has expired');
    // Only somebody who may sign it today can ask for another one.
    const delegator = this.delegator(role);
    const { keys } = delegator === undefined ? { keys: [] } : authority(delegator, role);
    if (!keys.some((key) => hasSigned({ metadata, bytes: Buffer.alloc(0) }, key)))
      throw refused('none of the keys that are in force has signed it');
    if (!(signed instanceof Targets)) return;
    const roles = signed.delegations?.roles ?? {};
    if (
      DELEGATED_ROLES.some((delegated) => roles[delegated] === undefined) ||
      Object.keys(signed.targets).length > 0
    )
      throw refused('it must delegate to models and campaigns, and name no files itself');
  }

  private async bringUpToDate(): Promise<boolean> {
    this.keys = await this.folder.load();
    await this.prepareRoot();
    await this.prepareTargets();
    for (const role of DELEGATED_ROLES) await this.prepareDelegated(role);
    let changed = await this.promote();
    changed = (await this.signOnline()) || changed;
    if (changed) await this.prune();
    return changed;
  }

  private async prepareRoot(): Promise<void> {
    const { root } = this.current;
    if (this.pending.root !== undefined) return this.signPending('root');
    if (root === undefined || this.isOfOneKeyPerRole(root)) {
      const metadata = new Metadata(rootWith(this.next('root'), keysByRole(this.keys)));
      await this.setPending('root', holdMetadata<'root'>(metadata));
    } else if (this.isAged('root')) {
      await this.setPending('root', holdMetadata<'root'>(renewed(root, this.next('root'))));
    }
    await this.signPending('root');
  }

  private async prepareTargets(): Promise<void> {
    const { targets } = this.current;
    const root = this.pending.root ?? this.current.root;
    if (this.pending.targets !== undefined) return this.signPending('targets');
    const isDelegating = targets?.metadata.signed.delegations !== undefined;
    if (isDelegating && !this.isAged('targets') && verifies(root, 'targets', targets)) return;
    const metadata = isDelegating
      ? renewed(targets, this.next('targets'))
      : new Metadata(targetsWith(this.next('targets'), keysByRole(this.keys)));
    await this.setPending('targets', holdMetadata<'targets'>(metadata));
    await this.signPending('targets');
  }

  private async prepareDelegated(role: DelegatedRole): Promise<void> {
    const current = this.current[role];
    const waiting = this.pending[role];
    const files = this.wanted[role] ?? (waiting ?? current)?.metadata.signed.targets ?? {};
    const targets = this.pending.targets ?? this.current.targets;
    const isCurrent = !this.isAged(role) && names(current, files) && verifies(targets, role, current);
    if (isCurrent) return this.setPending(role, undefined);
    if (!names(waiting, files)) {
      const common = this.next(role);
      const metadata = new Metadata(new Targets({ ...common, targets: files }));
      await this.setPending(role, holdMetadata<DelegatedRole>(metadata));
    }
    await this.signPending(role);
  }

  /** Adds the signatures of the keys that are here. */
  private async signPending(role: TufRole): Promise<void> {
    const held = this.pending[role];
    if (held === undefined) return;
    const missing = this.signers(role, held).keys.filter((key) => !hasSigned(held, key));
    const here = missing.flatMap(({ keyID }) => this.keyOf(keyID) ?? []);
    if (here.length === 0) return;
    for (const key of here) held.metadata.sign((bytes) => key.sign(bytes));
    await this.setPending(role, holdMetadata(held.metadata as never));
  }

  /**
   * Publishes of what waits all that is signed by enough. Root and targets only together with what the new keys in them
   * must have signed: cars must never see a key in force with nothing signed by it.
   */
  private async promote(): Promise<boolean> {
    const chosen = this.choose(this.pending.root) ?? this.choose(undefined);
    if (chosen === undefined) return false;
    let changed = false;
    for (const role of ['models', 'campaigns', 'targets', 'root'] as const) {
      const held = chosen[role];
      if (held === undefined || held === this.current[role]) continue;
      await this.write(role, held);
      changed = true;
    }
    for (const role of TUF_ROLES)
      if (this.pending[role] !== undefined && this.pending[role] === this.current[role])
        await this.setPending(role, undefined);
    return changed;
  }

  private choose(newRoot: Held<'root'> | undefined): PerRole | undefined {
    const { current, pending } = this;
    if (newRoot !== undefined) {
      const isFirst = current.root === undefined;
      if (!verifies(newRoot, 'root', newRoot)) return undefined;
      if (!isFirst && !verifies(current.root, 'root', newRoot)) return undefined;
    }
    const root = newRoot ?? current.root;
    if (root === undefined || !ONLINE_ROLES.every((role) => this.canSign(root, role))) return undefined;
    for (const targets of [pending.targets, current.targets]) {
      if (targets === undefined || !verifies(root, 'targets', targets)) continue;
      const delegated: Partial<Record<TufRole, Held | undefined>> = {};
      const whole = DELEGATED_ROLES.every((role) => {
        delegated[role] = [pending[role], current[role]].find((held) => verifies(targets, role, held));
        // The first of all may come later; one that cars have must not stop to be valid.
        return delegated[role] !== undefined || current[role] === undefined;
      });
      if (whole) return { root, targets, ...delegated } as PerRole;
    }
    return undefined;
  }

  private async signOnline(): Promise<boolean> {
    const { root, targets } = this.current;
    if (root === undefined || targets === undefined) return false;
    // With a file damaged whose keys are elsewhere: what names it stays, as cars would refuse one that goes back.
    if (
      SNAPSHOT_NAMES.some((role) => (this.current[role]?.metadata.signed.version ?? 0) < this.highest[role])
    )
      return false;
    let signed = false;
    const meta = Object.fromEntries(
      SNAPSHOT_NAMES.flatMap((role) => {
        const held = this.current[role];
        return held === undefined ? [] : [[`${role}.json`, metaFileOf(held)] as const];
      }),
    );
    const { snapshot } = this.current;
    if (
      this.isAged('snapshot') ||
      !verifies(root, 'snapshot', snapshot) ||
      !isDeepStrictEqual(snapshot?.metadata.signed.meta, meta)
    ) {
      await this.signAndWrite('snapshot', new Snapshot({ ...this.next('snapshot'), meta }));
      signed = true;
    }
    const snapshotMeta = metaFileOf(this.current.snapshot!);
    const { timestamp } = this.current;
    if (
      this.isAged('timestamp') ||
      !verifies(root, 'timestamp', timestamp) ||
      !isDeepStrictEqual(timestamp?.metadata.signed.snapshotMeta, snapshotMeta)
    ) {
      // A car whose clock was never set knows by it that it cannot be earlier.
      const issued = wholeSeconds(this.clock());
      const common = { ...this.next('timestamp'), unrecognizedFields: { issued } };
      await this.signAndWrite('timestamp', new Timestamp({ ...common, snapshotMeta }));
      signed = true;
    }
    return signed;
  }

  private async signAndWrite<Role extends 'snapshot' | 'timestamp'>(
    role: Role,
    signed: Signed[Role],
  ): Promise<void> {
    const metadata = new Metadata<Signed[Role]>(signed);
    for (const { keyID } of authority(this.current.root!, role).keys) {
      const key = this.keyOf(keyID);
      if (key !== undefined) metadata.sign((bytes) => key.sign(bytes));
    }
    await this.write(role, holdMetadata<Role>(metadata));
  }

  private async write<Role extends TufRole>(role: Role, held: Held<Role>): Promise<void> {
    const { version } = held.metadata.signed;
    await replaceFile(join(this.dir, fileNameOf(role, version)), held.bytes);
    (this.current as Record<TufRole, Held>)[role] = held;
    this.highest[role] = version;
  }

  private async setPending<Role extends TufRole>(role: Role, held: Held<Role> | undefined): Promise<void> {
    const before = this.pending[role];
    if (before === held) return;
    const path = (of: Held) => join(this.dir, 'pending', fileNameOf(role, of.metadata.signed.version));
    if (held !== undefined) await replaceFile(path(held), held.bytes);
    if (before !== undefined && (held === undefined || path(before) !== path(held)))
      await unlink(path(before)).catch(() => {});
    (this.pending as Record<TufRole, Held | undefined>)[role] = held;
  }

  /** Who may sign this, and how many must: for a root those of the one before and its own. */
  private signers(role: TufRole, held: Held): { keys: Key[]; threshold: number } {
    if (role === 'root') {
      const own = authority(held as Held<'root'>, 'root');
      const before = this.current.root && authority(this.current.root, 'root');
      const keys = new Map([...own.keys, ...(before?.keys ?? [])].map((key) => [key.keyID, key]));
      return { keys: [...keys.values()], threshold: Math.max(own.threshold, before?.threshold ?? 0) };
    }
    const delegator = isDelegated(role)
      ? (this.pending.targets ?? this.current.targets)
      : (this.pending.root ?? this.current.root);
    return delegator === undefined ? { keys: [], threshold: 1 } : authority(delegator, role);
  }

  /** Whose keys are in force for a role. */
  private delegator(role: TufRole): Held<'root'> | Held<'targets'> | undefined {
    return isDelegated(role) ? this.current.targets : this.current.root;
  }

  private keyOf(keyID: string): SigningKey | undefined {
    return this.keys.find(({ publicKey }) => publicKey.keyID === keyID);
  }

  private canSign(delegator: Held<'root'>, role: TufRole): boolean {
    const { keys, threshold } = authority(delegator, role);
    return keys.filter(({ keyID }) => this.keyOf(keyID) !== undefined).length >= threshold;
  }

  private isAged(role: TufRole): boolean {
    const held = this.current[role];
    return (
      held === undefined || this.clock() >= Date.parse(held.metadata.signed.expires) - LIFETIME_MS[role] / 2
    );
  }

  /** The first registries had one key per role, and all targets in one file. */
  private isOfOneKeyPerRole(root: Held<'root'>): boolean {
    return (
      authority(root, 'root').keys.length === 1 &&
      this.canSign(root, 'root') &&
      this.current.targets?.metadata.signed.delegations === undefined
    );
  }

  private next(role: TufRole): Common {
    const expires = wholeSeconds(this.clock() + LIFETIME_MS[role]);
    const specVersion = SPEC_VERSION;
    // What waits was never published: its number is free.
    const waiting = this.pending[role]?.metadata.signed.version;
    if (waiting !== undefined) return { specVersion, version: waiting, expires };
    if (this.highest[role] > 0) return { specVersion, version: this.highest[role] + 1, expires };
    // The files are gone, but the keys have signed before and cars remember the versions. Seconds since 1970 are
    // more than any count of signings. The root begins at 1 always: it is the one that cars have from the factory.
    const isFirst = role === 'root' || this.created || (isDelegated(role) && !this.wasDelegating());
    return { specVersion, version: isFirst ? 1 : Math.floor(this.clock() / 1000), expires };
  }

  private wasDelegating(): boolean {
    return (
      this.current.targets?.metadata.signed.delegations !== undefined || this.current.targets === undefined
    );
  }

  private async load(): Promise<void> {
    for (const name of await readdir(this.dir)) {
      if (name.endsWith('.tmp')) await unlink(join(this.dir, name));
      const [, version, role] = FILE_NAME.exec(name) ?? [];
      if (version !== undefined)
        this.highest[role as TufRole] = Math.max(this.highest[role as TufRole], Number(version));
    }
    this.keys = await this.folder.load();
    await this.loadCurrent();
    await this.loadPending();
    // `keys init` has made all that there is.
    this.created = this.highest.targets === 0 && this.pending.targets?.metadata.signed.version === 1;
    const { root } = this.current;
    if (root === undefined) {
      this.created = this.keys.length === 0;
      if (this.created) await this.folder.makeMissing();
      else if (this.pending.root === undefined && incompleteRoles(keysByRole(this.keys)).length > 0)
        // Those that had one key per role, without their metadata.
        await this.folder.makeMissing();
      this.keys = await this.folder.load();
      return;
    }
    for (const role of ONLINE_ROLES)
      if (!this.canSign(root, role))
        throw this.unusable(`The key of the role ${role} is not the one that root.json names`);
    if (this.isOfOneKeyPerRole(root)) {
      await this.folder.makeMissing();
      this.keys = await this.folder.load();
    } else if (this.current.targets === undefined && this.pending.targets === undefined) {
      const lacks = incompleteRoles(keysByRole(this.keys)).filter((role) => isDelegated(role));
      if (lacks.length > 0)
        throw this.unusable(
          'There is no targets.json that is signed as root.json asks, which names the keys of models',
        );
    }
  }

  private async loadCurrent(): Promise<void> {
    this.current.root = await this.read('root', this.highest.root);
    if (this.current.root === undefined) {
      if (this.highest.root > 0)
        throw this.unusable(
          'The newest root.json there is damaged, or lacks signatures (cardan-cloud keys sign)',
        );
      return;
    }
    this.current.targets = await this.newest('targets');
    this.current.models = await this.newest('models');
    this.current.campaigns = await this.newest('campaigns');
    this.current.timestamp = await this.read('timestamp', 0);
    this.highest.timestamp = this.current.timestamp?.metadata.signed.version ?? 0;
    const snapshot = this.current.timestamp?.metadata.signed.snapshotMeta.version;
    if (snapshot !== undefined) this.current.snapshot = await this.read('snapshot', snapshot);
    this.highest.snapshot = Math.max(this.highest.snapshot, snapshot ?? 0);
  }

  private async loadPending(): Promise<void> {
    const dir = join(this.dir, 'pending');
    for (const name of await readdir(dir)) {
      const [, version, role] = FILE_NAME.exec(name) ?? [];
      try {
        if (role === undefined || isOnline(role as TufRole)) throw new TypeError('not one that waits');
        const held = parseMetadata(role as TufRole, await readFile(join(dir, name)));
        if (
          Number(version) !== held.metadata.signed.version ||
          Number(version) <= this.highest[role as TufRole]
        )
          throw new TypeError('published by now');
        (this.pending as Record<TufRole, Held | undefined>)[role as TufRole] = held;
      } catch (error) {
        if (systemCode(error) !== undefined && !(error instanceof CardanError)) throw error;
        await unlink(join(dir, name));
      }
    }
  }

  /** The newest version there is that is whole and signed as it must be. */
  private async newest<Role extends 'targets' | DelegatedRole>(role: Role): Promise<Held<Role> | undefined> {
    for (let version = this.highest[role]; version > 0; version--) {
      const held = await this.read(role, version);
      if (held !== undefined) return held;
      if (version <= this.highest[role] - OLD_VERSIONS_KEPT) break;
    }
    return undefined;
  }

  /** The metadata in the file, or undefined when it is missing, damaged, or not signed as its delegator asks. */
  private async read<Role extends TufRole>(role: Role, version: number): Promise<Held<Role> | undefined> {
    try {
      const held = parseMetadata(role, await readFile(join(this.dir, fileNameOf(role, version))));
      const delegator = this.delegator(role) ?? (role === 'root' ? (held as Held<'root'>) : undefined);
      return verifies(delegator, role, held) ? held : undefined;
    } catch (error) {
      const code = systemCode(error);
      if (code !== undefined && code !== 'ENOENT' && !(error instanceof CardanError)) throw error;
      return undefined;
    }
  }

  private async prune(): Promise<void> {
    for (const name of await readdir(this.dir)) {
      const [, version, role] = FILE_NAME.exec(name) ?? [];
      // Every root stays: a car that was away for years walks the whole chain.
      if (version === undefined || role === 'root') continue;
      const current = this.current[role as TufRole]?.metadata.signed.version ?? 0;
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

/** The name of a role's file. */
export function fileNameOf(role: TufRole, version: number): string {
  return role === 'timestamp' ? 'timestamp.json' : `${version}.${role}.json`;
}

function names(held: Held<DelegatedRole> | undefined, files: Record<string, TargetFile>): boolean {
  if (held === undefined) return false;
  const text = (targets: Record<string, TargetFile>) =>
    canonicalize(
      Object.fromEntries(Object.entries(targets).map(([path, target]) => [path, target.toJSON()])),
    );
  return text(held.metadata.signed.targets) === text(files);
}

/** TUF 4.1: whole seconds. */
function wholeSeconds(time: number): string {
  return new Date(time).toISOString().replace(/\.\d+Z$/, 'Z');
}

function unknownFile(file: string): CardanError {
  return new CardanError(
    'SIGNING_UNKNOWN',
    `${file} does not wait for signatures, or has other content by now. Fetch what waits anew.`,
  );
}
