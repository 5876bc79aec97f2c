import type { ModelManifest } from '@cardan/shared';
import { boundText } from '../trainer/false-alarms.ts';
import type { FitOptions } from '../trainer/fit.ts';
import { trivialText } from '../trainer/trivial-detectors.ts';
import type { SensorTable } from './sensor-table.ts';
import { listed, type TableRows } from './table-rows.ts';

/** Epochs from one line to the next. */
const EPOCHS = 10;

/** Says on standard error what a file has that the model does without; `needed` are the signals that it looks at. */
export function noteProblems(
  command: string,
  table: SensorTable,
  rows: TableRows,
  needed?: readonly string[],
): void {
  const { missing, extra, timeProblems } = rows;
  const absent = needed === undefined ? missing : missing.filter((name) => needed.includes(name));
  const notes: [unknown, string][] = [
    [absent.length, `has no ${listed(absent)}: they count as not seen`],
    [extra.length, `has sensors that the model does not know: ${listed(extra)}`],
    [table.textCells, `has ${table.textCells} cells that are no number: they count as not seen`],
    [
      timeProblems.unreadable,
      `has ${timeProblems.unreadable} times that cannot be read: one period after the row above`,
    ],
    [
      timeProblems.backwards,
      `has ${timeProblems.backwards} times before the row above: rows count in their order`,
    ],
  ];
  for (const [present, note] of notes)
    if (present) process.stderr.write(`${command}: ${table.path} ${note}\n`);
}

export function trainingProgress(command: string): NonNullable<FitOptions['onEpoch']> {
  return ({ epoch, epochs, loss, validationLoss }) => {
    if (epoch % EPOCHS === 0)
      process.stderr.write(
        `${command}: epoch ${epoch} of at most ${epochs}, loss ${loss.toPrecision(3)}, held back ${validationLoss.toPrecision(3)}\n`,
      );
  };
}

export function noteTraining(command: string, { lineage, metrics, alarm, signalSet }: ModelManifest): void {
  process.stderr.write(
    `${command}: learned from ${lineage.rows} rows of ${signalSet.signals.length} sensors ` +
      `(${metrics.signals_constant} constant, ${metrics.signals_missing} hardly seen: left out), ` +
      `highest score held back ${metrics.held_back_score_max!.toPrecision(3)}, threshold ${alarm.threshold.toPrecision(3)}\n`,
  );
  const bound = boundText(lineage.hyperParameters.falseAlarmsPer100Hours, metrics);
  for (const text of [bound, trivialText(metrics)])
    if (text !== undefined) process.stderr.write(`${command}: ${text}\n`);
}
