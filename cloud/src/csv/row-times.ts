/** What one number of a time column is, in milliseconds: seconds, or, as recordings since 1970 have them, finer units. */
const UNITS: readonly (readonly [below: number, milliseconds: number])[] = [
  [1e11, 1000],
  [1e14, 1],
  [1e17, 1e-3],
  [Infinity, 1e-6],
];
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
/** Date and time without a zone: taken as UTC, so that a file means the same everywhere. */
const LOCAL = /^(\d{4}-\d{2}-\d{2})[ T](\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)$/;

/** Texts of a time column → milliseconds since 1970 (UTC), and how many of them had to be guessed. */
export interface RowTimes {
  times: Float64Array;
  /** Texts that are no time. */
  unreadable: number;
  /** Rows whose time lies before that of the row above. */
  backwards: number;
}

/**
 * Reads times of any kind: numbers (seconds; since 1970 also in milli-, micro- or nanoseconds), ISO 8601, `2020-03-09
 * 10:14:33`, whatever Node.js takes for a date. Rows count in the order of the file: a time that cannot be read, or goes
 * backwards, is taken for one period after the row above. The time of a row depends on those above it only.
 */
export function rowTimes(texts: readonly string[], periodMs?: number): RowTimes {
  const raw = Float64Array.from(texts, (text) => parseTime(text));
  const unit = unitOf(texts);
  for (let row = 0; row < raw.length; row++) if (NUMBER.test(texts[row]!.trim())) raw[row]! *= unit;
  const period = periodMs ?? medianStep(raw);
  const found: RowTimes = { times: new Float64Array(texts.length), unreadable: 0, backwards: 0 };
  let last = Number.NaN;
  for (let row = 0; row < raw.length; row++) {
    const time = raw[row]!;
    if (Number.isNaN(time)) found.unreadable++;
    else if (time < last) found.backwards++;
    if (Number.isNaN(last)) last = Number.isNaN(time) ? 0 : time;
    else last = time >= last ? time : last + period;
    found.times[row] = last;
  }
  return found;
}

/** A number as it is, a date in milliseconds since 1970; NaN for anything else. */
function parseTime(text: string): number {
  const trimmed = text.trim();
  if (NUMBER.test(trimmed)) return Number(trimmed);
  const local = LOCAL.exec(trimmed);
  if (local !== null) {
    const clock = local[2]!.replace(',', '.');
    return Date.parse(`${local[1]!}T${clock.length === 4 || clock[1] === ':' ? '0' : ''}${clock}Z`);
  }
  return trimmed === '' ? Number.NaN : Date.parse(trimmed);
}

/** By the first number in the column. */
function unitOf(texts: readonly string[]): number {
  const first = texts.find((text) => NUMBER.test(text.trim()));
  const size = Math.abs(Number(first ?? 0));
  return UNITS.find(([below]) => size < below)![1];
}

/** Median of the steps forward; a second where there is none. */
function medianStep(times: Float64Array): number {
  const steps: number[] = [];
  for (let row = 1; row < times.length; row++) {
    const step = times[row]! - times[row - 1]!;
    if (step > 0) steps.push(step);
  }
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 1000;
}
