import {
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
  type Pair,
} from 'yaml';
import { messageOf } from '@cardan/shared';

/** A YAML text that remembers on which line each value stands, so that an error can say where. */
export class YamlText {
  /** Undefined for an empty text. */
  readonly value: unknown;
  private readonly document: Document.Parsed;
  private readonly lines = new LineCounter();

  /** Throws SyntaxError, saying what is wrong and on which line. */
  constructor(text: string) {
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: true });
    const [broken] = this.document.errors;
    if (broken !== undefined) throw new SyntaxError(firstLine(broken), { cause: broken });
    try {
      this.value = (this.document.toJS() as unknown) ?? undefined;
    } catch (cause) {
      // An alias without its anchor, or too many of them.
      throw new SyntaxError(firstLine(cause), { cause });
    }
  }

  /**
   * The line, from 1 on, of a place such as `inputs[0].statistic`; where that is not in the text, of the innermost one
   * around it that is. Undefined for an empty text.
   */
  lineOf(place: string): number | undefined {
    let node: unknown = this.document.contents;
    let found = begin(node);
    for (const key of place.split(/[.[\]]+/u).filter((part) => part !== '')) {
      const pair = isMap(node) ? node.items.find((item) => nameOf(item) === key) : undefined;
      const next: unknown = pair === undefined ? itemOf(node, key) : pair.value;
      const at = pair === undefined ? begin(next) : begin(pair.key);
      if (at === undefined) break;
      [node, found] = [next, at];
    }
    return found === undefined ? undefined : this.lines.linePos(found).line;
  }
}

function itemOf(node: unknown, key: string): unknown {
  return isSeq(node) ? node.items[Number(key)] : undefined;
}

function nameOf({ key }: Pair): unknown {
  return isScalar(key) ? key.value : undefined;
}

/** Offset of the first character. */
function begin(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

function firstLine(cause: unknown): string {
  return messageOf(cause).split('\n')[0]!.replace(/:$/, '');
}
