import { readFileSync } from 'node:fs';
import { signalSet, type SignalSet } from '@cardan/shared';
import type { LabelledRecording } from './labelled-recording.ts';

const SETTINGS = 3;
const SENSORS = 21;
/** Flights before the end that count as failing; and those before which wear does not show, by convention. */
const FAILING = 30;
const SOUND_UNTIL = 125;
/** There is one row per flight. */
const HOUR_MS = 3_600_000;

/** `train_FD001.txt` of NASA's C-MAPSS data: 100 turbofan engines, a row per flight until they fail. */
export function readCmapss(path: string): { set: SignalSet; recordings: LabelledRecording[] } {
  const names = [
    ...Array.from({ length: SETTINGS }, (_, i) => `setting_${i + 1}`),
    ...Array.from({ length: SENSORS }, (_, i) => `sensor_${i + 1}`),
  ];
  const engines = new Map<string, number[][]>();
  for (const line of readFileSync(path, 'utf8').trimEnd().split(/\r?\n/)) {
    const [unit, , ...cells] = line.trim().split(/\s+/);
    const rows = engines.get(unit!) ?? [];
    engines.set(unit!, rows);
    rows.push(cells.map(Number));
  }
  const recordings = [...engines].map(([unit, rows]) => ({
    vehicle: `engine-${unit}`,
    times: Float64Array.from(rows, (_, row) => row * HOUR_MS),
    values: Float32Array.from(rows.flat()),
    faulty: Float64Array.from(rows, (_, row) => {
      const left = rows.length - row;
      return left <= FAILING ? 1 : left > SOUND_UNTIL ? 0 : Number.NaN;
    }),
  }));
  return { set: signalSet(names.map((name) => ({ name, unit: '' }))), recordings };
}
