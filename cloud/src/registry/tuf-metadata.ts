import { createHash } from 'node:crypto';
import { canonicalize } from '@tufjs/canonical-json';
import {
  type Key,
  MetaFile,
  Metadata,
  type MetadataKind,
  Root,
  type Snapshot,
  Targets,
  type TargetFile,
  type Timestamp,
} from '@tufjs/models';
import { CardanError, messageOf } from '@cardan/shared';
import {
  DELEGATED_PATHS,
  DELEGATED_ROLES,
  isDelegated,
  KEYS_OF_ROLE,
  type RoleKeys,
  SPEC_VERSION,
  TOP_LEVEL_ROLES,
  type TufRole,
} from './tuf-roles.ts';

export interface Signed {
  root: Root;
  targets: Targets;
  models: Targets;
  campaigns: Targets;
  snapshot: Snapshot;
  timestamp: Timestamp;
}

/** Metadata with the exact bytes of its file: they are what others hash. */
export interface Held<Role extends TufRole = TufRole> {
  metadata: Metadata<Signed[Role]>;
  bytes: Buffer;
}

/** The fields that all metadata has. */
export interface Common {
  specVersion: string;
  version: number;
  expires: string;
}

/** Reads the metadata of a role; its signatures are not looked at. Throws TUF_MALFORMED. */
export function parseMetadata<Role extends TufRole>(role: Role, bytes: Buffer): Held<Role> {
  try {
    const json = JSON.parse(bytes.toString('utf8')) as never;
    const kind = (isDelegated(role) ? 'targets' : role) as unknown as MetadataKind.Root;
    const metadata = Metadata.fromJSON(kind, json) as unknown as Metadata<Signed[Role]>;
    if (!Number.isSafeInteger(metadata.signed.version) || metadata.signed.version < 1)
      throw new TypeError('its version is not a whole number');
    if (Number.isNaN(Date.parse(metadata.signed.expires))) throw new TypeError('its "expires" is not a date');
    return { metadata, bytes };
  } catch (cause) {
    throw new CardanError('TUF_MALFORMED', `This is no metadata of the role ${role}: ${messageOf(cause)}.`, {
      cause,
    });
  }
}

export function holdMetadata<Role extends TufRole>(metadata: Metadata<Signed[Role]>): Held<Role> {
  return { metadata, bytes: Buffer.from(JSON.stringify(metadata.toJSON())) };
}

/** Whether enough of the keys that the delegator names have signed. */
export function verifies(
  delegator: Held<'root'> | Held<'targets'> | undefined,
  role: TufRole,
  held: Held | undefined,
): boolean {
  if (delegator === undefined || held === undefined) return false;
  try {
    (delegator.metadata as Metadata<Root>).verifyDelegate(role, held.metadata);
    return true;
  } catch {
    return false;
  }
}

/** Who may sign for a role, and how many must, as its delegator says it. */
export function authority(
  delegator: Held<'root'> | Held<'targets'>,
  role: TufRole,
): { keys: Key[]; threshold: number } {
  const { signed } = delegator.metadata;
  const named = signed instanceof Root ? signed.roles[role] : signed.delegations?.roles?.[role];
  const keys = signed instanceof Root ? signed.keys : (signed.delegations?.keys ?? {});
  return {
    keys: (named?.keyIDs ?? []).flatMap((id) => keys[id] ?? []),
    threshold: named?.threshold ?? Number.POSITIVE_INFINITY,
  };
}

/** Whether two say the same, whoever has signed them. */
export function isSameContent(a: Held, b: Held): boolean {
  return canonicalize(a.metadata.signed.toJSON()) === canonicalize(b.metadata.signed.toJSON());
}

export function hasSigned(held: Held, key: Key): boolean {
  try {
    key.verifySignature(held.metadata);
    return true;
  } catch {
    return false;
  }
}

/** A root with these keys and today's thresholds. */
export function rootWith(common: Common, keys: RoleKeys): Root {
  const root = new Root({ ...common, consistentSnapshot: true });
  for (const role of TOP_LEVEL_ROLES) for (const key of keys[role]) root.addKey(key, role);
  const json = root.toJSON() as { roles: Record<string, { threshold: number }> };
  for (const role of TOP_LEVEL_ROLES) json.roles[role]!.threshold = KEYS_OF_ROLE[role].threshold;
  return Root.fromJSON(json);
}

/** Targets that name no file themselves, but who may sign models and campaigns. */
export function targetsWith(common: Common, keys: Pick<RoleKeys, (typeof DELEGATED_ROLES)[number]>): Targets {
  const all = DELEGATED_ROLES.flatMap((role) => keys[role]);
  return Targets.fromJSON({
    _type: 'targets',
    spec_version: SPEC_VERSION,
    version: common.version,
    expires: common.expires,
    targets: {},
    delegations: {
      keys: Object.fromEntries(all.map((key) => [key.keyID, key.toJSON()])),
      roles: DELEGATED_ROLES.map((role) => ({
        name: role,
        keyids: keys[role].map(({ keyID }) => keyID),
        threshold: KEYS_OF_ROLE[role].threshold,
        terminating: true,
        paths: [DELEGATED_PATHS[role]],
      })),
    },
  });
}

/** The same content, as a next version. */
export function renewed<Role extends 'root' | 'targets'>(
  held: Held<Role>,
  common: Common,
): Held<Role>['metadata'] {
  const { specVersion: spec_version, version, expires } = common;
  const json = { ...held.metadata.signed.toJSON(), spec_version, version, expires } as never;
  const signed = held.metadata.signed instanceof Root ? Root.fromJSON(json) : Targets.fromJSON(json);
  return new Metadata(signed) as never;
}

/** The public keys of all roles that root and targets name. */
export function namedKeys(root: Held<'root'>, targets: Held<'targets'>): RoleKeys {
  const of = (role: TufRole) => authority(isDelegated(role) ? targets : root, role).keys;
  return {
    root: of('root'),
    targets: of('targets'),
    snapshot: of('snapshot'),
    timestamp: of('timestamp'),
    models: of('models'),
    campaigns: of('campaigns'),
  };
}

/** What the snapshot says of targets metadata, and the timestamp of the snapshot. */
export function metaFileOf({ metadata, bytes }: Held): MetaFile {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return new MetaFile({ version: metadata.signed.version, length: bytes.length, hashes: { sha256 } });
}

/** Which targets come and go from one version to the next. */
export function targetChanges(
  before: Record<string, TargetFile>,
  after: Record<string, TargetFile>,
): { added: string[]; changed: string[]; removed: string[] } {
  const text = (target: TargetFile | undefined) => canonicalize(target?.toJSON() ?? null);
  const paths = Object.keys(after);
  return {
    added: paths.filter((path) => !Object.hasOwn(before, path)),
    changed: paths.filter((path) => Object.hasOwn(before, path) && text(before[path]) !== text(after[path])),
    removed: Object.keys(before).filter((path) => !Object.hasOwn(after, path)),
  };
}
