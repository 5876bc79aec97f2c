import { exactInDoubles } from './conversion.ts';
import type { Dbc, Message, Signal } from './dbc.ts';
import { exactValue } from './exact.ts';
import { fromFloat16 } from './float16.ts';
import { bytesNeeded, cut, type Piece, pieces } from './layout.ts';
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

/**
 * Decoders of all messages of a DBC. All write into one array, one slot per signal, so that no object is made per
 * frame. A frame's values stay until the next frame of the same message.
 *
 * Values are those of cantools, bit for bit. Where cantools refuses, this decodes what is sound: overlapping signals
 * each by itself, a signal beyond the length of its message where the frame has it, and the other signals of a frame
 * whose selector has a value without a branch. Branches of a selector with a long name are decoded too (cantools looks
 * for them under its short name, and finds none).
 */
export interface Decoder {
  /** Scaled values by slot. A slot whose signal is not present holds no meaning. */
  readonly values: Float64Array;
  /** By slot: 1 when the last frame of its message had the signal. To be read only. */
  readonly present: Uint8Array;
  readonly messages: readonly MessageDecoder[];
  /** Frames that were shorter than their message. */
  readonly shortFrames: number;
  /** The decoder of an 11-bit id, or of a 29-bit id when `extended`. */
  find(id: number, extended: boolean): MessageDecoder | undefined;
}

export interface MessageDecoder {
  readonly message: Message;
  /** Slots [first, first + count) are the message's signals, in its order. */
  readonly first: number;
  readonly count: number;
  /** The signal at a slot of this message. Throws RangeError when the slot is another message's. */
  signalAt(slot: number): Signal;
  /**
   * Decodes a frame into the decoder's `values` and `present`. Multiplexed signals that are not in the frame are
   * absent; of a short frame, signals that are in it whole are present; bytes beyond the message are ignored.
   */
  decode(data: Uint8Array): void;
  /** The value at a slot without loss: bigint where it is an integer. For a frame that has the signal. */
  exact(slot: number, data: Uint8Array): bigint | number;
}

/** Decoders for all messages. Each is compiled when its first frame comes. */
export function compileDecoder(dbc: Dbc): Decoder {
  const slots = dbc.messages.reduce((sum, message) => sum + message.signals.length, 0);
  const state: State = { values: new Float64Array(slots), present: new Uint8Array(slots), shortFrames: 0 };
  const standard: (MessageDecoder | undefined)[] = Array<undefined>(0x800).fill(undefined);
  const extended = new Map<number, MessageDecoder>();
  let first = 0;
  const messages = dbc.messages.map((message) => {
    const decoder = new CompiledMessage(message, first, state);
    first += decoder.count;
    if (message.extended) extended.set(message.id, decoder);
    else standard[message.id] = decoder;
    return decoder;
  });
  return {
    values: state.values,
    present: state.present,
    messages,
    get shortFrames() {
      return state.shortFrames;
    },
    find: (id, isExtended) => (isExtended ? extended.get(id) : standard[id]),
  };
}

interface State {
  readonly values: Float64Array;
  readonly present: Uint8Array;
  shortFrames: number;
}

class CompiledMessage implements MessageDecoder {
  readonly message: Message;
  readonly first: number;
  readonly count: number;
  readonly #state: State;
  #run: (data: Uint8Array) => void;

  constructor(message: Message, first: number, state: State) {
    this.message = message;
    this.first = first;
    this.count = message.signals.length;
    this.#state = state;
    this.#run = (data) => {
      this.#run = this.#compile();
      this.#run(data);
    };
  }

  decode(data: Uint8Array): void {
    this.#run(data);
  }

  signalAt(slot: number): Signal {
    const signal = this.message.signals[slot - this.first];
    if (!signal) throw new RangeError(`slot ${slot} is not of the message ${this.message.name}`);
    return signal;
  }

  exact(slot: number, data: Uint8Array): bigint | number {
    return exactValue(this.signalAt(slot), data);
  }

  #compile(): (data: Uint8Array) => void {
    const { message, first } = this;
    const { values, present } = this.#state;
    const ends = message.signals.map(bytesNeeded);
    const length = Math.max(message.length, ...ends);
    const padded = new Uint8Array(length);

    // A short frame is padded and decoded; then what was not in it is marked absent, and with a selector all that
    // hangs on it.
    const short = (data: Uint8Array): void => {
      if (data.length < message.length) this.#state.shortFrames++;
      padded.fill(0xff);
      padded.set(data);
      run(padded);
      const fits = (i: number): boolean => {
        if ((ends[i] ?? 0) > data.length) return false;
        const branch = message.signals[i]?.branch;
        return !branch || fits(branch.selector);
      };
      for (let i = 0; i < ends.length; i++) if (!fits(i)) present[first + i] = 0;
    };
    const exact = (i: number, data: Uint8Array) => Number(exactValue(this.signalAt(first + i), data));
    const run = generate(message, first, length)(
      values, present, short, exact, fromFloat16, SCRATCH_WORDS, SCRATCH_FLOAT32, SCRATCH_FLOAT64,
    ); // prettier-ignore
    return run;
  }
}

type Generated = (
  values: Float64Array,
  present: Uint8Array,
  short: (data: Uint8Array) => void,
  exact: (i: number, data: Uint8Array) => number,
  float16: (bits: number) => number,
  words: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
) => (data: Uint8Array) => void;

/** Signals in one generated function: V8 leaves functions of more than 60 kB of bytecode unoptimised. */
const BLOCK_SIGNALS_MAX = 128;
/** Up to here single stores beat a call of `fill`. */
const CLEAR_SINGLY_MAX = 32;

/**
 * The source of one message's decoder. Only numbers out of the parsed DBC go into it, never a text of the file.
 *
 * ```js
 * let whole = false;               // all signals that are always there are marked as present
 * return function (d) {
 *   if (d.length < 8) { short(d); whole = false; return; }
 *   v[3] = (d[0] | d[1] << 8) * 0.25 + 0;
 *   v[4] = d[2];
 *   p[5] = 0; p[6] = 0;            // multiplexed signals
 *   const m4 = v[4];
 *   if (m4 === 1) { v[5] = …; p[5] = 1; }
 *   if (m4 >= 2 && m4 <= 9) { v[6] = …; p[6] = 1; }
 *   if (!whole) { p[3] = 1; p[4] = 1; whole = true; }
 * };
 * ```
 */
function generate(message: Message, first: number, length: number): Generated {
  const { signals } = message;
  const parts: string[] = [];
  /** Statements as they are, or in functions of their own where the message is big. */
  const block = (statements: string[]): string => {
    if (signals.length <= BLOCK_SIGNALS_MAX) return statements.join('\n');
    const calls: string[] = [];
    for (let i = 0; i < statements.length; i += BLOCK_SIGNALS_MAX) {
      const body = statements.slice(i, i + BLOCK_SIGNALS_MAX).join('\n');
      calls.push(`part${parts.length}(d);`);
      parts.push(`function part${parts.length}(d) {\n${body}\n}`);
    }
    return calls.join('\n');
  };
  const read = (i: number): string => {
    const slot = first + i;
    const signal = signals[i]!;
    const code = [`v[${slot}] = ${valueCode(signal, i)};`];
    if (signal.branch) code.push(`p[${slot}] = 1;`);
    if (signal.selects) code.push(branches(i));
    return code.join('\n');
  };
  /** Signals that a selector selects, those of the same ranges together. */
  const branches = (selector: number): string => {
    const groups = groupByRanges(signals, selector);
    if (groups.length === 0) return '';
    const name = `m${selector}`;
    return [
      // cantools selects by the scaled value, cut to an integer.
      `const ${name} = Math.trunc(v[${first + selector}]);`,
      ...groups.map(([ranges, group]) => `if (${inRanges(name, ranges)}) {\n${block(group.map(read))}\n}`),
    ].join('\n');
  };
  const always = signals.flatMap((signal, i) => (signal.branch ? [] : [i]));
  const muxed = signals.flatMap((signal, i) => (signal.branch ? [i] : []));
  const clear =
    muxed.length <= CLEAR_SINGLY_MAX
      ? muxed.map((i) => `p[${first + i}] = 0;`).join('\n')
      : `p.fill(0, ${first}, ${first + signals.length}); whole = false;`;
  const body = `
if (d.length < ${length}) { short(d); whole = false; return; }
${clear}
${block(always.map(read))}
if (!whole) {
${always.map((i) => `p[${first + i}] = 1;`).join('\n')}
whole = true;
}`;
  const source = `'use strict';\nlet whole = false;\n${parts.join('\n')}\nreturn function (d) {${body}\n};`;
  // eslint-disable-next-line @typescript-eslint/no-implied-eval
  return new Function(
    'v',
    'p',
    'short',
    'exact',
    'float16',
    'words',
    'float32',
    'float64',
    source,
  ) as Generated;
}

/** The scaled value of a signal, as an expression over the frame's bytes `d`. */
function valueCode(signal: Signal, i: number): string {
  const { type, length, conversion } = signal;
  const all = pieces(signal);
  const rawMax = 2n ** BigInt(type === 'signed' ? length - 1 : length);
  if (type !== 'float' && (length > 64 || !exactInDoubles(conversion, rawMax))) return `exact(${i}, d)`;
  const raw = type === 'float' ? floatCode(all, length) : integerCode(all, length, type === 'signed');
  if (conversion.kind === 'identity') return raw;
  // The addition stays when the offset is 0: it turns -0 into 0, as in cantools.
  return `${raw} * ${literal(Number(conversion.scale))} + ${literal(Number(conversion.offset))}`;
}

function floatCode(all: Piece[], length: number): string {
  if (length === 16) return `float16(${word(all, 0, 16)})`;
  if (length === 32) return `(words[0] = ${word(all, 0, 32)}, float32[0])`;
  return `(words[${SCRATCH_LOW}] = ${word(all, 0, 32)}, words[${SCRATCH_HIGH}] = ${word(all, 32, 64)}, float64[0])`;
}

/** Up to 64 bits: both halves are exact, so their sum is rounded once, as a conversion of the integer would be. */
function integerCode(all: Piece[], length: number, signed: boolean): string {
  const half = (from: number, to: number, sign: boolean) => {
    const bits = to - from;
    const code = word(all, from, to);
    if (sign) return bits === 32 ? `(${code} | 0)` : `(${code} << ${32 - bits} >> ${32 - bits})`;
    return bits === 32 ? `(${code} >>> 0)` : code;
  };
  if (length <= 32) return half(0, length, signed);
  return `(${half(32, length, signed)} * 4294967296 + ${half(0, 32, false)})`;
}

/** Raw bits [from, to), at most 32, as a 32-bit integer in parentheses. */
function word(all: Piece[], from: number, to: number): string {
  const terms = cut(all, from, to).map(({ byte, shift, bits, at }) => {
    let term = `d[${byte}]`;
    if (shift > 0) term = `${term} >> ${shift}`;
    if (shift + bits < 8) term = `${shift > 0 ? `(${term})` : term} & ${(1 << bits) - 1}`;
    return at === 0 ? `(${term})` : `((${term}) << ${at})`;
  });
  return `(${terms.join(' | ')})`;
}
