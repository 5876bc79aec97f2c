import { CardanError } from '@cardan/shared';

/*
 * RSQL, the superset of FIQL (draft-nottingham-atompub-fiql-00) that management APIs of devices use:
 *
 *   or         = and *( "," and )
 *   and        = constraint *( ";" constraint )
 *   constraint = "(" or ")" / comparison
 *   comparison = attribute operator arguments
 *   operator   = "==" / "!=" / "<" / "<=" / ">" / ">=" / "=lt=" / "=le=" / "=gt=" / "=ge=" / "=in=" / "=out="
 *   arguments  = value / "(" value *( "," value ) ")"        a list for =in= and =out= only
 *   value      = any characters but these: " ' ( ) ; , = ! ~ < >  and space / quoted by " or ', with \ before a quote
 *
 * Words `and` and `or` between spaces may stand for ";" and ",". A `*` in a value of ==, !=, =in= and =out= stands for
 * any characters, `\*` in a quoted value for a star.
 */

/** What is known of a vehicle; `id` and `signalSet` are among them. */
export type VehicleAttributes = Readonly<Record<string, string | number | boolean>>;

export type VehicleFilter = (attributes: VehicleAttributes) => boolean;

/** Longest filter, characters: a list of a hundred ids fits. */
export const FILTER_LENGTH_MAX = 4096;
/** Groups within groups: the parser goes down once for each, and nobody writes more. */
const DEPTH_MAX = 20;
/** Comparisons and values: each is looked at for each vehicle. */
const TERMS_MAX = 500;

const EVERY: VehicleFilter = () => true;

/**
 * Compiles a filter; an empty one fits every vehicle. A vehicle that lacks an attribute fits its != and =out=, and no
 * other comparison. Numbers compare as numbers where both sides are some, all else by code points.
 *
 * @throws CardanError FILTER_INVALID, naming the character
 */
export function parseFilter(text: string): VehicleFilter {
  if (text.trim() === '') return EVERY;
  if (text.length > FILTER_LENGTH_MAX)
    throw new CardanError(
      'FILTER_INVALID',
      `The filter has ${text.length} characters; at most ${FILTER_LENGTH_MAX} are allowed.`,
    );
  return new Parser(text).parse();
}

interface Value {
  text: string;
  /** Pieces between stars; one piece: no star. */
  pieces: string[];
}

class Parser {
  private readonly text: string;
  private at = 0;
  private terms = 0;

  constructor(text: string) {
    this.text = text;
  }

  parse(): VehicleFilter {
    const filter = this.or(0);
    this.spaces();
    if (this.at < this.text.length)
      throw this.bad(
        this.text[this.at] === ')' ? 'this ")" closes nothing' : 'a ";" or "," is expected before it',
      );
    return filter;
  }

  private or(depth: number): VehicleFilter {
    const parts = [this.and(depth)];
    while (this.takes(',', 'or')) parts.push(this.and(depth));
    return parts.length === 1 ? parts[0]! : (vehicle) => parts.some((part) => part(vehicle));
  }

  private and(depth: number): VehicleFilter {
    const parts = [this.constraint(depth)];
    while (this.takes(';', 'and')) parts.push(this.constraint(depth));
    return parts.length === 1 ? parts[0]! : (vehicle) => parts.every((part) => part(vehicle));
  }

  private constraint(depth: number): VehicleFilter {
    this.spaces();
    if (this.text[this.at] !== '(') return this.comparison();
    if (depth === DEPTH_MAX) throw this.bad(`more than ${DEPTH_MAX} groups within each other`);
    const open = this.at++;
    const inner = this.or(depth + 1);
    this.spaces();
    if (this.text[this.at] !== ')')
      throw this.bad(`the "(" of character ${open + 1} is not closed here; a ")", ";" or "," is expected`);
    this.at++;
    return inner;
  }

  private comparison(): VehicleFilter {
    const name = this.word('the name of an attribute');
    this.spaces();
    const begun = this.at;
    const operator = /^(==|!=|<=|>=|<|>|=[a-z]+=)/.exec(this.text.slice(this.at, this.at + 10))?.[0];
    if (operator === undefined) throw this.bad('an operator such as ==, !=, =gt= or =in= is expected');
    this.at += operator.length;
    const compare = COMPARISONS[operator];
    if (compare === undefined)
      throw this.bad(
        `there is no operator ${operator}; known are ${Object.keys(COMPARISONS).join(' ')}`,
        begun,
      );
    const list = operator === '=in=' || operator === '=out=';
    const values = list ? this.list() : [this.value()];
    return (vehicle) => compare(Object.hasOwn(vehicle, name) ? vehicle[name] : undefined, values);
  }

  private list(): Value[] {
    this.spaces();
    if (this.text[this.at] !== '(') return [this.value()];
    this.at++;
    const values = [this.value()];
    while (this.takes(',')) values.push(this.value());
    this.spaces();
    if (this.text[this.at] !== ')') throw this.bad('a "," or the ")" of the list is expected');
    this.at++;
    return values;
  }

  private value(): Value {
    if (++this.terms > TERMS_MAX) throw this.bad(`more than ${TERMS_MAX} values`);
    this.spaces();
    const quote = this.text[this.at];
    if (quote !== '"' && quote !== "'") {
      const text = this.word('a value');
      return { text, pieces: text.split('*') };
    }
    const begun = this.at++;
    const pieces = [''];
    let text = '';
    for (; ; this.at++) {
      let char = this.text[this.at];
      if (char === undefined) throw this.bad('this quote is not closed', begun);
      if (char === quote) break;
      const escaped = char === '\\';
      if (escaped) char = this.text[++this.at];
      if (char === undefined) throw this.bad('this quote is not closed', begun);
      text += char;
      if (char === '*' && !escaped) pieces.push('');
      else pieces.push(`${pieces.pop()!}${char}`);
    }
    this.at++;
    return { text, pieces };
  }

  private word(what: string): string {
    this.spaces();
    const [word] = /^[^"'();,=!~<>\s]*/.exec(this.text.slice(this.at))!;
    if (word === '') throw this.bad(`${what} is expected`);
    this.at += word.length;
    return word;
  }

  private takes(sign: string, word?: string): boolean {
    const begun = this.at;
    this.spaces();
    if (this.text[this.at] === sign) {
      this.at++;
      return true;
    }
    const after = this.text[this.at + (word?.length ?? 0)];
    if (
      word !== undefined &&
      this.at > begun &&
      this.text.startsWith(word, this.at) &&
      /[\s(]/.test(after ?? '')
    ) {
      this.at += word.length;
      return true;
    }
    this.at = begun;
    return false;
  }

  private spaces(): void {
    while (/\s/.test(this.text[this.at] ?? '')) this.at++;
  }

  private bad(why: string, at = this.at): CardanError {
    const where = at < this.text.length ? `character ${at + 1} (${this.text[at]})` : 'its end';
    return new CardanError('FILTER_INVALID', `The filter is wrong at ${where}: ${why}.`);
  }
}

type Known = string | number | boolean | undefined;
type Comparison = (known: Known, values: readonly Value[]) => boolean;

const isOne: Comparison = (known, values) =>
  known !== undefined && values.some((value) => equals(known, value));
const ordered =
  (fits: (order: number) => boolean): Comparison =>
  (known, [value]) =>
    known !== undefined && fits(order(known, value!.text));

const less = ordered((order) => order < 0);
const lessOrEqual = ordered((order) => order <= 0);
const greater = ordered((order) => order > 0);
const greaterOrEqual = ordered((order) => order >= 0);

const COMPARISONS: Readonly<Record<string, Comparison>> = {
  '==': isOne,
  '!=': (known, values) => !isOne(known, values),
  '=in=': isOne,
  '=out=': (known, values) => !isOne(known, values),
  '<': less,
  '=lt=': less,
  '<=': lessOrEqual,
  '=le=': lessOrEqual,
  '>': greater,
  '=gt=': greater,
  '>=': greaterOrEqual,
  '=ge=': greaterOrEqual,
};

function equals(known: string | number | boolean, { text, pieces }: Value): boolean {
  if (pieces.length > 1) return fitsPieces(String(known), pieces);
  if (typeof known === 'number') return text.trim() !== '' && known === Number(text);
  return String(known) === text;
}

/** NaN, which is neither less nor more, where a number meets a text. */
function order(known: string | number | boolean, text: string): number {
  const [left, right] = [Number(known), Number(text)];
  const numbers =
    String(known).trim() !== '' && text.trim() !== '' && !Number.isNaN(left) && !Number.isNaN(right);
  if (numbers) return left - right;
  if (typeof known === 'number') return Number.NaN;
  return String(known) < text ? -1 : Number(String(known) > text);
}

/** Each piece at its first place after the one before: with stars between all of them no other choice finds more. */
function fitsPieces(text: string, pieces: readonly string[]): boolean {
  const first = pieces[0]!;
  const last = pieces.at(-1)!;
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last))
    return false;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return at <= text.length - last.length;
}
