import { CardanError } from '@cardan/shared';
import { conversionOf } from './conversion.ts';
import type { Dbc, Message, Signal } from './dbc.ts';
import { bytesNeeded } from './layout.ts';
import { resolveBranches } from './multiplex.ts';
import {
  EXTENDED,
  type MessageLine,
  ORPHANS_KEY,
  readStatements,
  type SignalLine,
  signalKey,
  type Statements,
} from './statements.ts';
import { dbcText } from './text.ts';

/** What VFrameFormat's numbers mean where the file does not say. */
const FRAME_FORMATS = [
  'StandardCAN',
  'ExtendedCAN',
  'reserved',
  'J1939PG',
  ...Array<string>(10).fill('reserved'),
  'StandardCAN_FD',
  'ExtendedCAN_FD',
];

/**
 * Reads a DBC file as real vehicles have them. A line that cannot be understood becomes a warning with its number and
 * is left out; the rest of the file counts. The text is UTF-8, or code page 1252 where it is not valid UTF-8.
 *
 * @param name of the file, for the message of an error
 * @throws CardanError DBC_INVALID when not one usable message is in it
 */
export function parseDbc(source: Buffer | string, name = 'The DBC file'): Dbc {
  const { messages, warnings } = readDbcText(source);
  if (messages.length === 0) {
    const first = warnings[0];
    throw new CardanError(
      'DBC_INVALID',
      `${name} has no usable message (no line "BO_ <id> <name>: <length> <sender>"). ` +
        (first ? `First problem: line ${first.line}: ${first.message}. ` : '') +
        'Check that it is a DBC file.',
    );
  }
  return { messages, warnings };
}

/** As {@link parseDbc}, but a file may also have no message. */
export function readDbcText(source: Buffer | string): Dbc {
  const statements = readStatements(dbcText(source).replace(/\r\n?/g, '\n'));
  const messages = new Builder(statements).messages();
  return { messages, warnings: statements.warnings.sort((a, b) => a.line - b.line) };
}

/** Puts messages together from what all statements say of them. */
class Builder {
  readonly #said: Statements;

  constructor(said: Statements) {
    this.#said = said;
  }

  messages(): Message[] {
    const ids = new Map<number, string>();
    const names = new Set<string>();
    const messages = this.#said.messages.map((line) => {
      const message = this.#build(line);
      const id = message.extended ? message.id + EXTENDED : message.id;
      const other = ids.get(id);
      if (other !== undefined)
        this.#warn(
          line.line,
          `${message.name} has the id of ${other}: frames are decoded as ${message.name}`,
        );
      else if (names.has(message.name))
        this.#warn(line.line, `a second message has the name ${message.name}`);
      ids.set(id, message.name);
      names.add(message.name);
      return message;
    });
    this.#warnOfUnused();
    return messages;
  }

  #build(line: MessageLine): Message {
    const usable = line.signals.filter((signal) => {
      if (!this.#isFloat(line, signal) || [16, 32, 64].includes(signal.length)) return true;
      this.#warn(signal.line, `${signal.name} is a float of ${signal.length} bits: left out`);
      return false;
    });
    const { lines, branches } = resolveBranches(
      usable,
      this.#said.selections.get(line.key) ?? [],
      (at, text) => this.#warn(at, text),
    );
    const format =
      this.#said.attributes.get('VFrameFormat')?.get(signalKey(line.key)) ??
      this.#said.defaults.get('VFrameFormat');
    const formats = this.#said.enums.get('VFrameFormat') ?? FRAME_FORMATS;
    const frameFormat = format === undefined ? '' : (formats[Number(format)] ?? format);
    const cycle =
      this.#said.attributes.get('GenMsgCycleTime')?.get(signalKey(line.key)) ??
      this.#said.defaults.get('GenMsgCycleTime');
    return {
      name: this.#longName('SystemMessageLongSymbol', line.key) ?? line.name,
      id: line.key % EXTENDED,
      extended: line.key > 0x7ff,
      fd: frameFormat.endsWith('CAN_FD'),
      length: line.length,
      cycleTimeMs: Number(cycle) > 0 ? Number(cycle) : null,
      sender: line.sender,
      comment: this.#said.comments.get(signalKey(line.key)) ?? null,
      signals: lines.map((signal, i) => this.#buildSignal(line, signal, branches[i] ?? null)),
      line: line.line,
    };
  }

  #buildSignal(message: MessageLine, line: SignalLine, branch: Signal['branch']): Signal {
    const id = signalKey(message.key, line.name);
    const isFloat = this.#isFloat(message, line);
    if (bytesNeeded(line) > message.length)
      this.#warn(line.line, `${line.name} goes beyond the ${message.length} bytes of ${message.name}`);
    return {
      name: this.#longName('SystemSignalLongSymbol', message.key, line.name) ?? line.name,
      start: line.start,
      length: line.length,
      byteOrder: line.byteOrder,
      type: isFloat ? 'float' : line.signed ? 'signed' : 'unsigned',
      scale: Number(line.scale),
      offset: Number(line.offset),
      conversion: conversionOf(line.scale, line.offset, isFloat),
      minimum: line.minimum,
      maximum: line.maximum,
      unit: line.unit,
      comment: this.#said.comments.get(id) ?? null,
      choices: this.#said.choices.get(id)?.names ?? null,
      selects: line.marker.endsWith('M'),
      branch,
      line: line.line,
    };
  }

  /** Types 1 and 2 are IEEE 754; as in cantools, it is the length that says which of them. */
  #isFloat(message: MessageLine, line: SignalLine): boolean {
    const type = this.#said.valueTypes.get(signalKey(message.key, line.name))?.type;
    return type === 1 || type === 2;
  }

  #warn(line: number, message: string): void {
    this.#said.warnings.push({ line, message });
  }

  #longName(attribute: string, id: number, signal = ''): string | undefined {
    return this.#said.attributes.get(attribute)?.get(signalKey(id, signal)) || undefined;
  }

  #warnOfUnused(): void {
    const signals = this.#said.messages.flatMap((m) =>
      m.signals.map((signal) => signalKey(m.key, signal.name)),
    );
    const known = new Set(signals);
    for (const [id, { line }] of [...this.#said.valueTypes, ...this.#said.choices])
      if (!known.has(id) && !id.startsWith(`${ORPHANS_KEY} `))
        this.#warn(line, `no signal of this name in a message of this id: ${id}`);
  }
}
