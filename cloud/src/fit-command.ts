import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Command } from 'commander';
import { CardanError, numberBetween, readGivenFile, systemCode, messageOf } from '@cardan/shared';
import { CLOUD_DEFAULTS } from './config.ts';
import { csvModel } from './csv/csv-model.ts';
import { writeModelFolder } from './csv/model-folder.ts';
import { noteProblems, noteTraining, trainingProgress } from './csv/notes.ts';
import { readSensorTable } from './csv/sensor-table.ts';
import { signalSetOf, tableRows } from './csv/table-rows.ts';
import { STREAM_SETTINGS } from './trainer/stream-settings.ts';
import { parseTrainConfig, type TrainConfig } from './trainer/train-config.ts';

interface Options {
  train: string;
  model: string;
  config?: string;
  seed?: number;
}

/** Adds `fit`. */
export function fitCommand(program: Command): void {
  program
    .command('fit')
    .description(
      'Make a model of recordings of normal running (CSV), one per trip or machine (docs/quality.md).',
    )
    .requiredOption('--train <folder>', 'folder with CSV files: the time in the first column, then sensors')
    .requiredOption('--model <folder>', 'folder that the three files of the model are written to')
    .option(
      '--config <file>',
      'a model.yaml: seed, batch, falseAlarmsPer100Hours and hyperParameters of it (docs/training.md)',
    )
    .option(
      '--seed <n>',
      `seed of the training; default that of the configuration, or ${CLOUD_DEFAULTS.trainer.seed}`,
      numberBetween(0, 2 ** 31, { whole: true }),
    )
    .action(fit);
}

async function fit({ train, model, config, seed: asked }: Options): Promise<void> {
  const { seed = CLOUD_DEFAULTS.trainer.seed, hyperParameters, falseAlarmsPer100Hours } = readConfig(config);
  const tables = csvFiles(train).map((path) => readSensorTable(path));
  const set = signalSetOf(tables);
  const recordings = tables.map((table) => {
    const rows = tableRows(table, set);
    noteProblems('fit', table, rows);
    return rows;
  });
  const usable = recordings.filter(({ times }) => times.length > 0);
  const { files, manifest } = await csvModel(set, usable, asked ?? seed, {
    hyperParameters,
    falseAlarmsPer100Hours,
    onEpoch: trainingProgress('fit'),
  });
  await writeModelFolder(model, files);
  noteTraining('fit', manifest);
  process.stderr.write(`fit: model ${manifest.name} of ${usable.length} recordings written to ${model}\n`);
}

/** Throws FILE_NOT_FOUND, CONFIG_INVALID. */
function readConfig(path: string | undefined): Omit<TrainConfig, 'settings'> {
  if (path === undefined) return { seed: undefined, hyperParameters: {} };
  const text = (file: string) => readGivenFile(file, `the configuration ${file}`).toString('utf8');
  const { settings, labels, ...config } = parseTrainConfig(text(path), text);
  for (const [name, value] of Object.entries({ ...settings, labels }))
    if (!isDeepStrictEqual(value, STREAM_SETTINGS[name as keyof typeof STREAM_SETTINGS]))
      throw new CardanError(
        'CONFIG_INVALID',
        `Not a usable model.yaml for fit: ${name === 'heldBackPart' ? 'heldBack' : name} is for training from the log (cardan-cloud train). Here seed, batch, falseAlarmsPer100Hours and hyperParameters count.`,
      );
  return config;
}

/** The CSV files of a folder by name, or the one that is named. Throws FILE_NOT_FOUND, TRAINING_DATA_INSUFFICIENT. */
function csvFiles(path: string): string[] {
  let names: string[];
  try {
    if (!statSync(path).isDirectory()) return [path];
    names = readdirSync(path);
  } catch (cause) {
    throw new CardanError(
      'FILE_NOT_FOUND',
      `Cannot read the folder ${path} (${systemCode(cause) ?? messageOf(cause)}).`,
      { cause },
    );
  }
  const found = names.filter((name) => /\.csv$/i.test(name) && !name.startsWith('.')).sort();
  if (found.length === 0)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      `${path} has no file *.csv: put one there per trip or machine.`,
    );
  return found.map((name) => join(path, name));
}
