import { campaignInvalid } from './campaign-fields.ts';

/*
 * The language of conditions, from the loosest to the tightest binding:
 *
 *   or          = and { "or" and }
 *   and         = not { "and" not }
 *   not         = "not" not | comparison
 *   comparison  = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
 *   sum         = product { ( "+" | "-" ) product }
 *   product     = unary { ( "*" | "/" ) unary }
 *   unary       = "-" unary | primary
 *   primary     = NUMBER | signal | call | "(" or ")"
 *   call        = ( "rising" | "falling" ) "(" truth ")"
 *               | ( "min" | "max" | "avg" ) "(" signal "," DURATION ")"
 *               | "hysteresis" "(" number "," constant "," constant ")"
 *               | ( "abs" | "isnan" ) "(" number ")"
 *   signal      = NAME { "." NAME } | "'" … "'" | '"' … '"'
 *   constant    = [ "-" ] NUMBER
 *
 * NUMBER is as in JSON, DURATION is digits with ms, s or min (`500ms`, `1.5s`, `2min`), NAME is as in C. Every part is
 * either a number or a truth, known before anything runs; where one is needed the other is refused.
 */

/** A parsed condition. `text` is as it was written. */
export interface Expression {
  text: string;
  root: TruthNode;
}

export type NumberNode =
  | { kind: 'number'; value: number }
  | { kind: 'signal'; name: string }
  | { kind: 'negate' | 'abs'; of: NumberNode }
  | { kind: 'arithmetic'; operator: '+' | '-' | '*' | '/'; left: NumberNode; right: NumberNode }
  | { kind: 'window'; statistic: WindowName; signal: string; lengthMs: number };

export type TruthNode =
  | { kind: 'not' | 'rising' | 'falling'; of: TruthNode }
  | { kind: 'isnan'; of: NumberNode }
  | { kind: 'compare'; operator: CompareOperator; left: NumberNode; right: NumberNode }
  | { kind: 'and' | 'or'; left: TruthNode; right: TruthNode }
  | { kind: 'hysteresis'; of: NumberNode; on: number; off: number };

export type Node = NumberNode | TruthNode;
export type WindowName = 'min' | 'max' | 'avg';
export type CompareOperator = '<' | '<=' | '>' | '>=' | '==' | '!=';

/** The bounds keep a condition cheap: two hundred closures cost some microseconds a sample. */
export const EXPRESSION_LIMITS = {
  /** Characters. */
  length: 2000,
  nodes: 200,
  depth: 64,
  windows: 16,
  windowMs: 600_000,
} as const;

type Token = { at: number; end: number } & (
  | { kind: 'number' | 'duration'; value: number }
  | { kind: 'name'; text: string; quoted: boolean }
  | { kind: 'symbol'; text: string }
  | { kind: 'end' }
);

const SPACE = /[ \t\r\n]*/y;
const NUMBER = /(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?/y;
const UNIT = /[A-Za-z_]\w*/y;
const NAME = /[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*/y;
const QUOTED = /'[^'\p{Cc}]{1,200}'|"[^"\p{Cc}]{1,200}"/uy;
const SYMBOL = /<=|>=|==|!=|[<>+\-*/(),]/y;
const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['min', 60_000],
]);
const FUNCTIONS = ['rising', 'falling', 'min', 'max', 'avg', 'hysteresis', 'abs', 'isnan'] as const;
type FunctionName = (typeof FUNCTIONS)[number];

/** How tightly a binary operator binds. A map, since a name in the text can be `constructor`. */
const POWER: ReadonlyMap<string, number> = new Map([
  ['or', 1],
  ['and', 2],
  ...['<', '<=', '>', '>=', '==', '!='].map((operator) => [operator, 4] as const),
  ['+', 5],
  ['-', 5],
  ['*', 6],
  ['/', 6],
]);
const POWER_NOT = 3;
const POWER_MINUS = 7;

/**
 * Parses a condition. `path` is the name of the field that it came from, for messages.
 *
 * @throws CardanError CAMPAIGN_INVALID with the place as a character's number, 1-based
 */
export function parseExpression(text: string, path = 'the condition'): Expression {
  return new Parser(text, path).parse();
}

/** A Pratt parser: a loop that goes on as long as the next operator binds more tightly than the one before. */
class Parser {
  private readonly text: string;
  private readonly path: string;
  private token: Token;
  private nodes = 0;
  private windows = 0;
  private depth = 0;
  private readonly depths = new WeakMap<Node, number>();

  constructor(text: string, path: string) {
    this.text = text;
    this.path = path;
    if (text.length > EXPRESSION_LIMITS.length)
      throw campaignInvalid(
        `${path} has ${text.length} characters; at most ${EXPRESSION_LIMITS.length} are allowed`,
      );
    this.token = this.scan(0);
  }

  parse(): Expression {
    const begin = this.token;
    const root = this.expression(0);
    if (this.token.kind !== 'end') throw this.bad(this.token, `${this.seen()} is not expected here`);
    return { text: this.text, root: this.truth(root, begin) };
  }

  private expression(power: number): Node {
    // Parentheses and signs make no node, so the recursion has a bound of its own.
    if (++this.depth > EXPRESSION_LIMITS.depth)
      throw this.bad(this.token, `it is nested deeper than ${EXPRESSION_LIMITS.depth}`);
    const begin = this.token;
    let left = this.prefix();
    for (;;) {
      const operator = this.operator();
      const binds = operator === undefined ? 0 : (POWER.get(operator) ?? 0);
      if (operator === undefined || binds <= power) break;
      const at = this.advance();
      const behind = this.token;
      const right = this.expression(binds);
      left = this.binary(operator, at, [left, begin], [right, behind]);
    }
    this.depth--;
    return left;
  }

  private operator(): string | undefined {
    const { token } = this;
    if (token.kind === 'symbol' || (token.kind === 'name' && !token.quoted)) return token.text;
    return undefined;
  }

  private binary(operator: string, at: Token, [left, l]: [Node, Token], [right, r]: [Node, Token]): Node {
    switch (operator) {
      case 'and':
      case 'or':
        return this.node({ kind: operator, left: this.truth(left, l), right: this.truth(right, r) }, at);
      case '+':
      case '-':
      case '*':
      case '/':
        return this.node(
          { kind: 'arithmetic', operator, left: this.number(left, l), right: this.number(right, r) },
          at,
        );
      default: {
        const compare = operator as CompareOperator;
        return this.node(
          { kind: 'compare', operator: compare, left: this.number(left, l), right: this.number(right, r) },
          at,
        );
      }
    }
  }

  private prefix(): Node {
    const token = this.advance();
    switch (token.kind) {
      case 'number':
        return this.node({ kind: 'number', value: token.value }, token);
      case 'duration':
        throw this.bad(token, 'a duration is expected only as the length of a window');
      case 'end':
        throw this.bad(token, 'it ends where a value is expected');
      case 'symbol':
        if (token.text === '(') {
          const inner = this.expression(0);
          this.expect(')');
          return inner;
        }
        if (token.text === '-') {
          const begin = this.token;
          return this.node({ kind: 'negate', of: this.number(this.expression(POWER_MINUS), begin) }, token);
        }
        throw this.bad(token, `"${token.text}" is not expected here; a value is`);
      case 'name': {
        if (token.quoted) return this.node({ kind: 'signal', name: token.text }, token);
        if (token.text === 'not') {
          const begin = this.token;
          return this.node({ kind: 'not', of: this.truth(this.expression(POWER_NOT), begin) }, token);
        }
        if (token.text === 'and' || token.text === 'or')
          throw this.bad(token, `"${token.text}" is not expected here; a value is`);
        if (this.operator() !== '(') return this.node({ kind: 'signal', name: token.text }, token);
        const called = FUNCTIONS.find((name) => name === token.text);
        if (called === undefined)
          throw this.bad(token, `there is no function ${token.text}; known are ${FUNCTIONS.join(', ')}`);
        this.advance();
        const node = this.call(called, token);
        this.expect(')');
        return node;
      }
    }
  }

  private call(name: FunctionName, token: Token): Node {
    switch (name) {
      case 'rising':
      case 'falling': {
        const begin = this.token;
        return this.node({ kind: name, of: this.truth(this.expression(0), begin) }, token);
      }
      case 'abs':
        return this.node({ kind: 'abs', of: this.numberArgument() }, token);
      case 'isnan':
        return this.node({ kind: 'isnan', of: this.numberArgument() }, token);
      case 'hysteresis': {
        const of = this.numberArgument();
        this.expect(',');
        const on = this.constant();
        this.expect(',');
        const begin = this.token;
        const off = this.constant();
        if (on === off) throw this.bad(begin, 'the two thresholds of hysteresis are equal');
        return this.node({ kind: 'hysteresis', of, on, off }, token);
      }
      case 'min':
      case 'max':
      case 'avg':
        return this.window(name, token);
    }
  }

  private window(statistic: WindowName, token: Token): Node {
    const signal = this.advance();
    if (signal.kind !== 'name' || (!signal.quoted && RESERVED.has(signal.text)))
      throw this.bad(signal, `${statistic} takes a signal, as in ${statistic}(Speed, 10s)`);
    this.expect(',');
    const length = this.advance();
    if (length.kind !== 'duration')
      throw this.bad(length, `${statistic} takes a duration with ms, s or min, as in 10s`);
    if (!(length.value > 0) || length.value > EXPRESSION_LIMITS.windowMs)
      throw this.bad(length, `a window is over 0 and at most ${EXPRESSION_LIMITS.windowMs / 60_000}min long`);
    if (++this.windows > EXPRESSION_LIMITS.windows)
      throw this.bad(token, `it has more than ${EXPRESSION_LIMITS.windows} windows`);
    return this.node({ kind: 'window', statistic, signal: signal.text, lengthMs: length.value }, token);
  }

  private numberArgument(): NumberNode {
    const begin = this.token;
    return this.number(this.expression(0), begin);
  }

  private constant(): number {
    const minus = this.operator() === '-';
    if (minus) this.advance();
    const token = this.advance();
    if (token.kind !== 'number') throw this.bad(token, 'a threshold of hysteresis is a plain number');
    return minus ? -token.value : token.value;
  }

  private number(node: Node, begin: Token): NumberNode {
    if (isTruth(node)) throw this.bad(begin, 'a number is needed, and this is true or false');
    return node;
  }

  private truth(node: Node, begin: Token): TruthNode {
    if (isTruth(node)) return node;
    throw this.bad(begin, 'true or false is needed, and this is a number; compare it with something');
  }

  private node<T extends Node>(node: T, token: Token): T {
    if (++this.nodes > EXPRESSION_LIMITS.nodes)
      throw this.bad(token, `it has more than ${EXPRESSION_LIMITS.nodes} parts`);
    let below = 0;
    for (const child of childrenOf(node)) below = Math.max(below, this.depths.get(child) ?? 0);
    // A long chain of operators is deep to the left, without recursion in the parser.
    if (below >= EXPRESSION_LIMITS.depth)
      throw this.bad(
        token,
        `it is nested deeper than ${EXPRESSION_LIMITS.depth}; parentheses can halve that`,
      );
    this.depths.set(node, below + 1);
    return node;
  }

  private expect(symbol: string): void {
    if (this.token.kind !== 'symbol' || this.token.text !== symbol)
      throw this.bad(this.token, `${this.seen()} is here where "${symbol}" is expected`);
    this.advance();
  }

  private advance(): Token {
    const { token } = this;
    if (token.kind !== 'end') this.token = this.scan(token.end);
    return token;
  }

  private scan(from: number): Token {
    const at = from + (this.match(SPACE, from)?.length ?? 0);
    if (at === this.text.length) return { kind: 'end', at, end: at };
    const digits = this.match(NUMBER, at);
    if (digits !== undefined) return this.scanNumber(digits, at);
    const quoted = this.match(QUOTED, at);
    if (quoted !== undefined)
      return { kind: 'name', text: quoted.slice(1, -1), quoted: true, at, end: at + quoted.length };
    const name = this.match(NAME, at);
    if (name !== undefined) return { kind: 'name', text: name, quoted: false, at, end: at + name.length };
    const symbol = this.match(SYMBOL, at);
    if (symbol !== undefined) return { kind: 'symbol', text: symbol, at, end: at + symbol.length };
    const character = String.fromCodePoint(this.text.codePointAt(at)!);
    const why =
      character === '"' || character === "'"
        ? 'the quoted name is empty, longer than 200 characters, or has no end'
        : character === '='
          ? 'use == to compare'
          : `${JSON.stringify(character)} has no meaning here`;
    throw this.bad({ kind: 'end', at, end: at }, why);
  }

  private scanNumber(digits: string, at: number): Token {
    const value = Number(digits);
    const end = at + digits.length;
    if (!Number.isFinite(value)) throw this.bad({ kind: 'end', at, end }, `${digits} is too large a number`);
    const unit = this.match(UNIT, end);
    if (unit === undefined) return { kind: 'number', value, at, end };
    const factor = UNIT_MS.get(unit);
    if (factor === undefined)
      throw this.bad({ kind: 'end', at: end, end }, `"${unit}" is no unit of time; known are ms, s and min`);
    return { kind: 'duration', value: value * factor, at, end: end + unit.length };
  }

  private match(pattern: RegExp, at: number): string | undefined {
    pattern.lastIndex = at;
    return pattern.exec(this.text)?.[0];
  }

  private seen(): string {
    const { kind, at, end } = this.token;
    return kind === 'end' ? 'the end' : `"${this.text.slice(at, Math.min(end, at + 40))}"`;
  }

  private bad(token: Token, why: string): Error {
    return campaignInvalid(`${this.path}, character ${token.at + 1}: ${why}`);
  }
}

/** Words that are no signal unless they are quoted. */
const RESERVED: ReadonlySet<string> = new Set(['and', 'or', 'not']);

function isTruth(node: Node): node is TruthNode {
  switch (node.kind) {
    case 'number':
    case 'signal':
    case 'negate':
    case 'abs':
    case 'arithmetic':
    case 'window':
      return false;
    default:
      return true;
  }
}

/** The parts of a node. */
export function childrenOf(node: Node): Node[] {
  if ('left' in node) return [node.left, node.right];
  return 'of' in node ? [node.of] : [];
}
