import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Command, Option } from 'commander';
import type { Key } from '@tufjs/models';
import { CardanError, ensureDataDir, messageOf, replaceFile } from '@cardan/shared';
import { initTrust, readInForce, roleOfFile, rotate, signFile } from './registry/key-ceremony.ts';
import { KeyFolder, publicKeyFrom, publicPem, type SigningKey } from './registry/tuf-keys.ts';
import { type Held, holdMetadata, parseMetadata, targetChanges } from './registry/tuf-metadata.ts';
import { fileNameOf, type Waiting } from './registry/tuf-repository.ts';
import { isDelegated, isOnline, roleOfKey, TUF_ROLES, type TufRole } from './registry/tuf-roles.ts';
import type { RegistryClient } from './registry-client.ts';
import { registryClient, registryOptions, type RegistryOptions } from './registry-options.ts';

interface KeyOptions {
  dir: string;
  passphraseFile?: string;
}
/** What waits is asked for again after each signature, as one can make the next thing wait; never more often than this. */
const SIGNING_ROUNDS_MAX = 10;

/** Adds `keys new | init | list | pending | sign | submit | rotate`. */
export function keysCommand(program: Command): void {
  const keys = program
    .command('keys')
    .description('The keys by which cars trust the registry, and what waits to be signed (docs/trust.md).');

  keyOptions(keys.command('new'))
    .description('Make keys of your own, and print their public halves’ files, to be given to others.')
    .argument('<names...>', 'what they are for: models, models-2, campaigns, root-3 …')
    .action(async (names: string[], options: KeyOptions) => {
      const folder = await folderOf(options);
      for (const name of names) {
        if (roleOfKey(name) === undefined)
          throw new CardanError(
            'USAGE',
            `${name} names no role. It is a role, or one with a number: ${TUF_ROLES.join(', ')}, models-2.`,
          );
        await saveMade([await folder.make(name)], folder);
      }
    });

  keyOptions(keys.command('init'))
    .description(
      'Begin the trust of a new registry, before it runs for the first time, with keys kept elsewhere.',
    )
    .addOption(registryDir().makeOptionMandatory())
    .addOption(given())
    .action(async (options: KeyOptions & { registryDir: string; key: Given[] }) => {
      const folder = await folderOf(options);
      const files = await initTrust({
        keys: folder,
        given: new Map(options.key),
        registryDir: ensureDataDir(options.registryDir),
        clock: Date.now,
      });
      for (const { path, signatures, threshold } of files)
        print(
          `${path}: ${signatures} of ${threshold} signatures${signatures < threshold ? ', sign it: cardan-cloud keys sign' : ''}`,
        );
      print(
        `Cars are given ${join(options.registryDir, 'tuf', '1.root.json')}. Keep ${options.dir} away from the service.`,
      );
    });

  keyOptions(keys.command('list'))
    .description('List the keys in a folder.')
    .action(async (options: KeyOptions) => {
      for (const { name, publicKey } of await (await folderOf(options)).load())
        process.stdout.write(`${name.padEnd(14)} ${publicKey.keyID}\n`);
    });

  registryOptions(keys.command('pending'))
    .description(
      'List what waits for signatures; with --out also save it, to be signed where there is no network.',
    )
    .option('--out <dir>', 'folder for the files')
    .action(async ({ out, ...options }: RegistryOptions & { out?: string }) => {
      const client = registryClient(options);
      const waiting = await client.waiting();
      for (const one of waiting) {
        printWaiting(one);
        if (out === undefined) continue;
        await replaceFile(join(ensureDataDir(out), one.file), await client.waitingFile(one.file));
      }
      if (waiting.length === 0) print('Nothing waits for signatures.');
    });

  registryOptions(keyOptions(keys.command('sign')), { optional: true })
    .description(
      'Sign files with the keys in the folder; or with --registry what waits there, and bring it back.',
    )
    .argument('[files...]', 'as `keys pending --out` saves them')
    .action(async (files: string[], { registry, ...options }: KeyOptions & Partial<RegistryOptions>) => {
      const folder = await folderOf(options);
      if (files.length > 0 === (registry !== undefined))
        throw new CardanError('USAGE', 'keys sign takes files, or --registry.');
      if (registry !== undefined) return signWaiting(registryClient({ ...options, registry }), folder);
      for (const path of files) {
        const { held, by } = await signFile(path, await read(path), folder);
        tell(roleOfFile(path), held, undefined);
        await replaceFile(path, held.bytes);
        print(`${path} is signed by ${by.join(', ')}`);
      }
    });

  registryOptions(keys.command('submit'))
    .description('Bring files that were signed to the registry.')
    .argument('<files...>')
    .action(async (files: string[], options: RegistryOptions) => {
      const client = registryClient(options);
      for (const path of files) await bring(client, basename(path), await read(path));
    });

  registryOptions(keyOptions(keys.command('rotate')))
    .description('Replace the keys of a role. Old and new ones sign it; what others must sign waits.')
    .argument('<role>', TUF_ROLES.join(', '))
    .option(
      '--drop <id>',
      'only this key, by the beginning of its id; several times for several',
      collect,
      [],
    )
    .addOption(given())
    .addOption(registryDir())
    .action(
      async (
        text: string,
        options: KeyOptions & RegistryOptions & { drop: string[]; key: Given[]; registryDir?: string },
      ) => {
        const role = TUF_ROLES.find((known) => known === text);
        if (role === undefined)
          throw new CardanError('USAGE', `There is no role ${text}: ${TUF_ROLES.join(', ')}.`);
        const client = registryClient(options);
        const folder = await folderOf(options);
        const service =
          options.registryDir === undefined ? undefined : new KeyFolder(join(options.registryDir, 'keys'));
        if (isOnline(role) && service === undefined && options.key.length === 0)
          throw new CardanError(
            'USAGE',
            `The service signs ${role} by itself and needs the new key: give its --registry-dir, or --key.`,
          );
        const carrier = isDelegated(role) ? 'targets' : 'root';
        if ((await client.waiting()).some((one) => one.role === carrier))
          throw new CardanError(
            'USAGE',
            `Other ${carrier} metadata waits for signatures. Sign that first: cardan-cloud keys sign.`,
          );
        const inForce = await readInForce((file) => client.metadata(file));
        const into = isOnline(role) && service !== undefined ? service : folder;
        const { drop } = options;
        const { file, held, made } = await rotate({
          role,
          inForce,
          drop,
          given: options.key.map(([, key]) => key),
          keys: folder,
          folder: into,
          clock: Date.now,
        });
        await saveMade(made, into);
        await bring(client, file, held.bytes);
        await signWaiting(client, folder);
      },
    );
}

/** Signs what waits with the keys that are here, until there is nothing more for them. */
async function signWaiting(client: RegistryClient, folder: KeyFolder): Promise<void> {
  const keys = await folder.load();
  let signed = 0;
  for (let round = 0; round < SIGNING_ROUNDS_MAX; round++) {
    const mine = (one: Waiting) => keys.filter(({ publicKey }) => one.missing.includes(publicKey.keyID));
    const next = (await client.waiting()).find((one) => mine(one).length > 0);
    if (next === undefined) break;
    const held = parseMetadata(next.role, await client.waitingFile(next.file));
    tell(next.role, held, await inForceOf(next.role, client));
    for (const key of mine(next)) held.metadata.sign((bytes) => key.sign(bytes));
    await bring(client, next.file, holdMetadata(held.metadata as never).bytes);
    signed++;
  }
  if (signed === 0) print('Nothing waits for the keys in this folder.');
}

/** The metadata of models or campaigns that cars see now, to tell what is new. */
async function inForceOf(role: TufRole, client: RegistryClient): Promise<Held | undefined> {
  if (!isDelegated(role)) return undefined;
  const timestamp = await client.metadata('timestamp.json');
  if (timestamp === undefined) return undefined;
  const { version } = parseMetadata('timestamp', timestamp).metadata.signed.snapshotMeta;
  const snapshot = await client.metadata(fileNameOf('snapshot', version));
  const meta = snapshot && parseMetadata('snapshot', snapshot).metadata.signed.meta[`${role}.json`];
  const bytes = meta && (await client.metadata(fileNameOf(role, meta.version)));
  return bytes && parseMetadata(role, bytes);
}

/** What somebody is about to sign. */
function tell(role: TufRole, { metadata }: Held, before: Held | undefined): void {
  const { signed } = metadata;
  print(`${role} version ${signed.version}, until ${signed.expires}`);
  if (!('targets' in signed) || !isDelegated(role)) return;
  const old =
    before !== undefined && 'targets' in before.metadata.signed ? before.metadata.signed.targets : {};
  const { added, changed, removed } = targetChanges(old, signed.targets);
  for (const path of added) print(`  + ${path}  ${signed.targets[path]?.hashes.sha256}`);
  for (const path of changed) print(`  ! ${path}  ${signed.targets[path]?.hashes.sha256}`);
  for (const path of removed) print(`  - ${path}`);
}

async function bring(client: RegistryClient, file: string, bytes: Buffer): Promise<void> {
  const { published, waiting } = await client.bringSignatures(file, bytes);
  const still = waiting.find((one) => one.file === file);
  if (still !== undefined) printWaiting(still);
  else print(`${file} ${published ? 'is published' : 'is signed by enough'}`);
}

function printWaiting({ file, signatures, threshold, missing }: Waiting): void {
  process.stdout.write(
    `${file}: ${signatures} of ${threshold} signatures; missing: ${missing.map((id) => id.slice(0, 12)).join(', ') || 'other metadata first'}\n`,
  );
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function saveMade(made: readonly SigningKey[], folder: KeyFolder): Promise<void> {
  for (const { name, publicKey } of made) {
    const path = join(folder.dir, `${name}.pub.pem`);
    await replaceFile(path, publicPem(publicKey));
    process.stdout.write(`${path}  ${publicKey.keyID}\n`);
  }
}

/** An encrypted folder's passphrase is in a file: a command line would show it to every user of the machine. */
async function folderOf({ dir, passphraseFile }: KeyOptions): Promise<KeyFolder> {
  if (passphraseFile === undefined) return new KeyFolder(dir);
  return new KeyFolder(dir, (await read(passphraseFile)).toString('utf8').trim());
}

function keyOptions(command: Command): Command {
  return command
    .addOption(new Option('--dir <dir>', 'folder of your keys').env('CARDAN_KEYS').default('.cardan/keys'))
    .addOption(
      new Option(
        '--passphrase-file <file>',
        'file with the passphrase of your keys; without it they are not encrypted',
      ).env('CARDAN_KEYS_PASSPHRASE_FILE'),
    );
}

function registryDir(): Option {
  return new Option('--registry-dir <dir>', 'folder of the registry: registry in its --data');
}

type Given = [name: string, key: Key];

function given(): Option {
  return new Option(
    '--key <name=file>',
    'public key of somebody else, as models-2=anna.pub.pem; several times for several',
  )
    .argParser((text: string, before: Given[]) => [...before, readGiven(text)])
    .default([], 'none');
}

function readGiven(text: string): Given {
  const [, name, path] = /^([a-z]+(?:-[1-9][0-9]*)?)=(.+)$/.exec(text) ?? [];
  if (name === undefined || path === undefined || roleOfKey(name) === undefined)
    throw new CardanError(
      'USAGE',
      `--key ${text} is not of the form models-2=FILE, with the name of a role.`,
    );
  try {
    return [name, publicKeyFrom(readFileSync(path, 'utf8'), path)];
  } catch (error) {
    throw error instanceof CardanError ? error : notReadable(path, error);
  }
}

function collect(text: string, before: string[]): string[] {
  return [...before, text];
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw notReadable(path, error);
  }
}

function notReadable(path: string, cause: unknown): CardanError {
  return new CardanError('FILE_NOT_READABLE', `Cannot read ${path} (${messageOf(cause)}).`, { cause });
}
