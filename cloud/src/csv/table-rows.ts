import { CardanError, signalSet, type SignalSet } from '@cardan/shared';
import type { VehicleRows } from '../trainer/training-data.ts';
import { rowTimes, type RowTimes } from './row-times.ts';
import type { SensorTable } from './sensor-table.ts';

/** Rows of a table in the columns of a signal set. */
export interface TableRows extends VehicleRows {
  /** Signals of the set that the table does not have: not seen in any row. */
  missing: string[];
  /** Sensors of the table that the set does not have; left out. */
  extra: string[];
  timeProblems: Pick<RowTimes, 'unreadable' | 'backwards'>;
}

/** All sensors of the tables, in the order in which they first come. CSV files have no units. */
export function signalSetOf(tables: readonly SensorTable[]): SignalSet {
  const names = new Set(tables.flatMap(({ sensors }) => sensors));
  return signalSet([...names].map((name) => ({ name, unit: '' })));
}

/**
 * Puts the columns of a table where the signal set has them, by name. `periodMs` is the time from row to row where the
 * table does not say it; default what most of its rows have.
 *
 * @throws CardanError SIGNAL_SET_MISMATCH when there is none of the signals in the table
 */
export function tableRows(table: SensorTable, set: SignalSet, periodMs?: number): TableRows {
  const { path, timeTexts, sensors, values } = table;
  const columns = set.signals.map(({ name }) => sensors.indexOf(name));
  if (columns.every((column) => column === -1))
    throw new CardanError(
      'SIGNAL_SET_MISMATCH',
      `${path} has none of the sensors that the model is for: ${listed(set.signals.map(({ name }) => name))}. It has ${listed(sensors)}.`,
    );
  const { times, unreadable, backwards } = rowTimes(timeTexts, periodMs);
  const width = columns.length;
  const placed = new Float32Array(times.length * width).fill(Number.NaN);
  for (const [signal, column] of columns.entries()) {
    if (column === -1) continue;
    for (let row = 0; row < times.length; row++)
      placed[row * width + signal] = values[row * sensors.length + column]!;
  }
  const known = new Set(set.signals.map(({ name }) => name));
  return {
    vehicle: path,
    times,
    values: placed,
    missing: set.signals.map(({ name }) => name).filter((_, i) => columns[i] === -1),
    extra: sensors.filter((name) => !known.has(name)),
    timeProblems: { unreadable, backwards },
  };
}

/** How many rows have a value of any of some signals. */
export function rowsSeen({ times, values }: VehicleRows, signals: readonly number[]): number {
  const width = times.length === 0 ? 0 : values.length / times.length;
  let seen = 0;
  for (let row = 0; row < times.length; row++)
    if (signals.some((signal) => Number.isFinite(values[row * width + signal]!))) seen++;
  return seen;
}

/** The first names, and how many more there are. */
export function listed(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).join(', ');
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}
