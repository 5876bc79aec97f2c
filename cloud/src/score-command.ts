import type { Command } from 'commander';
import { CardanError, loadModel, numberBetween, replaceFile, type Model } from '@cardan/shared';
import { CLOUD_DEFAULTS } from './config.ts';
import { csvModel } from './csv/csv-model.ts';
import { notWritable, readModelFolder } from './csv/model-folder.ts';
import { noteProblems, noteTraining } from './csv/notes.ts';
import { scoreRows, scoresCsv } from './csv/score-table.ts';
import { readSensorTable } from './csv/sensor-table.ts';
import { rowsSeen, signalSetOf, tableRows, type TableRows } from './csv/table-rows.ts';

/**
 * A recording of one machine is short, and rows of it are held back by time: their scores are high already, as each part is
 * another moment of a machine that wanders. Longer parts, three of them, show more of that. And here every row counts: one that
 * is missed as much as a false alarm.
 */
const ONE_MACHINE = { parts: 3, thresholdFactor: 1.2 };

interface Options {
  train?: string;
  model?: string;
  input: string;
  out: string;
  seed: number;
}

/** Adds `score`. */
export function scoreCommand(program: Command): void {
  program
    .command('score')
    .description(
      'Score each row of a recording (CSV) by a model, or by a recording of normal running (docs/quality.md).',
    )
    .option('--train <file>', 'CSV of normal running of the same machine: a model is made of it first')
    .option('--model <folder>', 'folder with a model, as `fit` writes it')
    .requiredOption('--input <file>', 'CSV to be scored: the time in the first column, then sensors')
    .requiredOption('--out <file>', 'CSV that is written: the time, score, threshold, prediction (0 or 1)')
    .option(
      '--seed <n>',
      'seed of the training',
      numberBetween(0, 2 ** 31, { whole: true }),
      CLOUD_DEFAULTS.trainer.seed,
    )
    .action(score);
}

async function score(options: Options): Promise<void> {
  const input = readSensorTable(options.input);
  const { model, head } = await modelOf(options);
  const { features, signalSet } = model.manifest;
  const rows = tableRows(input, signalSet, periodOf(features.gapMs));
  noteProblems(
    'score',
    input,
    rows,
    features.inputs.map(({ signal }) => signalSet.signals[signal]!.name),
  );
  const seen = rowsSeen(
    rows,
    features.inputs.map(({ signal }) => signal),
  );
  if (seen === 0)
    throw new CardanError(
      'CSV_INVALID',
      `${options.input} cannot be scored: ${rows.times.length === 0 ? 'it has no rows' : `none of its ${rows.times.length} rows has a number in the column of a sensor that the model looks at`}. ` +
        'Look at the cells: numbers are written as 12.5, or, between semicolons, 12,5.',
    );
  const result = scoreRows(model, rows, head);
  try {
    await replaceFile(options.out, scoresCsv(input.timeColumn, input.timeTexts, result));
  } catch (cause) {
    throw notWritable(options.out, cause);
  }
  const over = result.predictions.reduce((sum, prediction) => sum + prediction, 0);
  const highest = result.scores.reduce((most, one) => Math.max(most, one), 0);
  const full = features.windowRows + model.manifest.score.smoothingRows - 1;
  if (seen < full && !goesOn(rows, head, features.gapMs))
    process.stderr.write(
      `score: only ${seen} of ${rows.times.length} rows have a number in the column of a sensor that the model looks at. A whole score ` +
        `is of ${full}; rows that are missing count as normal, so these scores say little\n`,
    );
  process.stderr.write(
    `score: ${rows.times.length} rows, ${over} over the threshold of ${result.threshold}; highest score ${highest}; written to ${options.out}\n`,
  );
}

async function modelOf({ train, model, seed }: Options): Promise<{ model: Model; head?: TableRows }> {
  if ((train === undefined) === (model === undefined))
    throw new CardanError(
      'USAGE',
      'Give either --train, a recording of normal running, or --model, a folder with a model.',
    );
  if (model !== undefined) return { model: readModelFolder(model) };
  const table = readSensorTable(train!);
  const set = signalSetOf([table]);
  const head = tableRows(table, set);
  noteProblems('score', table, head);
  const made = await csvModel(set, [head], seed, { hyperParameters: ONE_MACHINE });
  noteTraining('score', made.manifest);
  return { model: loadModel(made.files), head };
}

/** Whether a recording goes on from the one before, so that its first rows are scored with the last of that. */
function goesOn({ times }: TableRows, before: TableRows | undefined, gapMs: number): boolean {
  const step = times[0]! - (before?.times.at(-1) ?? Number.NaN);
  return step > 0 && step <= gapMs;
}

/** The trainer takes a silence of five periods for a gap. */
function periodOf(gapMs: number): number {
  return gapMs / 5;
}
