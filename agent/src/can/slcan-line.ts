import { CardanError } from '@cardan/shared';
import type { CanFrame } from './can-frame.ts';

/*
 * One line of slcan (LAWICEL), without the carriage return at its end:
 *
 *   tIIIL…    11-bit id, length 0–8, data in hex        TIIIIIIIIL…   29-bit id
 *   rIIIL     remote frame                              RIIIIIIIIL
 *   dIIIL…    CAN FD, L is the length code 0–F          DIIIIIIIIL…
 *   bIIIL…    CAN FD with the faster data phase         BIIIIIIIIL…
 *
 * Behind the data an adapter may put its time: four digits, milliseconds modulo 60,000.
 */
const FD_LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64];
/** Answers of an adapter, and commands that some echo. */
const NO_FRAME = /^(?:[zZCOL]|[SYFVvN][0-9A-Za-z]*)?$/;

export type SlcanLine =
  { kind: 'data'; frame: Omit<CanFrame, 'time'>; stamp: number | undefined } | { kind: 'remote' | 'other' };

/** @throws CardanError CAN_FRAME_INVALID */
export function parseSlcan(line: string): SlcanLine {
  if (NO_FRAME.test(line)) return { kind: 'other' };
  const type = line[0]!;
  if (!/^[tTrRdDbB]/.test(type)) throw invalid(line);
  const extended = type < 'a';
  const digits = extended ? 8 : 3;
  const head = line.slice(1, 2 + digits);
  if (head.length !== digits + 1 || !/^[0-9A-Fa-f]+$/.test(head)) throw invalid(line);
  const id = parseInt(head.slice(0, digits), 16);
  const code = parseInt(head.slice(digits), 16);
  const fd = 'dDbB'.includes(type);
  if (id > (extended ? 0x1fff_ffff : 0x7ff) || (!fd && code > 8)) throw invalid(line);
  const remote = 'rR'.includes(type);
  const length = remote ? 0 : FD_LENGTHS[code]!;
  const rest = line.slice(2 + digits);
  if (!/^[0-9A-Fa-f]*$/.test(rest) || (rest.length !== 2 * length && rest.length !== 2 * length + 4))
    throw invalid(line);
  if (remote) return { kind: 'remote' };
  const stamp = rest.length === 2 * length ? undefined : parseInt(rest.slice(2 * length), 16);
  if (stamp !== undefined && stamp >= 60_000) throw invalid(line);
  const data = new Uint8Array(Buffer.from(rest.slice(0, 2 * length), 'hex'));
  return { kind: 'data', frame: { id, extended, fd, data }, stamp };
}

/**
 * The line that sends a frame, with its end. CAN FD goes without the faster data phase, which every node understands.
 *
 * @throws CardanError CAN_FRAME_INVALID when CAN FD has no such length
 */
export function slcanLine({ id, extended, fd, data }: CanFrame): string {
  const code = FD_LENGTHS.indexOf(data.length);
  if (code < 0 || (!fd && code > 8))
    throw new CardanError('CAN_FRAME_INVALID', `No frame has ${data.length} bytes of data.`);
  const type = fd ? (extended ? 'D' : 'd') : extended ? 'T' : 't';
  const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, '0');
  return `${type}${hex(id, extended ? 8 : 3)}${hex(code, 1)}${Buffer.from(data).toString('hex').toUpperCase()}\r`;
}

/** Splits what a serial port gives into lines; BEL ends a line, too. A line that is too long is given as null, once. */
export class SlcanLines {
  /** Longer than the longest frame, 143 characters. */
  static readonly charactersMax = 256;
  #open = '';
  #skipping = false;

  push(text: string): (string | null)[] {
    const parts = (this.#open + text).replaceAll('\u0007', '\r').split('\r');
    this.#open = parts.pop()!;
    const lines: (string | null)[] = [];
    for (const part of parts) {
      if (!this.#skipping) lines.push(part.length > SlcanLines.charactersMax ? null : part);
      this.#skipping = false;
    }
    if (this.#open.length > SlcanLines.charactersMax) {
      if (!this.#skipping) lines.push(null);
      this.#skipping = true;
    }
    if (this.#skipping) this.#open = '';
    return lines;
  }
}

function invalid(line: string): CardanError {
  return new CardanError('CAN_FRAME_INVALID', `Not a line of slcan: "${line.slice(0, 60)}".`);
}
