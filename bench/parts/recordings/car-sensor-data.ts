import { readFileSync } from 'node:fs';
import { signalSet, type SignalSet } from '@cardan/shared';
import type { LabelledRecording } from './labelled-recording.ts';

/** Vibration is 100 times the speed, and 150 times it once the drive shaft is failing. */
const FAILING_RATIO = 125;

/**
 * `car-sensor-data.csv` of the article's car demo: 100 cars, 100 rows of each, one in ten seconds, 18 sensors. The columns
 * are time, car and the sensors.
 */
export function readCarSensorData(path: string): { set: SignalSet; recordings: LabelledRecording[] } {
  const [heading, ...lines] = readFileSync(path, 'utf8').trimEnd().split(/\r?\n/);
  const names = heading!.split(',').slice(2);
  const set = signalSet(names.map((name) => ({ name, unit: '' })));
  const [vibration, speed] = ['engine_vibration_amplitude', 'speed'].map((name) => names.indexOf(name));
  const cars = new Map<string, { times: number[]; values: number[]; faulty: number[] }>();
  for (const line of lines) {
    const [time, car, ...cells] = line.split(',');
    const rows = cars.get(car!) ?? { times: [], values: [], faulty: [] };
    cars.set(car!, rows);
    const row = cells.map(Number);
    rows.times.push(1000 * Number(time));
    rows.values.push(...row);
    rows.faulty.push(Number(row[vibration!]! / row[speed!]! > FAILING_RATIO));
  }
  const recordings = [...cars].map(([vehicle, { times, values, faulty }]) => ({
    vehicle,
    times: Float64Array.from(times),
    values: Float32Array.from(values),
    faulty: Float64Array.from(faulty),
  }));
  return { set, recordings };
}
