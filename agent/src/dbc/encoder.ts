import { CardanError } from '@cardan/shared';
import {
  groupByRanges,
  inRanges,
  literal,
  SCRATCH_FLOAT32,
  SCRATCH_FLOAT64,
  SCRATCH_HIGH,
  SCRATCH_LOW,
  SCRATCH_WORDS,
} from './codegen.ts';
import type { Dbc, Message, Signal } from './dbc.ts';
import { exactRaw, putRawBits } from './exact.ts';
import { roundHalfEven, toFloat16 } from './float16.ts';
import { bytesNeeded, cut, type Piece, pieces } from './layout.ts';

/** Encoders of all messages of a DBC. */
export interface Encoder {
  /** The encoder of a message; of several with one name, of the last. Throws DBC_ENCODE when there is none. */
  message(name: string): MessageEncoder;
  /** The encoder of an 11-bit id, or of a 29-bit id when `extended`; of several with one id, of the last. */
  find(id: number, extended: boolean): MessageEncoder | undefined;
}

/** A scaled value: a bigint keeps all digits of an integer, a text is one of the signal's value names. */
export type EncodeValue = number | bigint | string;

export interface MessageEncoder {
  readonly message: Message;
  /**
   * Encodes scaled values, in the order of the message's signals, into the first `message.length` bytes of `out`.
   * Makes no objects. Bits of no signal are 0; values of inactive branches are ignored.
   *
   * @throws CardanError DBC_ENCODE when a raw value does not fit into its bits, a multiplexer has no such branch, or
   * `out` is too short
   */
  encode(values: ArrayLike<number>, out: Uint8Array): void;
  /**
   * Encodes scaled values by name into a new array. Signals of inactive branches may be missing.
   *
   * @throws CardanError DBC_ENCODE also when a value is missing, or the message has no such signal or name of a value
   */
  encode(values: Readonly<Record<string, EncodeValue>>): Uint8Array;
}

/** Encoders for all messages. Each is compiled at its first use. Rounds as cantools does: half to even. */
export function compileEncoder(dbc: Dbc): Encoder {
  const encoders = dbc.messages.map((message) => new CompiledMessage(message));
  const byName = new Map(encoders.map((encoder) => [encoder.message.name, encoder]));
  const byId = { standard: new Map<number, MessageEncoder>(), extended: new Map<number, MessageEncoder>() };
  for (const encoder of encoders)
    byId[encoder.message.extended ? 'extended' : 'standard'].set(encoder.message.id, encoder);
  return {
    find: (id, extended) => byId[extended ? 'extended' : 'standard'].get(id),
    message(name) {
      const encoder = byName.get(name);
      if (!encoder) throw new CardanError('DBC_ENCODE', `The DBC has no message ${name}. Check the name.`);
      return encoder;
    },
  };
}

type Run = (values: ArrayLike<number>, out: Uint8Array) => void;

class CompiledMessage implements MessageEncoder {
  readonly message: Message;
  #run: Run;

  constructor(message: Message) {
    this.message = message;
    this.#run = (values, out) => {
      this.#run = generate(message);
      this.#run(values, out);
    };
  }

  encode(values: ArrayLike<number>, out: Uint8Array): void;
  encode(values: Readonly<Record<string, EncodeValue>>): Uint8Array;
  encode(
    values: ArrayLike<number> | Readonly<Record<string, EncodeValue>>,
    out?: Uint8Array,
  ): Uint8Array | void {
    if (out) {
      if (out.length < this.message.length)
        throw new CardanError(
          'DBC_ENCODE',
          `${this.message.name} needs ${this.message.length} bytes, but there is room for ${out.length}.`,
        );
      this.#run(values as ArrayLike<number>, out);
      return;
    }
    return this.#encodeNamed(values as Readonly<Record<string, EncodeValue>>);
  }

  #encodeNamed(named: Readonly<Record<string, EncodeValue>>): Uint8Array {
    const { message } = this;
    const { signals } = message;
    const names = new Set(signals.map((signal) => signal.name));
    const unknown = Object.keys(named).find((name) => !names.has(name));
    if (unknown !== undefined)
      throw new CardanError('DBC_ENCODE', `${message.name} has no signal ${unknown}. Check the name.`);
    const exact: { i: number; raw: bigint; value: EncodeValue }[] = [];
    // What the selectors are compared with; and what the generated code gets: a raw 0 where the bits come afterwards.
    const scaled: (number | undefined)[] = [];
    // A value that is missing is no number, and is refused if its branch is active.
    const ordered = signals.map((signal, i) => {
      const value = Object.hasOwn(named, signal.name) ? named[signal.name] : undefined;
      if (bytesNeeded(signal) > message.length) {
        // Its bits would be lost without a word.
        if (value === undefined) return signal.offset;
        throw new CardanError(
          'DBC_ENCODE',
          `${signal.name} is beyond the ${message.length} bytes of ${message.name}. Leave it out, or mend the DBC.`,
        );
      }
      if (typeof value === 'number' || value === undefined) return (scaled[i] = value);
      const ofName = typeof value === 'string' ? rawOfName(message, signal, value) : null;
      scaled[i] = ofName === null ? Number(value) : Number(ofName) * signal.scale + signal.offset;
      if (ofName !== null && signal.type === 'float') return scaled[i];
      const raw = ofName ?? exactRaw(signal, value as bigint);
      if (raw === null || signal.selects) return scaled[i];
      exact.push({ i, raw, value });
      return signal.offset;
    });
    const bytes = new Uint8Array(message.length);
    this.#run(ordered as ArrayLike<number>, bytes);
    const inFrame = (i: number): boolean => {
      const branch = signals[i]?.branch;
      if (!branch) return true;
      const selected = Math.trunc(scaled[branch.selector] ?? NaN);
      return (
        inFrame(branch.selector) &&
        branch.ranges.some(([first, last]) => selected >= first && selected <= last)
      );
    };
    for (const { i, raw, value } of exact) {
      if (!inFrame(i)) continue;
      const signal = signals[i]!;
      const [first, limit] = rawRange(signal);
      if (raw < first || raw >= limit)
        throw new CardanError(
          'DBC_ENCODE',
          `${signal.name} of ${message.name} cannot carry ${value}: ${rangeOf(signal)}.`,
        );
      putRawBits(signal, raw, bytes);
    }
    return bytes;
  }
}

/** The raw value that VAL_ gives a name; of several with one name the last, as in cantools. */
function rawOfName(message: Message, signal: Signal, name: string): bigint {
  const raw = [...(signal.choices ?? [])].findLast(([, text]) => text === name)?.[0];
  if (raw === undefined)
    throw new CardanError(
      'DBC_ENCODE',
      `${signal.name} of ${message.name} has no value named "${name}". Use a number, or a name of VAL_.`,
    );
  return BigInt(raw);
}

/**
 * The source of one message's encoder. Only numbers out of the parsed DBC go into it, never a text of the file.
 *
 * ```js
 * return function (v, o) {
 *   o.fill(0, 0, 8);
 *   r = even((v[0] - 0) / 0.25);
 *   if (!(r >= 0 && r < 65536)) bad(0, v[0]);
 *   o[0] |= r & 255; o[1] |= r >>> 8 & 255;
 *   const m1 = Math.trunc(v[1]);
 *   if (m1 === 1) { … }
 *   if (!(m1 === 1)) noBranch(1, v[1]);
 * };
 * ```
 */
function generate(message: Message): Run {
  const { signals } = message;
  const write = (i: number): string =>
    signalCode(signals[i]!, i) + (signals[i]!.selects ? `\n${branches(i)}` : '');
  const branches = (selector: number): string => {
    const groups = groupByRanges(signals, selector);
    if (groups.length === 0) return '';
    const name = `m${selector}`;
    // Values that only have a name are branches too, without signals.
    const named = [...(signals[selector]?.choices?.keys() ?? [])].map((id) => [id, id] as const);
    return [
      `const ${name} = Math.trunc(v[${selector}]);`,
      ...groups.map(
        ([ranges, group]) => `if (${inRanges(name, ranges)}) {\n${group.map(write).join('\n')}\n}`,
      ),
      `if (!(${inRanges(name, [...named, ...groups.flatMap(([ranges]) => ranges)])})) noBranch(${selector}, v[${selector}]);`,
    ].join('\n');
  };
  const roots = signals.flatMap((signal, i) => (signal.branch ? [] : [i]));
  const source = `'use strict';
return function (v, o) {
let r = 0;
o.fill(0, 0, ${message.length});
${roots.map(write).join('\n')}
};`;

  const bad = (i: number, value: number | undefined): never => {
    const { name } = signals[i]!;
    throw new CardanError(
      'DBC_ENCODE',
      value === undefined || (Number.isNaN(value) && signals[i]!.type !== 'float')
        ? `${message.name} needs a value for ${name}.`
        : `${name} of ${message.name} cannot carry ${value}: ${rangeOf(signals[i]!)}.`,
    );
  };
  const noBranch = (i: number, value: number): never => {
    throw new CardanError(
      'DBC_ENCODE',
      `${message.name} has no signals for ${signals[i]?.name} = ${value}. Use a value that the DBC names.`,
    );
  };
  const wide = (i: number, raw: number, out: Uint8Array): void => putRawBits(signals[i]!, BigInt(raw), out);
  // eslint-disable-next-line @typescript-eslint/no-implied-eval
  const make = new Function(
    'even', 'float16', 'words', 'float32', 'float64', 'bad', 'noBranch', 'wide', source,
  ) as (...helpers: unknown[]) => Run; // prettier-ignore
  return make(roundHalfEven, toFloat16, SCRATCH_WORDS, SCRATCH_FLOAT32, SCRATCH_FLOAT64, bad, noBranch, wide);
}

/** Statements that put `v[i]` into the bytes `o`. */
function signalCode(signal: Signal, i: number): string {
  const { type, length, conversion } = signal;
  const all = pieces(signal);
  let value = `v[${i}]`;
  if (conversion.kind !== 'identity')
    value = `(${value} - ${literal(Number(conversion.offset))}) / ${literal(Number(conversion.scale))}`;
  if (type === 'float') {
    if (length === 16)
      return [
        `r = float16(${value});`,
        `if (v[${i}] === undefined || ((r & 0x7c00) === 0x7c00 && Number.isFinite(v[${i}]))) bad(${i}, v[${i}]);`,
        bytes(all, 0, 16, 'r'),
      ].join('\n');
    const [array, words] = length === 32 ? ['float32', ['words[0]']] : ['float64', WORDS];
    return [
      `if (v[${i}] === undefined) bad(${i});`,
      `${array}[0] = ${value};`,
      `if (!Number.isFinite(${array}[0]) && Number.isFinite(v[${i}])) bad(${i}, v[${i}]);`,
      ...words.map((word, k) => bytes(all, 32 * k, 32 * (k + 1), word)),
    ].join('\n');
  }
  const [min, limit] = type === 'signed' ? [-(2 ** (length - 1)), 2 ** (length - 1)] : [0, 2 ** length];
  const code = [`r = even(${value});`, `if (!(r >= ${min} && r < ${limit})) bad(${i}, v[${i}]);`];
  if (length > 64) code.push(`wide(${i}, r, o);`);
  else {
    code.push(bytes(all, 0, Math.min(32, length), 'r'));
    if (length > 32) code.push(bytes(all, 32, length, 'Math.floor(r / 4294967296)'));
  }
  return code.join('\n');
}

const WORDS = [`words[${SCRATCH_LOW}]`, `words[${SCRATCH_HIGH}]`];

/** Puts raw bits [from, to), the low bits of the integer `word`, into their bytes. */
function bytes(all: Piece[], from: number, to: number, word: string): string {
  return cut(all, from, to)
    .map(({ byte, shift, bits, at }) => {
      const part = `${at === 0 ? word : `${word} >>> ${at}`} & ${(1 << bits) - 1}`;
      return `o[${byte}] |= ${shift === 0 ? part : `(${part}) << ${shift}`};`;
    })
    .join('\n');
}

/** Raw bits from the first up to below the limit. */
function rawRange({ type, length }: Signal): [first: bigint, limit: bigint] {
  return type === 'signed'
    ? [-(1n << BigInt(length - 1)), 1n << BigInt(length - 1)]
    : [0n, 1n << BigInt(length)];
}

function rangeOf({ type, length, scale, offset }: Signal): string {
  if (type === 'float') return `it is a float of ${length} bits`;
  const [low, high] =
    type === 'signed' ? [-(2 ** (length - 1)), 2 ** (length - 1) - 1] : [0, 2 ** length - 1];
  const ends = [low * scale + offset, high * scale + offset].sort((a, b) => a - b);
  return `its ${length} bits hold ${ends[0]} to ${ends[1]}`;
}
