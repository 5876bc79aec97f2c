import { CardanError, messageOf } from '@cardan/shared';

/*
 * Frames as JSON, one object a line:
 *
 *   {"id":256,"is_extended":false,"is_fd":false,"data_hex":"08FF"}        what `decode` reads and `encode` writes
 *   {"id":256,"is_extended":false,"is_fd":false,"values":{"Speed":4}}     what `encode` reads
 *
 * `ts`, in seconds, may be there. Without `is_extended`, an id of more than 11 bits is extended.
 */

/** What both kinds of lines have. */
export interface JsonFrame {
  /** A JSON number as it was written, or `null`. */
  ts: string;
  id: number;
  extended: boolean;
  /** Null when the line does not say. */
  fd: boolean | null;
  /** All fields of the line. */
  fields: Record<string, unknown>;
}

/**
 * Parses a line up to its payload.
 *
 * @throws CardanError CAN_FRAME_INVALID
 */
export function parseJsonFrame(line: string): JsonFrame {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw notAFrame(`the line is not JSON (${messageOf(error)})`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw notAFrame('the line is no JSON object');
  const fields = value as Record<string, unknown>;
  const { id, is_extended, is_fd, ts = null } = fields;
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0)
    throw notAFrame('"id" is not a whole number from 0 up');
  if (is_extended !== undefined && typeof is_extended !== 'boolean')
    throw notAFrame('"is_extended" is not true or false');
  if (is_fd !== undefined && typeof is_fd !== 'boolean') throw notAFrame('"is_fd" is not true or false');
  if (ts !== null && typeof ts !== 'number') throw notAFrame('"ts" is not a number of seconds');
  const extended = is_extended ?? id > 0x7ff;
  if (id > (extended ? 0x1fff_ffff : 0x7ff))
    throw notAFrame(`the id ${id} has more than ${extended ? 29 : 11} bits`);
  return { ts: JSON.stringify(ts), id, extended, fd: is_fd ?? null, fields };
}

export function notAFrame(why: string): CardanError {
  return new CardanError('CAN_FRAME_INVALID', `Not a CAN frame: ${why}.`);
}
