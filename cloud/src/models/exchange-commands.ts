import { basename, dirname, join } from 'node:path';
import type { Command } from 'commander';
import {
  CardanError,
  checkModelFiles,
  ensureDataDir,
  messageOf,
  parseManifest,
  readGivenFile,
  replaceFile,
  systemCode,
  type ModelFileBytes,
  type ModelRef,
} from '@cardan/shared';
import { exportOnnx } from '../onnx/export-model.ts';
import { importModel } from '../onnx/import-model.ts';
import type { RegistryClient } from '../registry-client.ts';
import { registryClient, registryOptions, type RegistryOptions } from '../registry-options.ts';
import { modelCard } from './model-card.ts';

interface FolderOption {
  from?: string;
}

/** Adds `models import | export | card` to `models`. */
export function exchangeCommands(models: Command): void {
  registryOptions(models.command('import'))
    .description(
      'Publish a network that another program trained: dense layers in ONNX, and a manifest that says what its inputs are (docs/python.md).',
    )
    .argument('<file>', 'the ONNX file')
    .requiredOption('--manifest <file>', 'what its trainer says of it, as JSON')
    .option('--name <name>', 'of the model; default the manifest’s, or anomaly-<signal set>')
    .option('--out <dir>', 'write the model’s three files there, and publish nothing')
    .action(importCommand);

  registryOptions(models.command('export'))
    .description('Write a version as ONNX.')
    .argument('[name]')
    .argument('[version]', 'a version, an alias, or latest', 'latest')
    .requiredOption('--onnx <file>', 'the file to write')
    .option('--from <dir>', 'a folder with the model’s three files, instead of the registry')
    .action(exportCommand);

  registryOptions(models.command('card'))
    .description('Print the model card of a version (MODEL.md).')
    .argument('[name]')
    .argument('[version]', 'a version, an alias, or latest', 'latest')
    .option('--from <dir>', 'a folder with the model’s three files, instead of the registry')
    .action(card);
}

async function importCommand(
  path: string,
  {
    manifest: manifestPath,
    name,
    out,
    ...options
  }: RegistryOptions & { manifest: string; name?: string; out?: string },
): Promise<void> {
  const registry = registryClient(options);
  const { files, manifest, difference, scoreDifference } = await importModel({
    onnx: readGivenFile(path, `the ONNX file ${path}`),
    external: (location) =>
      readGivenFile(join(dirname(path), location), `${location}, which ${basename(path)} names`),
    manifest: readGivenFile(manifestPath, `the manifest ${manifestPath}`),
    ...(name === undefined ? {} : { name }),
    newest: (name) => (out === undefined ? newestVersion(registry, name) : Promise.resolve(null)),
    now: Date.now(),
  });
  if (out === undefined) await registry.publish(files, manifest.name);
  else await writeFolder(out, files);
  const { version, lineage, alarm, features } = manifest;
  process.stderr.write(
    `${manifest.name} version ${version}: ${features.inputs.length} inputs, ${manifest.metrics.multiply_adds} multiply-adds a row, ` +
      `${out === undefined ? 'published' : `written to ${out}`}\n` +
      `the car's network differs from the graph by at most ${difference.toPrecision(2)}` +
      (scoreDifference === null
        ? '; the manifest has no scores to compare\n'
        : `, its scores from the manifest's by at most ${scoreDifference.toPrecision(2)}\n`),
  );
  process.stdout.write(
    `${JSON.stringify({ name: manifest.name, version, rows: lineage.rows, vehicles: lineage.vehicles, threshold: alarm.threshold, difference, scoreDifference })}\n`,
  );
}

async function newestVersion(registry: RegistryClient, name: string): Promise<ModelRef | null> {
  const models = await registry.models();
  const versions = models.find((model) => model.name === name)?.versions ?? [];
  // From a version that has a name nobody can count on.
  const numbered = versions.map(({ version }) => version).filter((version) => Number(version) > 0);
  const version = numbered.sort((a, b) => Number(a) - Number(b)).at(-1);
  return version === undefined ? null : { name, version };
}

async function exportCommand(
  name: string | undefined,
  word: string,
  { onnx, ...options }: RegistryOptions & FolderOption & { onnx: string },
): Promise<void> {
  const files = await filesOf(name, word, options);
  const bytes = exportOnnx(files);
  await writeGivenFile(onnx, bytes);
  const manifest = parseManifest(files.manifest);
  process.stderr.write(
    `${manifest.name} version ${manifest.version} is in ${onnx} (${bytes.length} bytes): "features" [rows, ${manifest.features.inputs.length}] → "reconstruction"\n`,
  );
}

async function card(
  name: string | undefined,
  word: string,
  options: RegistryOptions & FolderOption,
): Promise<void> {
  if (options.from === undefined) {
    const text = await registryClient(options).card({ name: named(name), version: word });
    process.stdout.write(text);
  } else process.stdout.write(modelCard(checkModelFiles(folderFiles(options.from))));
}

async function filesOf(
  name: string | undefined,
  word: string,
  options: RegistryOptions & FolderOption,
): Promise<ModelFileBytes> {
  if (options.from !== undefined) return folderFiles(options.from);
  const registry = registryClient(options);
  const manifest = await registry.manifest({ name: named(name), version: word });
  return { ...(await registry.filesOf(parseManifest(manifest))), manifest };
}

function named(name: string | undefined): string {
  if (name !== undefined) return name;
  throw new CardanError('USAGE', 'Name a model of the registry, or a folder by --from.');
}

function folderFiles(dir: string): ModelFileBytes {
  const read = (file: string) => readGivenFile(join(dir, file));
  return { manifest: read('manifest.json'), model: read('model.json'), weights: read('weights.bin') };
}

/** The manifest last: a folder that has one is whole. */
async function writeFolder(dir: string, files: ModelFileBytes): Promise<void> {
  ensureDataDir(dir);
  await writeGivenFile(join(dir, 'model.json'), files.model);
  await writeGivenFile(join(dir, 'weights.bin'), files.weights);
  await writeGivenFile(join(dir, 'manifest.json'), files.manifest);
}

async function writeGivenFile(path: string, bytes: Uint8Array): Promise<void> {
  try {
    await replaceFile(path, bytes);
  } catch (cause) {
    throw new CardanError(
      'DATA_DIR_NOT_WRITABLE',
      `Cannot write ${path} (${systemCode(cause) ?? messageOf(cause)}).`,
      { cause },
    );
  }
}
