import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto';
import { access, mkdir, readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalize } from '@tufjs/canonical-json';
import { Key, Signature } from '@tufjs/models';
import { CardanError, systemCode, replaceFile } from '@cardan/shared';
import { KEYS_OF_ROLE, keyName, type RoleKeys, roleOfKey, TUF_ROLES, type TufRole } from './tuf-roles.ts';

/** A key pair: the public half as it stands in metadata, and what the private half can do. */
export interface SigningKey {
  /** Of its file, without `.pem`. */
  name: string;
  publicKey: Key;
  sign: (bytes: Buffer) => Signature;
}

/**
 * A folder of ed25519 keys, `{name}.pem` (PKCS #8, mode 0600), encrypted with a passphrase where there is one. Who holds
 * the folder can sign with what is in it, so back it up and guard it. A name says what a new key is for; what it
 * is good for stands in the metadata only.
 */
export class KeyFolder {
  readonly dir: string;
  private readonly passphrase: string | undefined;
  /** By the text of the file: a passphrase takes its time. */
  private readonly known = new Map<string, SigningKey>();

  constructor(dir: string, passphrase?: string) {
    this.dir = dir;
    this.passphrase = passphrase;
  }

  /** All keys that are there now. Throws KEY_INVALID for a file that is no key, or needs another passphrase. */
  async load(): Promise<SigningKey[]> {
    const files = (await readdirIfThere(this.dir)).filter(
      (file) => file.endsWith('.pem') && !file.endsWith('.pub.pem'),
    );
    const keys: SigningKey[] = [];
    for (const file of files.sort()) {
      const pem = await readFile(join(this.dir, file), 'utf8');
      const key = this.known.get(pem) ?? this.read(file, pem);
      this.known.set(pem, key);
      keys.push(key);
    }
    return keys;
  }

  /** Makes a new key. Throws USAGE for a name that is taken: a key is never overwritten. */
  async make(name: string): Promise<SigningKey> {
    const path = join(this.dir, `${name}.pem`);
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    if (await isThere(path))
      throw new CardanError('USAGE', `There is a key ${path} already. Keys are never overwritten.`);
    const { privateKey } = generateKeyPairSync('ed25519');
    const { passphrase } = this;
    const pem = privateKey.export({
      type: 'pkcs8',
      format: 'pem',
      ...(passphrase === undefined ? {} : { cipher: 'aes-256-cbc', passphrase }),
    }) as string;
    await replaceFile(path, pem, 0o600);
    const key = signingKey(name, privateKey);
    this.known.set(pem, key);
    return key;
  }

  /** Makes those keys that a registry with all keys in one place has and this folder does not. */
  async makeMissing(): Promise<void> {
    const names = new Set((await this.load()).map(({ name }) => name));
    for (const role of TUF_ROLES)
      for (let n = 1; n <= KEYS_OF_ROLE[role].keys; n++)
        if (!names.has(keyName(role, n))) await this.make(keyName(role, n));
  }

  private read(file: string, pem: string): SigningKey {
    try {
      const key = createPrivateKey({ key: pem, passphrase: this.passphrase ?? '' });
      if (key.asymmetricKeyType !== 'ed25519') throw new TypeError('it is not ed25519');
      return signingKey(file.replace(/\.pem$/, ''), key);
    } catch (cause) {
      const locked = pem.includes('ENCRYPTED PRIVATE KEY');
      throw new CardanError(
        'KEY_INVALID',
        locked
          ? `The key ${join(this.dir, file)} is encrypted, and the passphrase is missing or wrong (CARDAN_KEYS_PASSPHRASE_FILE).`
          : `${join(this.dir, file)} is no private ed25519 key (PKCS #8, PEM).`,
        { cause },
      );
    }
  }
}

/** Public keys by the roles that the names of their files say, with at most as many as a role begins with. */
export function keysByRole(keys: readonly SigningKey[]): RoleKeys {
  const byRole = Object.fromEntries(TUF_ROLES.map((role) => [role, [] as Key[]])) as RoleKeys;
  for (const { name, publicKey } of keys) {
    const role = roleOfKey(name);
    if (role !== undefined && byRole[role].length < KEYS_OF_ROLE[role].keys) byRole[role].push(publicKey);
  }
  return byRole;
}

/** The roles for which there are not as many keys as they take. */
export function incompleteRoles(keys: RoleKeys): TufRole[] {
  return TUF_ROLES.filter((role) => keys[role].length < KEYS_OF_ROLE[role].keys);
}

/** A public key from PEM (SPKI). Throws KEY_INVALID. */
export function publicKeyFrom(pem: string, path: string): Key {
  try {
    const key = createPublicKey(pem);
    if (key.asymmetricKeyType !== 'ed25519' || pem.includes('PRIVATE')) throw new TypeError('not ed25519');
    return publicKeyOf(key);
  } catch (cause) {
    throw new CardanError('KEY_INVALID', `${path} is no public ed25519 key (PEM).`, { cause });
  }
}

/** The public half as PEM (SPKI), to be given to others. */
export function publicPem({ keyVal }: Key): string {
  const der = Buffer.concat([SPKI_HEADER, Buffer.from(keyVal.public ?? '', 'hex')]);
  return createPublicKey({ key: der, format: 'der', type: 'spki' }).export({
    type: 'spki',
    format: 'pem',
  }) as string;
}

function signingKey(name: string, privateKey: KeyObject): SigningKey {
  const publicKey = publicKeyOf(createPublicKey(privateKey));
  return {
    name,
    publicKey,
    sign: (bytes) =>
      new Signature({ keyID: publicKey.keyID, sig: sign(null, bytes, privateKey).toString('hex') }),
  };
}

/** What stands before the 32 bytes of an ed25519 key in its SPKI. */
const SPKI_HEADER = Buffer.from('302a300506032b6570032100', 'hex');

/** TUF writes the key alone, in hexadecimal. */
function publicKeyOf(key: KeyObject): Key {
  const spki = key.export({ type: 'spki', format: 'der' });
  const keyVal = { public: spki.subarray(SPKI_HEADER.length).toString('hex') };
  const publicPart = { keytype: 'ed25519', scheme: 'ed25519', keyval: keyVal };
  // TUF 4.2: the key id is the SHA-256 of the key's canonical JSON.
  const keyID = createHash('sha256').update(canonicalize(publicPart)).digest('hex');
  return new Key({ keyID, keyType: 'ed25519', scheme: 'ed25519', keyVal });
}

async function readdirIfThere(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
