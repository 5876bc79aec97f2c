import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalize } from '@tufjs/canonical-json';
import { Key, Signature } from '@tufjs/models';
import { systemCode, replaceFile } from '@cardan/shared';

export const TUF_ROLES = ['root', 'targets', 'snapshot', 'timestamp'] as const;
export type TufRole = (typeof TUF_ROLES)[number];

/** A role's key pair: the public half as it stands in root.json, and what the private half can do. */
export interface RoleKey {
  publicKey: Key;
  sign: (bytes: Buffer) => Signature;
}

export interface KeyRing {
  keys: Record<TufRole, RoleKey>;
  /** True when there was no key at all before: then no metadata can have been signed either. */
  created: boolean;
}

/**
 * Loads the ed25519 key of each role from `dir/{role}.pem` (PKCS #8, mode 0600); makes those that are missing.
 * One online key per role: who holds this folder can sign for the fleet, so back it up and guard it.
 */
export async function openKeys(dir: string): Promise<KeyRing> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const pems = await Promise.all(TUF_ROLES.map((role) => readIfThere(join(dir, `${role}.pem`))));
  const entries = await Promise.all(
    TUF_ROLES.map(async (role, index) => {
      const pem = pems[index] ?? (await makeKey(join(dir, `${role}.pem`)));
      return [role, roleKey(pem)] as const;
    }),
  );
  return {
    keys: Object.fromEntries(entries) as Record<TufRole, RoleKey>,
    created: pems.every((pem) => pem === undefined),
  };
}

async function makeKey(path: string): Promise<string> {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  await replaceFile(path, pem, 0o600);
  return pem;
}

function roleKey(pem: string): RoleKey {
  const privateKey = createPrivateKey(pem);
  // An ed25519 SPKI is 12 bytes of header and 32 bytes of key; TUF writes the key alone, in hexadecimal.
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  const keyVal = { public: spki.subarray(12).toString('hex') };
  const publicPart = { keytype: 'ed25519', scheme: 'ed25519', keyval: keyVal };
  // TUF 4.2: the key id is the SHA-256 of the key's canonical JSON.
  const keyID = createHash('sha256').update(canonicalize(publicPart)).digest('hex');
  return {
    publicKey: new Key({ keyID, keyType: 'ed25519', scheme: 'ed25519', keyVal }),
    sign: (bytes) => new Signature({ keyID, sig: sign(null, bytes, privateKey).toString('hex') }),
  };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
