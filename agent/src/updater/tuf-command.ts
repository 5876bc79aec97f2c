import { mkdir, readFile, stat } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { TargetFile } from '@tufjs/models';
import { CardanError, replaceFile, systemCode } from '@cardan/shared';
import { Downloader } from './download.ts';
import { httpGet } from './http-get.ts';
import { TufClient } from './tuf-client.ts';
import { fileNameOf, TargetHash } from './tuf-metadata.ts';

interface TufOptions {
  metadataDir: string;
  metadataUrl?: string;
  targetName: string[];
  targetBaseUrl?: string;
  targetDir?: string;
}

const STALL_MS = 30_000;

/**
 * `cardan-agent tuf … init ROOT | refresh | download`: the car's TUF client alone, on any TUF repository, by the command
 * line of the TUF project's conformance tests (CLIENT-CLI.md there).
 */
export function tufCommand(program: Command): void {
  const tuf = program
    .command('tuf')
    .description(
      'The TUF client of the car alone, on any TUF repository; for conformance tests and to look at one.',
    )
    .requiredOption('--metadata-dir <dir>', 'where verified metadata is kept')
    .option('--metadata-url <url>', 'where the repository has its metadata')
    .addOption(
      new Option('--target-name <path>', 'a target to download; several times for several')
        .argParser((path: string, before: string[] = []) => [...before, path])
        .default([], 'none'),
    )
    .option('--target-base-url <url>', 'where the repository has its targets')
    .option('--target-dir <dir>', 'where verified targets are put');
  const options = () => tuf.opts<TufOptions>();
  tuf
    .command('init')
    .description('Begin with this root of trust.')
    .argument('<root>', 'root.json')
    .action((root: string) => init(options(), root));
  tuf
    .command('refresh')
    .description('Bring the metadata up to date.')
    .action(() => clientOf(options()).refresh());
  tuf
    .command('download')
    .description('Bring the metadata up to date, then download the targets.')
    .action(() => download(options()));
}

/** The root of trust in a metadata folder. Not named .json: there those lie that were verified. */
function factoryRoot({ metadataDir }: TufOptions): string {
  return join(metadataDir, 'factory-root');
}

async function init(options: TufOptions, path: string): Promise<void> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const code = systemCode(cause);
    throw new CardanError(
      code === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_NOT_READABLE',
      `Cannot read the root of trust ${path} (${code}).`,
      { cause },
    );
  }
  await mkdir(options.metadataDir, { recursive: true });
  await replaceFile(factoryRoot(options), bytes);
  await replaceFile(join(options.metadataDir, 'root.json'), bytes);
}

function clientOf(options: TufOptions): TufClient {
  return new TufClient({
    dir: options.metadataDir,
    rootPath: factoryRoot(options),
    metadataUrl: needed('--metadata-url', options.metadataUrl).replace(/\/+$/, ''),
    targetsUrl: (options.targetBaseUrl ?? '').replace(/\/+$/, ''),
    downloader: new Downloader({ get: httpGet, stallMs: STALL_MS }),
    // Without the agent's own age: a repository may be looked at as it was at another time.
    clock: Date.now,
  });
}

async function download(options: TufOptions): Promise<void> {
  const dir = needed('--target-dir', options.targetDir);
  needed('--target-base-url', options.targetBaseUrl);
  if (options.targetName.length === 0) needed('--target-name', undefined);
  const client = clientOf(options);
  await client.refresh();
  await mkdir(dir, { recursive: true });
  for (const name of options.targetName) {
    const target = await client.target(name);
    const path = join(dir, fileNameOf(name).replace(/\.json$/, ''));
    if (!(await isThere(target, path))) await client.download(target, path);
    process.stdout.write(`${path}\n`);
  }
}

async function isThere(target: TargetFile, path: string): Promise<boolean> {
  const { size } = await stat(path).catch(() => ({ size: -1 }));
  if (size !== target.length) return false;
  const hash = new TargetHash(target);
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.isWhole();
}

function needed(option: string, value: string | undefined): string {
  if (value === undefined) throw new CardanError('USAGE', `This takes ${option}.`);
  return value;
}
