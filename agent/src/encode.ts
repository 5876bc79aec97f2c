import { readFile } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { CardanError } from '@cardan/shared';
import { notAFrame, parseJsonFrame } from './can/json-frame.ts';
import { readLines, unreadable } from './can/line-reader.ts';
import { compileEncoder, type EncodeValue, type Encoder, parseDbc, type Signal } from './dbc/index.ts';
import { Output } from './output.ts';

export interface EncodeOptions {
  dbcPath: string;
  /** `-` for standard input. */
  inPath: string;
  /** Gets the encoded frames. */
  out: Writable;
  /** Gets warnings of the DBC, lines that were left out, and the summary. */
  err: Writable;
  stdin?: Readable;
}

export interface EncodeSummary {
  /** Frames encoded, and printed. */
  frames: number;
  /** Lines left out: with an id that is not in the DBC. */
  unknown: number;
  /** Lines left out: with a value that is missing, does not fit, or is no signal's. */
  refused: number;
  /** Lines left out: no JSON, or without what a frame needs. */
  malformed: number;
  /** The reader of `out` went away before the end, as `head` does. */
  outClosed: boolean;
}

/** The longest payload of CAN FD. */
const PAYLOAD_BYTES_MAX = 64;

/**
 * Encodes lines of `{"id":…,"is_extended":…,"is_fd":…,"values":{"SIGNAL":value}}` into lines of
 * `{"id":…,"is_extended":…,"is_fd":…,"data_hex":"…"}`, which `decode` reads as jsonl. `ts`, if there, is passed on.
 *
 * A value is a number, a text with the digits of an integer, "NaN", "Infinity", "-Infinity", or a name that VAL_ gives.
 * Integers beyond 2^53 keep all their digits, with quotes or without. A line that cannot be encoded is reported with
 * its number and counted, and the rest goes on.
 *
 * @throws CardanError FILE_NOT_FOUND, FILE_NOT_READABLE, DBC_INVALID
 */
export async function encodeCommand(options: EncodeOptions): Promise<EncodeSummary> {
  const { dbcPath, inPath, stdin } = options;
  const out = new Output(options.out);
  const err = new Output(options.err);
  const dbc = parseDbc(
    await readFile(dbcPath).catch((e: unknown) => Promise.reject(unreadable(dbcPath, e) as Error)),
    dbcPath,
  );
  for (const { line, message } of dbc.warnings) err.add(`${dbcPath}:${line}: ${message}\n`);
  const encoder = compileEncoder(dbc);
  const summary: EncodeSummary = { frames: 0, unknown: 0, refused: 0, malformed: 0, outClosed: false };

  try {
    for await (const { first, lines } of readLines(inPath, { stdin })) {
      for (const [i, line] of lines.entries()) {
        if (line?.trim() === '') continue;
        try {
          if (line === null) throw notAFrame('the line is too long');
          const encoded = encodeLine(line, encoder);
          if (encoded.kind === 'frame') {
            summary.frames++;
            out.add(encoded.text);
          } else {
            summary.unknown++;
            err.add(`line ${first + i}: ${encoded.text}\n`);
          }
        } catch (error) {
          if (!(error instanceof CardanError)) throw error;
          if (error.code === 'DBC_ENCODE') summary.refused++;
          else summary.malformed++;
          err.add(`line ${first + i}: ${error.message}\n`);
        }
        if (out.full) await out.flush();
        if (err.full) await err.flush();
        if (out.closed) break;
      }
      await out.flush();
      await err.flush();
      if (out.closed) break;
    }
    summary.outClosed = out.closed;
    err.add(
      `${summary.frames} frames encoded; left out: ${summary.unknown} of unknown id, ` +
        `${summary.refused} with values that do not fit, ${summary.malformed} malformed lines\n`,
    );
    return summary;
  } finally {
    await err.flush();
    out.release();
    err.release();
  }
}

/** One line, encoded; or why the DBC has no message for it. */
function encodeLine(line: string, encoder: Encoder): { kind: 'frame' | 'unknown'; text: string } {
  const { ts, id, extended, fd, fields } = parseJsonFrame(line);
  const values = valuesOf(LONG_NUMBER.test(line) ? withLongIntegersQuoted(line) : fields);
  const message = encoder.find(id, extended);
  if (!message)
    return {
      kind: 'unknown',
      text: `The DBC has no message with the ${extended ? 29 : 11}-bit id ${id}. Check "id" and "is_extended".`,
    };
  const { name, length, signals } = message.message;
  if (length > PAYLOAD_BYTES_MAX)
    throw new CardanError('DBC_ENCODE', `${name} has ${length} bytes; a frame carries at most 64.`);
  const named = new Map(signals.map((signal) => [signal.name, signal]));
  const data = message.encode(
    Object.fromEntries(Object.entries(values).map(([key, value]) => [key, parseValue(key, value, named)])),
  );
  const isFd = fd ?? (message.message.fd || length > 8);
  const time = ts === 'null' ? '' : `"ts":${ts},`;
  const hex = Buffer.from(data).toString('hex');
  return {
    kind: 'frame',
    text: `{${time}"id":${id},"is_extended":${extended},"is_fd":${isFd},"data_hex":"${hex}"}\n`,
  };
}

function valuesOf({ values }: Record<string, unknown>): Record<string, unknown> {
  if (typeof values !== 'object' || values === null || Array.isArray(values))
    throw notAFrame('"values" is not an object of signals');
  return values as Record<string, unknown>;
}

/** A value as JSON has it, as the encoder takes it. A name of the signal comes before what the text may mean else. */
function parseValue(key: string, value: unknown, signals: Map<string, Signal>): EncodeValue {
  // As a bigint a whole number meets an offset that a double may not hold.
  if (typeof value === 'number')
    return Number.isSafeInteger(value) && !Object.is(value, -0) ? BigInt(value) : value;
  if (typeof value !== 'string') throw notAFrame(`"${key}" is neither a number nor a text`);
  const choices = signals.get(key)?.choices;
  if (choices && [...choices.values()].includes(value)) return value;
  if (/^[+-]?\d+$/.test(value)) return BigInt(value.replace(/^\+/, ''));
  return SPECIAL.get(value) ?? value;
}

/** Numbers that JSON lacks, as `decode` writes them. */
const SPECIAL = new Map([
  ['NaN', NaN],
  ['Infinity', Infinity],
  ['-Infinity', -Infinity],
]);

/** Digits that a double may not hold: 2^53 has 16 of them. */
const LONG_NUMBER = /\d{16}/;

/** `JSON.parse` rounds integers beyond 2^53, which `decode` writes with all digits; as texts they stay whole. */
function withLongIntegersQuoted(line: string): Record<string, unknown> {
  const text = line.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g, (token) =>
    /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token,
  );
  return JSON.parse(text) as Record<string, unknown>;
}
