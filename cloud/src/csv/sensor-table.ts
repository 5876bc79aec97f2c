import { parse } from 'csv-parse/sync';
import { CardanError, messageOf, readGivenFile, SIGNALS_MAX } from '@cardan/shared';

/** A recording: a column of times, and columns of numbers beside it. */
export interface SensorTable {
  path: string;
  /** Heading of the first column, and its text in each row, as they stand in the file. */
  timeColumn: string;
  timeTexts: string[];
  /** Headings of the other columns. */
  sensors: string[];
  /** Row-major, rows × sensors; NaN where there is no number. */
  values: Float32Array;
  /** Cells that are neither empty nor a number. */
  textCells: number;
}

/** A file is read as a whole: half of what Node.js makes of one buffer. */
const FILE_BYTES_MAX = 1024 ** 3;
const SEPARATORS = [',', ';', '\t', '|'] as const;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const DECIMAL_COMMA = /^[+-]?\d*,\d+([eE][+-]?\d+)?$/;
/** What programs write for "no value". */
const NOTHING = new Set([
  '',
  'nan',
  '-nan',
  'na',
  'n/a',
  'null',
  'none',
  'inf',
  '-inf',
  '+inf',
  'infinity',
  '-infinity',
]);

/**
 * Reads a CSV file with a heading: comma, semicolon, tab or bar between the cells, quotes as in RFC 4180, with or
 * without a byte order mark, any line ends. With another separator than the comma, `1,5` is a number, too.
 *
 * @throws CardanError FILE_NOT_FOUND, CSV_INVALID
 */
export function readSensorTable(path: string): SensorTable {
  const bytes = readGivenFile(path, `the CSV file ${path}`);
  const bad = (why: string, cause?: unknown) =>
    new CardanError('CSV_INVALID', `${path} ${why}.`, cause === undefined ? {} : { cause });
  if (bytes.length > FILE_BYTES_MAX) throw bad('has more than 1 GiB: cut it into several files');
  if (bytes.subarray(0, 2).equals(Buffer.of(0xff, 0xfe)) || bytes.includes(0))
    throw bad('is no text in UTF-8: save it as CSV in UTF-8');
  const separator = separatorOf(bytes);
  let heading: string[] | undefined;
  const timeTexts: string[] = [];
  const numbers: number[] = [];
  let textCells = 0;
  try {
    parse(bytes, {
      bom: true,
      delimiter: separator,
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
      on_record: (record: string[]) => {
        if (heading === undefined) {
          heading = record;
          return null;
        }
        timeTexts.push(record[0] ?? '');
        for (let column = 1; column < heading.length; column++) {
          const value = numberOf(record[column] ?? '', separator);
          if (value === undefined) textCells++;
          numbers.push(value ?? Number.NaN);
        }
        return null;
      },
    });
  } catch (cause) {
    throw bad(`is no CSV file (${messageOf(cause)})`, cause);
  }
  if (heading === undefined) throw bad('is empty: its first line must name the columns');
  if (heading.length < 2)
    throw bad(
      'has one column only: the first is the time, the others are the sensors, with a comma or semicolon between',
    );
  if (heading.length - 1 > SIGNALS_MAX) throw bad(`has more than ${SIGNALS_MAX} sensors`);
  if (heading.slice(1).every((name) => NUMBER.test(name.trim())))
    throw bad('has no heading: its first line must name the columns');
  const [timeColumn, ...sensors] = heading;
  return {
    path,
    timeColumn: timeColumn!,
    timeTexts,
    sensors: uniqueNames(sensors),
    values: Float32Array.from(numbers),
    textCells,
  };
}

/** Undefined for text. What does not fit in float32, as telemetry has it, is no value. */
function numberOf(cell: string, separator: string): number | undefined {
  let text = cell.trim();
  if (separator !== ',' && DECIMAL_COMMA.test(text)) text = text.replace(',', '.');
  if (NUMBER.test(text)) return Number(text);
  if (NOTHING.has(text.toLowerCase())) return Number.NaN;
  if (/^(true|false)$/i.test(text)) return text.toLowerCase() === 'true' ? 1 : 0;
  return undefined;
}

/** The one that stands in the first line most often, outside quotes. */
function separatorOf(bytes: Buffer): string {
  const end = bytes.indexOf('\n');
  const line = bytes
    .subarray(0, end === -1 ? bytes.length : end)
    .toString('utf8')
    .replaceAll(/"[^"]*"/g, '');
  const counts = SEPARATORS.map((separator) => line.split(separator).length);
  return SEPARATORS[counts.indexOf(Math.max(...counts))]!;
}

/** Columns without a name, or with the same one, get one of their own. */
function uniqueNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name, i) => {
    const plain = name.trim() || `column ${i + 2}`;
    let unique = plain;
    for (let n = 2; taken.has(unique); n++) unique = `${plain} (${n})`;
    taken.add(unique);
    return unique;
  });
}
