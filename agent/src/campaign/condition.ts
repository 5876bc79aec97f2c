import type { CompareOperator, Expression, NumberNode, TruthNode } from '@cardan/shared';
import type { MemoryBudget } from './memory-budget.ts';
import { ExtremeWindow, MeanWindow, type WindowStatistic } from './window.ts';

/** Where a condition reads its signals. A column of −1 is a signal that the car does not have. */
export interface SignalSource {
  column(name: string): number;
  /** The value at the time of the sample; NaN when it is missing. */
  read(column: number): number;
}

/**
 * A parsed expression made into closures, with the state that it needs. What is missing is NaN: arithmetic with it is
 * missing, every comparison with it is false, and so is hysteresis. A result that is not finite counts as missing.
 */
export class Condition {
  /** Columns that it reads, each once. */
  readonly columns: readonly number[];
  /** Names that the car does not have. */
  readonly unknown: readonly string[];
  private readonly source: SignalSource;
  private readonly budget: MemoryBudget;
  private readonly used = new Set<number>();
  private readonly unknownNames = new Set<string>();
  /** Same signal, statistic and length: one window. */
  private readonly windows = new Map<string, WindowStatistic>();
  private readonly byColumn = new Map<number, WindowStatistic[]>();
  private readonly resets: (() => void)[] = [];
  private readonly root: () => boolean;
  private time = 0;

  constructor(expression: Expression, source: SignalSource, budget: MemoryBudget) {
    this.source = source;
    this.budget = budget;
    this.root = this.truth(expression.root);
    this.columns = [...this.used];
    this.unknown = [...this.unknownNames];
  }

  /** A new value of a signal, for the windows over it. Times must not decrease. */
  observe(column: number, time: number, value: number): void {
    const windows = this.byColumn.get(column);
    if (windows === undefined || !Number.isFinite(value)) return;
    for (const window of windows) window.push(time, value);
  }

  /** Once per sample: `rising` and `falling` compare with the evaluation before. */
  evaluate(time: number): boolean {
    this.time = time;
    return this.root();
  }

  /** Samples that left a window before their time. */
  get crowdedOut(): number {
    let sum = 0;
    for (const window of this.windows.values()) sum += window.crowdedOut;
    return sum;
  }

  /** Forgets all that was seen. */
  reset(): void {
    for (const window of this.windows.values()) window.clear();
    for (const reset of this.resets) reset();
  }

  /** Gives the memory back. */
  release(): void {
    for (const window of this.windows.values()) window.release();
  }

  private truth(node: TruthNode): () => boolean {
    switch (node.kind) {
      case 'not': {
        const of = this.truth(node.of);
        return () => !of();
      }
      // Both sides always run, so that edges and hysteresis in them see every sample.
      case 'and': {
        const [left, right] = [this.truth(node.left), this.truth(node.right)];
        return () => {
          const l = left();
          return right() && l;
        };
      }
      case 'or': {
        const [left, right] = [this.truth(node.left), this.truth(node.right)];
        return () => {
          const l = left();
          return right() || l;
        };
      }
      case 'compare':
        return compare(node.operator, this.number(node.left), this.number(node.right));
      case 'isnan': {
        const of = this.number(node.of);
        return () => Number.isNaN(of());
      }
      case 'rising':
      case 'falling':
        return this.edge(this.truth(node.of), node.kind === 'rising');
      case 'hysteresis':
        return this.hysteresis(this.number(node.of), node.on, node.off);
    }
  }

  private number(node: NumberNode): () => number {
    switch (node.kind) {
      case 'number': {
        const { value } = node;
        return () => value;
      }
      case 'signal': {
        const { source } = this;
        const column = this.column(node.name);
        return column < 0 ? () => Number.NaN : () => source.read(column);
      }
      case 'negate': {
        const of = this.number(node.of);
        return () => -of();
      }
      case 'abs': {
        const of = this.number(node.of);
        return () => Math.abs(of());
      }
      case 'arithmetic':
        return arithmetic(node.operator, this.number(node.left), this.number(node.right));
      case 'window':
        return this.window(node);
    }
  }

  private edge(of: () => boolean, up: boolean): () => boolean {
    // Before the first evaluation nothing is known, so the first one is no edge.
    let before: boolean | undefined;
    this.resets.push(() => (before = undefined));
    return () => {
      const now = of();
      const edge = before === !up && now === up;
      before = now;
      return edge;
    };
  }

  private hysteresis(of: () => number, on: number, off: number): () => boolean {
    let state = false;
    this.resets.push(() => (state = false));
    // A lower threshold for on than for off watches for low values: the same with the signs turned.
    const sign = on > off ? 1 : -1;
    return () => {
      const value = of();
      if (Number.isNaN(value)) state = false;
      else if (sign * value > sign * on) state = true;
      else if (sign * value < sign * off) state = false;
      return state;
    };
  }

  private window({ statistic, signal, lengthMs }: NumberNode & { kind: 'window' }): () => number {
    const column = this.column(signal);
    if (column < 0) return () => Number.NaN;
    const key = `${statistic} ${lengthMs} ${column}`;
    let window = this.windows.get(key);
    if (window === undefined) {
      window =
        statistic === 'avg'
          ? new MeanWindow(lengthMs, this.budget)
          : new ExtremeWindow(statistic, lengthMs, this.budget);
      this.windows.set(key, window);
      this.byColumn.set(column, [...(this.byColumn.get(column) ?? []), window]);
    }
    const found = window;
    return () => finite(found.value(this.time));
  }

  private column(name: string): number {
    const column = this.source.column(name);
    if (column < 0) this.unknownNames.add(name);
    else this.used.add(column);
    return column;
  }
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : Number.NaN;
}

function arithmetic(operator: '+' | '-' | '*' | '/', left: () => number, right: () => number): () => number {
  switch (operator) {
    case '+':
      return () => finite(left() + right());
    case '-':
      return () => finite(left() - right());
    case '*':
      return () => finite(left() * right());
    case '/':
      return () => finite(left() / right());
  }
}

function compare(operator: CompareOperator, left: () => number, right: () => number): () => boolean {
  switch (operator) {
    case '<':
      return () => left() < right();
    case '<=':
      return () => left() <= right();
    case '>':
      return () => left() > right();
    case '>=':
      return () => left() >= right();
    case '==':
      return () => left() === right();
    // By itself NaN is unequal to everything; a missing signal must not make that true.
    case '!=':
      return () => {
        const l = left();
        const r = right();
        return l < r || l > r;
      };
  }
}
