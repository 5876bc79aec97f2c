import { CardanError, type Model, Scorer, type SignalSet } from '@cardan/shared';
import { TopContributions } from '../predictor/top-contributions.ts';

/** Rows of one window: an hour and a half at one a second. Longer ones are for the stream, or for several windows. */
const ROWS_MAX = 5_000;
/** Rows of one request, which is computed without a pause: some tens of milliseconds. */
export const REQUEST_ROWS_MAX = 20_000;

/** Numbers per row, and null where a signal was not seen. */
type Column = readonly (number | null)[];

/** A window of rows to be scored, as it came; checked by `readInstance`. */
export interface Window {
  /** Milliseconds since 1970, one per row. */
  times: Float64Array;
  /** Row-major, rows × signals; NaN = not seen. */
  values: Float32Array;
}

/** What a model says of one window. A row whose windows were not full yet has null instead of a score. */
export interface Prediction {
  scores: (number | null)[];
  threshold: number;
  /** Whether each score is over the threshold. */
  anomaly: boolean[];
  /** For rows of at least half the threshold: the signals that add most to the score, greatest first, and their parts. */
  contributions: { row: number; signals: { signal: string; part: number }[] }[];
}

/**
 * Reads an instance: a window of consecutive rows of one vehicle. Three ways to write it:
 *
 *   [[12, 0.5, null], …]                            rows, in the order of the signal set
 *   {"t": […], "rows": [[12, 0.5, null], …]}        with their times
 *   {"t": […], "Vehicle.Speed": [12, …], …}         one column per signal; one that is missing was not seen
 *
 * Times are milliseconds since 1970 or RFC 3339; without them the rows are one second apart. null = not seen.
 * Throws REQUEST_INVALID, naming the place.
 */
export function readInstance(instance: unknown, { signals }: SignalSet, place: string): Window {
  if (Array.isArray(instance)) return windowOf(undefined, instance, signals.length, place);
  if (typeof instance !== 'object' || instance === null)
    throw invalid(
      `${place} is no window: a list of rows, or an object with "rows" or with a list per signal.`,
    );
  const { t, ...fields } = instance as Record<string, unknown>;
  if ('rows' in fields) {
    const other = Object.keys(fields).find((name) => name !== 'rows');
    if (other !== undefined) throw invalid(`${place} has "${other}" beside "t" and "rows".`);
    return windowOf(t, listOf(fields.rows, `${place}.rows`), signals.length, `${place}.rows`, place);
  }
  const columns = new Map(
    Object.entries(fields).map(([name, column]) => [name, listOf(column, `${place}.${name}`)]),
  );
  const known = new Set(signals.map(({ name }) => name));
  for (const name of columns.keys())
    if (!known.has(name)) throw invalid(`${place} has "${name}", which is no signal of this model.`);
  const rows = columns.values().next().value?.length ?? 0;
  for (const [name, column] of columns)
    if (column.length !== rows)
      throw invalid(`${place}.${name} has ${column.length} values, others have ${rows}.`);
  checkRows(rows, place);
  const values = new Float32Array(rows * signals.length).fill(Number.NaN);
  signals.forEach(({ name }, signal) => {
    columns.get(name)?.forEach((value, row) => {
      values[row * signals.length + signal] = numberOf(value, () => `${place}.${name}[${row}]`);
    });
  });
  return { times: timesOf(t, rows, place), values };
}

/** Scores one window, from empty windows on: as a car that begins to drive with these rows. */
export function predict(model: Model, { times, values }: Window): Prediction {
  const { signalSet, alarm } = model.manifest;
  const signals = signalSet.signals.length;
  const scorer = new Scorer(model);
  const top = new TopContributions(model);
  const scores: (number | null)[] = [];
  const anomaly: boolean[] = [];
  for (let row = 0; row < times.length; row++) {
    // A score is a float32 wherever it is written down: in the car's batches and in the log.
    const score = Math.fround(scorer.push(times[row]!, values, row * signals));
    top.note(row, score, scorer);
    scores.push(Number.isFinite(score) ? score : null);
    anomaly.push(score > alarm.threshold);
  }
  return { scores, threshold: alarm.threshold, anomaly, contributions: named(top, signalSet) };
}

function named(top: TopContributions, { signals }: SignalSet): Prediction['contributions'] {
  const found = top.take();
  if (found === undefined) return [];
  const each = found.signals.length / found.rows.length;
  return Array.from(found.rows, (row, i) => ({
    row,
    signals: Array.from({ length: each }, (_, k) => ({
      signal: signals[found.signals[i * each + k]!]!.name,
      part: found.parts[i * each + k]!,
    })),
  }));
}

function windowOf(
  t: unknown,
  rows: readonly unknown[],
  signals: number,
  place: string,
  whole = place,
): Window {
  checkRows(rows.length, place);
  const values = new Float32Array(rows.length * signals);
  rows.forEach((row, i) => {
    const columns = listOf(row, `${place}[${i}]`);
    if (columns.length !== signals)
      throw invalid(`${place}[${i}] has ${columns.length} values; this model has ${signals} signals.`);
    columns.forEach((value, signal) => {
      values[i * signals + signal] = numberOf(value, () => `${place}[${i}][${signal}]`);
    });
  });
  return { times: timesOf(t, rows.length, whole), values };
}

function checkRows(rows: number, place: string): void {
  if (rows === 0) throw invalid(`${place} has no rows.`);
  if (rows > ROWS_MAX) throw invalid(`${place} has ${rows} rows; a window has at most ${ROWS_MAX}.`);
}

function timesOf(t: unknown, rows: number, place: string): Float64Array {
  if (t === undefined) return Float64Array.from({ length: rows }, (_, row) => row * 1000);
  const given = listOf(t, `${place}.t`);
  if (given.length !== rows) throw invalid(`${place}.t has ${given.length} times for ${rows} rows.`);
  return Float64Array.from(given, (time, row) => {
    const ms = typeof time === 'string' ? Date.parse(time) : time;
    if (typeof ms !== 'number' || !Number.isFinite(ms))
      throw invalid(`${place}.t[${row}] is no time: milliseconds since 1970, or RFC 3339.`);
    return ms;
  });
}

function listOf(value: unknown, place: string): Column {
  if (!Array.isArray(value)) throw invalid(`${place} is no list.`);
  return value as Column;
}

function numberOf(value: unknown, place: () => string): number {
  if (value === null) return Number.NaN;
  if (typeof value !== 'number') throw invalid(`${place()} is neither a number nor null.`);
  return value;
}

function invalid(message: string): CardanError {
  return new CardanError('REQUEST_INVALID', message);
}
