import { CardanError } from '@cardan/shared';
import { conversionOf, parseFactor } from './conversion.ts';
import type { Dbc, DbcWarning, Message, Signal } from './dbc.ts';
import { bytesNeeded } from './layout.ts';
import { resolveBranches } from './multiplex.ts';
import { Scanner, STRING } from './scanner.ts';
import { dbcText } from './text.ts';

/** A message as it stands in the file, before what other statements say of it. */
interface MessageLine {
  /** As written, with the flag in bit 31: the key by which other statements name the message. */
  key: number;
  name: string;
  length: number;
  sender: string | null;
  line: number;
  signals: SignalLine[];
}

export interface SignalLine {
  name: string;
  /** `M`, `m3`, `m3M`. */
  marker: string;
  start: number;
  length: number;
  byteOrder: 'little' | 'big';
  signed: boolean;
  scale: number | bigint;
  offset: number | bigint;
  minimum: number | null;
  maximum: number | null;
  unit: string;
  line: number;
}

/** One SG_MUL_VAL_: the signal is there while the selector's value is in one of the ranges. */
export interface Selection {
  signal: string;
  selector: string;
  ranges: (readonly [number, number])[];
  line: number;
}

/** The longest transport message of J1939. More is a typing error. */
const LENGTH_BYTES_MAX = 1785;
const EXTENDED = 0x8000_0000;
/** CANdb++ keeps signals that belong to no message in a message of this name. */
const ORPHANS = 'VECTOR__INDEPENDENT_SIG_MSG';
const ORPHANS_KEY = 0xc000_0000;
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
  const reader = new DbcReader(dbcText(source).replace(/\r\n?/g, '\n'));
  reader.read();
  const messages = reader.messages();
  const warnings = reader.warnings.sort((a, b) => a.line - b.line);
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

class DbcReader {
  readonly warnings: DbcWarning[] = [];
  readonly #in: Scanner;
  /** Position of the statement that is being read. */
  #start = 0;
  #messages: MessageLine[] = [];
  /** Where signals go; null behind a broken or ignored BO_. */
  #message: MessageLine | null = null;

  #valueTypes = new Map<string, { type: number; line: number }>();
  #choices = new Map<string, { names: Map<number, string>; line: number }>();
  #selections = new Map<number, Selection[]>();
  #comments = new Map<string, string>();
  /** Attributes of messages and signals, by name of the attribute, then by key. */
  #attributes = new Map<string, Map<string, string>>();
  #enums = new Map<string, string[]>();
  #defaults = new Map<string, string>();

  /** Readers of the statements that matter here. Each gives what is wrong, or null. Others are skipped. */
  readonly #statements = new Map<string, () => string | null>([
    ['VERSION', () => (this.#in.take(/VERSION\s*"[^"]*"/y) ? null : 'VERSION has no text')],
    ['NS_', () => this.#newSymbols()],
    ['BS_', () => (this.#in.take(/[^\n]*/y), null)],
    ['BU_', () => this.#nodes()],
    ['BO_', () => this.#messageLine()],
    ['SG_', () => this.#signalLine()],
    ['CM_', () => this.#comment()],
    ['VAL_', () => this.#valueNames()],
    ['SIG_VALTYPE_', () => this.#valueType()],
    ['SG_MUL_VAL_', () => this.#selection()],
    ['BA_DEF_', () => this.#attributeDefinition()],
    ['BA_DEF_DEF_', () => this.#attributeDefault()],
    ['BA_', () => this.#attribute()],
  ]);

  constructor(text: string) {
    this.#in = new Scanner(text);
  }

  read(): void {
    while (this.#in.more()) {
      this.#start = this.#in.at;
      const problem = this.#statement();
      if (problem === null) continue;
      this.#warn(this.#in.line(this.#start), problem);
      if (this.#in.at === this.#start) this.#in.at++;
      this.#in.resync();
    }
  }

  /** Reads one statement; what is wrong with it, or null. */
  #statement(): string | null {
    const word = /^[A-Z_]*/.exec(this.#in.text.slice(this.#start, this.#start + 24))?.[0] ?? '';
    const read = this.#statements.get(word);
    if (read) return read();
    if (this.#in.atStatement()) return this.#in.skipStatement();
    return `"${this.#in.excerpt()}" is no DBC statement`;
  }

  #warn(line: number, message: string): void {
    this.warnings.push({ line, message });
  }

  /** NS_ lists keywords that mean nothing: words alone on their line, or on the line of NS_. */
  #newSymbols(): null {
    this.#in.take(/NS_[ \t]*:?[^\n]*(?:\s*\n[ \t]*\w+[ \t]*(?=\n|$))*/y);
    return null;
  }

  #nodes(): null {
    this.#in.take(/BU_[ \t]*:?[^\n]*/y);
    while (this.#in.more() && !this.#in.atStatement() && this.#in.take(/\w+[ \t,]*/y));
    return null;
  }

  #messageLine(): string | null {
    this.#message = null;
    const match = this.#in.take(/BO_\s+(\w+)\s+([^\s:]+)\s*:\s*(\w+)(?:[ \t]+([^\s;]+))?[ \t]*;?/y);
    if (!match) return 'this is no message ("BO_ <id> <name>: <length> <sender>"): left out with its signals';
    const [, id, name = '', length, sender] = match;
    if (name === ORPHANS) return null;
    const message: MessageLine = {
      key: Number(id),
      name,
      length: Number(length),
      sender: sender === undefined || sender === 'Vector__XXX' ? null : sender,
      line: this.#in.line(this.#start),
      signals: [],
    };
    if (!Number.isInteger(message.key) || message.key > 0xffff_ffff)
      return `"${id}" is no id of a message: ${name} is left out`;
    if ((message.key & 0x6000_0000) !== 0)
      return `the id ${id} has more than 29 bits: ${name} is left out with its signals`;
    if (!Number.isInteger(message.length) || message.length > LENGTH_BYTES_MAX)
      return `"${length}" is no length in bytes: ${name} is left out with its signals`;
    if (message.key > 0x7ff && message.key < EXTENDED)
      this.#warn(message.line, `the id ${id} has more than 11 bits but no flag in bit 31: taken as extended`);
    this.#message = message;
    this.#messages.push(message);
    return null;
  }

  #signalLine(): string | null {
    const match = this.#in.take(
      /SG_\s+([^\s:]+)(?:\s+(\w+))?\s*:\s*(\d+)\s*\|\s*(\d+)\s*@\s*([01])\s*([+-])\s*\(([^,()\n]*),([^,()\n]*)\)\s*(?:\[([^|\]\n]*)\|([^\]\n]*)\]\s*)?(?:"([^"\\\n]*(?:\\"?[^"\\\n]*)*)")?([^\n]*)/y,
    );
    if (!match) return `"${this.#in.excerpt()}" is no signal: left out`;
    const [, name = '', marker = '', start, length, order, sign, scaleText = '', offsetText = ''] = match;
    const scale = parseFactor(scaleText.trim());
    const offset = parseFactor(offsetText.trim());
    if (scale === null || offset === null)
      return `(${scaleText},${offsetText}) is no factor and offset: ${name} is left out`;
    if (!/^(?:M|m\d+M?)?$/.test(marker)) return `"${marker}" is no multiplexer marker: ${name} is left out`;
    if (Number(length) === 0) return `${name} has no bits: left out`;
    if (Number(start) + Number(length) > 16 * LENGTH_BYTES_MAX)
      return `${name} is beyond any frame: left out`;
    if (match[9] === undefined || match[11] === undefined)
      this.#warn(this.#in.line(this.#start), `${name} has no [minimum|maximum] "unit": taken without`);
    this.#message?.signals.push({
      name,
      marker,
      start: Number(start),
      length: Number(length),
      byteOrder: order === '1' ? 'little' : 'big',
      signed: sign === '-',
      scale,
      offset,
      minimum: finite(match[9]),
      maximum: finite(match[10]),
      unit: (match[11] ?? '').replaceAll('\\"', '"'),
      line: this.#in.line(this.#start),
    });
    // Receivers may go on on the next lines.
    while (/,\s*$/.test(match[12] ?? '') && this.#in.more() && !this.#in.atStatement())
      if (!this.#in.take(/\w+[ \t]*,?/y)) break;
    return null;
  }

  #comment(): string | null {
    const match = this.#in.take(/CM_\s*(?:(BO_|SG_|BU_|EV_)\s+(\w+)\s+(?:([^\s"]+)\s*)?)?"/y);
    if (!match) return 'this is no comment ("CM_ BO_ <id> "…";"): left out';
    const text = this.#in.stringToEnd();
    if (text === null) return 'the comment is never closed: left out';
    const [, kind, id, signal = ''] = match;
    if (kind === 'BO_' || kind === 'SG_') this.#comments.set(key(Number(id), signal), text);
    return this.#in.end();
  }

  #valueNames(): string | null {
    const match = this.#in.take(/VAL_\s+(\d+)\s+([^\s;"]+)/y);
    if (!match) return this.#in.skipStatement(); // of an environment variable
    const names = new Map<number, string>();
    for (let pair; this.#in.more() && (pair = this.#in.take(/([+-]?\d+)\s*/y));) {
      const name = this.#in.take(STRING);
      if (!name) return 'the names of values are broken: left out';
      names.set(Number(pair[1]), (name[1] ?? '').replaceAll('\\"', '"'));
    }
    if (names.size > 0)
      this.#choices.set(key(Number(match[1]), match[2] ?? ''), { names, line: this.#in.line(this.#start) });
    return this.#in.end();
  }

  #valueType(): string | null {
    const match = this.#in.take(/SIG_VALTYPE_\s+(\d+)\s+([^\s:;]+)\s*:?\s*(\d+)/y);
    if (!match) return 'this is no SIG_VALTYPE_ <id> <signal> : <type>: left out';
    const line = this.#in.line(this.#start);
    this.#valueTypes.set(key(Number(match[1]), match[2] ?? ''), { type: Number(match[3]), line });
    return this.#in.end();
  }

  #selection(): string | null {
    const match = this.#in.take(
      /SG_MUL_VAL_\s+(\d+)\s+(\S+)\s+(\S+)\s+(\d+\s*-\s*\d+(?:\s*,\s*\d+\s*-\s*\d+)*)/y,
    );
    if (!match) return 'this is no SG_MUL_VAL_ <id> <signal> <multiplexer> <first>-<last>: left out';
    const [, id, signal = '', selector = '', ranges = ''] = match;
    const selection: Selection = {
      signal,
      selector,
      ranges: ranges.split(',').map((range) => {
        const [first, last] = range.split('-');
        return [Number(first), Number(last)] as const;
      }),
      line: this.#in.line(this.#start),
    };
    const list = this.#selections.get(Number(id));
    if (list) list.push(selection);
    else this.#selections.set(Number(id), [selection]);
    return this.#in.end();
  }

  #attributeDefinition(): string | null {
    const match = this.#in.take(/BA_DEF_\s+(?:(?:BO_|SG_|BU_|EV_)\s+)?"([^"\n]*)"\s+(\w+)/y);
    if (!match) return 'this is no definition of an attribute: left out';
    const values: string[] = [];
    if (match[2] === 'ENUM')
      for (let value; this.#in.more() && (value = this.#in.take(STRING)); this.#in.take(/\s*,/y))
        values.push(value[1] ?? '');
    if (values.length > 0) this.#enums.set(match[1] ?? '', values);
    return this.#in.skipStatement();
  }

  #attributeDefault(): string | null {
    const match = this.#in.take(/BA_DEF_DEF_\s+"([^"\n]*)"\s*/y);
    if (!match) return 'this is no default of an attribute: left out';
    const value = this.#attributeValue();
    if (value === null) return 'the default of an attribute has no value: left out';
    this.#defaults.set(match[1] ?? '', value);
    return this.#in.end();
  }

  #attribute(): string | null {
    const match = this.#in.take(/BA_\s+"([^"\n]*)"\s*(?:(BO_|SG_|BU_|EV_)\s+(\w+)\s*)?/y);
    if (!match) return 'this is no attribute: left out';
    const [, name = '', kind, id] = match;
    const signal = kind === 'SG_' ? this.#in.take(/([^\s";]+)\s*/y)?.[1] : '';
    const value = this.#attributeValue();
    if (signal === undefined || value === null) return `the attribute ${name} has no value: left out`;
    if (kind === 'BO_' || kind === 'SG_') {
      let values = this.#attributes.get(name);
      if (!values) this.#attributes.set(name, (values = new Map<string, string>()));
      values.set(key(Number(id), signal), value);
    }
    return this.#in.end();
  }

  #attributeValue(): string | null {
    const number = this.#in.take(/[^\s";]+/y);
    if (number) return number[0];
    return this.#in.take(/"/y) ? this.#in.stringToEnd() : null;
  }

  /** What was read, put together. */
  messages(): Message[] {
    const ids = new Map<number, string>();
    const names = new Set<string>();
    const messages = this.#messages.map((line) => {
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
    const { lines, branches } = resolveBranches(usable, this.#selections.get(line.key) ?? [], (at, text) =>
      this.#warn(at, text),
    );
    const format =
      this.#attributes.get('VFrameFormat')?.get(key(line.key)) ?? this.#defaults.get('VFrameFormat');
    const formats = this.#enums.get('VFrameFormat') ?? FRAME_FORMATS;
    const frameFormat = format === undefined ? '' : (formats[Number(format)] ?? format);
    const cycle =
      this.#attributes.get('GenMsgCycleTime')?.get(key(line.key)) ?? this.#defaults.get('GenMsgCycleTime');
    return {
      name: this.#longName('SystemMessageLongSymbol', line.key) ?? line.name,
      id: line.key % EXTENDED,
      extended: line.key > 0x7ff,
      fd: frameFormat.endsWith('CAN_FD'),
      length: line.length,
      cycleTimeMs: Number(cycle) > 0 ? Number(cycle) : null,
      sender: line.sender,
      comment: this.#comments.get(key(line.key)) ?? null,
      signals: lines.map((signal, i) => this.#buildSignal(line, signal, branches[i] ?? null)),
      line: line.line,
    };
  }

  #buildSignal(message: MessageLine, line: SignalLine, branch: Signal['branch']): Signal {
    const id = key(message.key, line.name);
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
      comment: this.#comments.get(id) ?? null,
      choices: this.#choices.get(id)?.names ?? null,
      selects: line.marker.endsWith('M'),
      branch,
    };
  }

  /** Types 1 and 2 are IEEE 754; as in cantools, it is the length that says which of them. */
  #isFloat(message: MessageLine, line: SignalLine): boolean {
    const type = this.#valueTypes.get(key(message.key, line.name))?.type;
    return type === 1 || type === 2;
  }

  #longName(attribute: string, id: number, signal = ''): string | undefined {
    return this.#attributes.get(attribute)?.get(key(id, signal)) || undefined;
  }

  #warnOfUnused(): void {
    const signals = this.#messages.flatMap((m) => m.signals.map((signal) => key(m.key, signal.name)));
    const known = new Set(signals);
    for (const [id, { line }] of [...this.#valueTypes, ...this.#choices])
      if (!known.has(id) && !id.startsWith(`${ORPHANS_KEY} `))
        this.#warn(line, `no signal of this name in a message of this id: ${id}`);
  }
}

function key(id: number, signal = ''): string {
  return `${id} ${signal}`;
}

function finite(text: string | undefined): number | null {
  const value = Number(text?.trim() || NaN);
  return Number.isFinite(value) ? value : null;
}
