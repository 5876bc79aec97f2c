/** Words that begin a statement. */
const KEYWORDS =
  'VERSION NS_ NS_DESC_ BS_ BU_ BO_ SG_ BO_TX_BU_ CM_ VAL_TABLE_ VAL_ SIG_VALTYPE_ SG_MUL_VAL_ SIG_GROUP_ ' +
  'BA_DEF_ BA_DEF_DEF_ BA_ BA_DEF_REL_ BA_DEF_DEF_REL_ BA_REL_ BA_DEF_SGTYPE_ BA_SGTYPE_ BU_SG_REL_ BU_EV_REL_ ' +
  'BU_BO_REL_ EV_ EV_DATA_ ENVVAR_DATA_ SGTYPE_ SGTYPE_VAL_ SIG_TYPE_REF_ SIGTYPE_VALTYPE_ CAT_ CAT_DEF_ FILTER';
const KEYWORD = `(?:${KEYWORDS.split(' ').join('|')})(?![^\\s:"])`;

const SPACE = /(?:\s+|\/\/[^\n]*)*/y;
const STATEMENT_LINE = new RegExp(`^[ \\t]*${KEYWORD}`, 'gm');
const STATEMENT_HERE = new RegExp(KEYWORD, 'y');
const STRING_END = new RegExp(`"(?=\\s*(?:;|$|\\n[ \\t]*${KEYWORD}))`, 'y');

/** A string in quotes; group 1 is what is in it. `\\"` stands for a quote. */
export const STRING = /"([^"\\]*(?:\\"?[^"\\]*)*)"/y;

/**
 * A cursor over the text of a DBC file. The format has no lines, only statements that most often end in `;`. Real
 * files break even that, so a statement's keyword at the beginning of a line also ends what came before.
 */
export class Scanner {
  readonly text: string;
  at = 0;
  #line = 1;
  #lineAt = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** 1-based line of a position; cheap as long as positions grow. */
  line(at: number): number {
    if (at < this.#lineAt) [this.#line, this.#lineAt] = [1, 0];
    for (
      let next;
      (next = this.text.indexOf('\n', this.#lineAt)) !== -1 && next < at;
      this.#lineAt = next + 1
    )
      this.#line++;
    return this.#line;
  }

  /** Skips spaces and `//` comments; false at the end of the text. */
  more(): boolean {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.at = SPACE.lastIndex;
    return this.at < this.text.length;
  }

  /** Matches a sticky expression here and moves behind it. */
  take(expression: RegExp): RegExpExecArray | null {
    expression.lastIndex = this.at;
    const match = expression.exec(this.text);
    if (match) this.at = expression.lastIndex;
    return match;
  }

  /**
   * The rest of a string whose opening quote has been taken, where the string is the last thing of its statement. It
   * may have several lines. `\"` is a quote; so is a bare `"` unless the statement ends behind it. Null when it is
   * never closed: a new statement begins before the next quote.
   */
  stringToEnd(): string | null {
    const start = this.at;
    let first = -1;
    let limit = Infinity;
    for (let quote = start; (quote = this.text.indexOf('"', quote)) !== -1 && quote < limit; quote++) {
      if (quote > start && this.text[quote - 1] === '\\') continue;
      STRING_END.lastIndex = quote;
      if (STRING_END.test(this.text)) return this.#stringUpTo(start, quote);
      if (first !== -1) continue;
      if (this.#nextStatement(start) < quote) return null;
      first = quote;
      limit = this.#nextStatement(quote);
    }
    return first === -1 ? null : this.#stringUpTo(start, first);
  }

  /** Behind the `;` of the statement; what is wrong if something else stands there. */
  end(): string | null {
    if (!this.more()) return 'the ";" at the end is missing';
    if (this.text[this.at] === ';') {
      this.at++;
      return null;
    }
    if (this.atStatement()) return 'the ";" at the end is missing';
    return `"${this.excerpt()}" was not expected`;
  }

  /** Skips to behind the `;` of a statement that is not looked into. */
  skipStatement(): string | null {
    for (;;) {
      this.take(/[^;"\n]*/y);
      const stop = this.text[this.at];
      if (stop === '"') {
        if (!this.take(STRING)) return 'a string is never closed';
      } else if (stop === '\n') {
        if (!this.more() || this.atStatement()) return this.end();
      } else return this.end();
    }
  }

  atStatement(): boolean {
    STATEMENT_HERE.lastIndex = this.at;
    return (
      STATEMENT_HERE.test(this.text) && /(?:^|\n)[ \t]*$/.test(this.text.slice(this.#lineStart(), this.at))
    );
  }

  /** To the next line that begins with a keyword. */
  resync(): void {
    const next = this.#nextStatement(this.atStatement() ? this.#lineStart() : this.at);
    this.at = Math.min(next, this.text.length);
  }

  /** A few characters from here, for a message. */
  excerpt(): string {
    const line = this.text.slice(this.at, this.at + 60).split(/[\r\n]/, 1)[0] ?? '';
    return line.length > 40 ? `${line.slice(0, 40)}…` : line;
  }

  #lineStart(): number {
    return this.text.lastIndexOf('\n', this.at - 1) + 1;
  }

  /** Where the first line from here on that begins with a keyword begins. */
  #nextStatement(from: number): number {
    STATEMENT_LINE.lastIndex = from;
    return STATEMENT_LINE.exec(this.text)?.index ?? Infinity;
  }

  #stringUpTo(start: number, quote: number): string {
    this.at = quote + 1;
    return this.text.slice(start, quote).replaceAll('\\"', '"');
  }
}
