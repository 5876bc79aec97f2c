/**
 * What the example configurations of docs/examples find on public recordings, beside the detectors without a network on the
 * very same rows, and beside the article's own autoencoder. Models are made of the sound rows of the first half of the
 * machines and judged on the other half. One JSON line per detector.
 *
 *   node --import tsx bench/recordings.ts --car-sensor-data car-sensor-data.csv --cmapss train_FD001.txt [--table]
 *
 * The recordings are not part of Cardan; docs/quality.md says where they are from. --table prints the tables of that page.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { SignalSet } from '@cardan/shared';
import { parseTrainConfig } from '../cloud/src/trainer/train-config.ts';
import { printFigure } from './parts/figure.ts';
import { articleAutoencoder, type ArticleScaling } from './parts/recordings/article-autoencoder.ts';
import { readCarSensorData } from './parts/recordings/car-sensor-data.ts';
import { readCmapss } from './parts/recordings/cmapss.ts';
import { judge, judgeRecordings, type Judged } from './parts/recordings/judge.ts';
import { soundRows, type LabelledRecording } from './parts/recordings/labelled-recording.ts';

/** The article's network begins elsewhere with each seed. */
const ARTICLE_SEEDS = 5;

const { values } = parseArgs({
  options: {
    'car-sensor-data': { type: 'string' },
    cmapss: { type: 'string' },
    table: { type: 'boolean', default: false },
  },
});

const cars = values['car-sensor-data'];
if (cars === undefined) skipped('car-sensor-data');
else {
  const { set, recordings } = readCarSensorData(cars);
  const judged = await judgeHalf('car-sensor-data', set, recordings);
  const [training, others] = halves(recordings);
  for (const scaling of ['own', 'standardised'] as const) {
    const all = Array.from({ length: ARTICLE_SEEDS }, (_, seed) =>
      judgeArticle(set, training, others, { seed, scaling }),
    );
    all.sort((a, b) => a.auc - b.auc);
    for (const which of [all[0]!, all.at(-1)!]) judged.push(which);
  }
  print('car-sensor-data', judged);
}
if (values.cmapss === undefined) skipped('cmapss');
else {
  const { set, recordings } = readCmapss(values.cmapss);
  print('cmapss', await judgeHalf('cmapss', set, recordings));
}

function halves(recordings: readonly LabelledRecording[]): [LabelledRecording[], LabelledRecording[]] {
  const half = recordings.length / 2;
  return [recordings.slice(0, half), recordings.slice(half)];
}

async function judgeHalf(
  example: string,
  set: SignalSet,
  recordings: readonly LabelledRecording[],
): Promise<Judged[]> {
  const yaml = new URL(`../docs/examples/${example}.yaml`, import.meta.url);
  const { seed = 1, hyperParameters } = parseTrainConfig(readFileSync(yaml, 'utf8'), () => '');
  return judgeRecordings(set, ...halves(recordings), { seed, hyperParameters });
}

function judgeArticle(
  set: SignalSet,
  training: readonly LabelledRecording[],
  others: readonly LabelledRecording[],
  options: { seed: number; scaling: ArticleScaling },
): Judged {
  const score = articleAutoencoder(set, training.map(soundRows), options);
  const width = set.signals.length;
  const scores = others.map(({ times, values }) =>
    Float64Array.from(times, (_, row) => score(values.subarray(row * width, (row + 1) * width))),
  );
  return judge(`article's autoencoder, inputs ${options.scaling}`, others, scores);
}

function print(example: string, judged: readonly Judged[]): void {
  if (values.table) {
    const percent = (part: number | undefined) => (part === undefined ? '' : `${(100 * part).toFixed(1)} %`);
    process.stdout.write(
      `\n${example}\n\n| detector | AUC | F1 | false alarms | missed |\n| --- | --: | --: | --: | --: |\n`,
    );
    for (const { detector, auc, f1, falseAlarms, missed } of judged)
      process.stdout.write(
        `| ${detector} | ${auc.toFixed(3)} | ${f1?.toFixed(2) ?? ''} | ${percent(falseAlarms)} | ${percent(missed)} |\n`,
      );
    return;
  }
  for (const { detector, auc, f1, falseAlarms, missed } of judged)
    printFigure({
      bench: `recordings ${example}, ${detector}`,
      value: auc,
      unit: 'AUC of rows',
      ...(f1 === undefined ? {} : { f1, false_alarms: falseAlarms, missed }),
    });
}

function skipped(what: string): void {
  process.stderr.write(
    `Skipping the recordings of ${what}: name them by --${what} FILE (docs/quality.md).\n`,
  );
}
