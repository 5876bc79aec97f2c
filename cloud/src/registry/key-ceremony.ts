import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Key, Metadata, Targets } from '@tufjs/models';
import { CardanError, replaceFile, systemCode } from '@cardan/shared';
import { KeyFolder, type SigningKey } from './tuf-keys.ts';
import {
  authority,
  type Common,
  hasSigned,
  type Held,
  holdMetadata,
  namedKeys,
  parseMetadata,
  rootWith,
  targetsWith,
  verifies,
} from './tuf-metadata.ts';
import { fileNameOf } from './tuf-repository.ts';
import {
  DELEGATED_ROLES,
  isDelegated,
  isOnline,
  KEYS_OF_ROLE,
  keyName,
  LIFETIME_MS,
  type RoleKeys,
  roleOfKey,
  SPEC_VERSION,
  TUF_ROLES,
  type TufRole,
} from './tuf-roles.ts';

/** What people do with keys, away from the service: each of these works on files alone. */

/** A file that was made or signed, and how far it is. */
export interface CeremonyFile {
  path: string;
  signatures: number;
  threshold: number;
}

/**
 * Begins the trust of a new registry, before it runs for the first time: keys that are not `given` are made in `keys`
 * (those of the service in its own folder), and root, targets, models and campaigns are signed with them as far as they go.
 * Throws USAGE where the registry has a root already: cars may trust it.
 */
export async function initTrust(options: {
  keys: KeyFolder;
  /** Public keys whose private halves are with somebody else, by name: `models-2`. */
  given: ReadonlyMap<string, Key>;
  registryDir: string;
  /** Passphrase of the keys in the service's folder. */
  servicePassphrase?: string | undefined;
  clock: () => number;
}): Promise<CeremonyFile[]> {
  const { keys, given, registryDir, servicePassphrase, clock } = options;
  const tuf = join(registryDir, 'tuf');
  if ((await namesIn(tuf)).some((name) => name.endsWith('.json')))
    throw new CardanError('USAGE', `${tuf} has metadata already. Use keys rotate: cars may trust its root.`);
  const service = new KeyFolder(join(registryDir, 'keys'), servicePassphrase);
  const made = new Map((await keys.load()).map((key) => [key.name, key.publicKey]));
  const all = Object.fromEntries(TUF_ROLES.map((role) => [role, [] as Key[]])) as RoleKeys;
  for (const role of TUF_ROLES)
    for (let n = 1; n <= KEYS_OF_ROLE[role].keys; n++) {
      const name = keyName(role, n);
      const folder = isOnline(role) ? service : keys;
      all[role].push(given.get(name) ?? made.get(name) ?? (await folder.make(name)).publicKey);
    }
  const common = (role: TufRole): Common => ({
    specVersion: SPEC_VERSION,
    version: 1,
    expires: expiryOf(role, clock()),
  });
  const signing = await keys.load();
  const root = signWith(new Metadata(rootWith(common('root'), all)), all.root, signing);
  const targets = signWith(new Metadata(targetsWith(common('targets'), all)), all.targets, signing);
  await mkdir(join(tuf, 'pending'), { recursive: true });
  const written = [await save(join(tuf, '1.root.json'), root, all.root, KEYS_OF_ROLE.root.threshold)];
  const pending = async (role: TufRole, held: Held) =>
    written.push(
      await save(join(tuf, 'pending', fileNameOf(role, 1)), held, all[role], KEYS_OF_ROLE[role].threshold),
    );
  await pending('targets', targets);
  for (const role of DELEGATED_ROLES)
    await pending(
      role,
      signWith(new Metadata(new Targets({ ...common(role), targets: {} })), all[role], signing),
    );
  return written;
}

/** The metadata in force, as a registry serves it: verified from root to root. */
export interface InForce {
  root: Held<'root'>;
  targets: Held<'targets'>;
}

/** Reads what is in force. `fetch` gives undefined for what is not there. Throws TUF_SIGNATURE, TUF_MALFORMED. */
export async function readInForce(fetch: (file: string) => Promise<Buffer | undefined>): Promise<InForce> {
  let root: Held<'root'> | undefined;
  for (let version = 1; ; version++) {
    const bytes = await fetch(fileNameOf('root', version));
    if (bytes === undefined) break;
    const next = parseMetadata('root', bytes);
    if (!verifies(root ?? next, 'root', next) || !verifies(next, 'root', next))
      throw untrusted(`${version}.root.json is not signed by the root before it`);
    root = next;
  }
  if (root === undefined) throw untrusted('there is no 1.root.json');
  const read = async <Role extends 'timestamp' | 'snapshot' | 'targets'>(role: Role, version: number) => {
    const bytes = await fetch(fileNameOf(role, version));
    const held = bytes && parseMetadata(role, bytes);
    if (held === undefined || !verifies(root, role, held))
      throw untrusted(`its ${role} is not signed as root asks`);
    return held;
  };
  const timestamp = await read('timestamp', 0);
  const snapshot = await read('snapshot', timestamp.metadata.signed.snapshotMeta.version);
  const version = snapshot.metadata.signed.meta['targets.json']?.version ?? 0;
  return { root, targets: await read('targets', version) };
}

/**
 * Other keys for a role: a next root, or for models and campaigns next targets. Those in `drop` go, or all when it is
 * empty; `given` public keys come in their place, and for what then lacks new ones are made in `folder`. It is signed with
 * the keys in `keys`. Throws USAGE, KEY_INVALID.
 */
export async function rotate(options: {
  role: TufRole;
  inForce: InForce;
  /** Ids, or the beginnings of ids. */
  drop: readonly string[];
  given: readonly Key[];
  keys: KeyFolder;
  /** Where new keys are made. */
  folder: KeyFolder;
  clock: () => number;
}): Promise<{ file: string; held: Held; made: SigningKey[] }> {
  const { role, inForce, drop, given, keys, folder, clock } = options;
  const all = namedKeys(inForce.root, inForce.targets);
  const before = all[role];
  const goes = (key: Key) => drop.length === 0 || drop.some((id) => key.keyID.startsWith(id));
  for (const id of drop)
    if (id.length < 8 || before.filter(({ keyID }) => keyID.startsWith(id)).length !== 1)
      throw new CardanError(
        'USAGE',
        `--drop ${id}: not one key of ${role} begins so. It has: ${idsOf(before)}.`,
      );
  const stay = before.filter((key) => !goes(key));
  const lacking = KEYS_OF_ROLE[role].keys - stay.length - given.length;
  if (lacking < 0)
    throw new CardanError(
      'USAGE',
      `${role} has ${KEYS_OF_ROLE[role].keys} keys; name fewer by --key, or --drop more.`,
    );
  const made: SigningKey[] = [];
  for (let n = 0; n < lacking; n++) made.push(await folder.make(await freeName(role, [keys, folder])));
  all[role] = [...stay, ...given, ...made.map(({ publicKey }) => publicKey)];

  const carrier = isDelegated(role) ? 'targets' : 'root';
  const common: Common = {
    specVersion: SPEC_VERSION,
    version: inForce[carrier].metadata.signed.version + 1,
    expires: expiryOf(carrier, clock()),
  };
  const signing = [...(await keys.load()), ...(await folder.load())];
  const held = isDelegated(role)
    ? signWith(new Metadata(targetsWith(common, all)), all.targets, signing)
    : // By the keys of the old root, too: cars know only those.
      signWith(
        new Metadata(rootWith(common, all)),
        [...all.root, ...authority(inForce.root, 'root').keys],
        signing,
      );
  return { file: fileNameOf(carrier, common.version), held, made };
}

/** Signs metadata with all keys here whose names are of its role. Throws KEY_INVALID when there is none. */
export async function signFile(
  file: string,
  bytes: Buffer,
  keys: KeyFolder,
): Promise<{ held: Held; by: string[] }> {
  const role = roleOfFile(file);
  const held = parseMetadata(role, bytes);
  const mine = (await keys.load()).filter(({ name }) => roleOfKey(name) === role);
  if (mine.length === 0)
    throw new CardanError('KEY_INVALID', `${keys.dir} has no key of the role ${role} to sign ${file} with.`);
  return {
    held: signWith(
      held.metadata,
      mine.map(({ publicKey }) => publicKey),
      mine,
    ),
    by: mine.map(({ name }) => name),
  };
}

/** `7.models.json` is of the role models. Throws USAGE. */
export function roleOfFile(file: string): TufRole {
  const [, name] = /(?:^|\/)[0-9]+\.([a-z]+)\.json$/.exec(file) ?? [];
  const role = TUF_ROLES.find((known) => known === name);
  if (role === undefined || isOnline(role))
    throw new CardanError('USAGE', `${file} is not named like metadata that people sign: 7.models.json.`);
  return role;
}

/** Signs with those of the keys that may sign and are here. */
function signWith(metadata: Held['metadata'], may: readonly Key[], keys: readonly SigningKey[]): Held {
  for (const key of keys) {
    const { keyID } = key.publicKey;
    if (may.some((other) => other.keyID === keyID)) metadata.sign((bytes) => key.sign(bytes));
  }
  return holdMetadata(metadata as never);
}

async function save(
  path: string,
  held: Held,
  keys: readonly Key[],
  threshold: number,
): Promise<CeremonyFile> {
  await replaceFile(path, held.bytes);
  return { path, signatures: keys.filter((key) => hasSigned(held, key)).length, threshold };
}

/** The first name of a role's keys that neither folder has. */
async function freeName(role: TufRole, folders: readonly KeyFolder[]): Promise<string> {
  const taken = new Set<string>();
  for (const folder of folders) for (const { name } of await folder.load()) taken.add(name);
  for (let n = 1; ; n++) if (!taken.has(keyName(role, n))) return keyName(role, n);
}

function expiryOf(role: TufRole, now: number): string {
  return new Date(now + LIFETIME_MS[role]).toISOString().replace(/\.\d+Z$/, 'Z');
}

function idsOf(keys: readonly Key[]): string {
  return keys.map(({ keyID }) => keyID.slice(0, 12)).join(', ');
}

function untrusted(why: string): CardanError {
  return new CardanError('TUF_SIGNATURE', `What the registry serves cannot be trusted: ${why}.`);
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
