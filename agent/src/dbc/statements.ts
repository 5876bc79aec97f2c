import { parseFactor } from './conversion.ts';
import type { DbcWarning } from './dbc.ts';
import { Scanner, STRING } from './scanner.ts';

/** A message as it stands in the file, before what other statements say of it. */
export interface MessageLine {
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

/** All that a file says, by statement. Other statements name a signal by {@link signalKey}. */
export interface Statements {
  messages: MessageLine[];
  /** SIG_VALTYPE_. */
  valueTypes: Map<string, { type: number; line: number }>;
  /** VAL_. */
  choices: Map<string, { names: Map<number, string>; line: number }>;
  /** SG_MUL_VAL_, by the message's key. */
  selections: Map<number, Selection[]>;
  /** CM_ of messages and signals. */
  comments: Map<string, string>;
  /** BA_ of messages and signals, by the attribute's name. */
  attributes: Map<string, Map<string, string>>;
  /** Values of an attribute that BA_DEF_ lists, by its name. */
  enums: Map<string, string[]>;
  /** BA_DEF_DEF_, by the attribute's name. */
  defaults: Map<string, string>;
  warnings: DbcWarning[];
}

/** The flag of 29-bit ids. */
export const EXTENDED = 0x8000_0000;
/** The longest transport message of J1939. More is a typing error. */
const LENGTH_BYTES_MAX = 1785;
/** CANdb++ keeps signals that belong to no message in a message of this name. */
const ORPHANS = 'VECTOR__INDEPENDENT_SIG_MSG';
export const ORPHANS_KEY = 0xc000_0000;

/**
 * Reads the statements of a DBC file. One that cannot be understood becomes a warning, and reading goes on with the next
 * line that begins with a keyword.
 *
 * @param text with lines that end in `\n`
 */
export function readStatements(text: string): Statements {
  const reader = new StatementReader(text);
  reader.read();
  return reader.said;
}

/** Names a signal, or without one a message, in the maps of {@link Statements}. */
export function signalKey(message: number, signal = ''): string {
  return `${message} ${signal}`;
}

class StatementReader {
  readonly said: Statements = {
    messages: [],
    valueTypes: new Map(),
    choices: new Map(),
    selections: new Map(),
    comments: new Map(),
    attributes: new Map(),
    enums: new Map(),
    defaults: new Map(),
    warnings: [],
  };
  readonly #in: Scanner;
  /** Position of the statement that is being read. */
  #start = 0;
  /** Where signals go; null behind a broken or ignored BO_. */
  #message: MessageLine | null = null;

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
    this.said.warnings.push({ line, message });
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
    this.said.messages.push(message);
    return null;
  }

  #signalLine(): string | null {
    const match = this.#in.take(
      /SG_\s+([^\s:]+)(?:\s+(\w+))?\s*:\s*(\d+)\s*\|\s*(\d+)\s*@\s*([01])\s*([+-])\s*\(([^,()\n]*),([^,()\n]*)\)(?:\s*\[([^|\]\n]*)\|([^\]\n]*)\])?(?:\s*"([^"\\\n]*(?:\\"?[^"\\\n]*)*)")?([^\n]*)/y,
    );
    if (!match) return `"${this.#in.excerpt()}" is no signal: left out`;
    const [, name = '', marker = '', start, length, order, sign, scaleText = '', offsetText = ''] = match;
    const scale = parseFactor(scaleText.trim());
    const offset = parseFactor(offsetText.trim());
    if (scale === null || offset === null)
      return `(${scaleText},${offsetText}) is no factor and offset: ${name} is left out`;
    if (Number(length) === 0) return `${name} has no bits: left out`;
    if (Number(start) + Number(length) > 16 * LENGTH_BYTES_MAX)
      return `${name} is beyond any frame: left out`;
    const line = this.#in.line(this.#start);
    const sound = /^(?:M|m\d+M?)?$/.test(marker);
    if (!sound) this.#warn(line, `"${marker}" is no multiplexer marker: ${name} is taken as always there`);
    if (match[9] === undefined || match[11] === undefined)
      this.#warn(line, `${name} has no [minimum|maximum] "unit": taken without`);
    this.#message?.signals.push({
      name,
      marker: sound ? marker : '',
      start: Number(start),
      length: Number(length),
      byteOrder: order === '1' ? 'little' : 'big',
      signed: sign === '-',
      scale,
      offset,
      minimum: finite(match[9]),
      maximum: finite(match[10]),
      unit: (match[11] ?? '').replaceAll('\\"', '"'),
      line,
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
    if (kind === 'BO_' || kind === 'SG_') this.said.comments.set(signalKey(Number(id), signal), text);
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
      this.said.choices.set(signalKey(Number(match[1]), match[2] ?? ''), {
        names,
        line: this.#in.line(this.#start),
      });
    return this.#in.end();
  }

  #valueType(): string | null {
    const match = this.#in.take(/SIG_VALTYPE_\s+(\d+)\s+([^\s:;]+)\s*:?\s*(\d+)/y);
    if (!match) return 'this is no SIG_VALTYPE_ <id> <signal> : <type>: left out';
    const line = this.#in.line(this.#start);
    this.said.valueTypes.set(signalKey(Number(match[1]), match[2] ?? ''), { type: Number(match[3]), line });
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
    const list = this.said.selections.get(Number(id));
    if (list) list.push(selection);
    else this.said.selections.set(Number(id), [selection]);
    return this.#in.end();
  }

  #attributeDefinition(): string | null {
    const match = this.#in.take(/BA_DEF_\s+(?:(?:BO_|SG_|BU_|EV_)\s+)?"([^"\n]*)"\s+(\w+)/y);
    if (!match) return 'this is no definition of an attribute: left out';
    const values: string[] = [];
    if (match[2] === 'ENUM')
      for (let value; this.#in.more() && (value = this.#in.take(STRING)); this.#in.take(/\s*,/y))
        values.push(value[1] ?? '');
    if (values.length > 0) this.said.enums.set(match[1] ?? '', values);
    return this.#in.skipStatement();
  }

  #attributeDefault(): string | null {
    const match = this.#in.take(/BA_DEF_DEF_\s+"([^"\n]*)"\s*/y);
    if (!match) return 'this is no default of an attribute: left out';
    const value = this.#attributeValue();
    if (value === null) return 'the default of an attribute has no value: left out';
    this.said.defaults.set(match[1] ?? '', value);
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
      let values = this.said.attributes.get(name);
      if (!values) this.said.attributes.set(name, (values = new Map<string, string>()));
      values.set(signalKey(Number(id), signal), value);
    }
    return this.#in.end();
  }

  #attributeValue(): string | null {
    const number = this.#in.take(/[-+.\d][^\s";]*/y);
    if (number) return number[0];
    return this.#in.take(/"/y) ? this.#in.stringToEnd() : null;
  }
}

function finite(text: string | undefined): number | null {
  const value = Number(text?.trim() || NaN);
  return Number.isFinite(value) ? value : null;
}
