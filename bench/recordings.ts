/**
 * What Cardan's models find, row by row, beside the detectors without a network on the very same rows: on simulated cars, and
 * with the example configurations of docs/examples on public recordings, there also beside the article's own autoencoder.
 * Models are made of sound rows and judged on other machines. One JSON line per detector.
 *
 *   node --import tsx bench/recordings.ts [--cars N] [--car-sensor-data car-sensor-data.csv] [--cmapss train_FD001.txt] [--table]
 *
 * --cars is how many simulated cars get each kind of fault, 0 for none. The recordings are not part of Cardan;
 * docs/quality.md says where they are from. --table prints the tables of that page.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { SignalSet } from '@cardan/shared';
import { parseTrainConfig } from '../cloud/src/trainer/train-config.ts';
import { printFigure } from './parts/figure.ts';
import { CAR_COLUMNS } from './parts/quality/car-rows.ts';
import { CASES } from './parts/quality/trial.ts';
import { articleAutoencoder } from './parts/recordings/article-autoencoder.ts';
import { readCarSensorData } from './parts/recordings/car-sensor-data.ts';
import { readCmapss } from './parts/recordings/cmapss.ts';
import { detectorsOf, judge, type Detector, type Judged } from './parts/recordings/judge.ts';
import { soundRows, type LabelledRecording } from './parts/recordings/labelled-recording.ts';
import { failingCars, soundCars } from './parts/recordings/simulated-cars.ts';

/** The article's network begins elsewhere with each seed. */
const ARTICLE_SEEDS = 5;
/** Those of `bench/quality.ts`. */
const FLEET = { cars: 60, rows: 1000 };

const { values } = parseArgs({
  options: {
    cars: { type: 'string', default: '12' },
    'car-sensor-data': { type: 'string' },
    cmapss: { type: 'string' },
    table: { type: 'boolean', default: false },
  },
});

const cars = Number(values.cars);
if (cars > 0) {
  const fleet = soundCars(FLEET.cars, FLEET.rows);
  const detectors = await detectorsOf(CAR_COLUMNS.set, fleet, { seed: 1, hyperParameters: {} });
  printSimulated(
    CASES.map((of) => {
      const failing = failingCars(of, cars);
      return { of, judged: detectors.map((detector) => judge(detector, failing)) };
    }),
  );
}
await judgeHalf('car-sensor-data', values['car-sensor-data'], readCarSensorData, (set, training) =>
  (['own', 'standardised'] as const).flatMap((scaling) =>
    Array.from({ length: ARTICLE_SEEDS }, (_, seed) => articleAutoencoder(set, training, { seed, scaling })),
  ),
);
await judgeHalf('cmapss', values.cmapss, readCmapss);

/** Learns from the first half of the machines, by the example configuration, and judges on the other half. */
async function judgeHalf(
  example: string,
  path: string | undefined,
  read: (path: string) => { set: SignalSet; recordings: LabelledRecording[] },
  beside: (set: SignalSet, training: ReturnType<typeof soundRows>[]) => Detector[] = () => [],
): Promise<void> {
  if (path === undefined) {
    process.stderr.write(
      `Skipping the recordings of ${example}: name them by --${example} FILE (docs/quality.md).\n`,
    );
    return;
  }
  const { set, recordings } = read(path);
  const [training, others] = [
    recordings.slice(0, recordings.length / 2),
    recordings.slice(recordings.length / 2),
  ];
  const yaml = new URL(`../docs/examples/${example}.yaml`, import.meta.url);
  const { seed = 1, hyperParameters } = parseTrainConfig(readFileSync(yaml, 'utf8'), () => '');
  const detectors = await detectorsOf(set, training, { seed, hyperParameters });
  const all = [...detectors, ...beside(set, training.map(soundRows))];
  print(
    example,
    all.map((detector) => judge(detector, others)),
  );
}

/** A table of the AUC alone: a line per fault, a column per detector. */
function printSimulated(cases: readonly { of: string; judged: readonly Judged[] }[]): void {
  if (!values.table) {
    for (const { of, judged } of cases) printFigures(`simulated ${of}`, judged);
    return;
  }
  const [{ judged: first }] = cases as [(typeof cases)[number]];
  printLine('fault', ...first.map(({ detector }) => detector));
  printLine('---', ...first.map(() => '--:'));
  for (const { of, judged } of cases) printLine(of, ...judged.map(({ auc }) => auc.toFixed(3)));
}

function print(what: string, judged: readonly Judged[]): void {
  if (!values.table) {
    printFigures(what, judged);
    return;
  }
  const percent = (part: number | undefined) => (part === undefined ? '' : `${(100 * part).toFixed(1)} %`);
  process.stdout.write(`\n${what}\n\n`);
  printLine('detector', 'AUC', 'F1', 'false alarms', 'missed');
  printLine('---', '--:', '--:', '--:', '--:');
  for (const { detector, auc, f1, falseAlarms, missed } of judged)
    printLine(detector, auc.toFixed(3), f1?.toFixed(2) ?? '', percent(falseAlarms), percent(missed));
}

function printLine(...cells: string[]): void {
  process.stdout.write(`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`);
}

function printFigures(what: string, judged: readonly Judged[]): void {
  for (const { detector, auc, f1, falseAlarms, missed } of judged)
    printFigure({
      bench: `recordings ${what}, ${detector}`,
      value: auc,
      unit: 'AUC of rows',
      ...(f1 === undefined ? {} : { f1, false_alarms: falseAlarms, missed }),
    });
}
