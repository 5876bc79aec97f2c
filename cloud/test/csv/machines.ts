import { SeededRandom } from '../../src/trainer/seeded-random.ts';

/** A recording: names of the sensors, and the rows. */
export interface Recording {
  names: string[];
  rows: number[][];
}

/** Sensors of a pump: what turns, what flows from it, what wanders by itself, and noise on all. */
const NAMES = ['Speed', 'Current', 'Flow', 'Pressure', 'Temperature', 'Voltage'];
export const FLOW = NAMES.indexOf('Flow');

export function pump(rows: number, seed: number): Recording {
  const random = new SeededRandom(seed);
  let [speed, load, heat, mains] = [0, 0, 0, 0];
  return {
    names: NAMES,
    rows: Array.from({ length: rows }, () => {
      speed += -0.05 * speed + 0.3 * random.normal();
      load += -0.03 * load + 0.25 * random.normal();
      heat += 0.02 * (speed + load - heat);
      mains += -0.2 * mains + 0.6 * random.normal();
      const noise = (size: number) => size * random.normal();
      return [
        1500 + 20 * (speed + noise(0.2)),
        4 + 0.3 * (load + 0.5 * speed + noise(0.2)),
        32 + 0.8 * (speed - 0.5 * load + noise(0.3)),
        2 + 0.1 * (load + 0.3 * speed + noise(0.3)),
        60 + 1.5 * (heat + noise(0.1)),
        230 + 2 * (mains + noise(0.5)),
      ];
    }),
  };
}

/** From a row to another the flow is less by so many of its own standard deviations (about 2). */
export function throttled({ names, rows }: Recording, from: number, to: number, by = 4): Recording {
  return {
    names,
    rows: rows.map((row, i) =>
      row.map((value, k) => (k === FLOW && i >= from && i < to ? value - by : value)),
    ),
  };
}

export function slice({ names, rows }: Recording, from: number, to?: number): Recording {
  return { names, rows: rows.slice(from, to) };
}

/** One row a second from this time on. */
const BEGIN = Date.UTC(2020, 2, 9, 10, 14, 33);

export function timeText(row: number): string {
  return new Date(BEGIN + 1000 * row).toISOString().slice(0, 19).replace('T', ' ');
}

export function csv(
  { names, rows }: Recording,
  { first = 0, separator = ',', lineEnd = '\n', time = 'datetime' } = {},
): string {
  const lines = rows.map((row, i) => [timeText(first + i), ...row.map((value) => value.toFixed(4))]);
  return [[time, ...names], ...lines].map((cells) => cells.join(separator) + lineEnd).join('');
}
