import { readFile } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { CardanError } from '@cardan/shared';
import { parseCandump, parseHex } from './can/candump.ts';
import { notAFrame, parseJsonFrame } from './can/json-frame.ts';
import { readLines, unreadable } from './can/line-reader.ts';
import { compileDecoder, type Decoder, type MessageDecoder, parseDbc } from './dbc/index.ts';
import { Output } from './output.ts';

export interface DecodeOptions {
  dbcPath: string;
  /** `-` for standard input. */
  inPath: string;
  /** `candump -L`, or one `{"id":…,"is_extended":…,"is_fd":…,"data_hex":"…"}` a line, with or without `ts`. */
  format: 'candump' | 'jsonl';
  /** Gets the decoded frames. */
  out: Writable;
  /** Gets warnings of the DBC, malformed lines, and the summary. */
  err: Writable;
  stdin?: Readable;
}

export interface DecodeSummary {
  /** Data frames read, and printed. */
  frames: number;
  /** Of these: with an id that is not in the DBC. */
  unknown: number;
  /** Of these: with fewer bytes than their message. */
  short: number;
  /** Lines that were no frame. */
  malformed: number;
  /** Remote and error frames, which carry no signals. */
  remote: number;
  errors: number;
  /** The reader of `out` went away before the end, as `head` does. */
  outClosed: boolean;
}

/** A frame as it was read; `ts` is a JSON number as it was written, or `null`. */
interface InputFrame {
  ts: string;
  id: number;
  extended: boolean;
  fd: boolean;
  data: Uint8Array;
}

/**
 * Decodes a recording into one JSON object per frame:
 * `{"ts":…,"id":…,"extended":…,"fd":…,"message":"…","signals":{"NAME":number}}`.
 *
 * `ts` is in seconds. NaN and infinities are the strings "NaN", "Infinity" and "-Infinity"; integers beyond 2^53 have
 * all their digits. An id that the DBC does not have gives `"message":null`. A malformed line is reported with its
 * number and counted, and the rest goes on.
 *
 * @throws CardanError FILE_NOT_FOUND, FILE_NOT_READABLE, DBC_INVALID
 */
export async function decodeCommand(options: DecodeOptions): Promise<DecodeSummary> {
  const { dbcPath, inPath, format, stdin } = options;
  const out = new Output(options.out);
  const err = new Output(options.err);
  const dbc = parseDbc(
    await readFile(dbcPath).catch((e: unknown) => Promise.reject(unreadable(dbcPath, e) as Error)),
    dbcPath,
  );
  for (const { line, message } of dbc.warnings) err.add(`${dbcPath}:${line}: ${message}\n`);
  const decoder = compileDecoder(dbc);
  const printer = new FramePrinter(decoder);
  const summary = { frames: 0, unknown: 0, short: 0, malformed: 0, remote: 0, errors: 0, outClosed: false };
  const parse = format === 'candump' ? fromCandump : fromJson;

  try {
    for await (const { first, lines } of readLines(inPath, { stdin })) {
      for (const [i, line] of lines.entries()) {
        if (line?.trim() === '') continue;
        try {
          if (line === null)
            throw new CardanError('CAN_FRAME_INVALID', 'Not a CAN frame: the line is too long.');
          const frame = parse(line);
          if (frame === 'remote') summary.remote++;
          else if (frame === 'error') summary.errors++;
          else {
            summary.frames++;
            const message = decoder.find(frame.id, frame.extended);
            if (!message) summary.unknown++;
            out.add(printer.print(frame, message));
          }
        } catch (error) {
          if (!(error instanceof CardanError)) throw error;
          summary.malformed++;
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
    summary.short = decoder.shortFrames;
    summary.outClosed = out.closed;
    err.add(
      `${summary.frames} frames decoded: ${summary.unknown} of unknown id, ${summary.short} short; ` +
        `left out: ${summary.malformed} malformed lines, ${summary.remote} remote and ${summary.errors} error frames\n`,
    );
    return summary;
  } finally {
    await err.flush();
    out.release();
    err.release();
  }
}

function fromCandump(line: string): InputFrame | 'remote' | 'error' {
  const parsed = parseCandump(line);
  if (parsed.kind !== 'data') return parsed.kind;
  const { id, extended, fd, data } = parsed.frame;
  return { ts: parsed.seconds, id, extended, fd, data };
}

function fromJson(line: string): InputFrame {
  const { ts, id, extended, fd, fields } = parseJsonFrame(line);
  const { data_hex } = fields;
  if (typeof data_hex !== 'string') throw notAFrame('"data_hex" is not a text');
  // `is_fd` is only passed on: the payload decodes the same.
  return { ts, id, extended, fd: fd ?? false, data: parseHex(data_hex, 64) };
}

/** Writes frames as JSON, without an object per frame. */
class FramePrinter {
  readonly #decoder: Decoder;
  /** What is the same in all frames of a message: its own part, and the key of each signal. */
  readonly #texts = new Map<MessageDecoder, { head: string; keys: string[] }>();

  constructor(decoder: Decoder) {
    this.#decoder = decoder;
  }

  print({ ts, id, extended, fd, data }: InputFrame, message: MessageDecoder | undefined): string {
    const head = `{"ts":${ts},"id":${id},"extended":${extended},"fd":${fd},"message":`;
    if (!message) return `${head}null,"signals":{}}\n`;
    let texts = this.#texts.get(message);
    if (!texts) {
      const { name, signals } = message.message;
      const keys = signals.map((signal) => `${JSON.stringify(signal.name)}:`);
      this.#texts.set(message, (texts = { head: `${JSON.stringify(name)},"signals":{`, keys }));
    }
    message.decode(data);
    const { present } = this.#decoder;
    let line = head + texts.head;
    let comma = '';
    for (let i = 0; i < message.count; i++) {
      const slot = message.first + i;
      if (present[slot] === 0) continue;
      line += comma + texts.keys[i] + this.#number(message, slot, data);
      comma = ',';
    }
    return `${line}}}\n`;
  }

  #number(message: MessageDecoder, slot: number, data: Uint8Array): string {
    const value = this.#decoder.values[slot] ?? NaN;
    if (!Number.isFinite(value)) return `"${value}"`;
    if (Math.abs(value) < 2 ** 53) return Object.is(value, -0) ? '-0.0' : String(value);
    const exact = message.exact(slot, data);
    if (typeof exact === 'bigint') return String(exact);
    // Readers that know integers take digits alone as exact; this is a rounded double.
    const text = String(value);
    return text.includes('e') ? text : `${text}.0`;
  }
}
