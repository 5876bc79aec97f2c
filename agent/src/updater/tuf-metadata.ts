import { createHash, timingSafeEqual } from 'node:crypto';
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
import { CardanError, messageOf } from '@cardan/shared';
import { matchesPattern } from './path-pattern.ts';

export interface Signed {
  root: Root;
  timestamp: Timestamp;
  snapshot: Snapshot;
  targets: Targets;
}
export type Kind = keyof Signed;

/** Who hands trust on: the root to the top-level roles, a targets role to those that it delegates to. */
export type Delegator = Metadata<Root> | Metadata<Targets>;

type DelegatedRole = NonNullable<NonNullable<Targets['delegations']>['roles']>[string];

/** Longest name of a delegated role as part of a file name, bytes; most file systems take 255 in all. */
const ROLE_NAME_MAX = 200;

/** Reads metadata of a kind; its signatures are not looked at yet. Throws TUF_MALFORMED. */
export function parse<K extends Kind>(kind: K, bytes: Buffer, role: string = kind): Metadata<Signed[K]> {
  let metadata: Metadata<Root>;
  try {
    const json = JSON.parse(bytes.toString('utf8')) as never;
    metadata = Metadata.fromJSON(kind as unknown as MetadataKind.Root, json);
  } catch (cause) {
    throw malformed(role, messageOf(cause), cause);
  }
  const { version, expires } = metadata.signed;
  if (!Number.isSafeInteger(version) || version < 1)
    throw malformed(role, 'its version is not a whole number');
  // A date that cannot be read would never expire.
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(expires) || Number.isNaN(Date.parse(expires)))
    throw malformed(role, 'its "expires" is not a date');
  return metadata as unknown as Metadata<Signed[K]>;
}

/** Checks that enough of the keys that the delegator names have signed. Throws TUF_SIGNATURE. */
export function verify(delegator: Delegator, role: string, metadata: Metadata<Signed[Kind]>): void {
  try {
    (delegator as Metadata<Root>).verifyDelegate(role, metadata);
  } catch (cause) {
    throw new CardanError(
      'TUF_SIGNATURE',
      `The ${role} metadata is not signed as the root of trust asks (${messageOf(cause)}); refused.`,
      { cause },
    );
  }
}

/** The root that follows on another one. Throws TUF_MALFORMED, TUF_SIGNATURE, TUF_VERSION. */
export function nextRoot(root: Metadata<Root>, bytes: Buffer): Metadata<Root> {
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

export function checkExpiry(role: string, signed: { expires: string }, now: number): void {
  if (now < Date.parse(signed.expires)) return;
  throw new CardanError(
    'TUF_EXPIRED',
    `The ${role} metadata expired at ${signed.expires}; by this clock it is ${new Date(now).toISOString()}. ` +
      'Check the clock, and that the registry runs: it signs anew by itself.',
  );
}

export function checkNotOlder(name: string, trusted: number, offered: number): void {
  if (offered >= trusted) return;
  throw new CardanError(
    'TUF_VERSION',
    `Version ${offered} of ${name} is offered after version ${trusted}; refused. Roll back by publishing anew.`,
  );
}

export function checkNamedVersion(name: string, meta: MetaFile, version: number): void {
  if (version === meta.version) return;
  throw new CardanError(
    'TUF_VERSION',
    `${name} has version ${version}, but version ${meta.version} was named.`,
  );
}

/** Length and hash, where the metadata above names them. Throws TUF_HASH. */
export function checkNamedBytes(name: string, meta: MetaFile, bytes: Buffer): void {
  try {
    meta.verify(bytes);
  } catch (cause) {
    throw new CardanError(
      'TUF_HASH',
      `${name} is not the file that was named (${messageOf(cause)}); refused.`,
      { cause },
    );
  }
}

export function malformed(role: string, why: string, cause?: unknown): CardanError {
  return new CardanError('TUF_MALFORMED', `The ${role} metadata cannot be read: ${why}.`, { cause });
}

/**
 * When a timestamp was signed, milliseconds since 1970, where it says so: Cardan's registry adds the field `issued`.
 * A claim that makes no sense is none.
 */
export function issuedAt(timestamp: Timestamp | undefined): number {
  const issued = timestamp?.unrecognizedFields.issued;
  if (timestamp === undefined || typeof issued !== 'string') return 0;
  const time = Date.parse(issued);
  return time < Date.parse(timestamp.expires) ? time : 0;
}

/** A role's name as part of a file name, on the server and here: no name leads out of the folder. */
export function fileNameOf(role: string): string {
  let name = '';
  try {
    name = encodeURIComponent(role);
  } catch {
    // Half a character.
  }
  if (name === '' || name.length > ROLE_NAME_MAX)
    throw malformed('targets', 'a role has a name that cannot be one of a file');
  return `${name}.json`;
}

/** A role that a target may be found in, through the role that delegates to it. */
export interface Step {
  role: string;
  /** What it does not name is not looked for in any role after it. */
  terminating: boolean;
}

/**
 * The roles that a targets role hands a path on to, in order of priority: as they stand in the file (an object in
 * memory would have names like "2" first).
 */
export function stepsFor(path: string, metadata: Metadata<Targets>, bytes: Buffer): Step[] {
  const { delegations } = metadata.signed;
  if (delegations?.succinctRoles !== undefined)
    return [{ role: delegations.succinctRoles.getRoleForTarget(path), terminating: true }];
  const roles = delegations?.roles ?? {};
  const json = JSON.parse(bytes.toString('utf8')) as {
    signed: { delegations?: { roles?: { name: string }[] } };
  };
  const names = new Set((json.signed.delegations?.roles ?? []).map(({ name }) => name));
  const steps: Step[] = [];
  for (const name of names) {
    const role = Object.hasOwn(roles, name) ? roles[name] : undefined;
    if (role !== undefined && isDelegated(role, path))
      steps.push({ role: name, terminating: role.terminating });
  }
  return steps;
}

function isDelegated({ paths, pathHashPrefixes }: DelegatedRole, path: string): boolean {
  if (paths !== undefined) return paths.some((pattern) => matchesPattern(path, pattern));
  const hash = createHash('sha256').update(path).digest('hex');
  return (pathHashPrefixes ?? []).some((prefix) => hash.startsWith(prefix));
}

/** The SHA-256 that was signed for a file. Throws TUF_MALFORMED. */
export function sha256Of(target: TargetFile): string {
  const { sha256 } = target.hashes;
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256))
    throw malformed('targets', 'a file has no SHA-256');
  return sha256;
}

/** Takes in a file's bytes, and tells whether it is the one that was signed. */
export class TargetHash {
  /** Hexadecimal; the one that a file's name begins with under consistent snapshots. */
  readonly name: string;
  private readonly hashes: { expected: Buffer; hash: ReturnType<typeof createHash> }[] = [];
  private readonly length: number;
  private bytes = 0;

  /** Throws TUF_MALFORMED where none of the hashes is one that can be checked. */
  constructor(target: TargetFile) {
    this.length = target.length;
    const known = [
      ['sha256', 64],
      ['sha512', 128],
    ] as const;
    for (const [algorithm, digits] of known) {
      const expected = target.hashes[algorithm];
      if (expected === undefined) continue;
      if (!new RegExp(`^[0-9a-f]{${digits}}$`).test(expected))
        throw malformed('targets', `a file's ${algorithm} is not one`);
      this.hashes.push({ expected: Buffer.from(expected, 'hex'), hash: createHash(algorithm) });
    }
    const [first] = this.hashes;
    if (first === undefined) throw malformed('targets', 'a file has no SHA-256 and no SHA-512');
    this.name = first.expected.toString('hex');
  }

  update(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    for (const { hash } of this.hashes) hash.update(chunk);
  }

  /** To be asked once, at the end. */
  isWhole(): boolean {
    return (
      this.bytes === this.length &&
      this.hashes.every(({ expected, hash }) => timingSafeEqual(expected, hash.digest()))
    );
  }
}
