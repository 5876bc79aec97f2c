import { setTimeout as delay } from 'node:timers/promises';
import type { Readable } from 'node:stream';
import { CardanError, messageOf } from '@cardan/shared';
import type { CanFrame, CanSource } from './can-frame.ts';
import { readLines } from './line-reader.ts';

/*
 * The log of `candump -L` (can-utils), one frame a line:
 *
 *   (1436509052.249713) vcan0 044#2A366C2BBA     11-bit id, up to 8 bytes
 *   (1436509052.249713) vcan0 18FEF100#00FF R    29-bit id; direction (T or R) with candump -x
 *   (1436509052.249713) vcan0 123##1112233       CAN FD: one digit of flags, up to 64 bytes
 *   (1436509052.249713) vcan0 123#R              remote frame, without data
 *   (1436509052.249713) vcan0 20000004#00…       error frame: bit 29 of the id
 */
const LINE = /^\s*\((\d{1,13})(?:\.(\d{1,9}))?\)\s+\S+\s+([0-9A-Fa-f]*)#(\S*)(?:\s+[TR])?\s*$/;
const ERROR_FLAG = 0x2000_0000;

/** A line of the log: what it holds and when. */
export type CandumpLine =
  | { kind: 'data'; frame: CanFrame; seconds: string }
  /** Another node's request: it carries no signals. */
  | { kind: 'remote' }
  /** What the controller says of its own troubles: classes of trouble as bits, and details. */
  | { kind: 'error'; classes: number; details: Uint8Array };

/**
 * Parses one line of `candump -L`.
 *
 * @returns for a data frame also `seconds`, its time with the digits as written (a JSON number)
 * @throws CardanError CAN_FRAME_INVALID
 */
export function parseCandump(line: string): CandumpLine {
  const match = LINE.exec(line);
  if (!match) throw invalid(`expected "(seconds) interface ID#DATA", found "${excerpt(line)}"`);
  const [, whole = '', fraction = '', idText = '', payload = ''] = match;
  const id = parseInt(idText, 16);
  const extended = idText.length === 8;
  if (!extended && idText.length !== 3)
    throw invalid(`the id "${idText}" has ${idText.length} digits; it needs 3, or 8 when extended`);
  if (!extended && id > 0x7ff) throw invalid(`the id ${idText} has more than 11 bits`);
  if (extended && id > 0x1fff_ffff) {
    if (id < 2 * ERROR_FLAG)
      return { kind: 'error', classes: id - ERROR_FLAG, details: parseHex(payload, 8) };
    throw invalid(`the id ${idText} has more than 29 bits`);
  }
  if (/^[Rr]/.test(payload)) {
    if (/^.(?:[0-8](?:_[9A-Fa-f])?)?$/.test(payload)) return { kind: 'remote' };
    throw invalid(`"#${excerpt(payload)}" is no remote frame`);
  }
  const fd = payload.startsWith('#');
  if (fd && !/^#[0-9A-Fa-f]/.test(payload))
    throw invalid('a CAN FD frame needs one digit of flags behind ##');
  const data = parseHex(fd ? payload.slice(2) : withoutRawDlc(payload), fd ? 64 : 8);
  const time = Number(whole) * 1000 + Number(fraction.padEnd(9, '0')) / 1e6;
  if (time > 8.64e15) throw invalid(`the time ${whole} is beyond the year 275760`);
  const seconds = whole.replace(/^0+(?=\d)/, '') + (fraction === '' ? '' : `.${fraction}`);
  return { kind: 'data', frame: { time, id, extended, fd, data }, seconds };
}

/**
 * The data frame of one line of `candump -L`.
 *
 * @throws CardanError CAN_FRAME_INVALID, also for remote and error frames
 */
export function parseCandumpLine(line: string): CanFrame {
  const parsed = parseCandump(line);
  if (parsed.kind !== 'data') throw invalid(`a ${parsed.kind} frame carries no signals`);
  return parsed.frame;
}

/**
 * Bytes from pairs of hex digits.
 *
 * @throws CardanError CAN_FRAME_INVALID
 */
export function parseHex(digits: string, bytesMax: number): Uint8Array {
  if (digits.length > 2 * bytesMax)
    throw invalid(`the data has ${digits.length / 2} bytes; at most ${bytesMax} are allowed`);
  if (digits.length % 2 !== 0) throw invalid(`the data "${digits}" has an odd number of digits`);
  const data = Buffer.from(digits, 'hex');
  // Node stops at the first character that is no digit.
  if (data.length * 2 !== digits.length) throw invalid(`the data "${digits}" is not hexadecimal`);
  return data;
}

/** Classic frames of 8 bytes may name the length code that was on the wire, 9 to 15: `123#1122334455667788_B`. */
function withoutRawDlc(payload: string): string {
  return payload.length === 18 && /_[9A-Fa-f]$/.test(payload) ? payload.slice(0, 16) : payload;
}

export interface CandumpOptions {
  /** `-` for standard input. */
  path: string;
  /** 1: at the recorded pace; 10: ten times as fast; Infinity: as fast as it can be read. */
  speed: number;
  /** Called for every line that is no frame; 1-based. */
  onMalformed?: (line: number, message: string) => void;
  stdin?: Readable;
  /** Milliseconds; steady. */
  now?: () => number;
  /** Resolves after `ms`; may reject when `signal` is aborted. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

/** Frames that may wait in one batch. */
const BATCH_FRAMES_MAX = 512;
/** Shortest sleep: frames may come this much late, so that a busy bus wakes the process 100 times a second, not 4,000. */
const SLEEP_MS_MIN = 10;
/** Longest sleep at once; timers go no further than 2^31 ms. */
const SLEEP_MS_MAX = 60_000;

/** Plays a log of `candump -L`. Frames keep their recorded time; what is no data frame is counted and skipped. */
export class CandumpSource implements CanSource {
  /** Lines that were no frame. */
  malformed = 0;
  /** Remote frames, skipped. */
  remote = 0;
  /** Error frames, skipped. */
  errors = 0;
  readonly #options: CandumpOptions;

  constructor(options: CandumpOptions) {
    if (!(options.speed > 0))
      throw new CardanError('USAGE', `The speed must be a number above 0, not ${options.speed}.`);
    this.#options = options;
  }

  /**
   * @throws CardanError FILE_NOT_FOUND, FILE_NOT_READABLE
   */
  async *frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    const { path, stdin } = this.#options;
    const waitFor = this.#pacer(signal);
    let batch: CanFrame[] = [];
    for await (const { first, lines } of readLines(path, { stdin, signal })) {
      for (const [i, line] of lines.entries()) {
        const frame = this.#read(line, first + i);
        if (!frame) continue;
        const waiting = waitFor(frame);
        if (batch.length > 0 && (waiting || batch.length === BATCH_FRAMES_MAX)) {
          yield batch;
          batch = [];
        }
        if (waiting) await waiting();
        if (signal.aborted) return;
        batch.push(frame);
      }
      // What has been read goes on its way before the next block is waited for.
      if (batch.length > 0) yield batch;
      batch = [];
      if (signal.aborted) return;
    }
  }

  #read(line: string | null, number: number): CanFrame | undefined {
    if (line?.trim() === '') return undefined;
    try {
      if (line === null) throw invalid('the line is too long');
      const parsed = parseCandump(line);
      if (parsed.kind === 'data') return parsed.frame;
      if (parsed.kind === 'remote') this.remote++;
      else this.errors++;
    } catch (error) {
      this.malformed++;
      this.#options.onMalformed?.(number, messageOf(error));
    }
    return undefined;
  }

  /** Tells for each frame how to wait until it is due; undefined when it is. */
  #pacer(signal: AbortSignal): (frame: CanFrame) => (() => Promise<void>) | undefined {
    const {
      speed,
      now = () => performance.now(),
      sleep = (ms, s) => delay(ms, undefined, { signal: s }),
    } = this.#options;
    if (speed === Infinity) return () => undefined;
    let begun: { clock: number; time: number } | undefined;
    return (frame) => {
      begun ??= { clock: now(), time: frame.time };
      const due = begun.clock + (frame.time - begun.time) / speed;
      if (due <= now()) return undefined;
      return async () => {
        for (let left; (left = due - now()) > 0 && !signal.aborted;)
          await sleep(Math.min(Math.max(left, SLEEP_MS_MIN), SLEEP_MS_MAX), signal).catch(
            (error: unknown) => {
              if (!signal.aborted) throw error;
            },
          );
      };
    };
  }
}

function invalid(why: string): CardanError {
  return new CardanError('CAN_FRAME_INVALID', `Not a CAN frame: ${why}.`);
}

function excerpt(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
