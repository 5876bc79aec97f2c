import { parse } from 'csv-parse/sync';
import { checkVehicleId } from '@cardan/shared';
import { zonedTime } from './zoned-time.ts';

/** What a workshop did to a vehicle. */
export interface Repair {
  vehicle: string;
  /** Milliseconds since 1970 (UTC). */
  time: number;
  /** What was at fault, in the workshop's words: `coolant pump`. */
  component: string;
  /** What was done: `replaced`. */
  action: string;
  /** null where the workshop did not write it down. */
  odometerKm: number | null;
  note: string;
}

/** The columns, in this order. */
export const REPAIR_COLUMNS = ['vehicle', 'time', 'component', 'action', 'odometer_km', 'note'] as const;

/** Most bytes of a line: far above any note, and short in memory. */
const LINE_BYTES_MAX = 64 * 1024;
/** No vehicle has driven as far. */
const ODOMETER_KM_MAX = 1e7;

/** A line that is no repair; the message says what is wrong with it. */
export class BadRepairLine extends Error {}

/**
 * Reads one line of a table of repairs: CSV by RFC 4180, in UTF-8. Gives undefined for an empty line and for the names
 * of the columns, which stand at the head of each file. Throws BadRepairLine.
 */
export function parseRepairLine(bytes: Uint8Array): Repair | undefined {
  if (bytes.length > LINE_BYTES_MAX)
    throw new BadRepairLine(`It has ${bytes.length} bytes; at most ${LINE_BYTES_MAX} are allowed.`);
  const line = textOf(bytes);
  if (line.trim() === '') return undefined;
  const fields = fieldsOf(line);
  if (isHeader(fields)) return undefined;
  const [vehicle, time, component, action, odometer, note] = fields as [
    ...[vehicle: string, time: string, component: string, action: string, odometer: string, note: string],
  ];
  if (component === '') throw new BadRepairLine('It names no component.');
  if (action === '') throw new BadRepairLine('It names no action.');
  return {
    vehicle: vehicleOf(vehicle),
    time: timeOf(time),
    component,
    action,
    odometerKm: odometerOf(odometer),
    note,
  };
}

/** A byte order mark, as spreadsheets write it at the head of a file, is no part of the text. */
function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new BadRepairLine('It is not UTF-8.', { cause });
  }
}

function fieldsOf(line: string): string[] {
  let lines: string[][];
  try {
    lines = parse(line, { record_delimiter: ['\r\n', '\n', '\r'], relax_column_count: true });
  } catch (cause) {
    throw new BadRepairLine(`It is not CSV: ${(cause as Error).message}.`, { cause });
  }
  if (lines.length !== 1) throw new BadRepairLine(`It is ${lines.length} lines; a record must have one.`);
  const fields = lines[0]!.map((field) => field.trim());
  if (fields.length !== REPAIR_COLUMNS.length)
    throw new BadRepairLine(
      `It has ${fields.length} fields; there must be ${REPAIR_COLUMNS.length}: ${REPAIR_COLUMNS.join(', ')}.`,
    );
  return fields;
}

/** Names in another order would make other columns of all that follows: no header, but a bad line. */
function isHeader(fields: readonly string[]): boolean {
  return REPAIR_COLUMNS.every((name, i) => fields[i]!.toLowerCase() === name);
}

function vehicleOf(text: string): string {
  try {
    return checkVehicleId(text);
  } catch (cause) {
    throw new BadRepairLine((cause as Error).message, { cause });
  }
}

function timeOf(text: string): number {
  try {
    return zonedTime(text);
  } catch (cause) {
    throw new BadRepairLine((cause as Error).message, { cause });
  }
}

function odometerOf(text: string): number | null {
  if (text === '') return null;
  const km = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || km > ODOMETER_KM_MAX)
    throw new BadRepairLine(`"${text}" is no odometer in km. Write digits, such as 123456 or 123456.7.`);
  return km;
}
