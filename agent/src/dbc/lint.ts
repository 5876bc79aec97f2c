import type { Branch, Dbc, Message, Signal } from './dbc.ts';
import { pieces } from './layout.ts';
import { readDbcText } from './parse.ts';

/** Names of the checks; stable, as scripts choose by them. */
export type LintCheck =
  | 'parse' // what the parser warns of: broken lines, duplicate ids and names, signals beyond their message, …
  | 'no-message'
  | 'overlap' // two signals of one frame have a bit in common
  | 'selects-nothing' // a multiplexer without branches
  | 'branch-out-of-range' // a branch that its multiplexer's bits never select
  | 'range' // minimum above maximum
  | 'zero-scale' // all raw values mean the same
  | 'name-out-of-range' // VAL_ names a raw value that the bits never hold
  | 'length'; // of a signal or message: more than there can be, or none that CAN FD has

export interface LintFinding {
  /** 1-based. */
  line: number;
  check: LintCheck;
  message: string;
}

/** Lengths of CAN FD frames beyond 8 bytes. */
const FD_LENGTHS = [12, 16, 20, 24, 32, 48, 64];

/**
 * What looks wrong in a DBC file, in the order of its lines. What is only unusual is no finding: a unit that nobody
 * knows, a message without signals or sender, bits of no signal, `[0|0]` for no range, several values named "reserved".
 */
export function lintDbc(source: Buffer | string): { dbc: Dbc; findings: LintFinding[] } {
  const dbc = readDbcText(source);
  const findings: LintFinding[] = dbc.warnings.map((warning) => ({ ...warning, check: 'parse' }));
  if (dbc.messages.length === 0)
    findings.push({
      line: 1,
      check: 'no-message',
      message: 'the file has no usable message ("BO_ <id> <name>: <length> <sender>")',
    });
  for (const message of dbc.messages) {
    const add = (line: number, check: LintCheck, text: string) =>
      void findings.push({ line, check, message: text });
    checkLength(message, add);
    checkOverlaps(message, add);
    message.signals.forEach((signal, i) => {
      checkSignal(signal, add);
      checkMultiplexer(message, i, add);
    });
  }
  return { dbc, findings: findings.sort((a, b) => a.line - b.line) };
}

type Add = (line: number, check: LintCheck, message: string) => void;

function checkLength({ name, length, fd, line }: Message, add: Add): void {
  if (fd && length > 8 && !FD_LENGTHS.includes(length))
    add(line, 'length', `${name} has ${length} bytes; CAN FD has 0 to 8, ${FD_LENGTHS.join(', ')}`);
}

function checkSignal(signal: Signal, add: Add): void {
  const { name, line, length, scale, minimum, maximum, choices } = signal;
  if (length > 64) add(line, 'length', `${name} has ${length} bits; a number has at most 64`);
  if (scale === 0) add(line, 'zero-scale', `the factor of ${name} is 0: all its values are ${signal.offset}`);
  if (minimum !== null && maximum !== null && minimum > maximum)
    add(line, 'range', `the minimum of ${name} is ${minimum}, above its maximum of ${maximum}`);
  if (!choices) return;
  for (const [raw, text] of choices)
    if (!holds(signal, raw))
      add(
        line,
        'name-out-of-range',
        `"${text}" names ${raw}, which the ${bitsOf(signal)} of ${name} cannot hold`,
      );
}

function checkMultiplexer({ signals }: Message, i: number, add: Add): void {
  const signal = signals[i]!;
  const { name, line, branch } = signal;
  if (signal.selects && !signals.some((other) => other.branch?.selector === i))
    add(line, 'selects-nothing', `${name} is a multiplexer, but no signal depends on it`);
  const selector = branch && signals[branch.selector];
  // cantools and the decoder select by the scaled value, so only an unscaled one has the range of its bits.
  if (selector?.conversion.kind !== 'identity') return;
  for (const [first, last] of branch?.ranges ?? [])
    if (!holds(selector, first) && !holds(selector, last))
      add(
        line,
        'branch-out-of-range',
        `${name} is there when ${selector.name} is ${first === last ? first : `${first} to ${last}`}, ` +
          `which its ${bitsOf(selector)} cannot hold`,
      );
}

/** One finding per signal, at the one that comes later in the file. */
function checkOverlaps({ signals }: Message, add: Add): void {
  const masks = signals.map(mask);
  const conditions = signals.map((_, i) => conditionsOf(signals, i));
  signals.forEach((signal, i) => {
    const others: string[] = [];
    for (let k = 0; k < i; k++)
      if ((masks[i]! & masks[k]!) !== 0n && together(conditions[i]!, conditions[k]!))
        others.push(signals[k]!.name);
    if (others.length === 0) return;
    const more = others.length > 1 ? ` and ${others.length - 1} more` : '';
    add(signal.line, 'overlap', `${signal.name} has bits in common with ${others[0]}${more}`);
  });
}

/** The bits of a frame that a signal has. */
function mask(signal: Signal): bigint {
  return pieces(signal).reduce(
    (bits, { byte, shift, bits: count }) => bits | (BigInt((1 << count) - 1) << BigInt(8 * byte + shift)),
    0n,
  );
}

/** All that must hold for a signal to be in the frame: ranges by selector. */
function conditionsOf(signals: Signal[], i: number): Map<number, Branch['ranges']> {
  const conditions = new Map<number, Branch['ranges']>();
  for (let at = signals[i]?.branch; at && !conditions.has(at.selector); at = signals[at.selector]?.branch)
    conditions.set(at.selector, at.ranges);
  return conditions;
}

function together(a: Map<number, Branch['ranges']>, b: Map<number, Branch['ranges']>): boolean {
  for (const [selector, ranges] of a) {
    const others = b.get(selector);
    if (others && !ranges.some(([first, last]) => others.some(([low, high]) => first <= high && low <= last)))
      return false;
  }
  return true;
}

function holds({ type, length }: Signal, raw: number): boolean {
  if (type === 'float') return true;
  const bits = type === 'signed' ? length - 1 : length;
  return raw < 2 ** bits && raw >= (type === 'signed' ? -(2 ** bits) : 0);
}

function bitsOf({ type, length }: Signal): string {
  return `${length} ${type} bit${length === 1 ? '' : 's'}`;
}
