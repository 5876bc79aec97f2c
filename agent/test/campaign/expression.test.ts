import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CardanError, parseExpression, type NumberNode, type TruthNode } from '@cardan/shared';
import { Condition } from '../../src/campaign/condition.ts';
import { MemoryBudget } from '../../src/campaign/memory-budget.ts';

const NAMES = ['a', 'b', 'Vehicle.Speed', 'Door-1'];
const BUDGET = 1e7;

/** A condition over four signals; `see` is one frame. */
function condition(text: string) {
  const values = NAMES.map(() => Number.NaN);
  const made = new Condition(
    parseExpression(text),
    { column: (name) => NAMES.indexOf(name), read: (column) => values[column]! },
    new MemoryBudget(BUDGET),
  );
  const see = (time: number, frame: Partial<Record<string, number>>) => {
    for (const [name, value] of Object.entries(frame)) {
      values[NAMES.indexOf(name)] = value!;
      made.observe(NAMES.indexOf(name), time, value!);
    }
    return made.evaluate(time);
  };
  return { made, see };
}

const once = (text: string, frame: Partial<Record<string, number>> = {}) => condition(text).see(0, frame);

function refusal(text: string): string {
  try {
    parseExpression(text);
  } catch (error) {
    if (error instanceof CardanError && error.code === 'CAMPAIGN_INVALID') return error.message;
    throw error;
  }
  throw new Error(`"${text}" was taken.`);
}

describe('The language of conditions', () => {
  it.each([
    ['1 + 2 * 3 == 7', true],
    ['(1 + 2) * 3 == 9', true],
    ['10 - 4 - 3 == 3', true],
    ['16 / 4 / 2 == 2', true],
    ['-2 * 3 == -6 and 2 - -1 == 3', true],
    ['not 1 > 2 and 1 > 2', false],
    ['not (1 > 2 and 1 > 2)', true],
    ['1 > 2 and 1 > 2 or 1 < 2', true],
    ['1e2 == 100 and .5 < 0.51', true],
    ['abs(-3) == 3 and abs(2 - 5) >= 3', true],
    ['1 != 1', false],
    ['1 <= 1 and 1 >= 1 and 1 != 2', true],
  ])('binds as in mathematics: %s', (text, expected) => expect(once(text)).toBe(expected));

  it('takes names bare and quoted', () => {
    const frame = { 'Vehicle.Speed': 5, 'Door-1': 1 };
    expect(once(`Vehicle.Speed == 5 and 'Vehicle.Speed' == 5 and "Door-1" == 1`, frame)).toBe(true);
    expect(once(`'Door-1' == 1 and max('Door-1', 1s) == 1`, frame)).toBe(true);
  });

  it('makes every comparison with something missing false', () => {
    for (const operator of ['<', '<=', '>', '>=', '==', '!=']) {
      expect(once(`a ${operator} 1`)).toBe(false);
      expect(once(`nosuch + 1 ${operator} 1`)).toBe(false);
      expect(once(`avg(a, 10s) ${operator} 1`)).toBe(false);
    }
    expect(once('isnan(a) and isnan(nosuch) and not isnan(b)', { b: 1 })).toBe(true);
    expect(once('isnan(1 / 0) and isnan(0 / 0)')).toBe(true);
    expect(condition('a > nosuch and max(gone, 1s) > 1').made.unknown).toEqual(['nosuch', 'gone']);
  });

  it('sees edges from the second evaluation on, also on the side that does not decide', () => {
    const { see } = condition('b > 0 and rising(a > 5)');
    expect(see(0, { a: 9, b: 1 })).toBe(false);
    expect(see(1, { a: 1 })).toBe(false);
    expect(see(2, { a: 9 })).toBe(true);
    expect(see(3, { a: 9 })).toBe(false);
    see(4, { a: 1, b: 0 });
    expect(see(5, { a: 9 })).toBe(false);
    expect(see(6, { b: 1 })).toBe(false);
    const falling = condition('falling(a > 5)');
    expect([9, 1, 1, 9, 1].map((a, time) => falling.see(time, { a }))).toEqual([
      false,
      true,
      false,
      false,
      true,
    ]);
  });

  it('keeps hysteresis between the thresholds, upwards and downwards, and drops it when the signal is missing', () => {
    const high = condition('hysteresis(a, 10, 5)');
    const seen = [7, 11, 7, 5, 4, 7, 11, Number.NaN, 7];
    expect(seen.map((a, time) => high.see(time, { a }))).toEqual(
      [0, 1, 1, 1, 0, 0, 1, 0, 0].map((state) => state === 1),
    );
    const low = condition('hysteresis(a, -10, -5)');
    expect([-7, -11, -7, -4, -7].map((a, time) => low.see(time, { a }))).toEqual(
      [0, 1, 1, 0, 0].map((state) => state === 1),
    );
  });

  it('lets samples leave a window when they are as old as it is long', () => {
    const { see } = condition('max(a, 1s) > 5');
    expect(see(0, { a: 9 })).toBe(true);
    expect(see(999, { b: 0 })).toBe(true);
    expect(see(1000, { b: 0 })).toBe(false);
  });

  it.each([
    ['', 1, 'it ends where a value is expected'],
    ['a', 1, 'true or false is needed'],
    ['a >', 4, 'it ends'],
    ['a __proto__ b', 3, '"__proto__" is not expected'],
    ['a > 1 b', 7, '"b" is not expected'],
    ['1 < a < 3', 1, 'a number is needed'],
    ['a = 1', 3, 'use =='],
    ['a > 1 and b', 11, 'true or false is needed'],
    ['not a', 5, 'true or false is needed'],
    ['(a > 1', 7, 'the end is here where ")" is expected'],
    ['sin(a) > 1', 1, 'there is no function sin'],
    ['constructor(a) > 1', 1, 'there is no function constructor'],
    ['rising(a)', 8, 'true or false is needed'],
    ['max(a, 10) > 1', 8, 'takes a duration'],
    ['max(a, 10constructor) > 1', 10, 'is no unit of time'],
    ['max(a + 1, 10s) > 1', 7, '"+" is here where "," is expected'],
    ['max(a, 11min) > 1', 8, 'at most 10min'],
    ['avg(a, 0s) > 1', 8, 'over 0'],
    ['10s > a', 1, 'only as the length of a window'],
    ['hysteresis(a, b, 1)', 15, 'a plain number'],
    ['hysteresis(a, 1, 1)', 18, 'are equal'],
    ["'a > 1", 1, 'has no end'],
    ['a > 1e999', 5, 'too large'],
    ['a > 1; b', 6, 'has no meaning'],
    ['a.constructor > 1 and a[0] > 1', 24, 'has no meaning'],
  ])('names the place of what is wrong: %s', (text, character, why) => {
    expect(refusal(text)).toContain(`, character ${character}: `);
    expect(refusal(text)).toContain(why);
  });

  it('has bounds for length, parts, depth and windows', () => {
    expect(refusal('('.repeat(1000))).toContain('nested deeper');
    expect(refusal(`${'-'.repeat(1000)}1 > 0`)).toContain('nested deeper');
    expect(refusal(Array.from({ length: 80 }, () => 'a').join('+') + ' > 0')).toContain('nested deeper');
    const half = `(${Array.from({ length: 35 }, () => 'a>1').join(' or ')})`;
    expect(refusal(`${half} or ${half}`)).toContain('more than 200 parts');
    expect(refusal(`${' '.repeat(2000)}a > 1`)).toContain('at most 2000');
    const windows = Array.from({ length: 17 }, (_, i) => `max(a, ${i + 1}s) > 1`).join(' or ');
    expect(refusal(windows)).toContain('more than 16 windows');
  });

  it('answers any text with a condition or with CAMPAIGN_INVALID', () => {
    const words = fc.constantFrom(
      ...[
        'a',
        "'Door-1'",
        '1',
        '2.5',
        '10s',
        '(',
        ')',
        ',',
        '+',
        '-',
        '*',
        '/',
        '<',
        '>=',
        '==',
        '!=',
        'and',
        'or',
      ],
      ...[
        'not',
        'rising',
        'falling',
        'min',
        'max(a,1s)',
        'avg',
        'hysteresis',
        'abs(',
        'isnan(',
        '"',
        '__proto__',
        '😀',
      ],
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(words, { maxLength: 40 }).map((list) => list.join(' ')),
    );
    fc.assert(
      fc.property(text, (input) => {
        let parsed;
        try {
          parsed = parseExpression(input);
        } catch (error) {
          expect(error).toMatchObject({ code: 'CAMPAIGN_INVALID' });
          return;
        }
        const { see } = condition(parsed.text);
        expect(typeof see(0, { a: 1 })).toBe('boolean');
      }),
      { numRuns: 3000 },
    );
  });
});

describe('A compiled condition', () => {
  const constant = fc.integer({ min: -9, max: 9 });
  const { truth } = fc.letrec<{ number: NumberNode; truth: TruthNode }>((tie) => ({
    number: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      constant.map((value): NumberNode =>
        value < 0 ? { kind: 'negate', of: { kind: 'number', value: -value } } : { kind: 'number', value },
      ),
      fc.constantFrom(...NAMES).map((name): NumberNode => ({ kind: 'signal', name })),
      fc.record({
        kind: fc.constant('window' as const),
        statistic: fc.constantFrom('min', 'max', 'avg'),
        signal: fc.constantFrom(...NAMES),
        lengthMs: fc.constantFrom(1, 50, 300, 60_000),
      }),
      fc.record({ kind: fc.constantFrom('negate', 'abs'), of: tie('number') }),
      fc.record({
        kind: fc.constant('arithmetic' as const),
        operator: fc.constantFrom('+', '-', '*', '/'),
        left: tie('number'),
        right: tie('number'),
      }),
    ),
    truth: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.record({
        kind: fc.constant('compare' as const),
        operator: fc.constantFrom('<', '<=', '>', '>=', '==', '!='),
        left: tie('number'),
        right: tie('number'),
      }),
      fc.record({ kind: fc.constantFrom('not', 'rising', 'falling'), of: tie('truth') }),
      fc.record({ kind: fc.constantFrom('and', 'or'), left: tie('truth'), right: tie('truth') }),
      fc.record({ kind: fc.constant('isnan' as const), of: tie('number') }),
      fc.record({
        kind: fc.constant('hysteresis' as const),
        of: tie('number'),
        on: fc.nat(9),
        off: fc.integer({ min: -9, max: -1 }),
      }),
    ),
  }));
  /** Small whole numbers, so that sums are exact in any order. */
  const frames = fc.array(
    fc.record({
      gap: fc.nat(80),
      signal: fc.nat(NAMES.length - 1),
      value: fc.oneof(constant, fc.constant(Number.NaN)),
    }),
    { maxLength: 60 },
  );

  it('says what a slow evaluator says that looks at the whole past each time', () => {
    let checked = 0;
    fc.assert(
      fc.property(truth, frames, (root, steps) => {
        const text = written(root);
        try {
          parseExpression(text);
        } catch (error) {
          // Over a limit; the bounds have a test of their own.
          expect((error as Error).message).toMatch(/nested deeper|more than|at most/);
          return;
        }
        checked++;
        const { see } = condition(text);
        const past: Past = [];
        let time = 0;
        for (const { gap, signal, value } of steps) {
          time += gap;
          past.push({ time, signal: NAMES[signal]!, value });
          expect(see(time, { [NAMES[signal]!]: value }), text).toBe(slowTruth(root, past, past.length));
        }
      }),
      { numRuns: 500 },
    );
    expect(checked).toBeGreaterThan(250);
  });

  it('counts what a window has no room for, and gives its memory back', () => {
    const budget = new MemoryBudget(100_000);
    const source = { column: () => 0, read: () => 0 };
    const made = new Condition(parseExpression('avg(a, 10min) > 1 and min(a, 10min) > 1'), source, budget);
    for (let i = 0; i < 10_000; i++) made.observe(0, i, i);
    expect(budget.free).toBeGreaterThanOrEqual(0);
    expect(budget.free).toBeLessThan(100_000);
    expect(made.crowdedOut).toBeGreaterThan(10_000);
    expect(made.evaluate(10_000)).toBe(true);
    made.release();
    expect(budget.free).toBe(100_000);
  });

  it('keeps a mean exact after a huge value has left', () => {
    const { see } = condition('avg(a, 1s) == 0.5');
    see(0, { a: 1e17 });
    see(500, { a: 0.25 });
    see(900, { a: 0.75 });
    expect(see(1200, { b: 0 })).toBe(true);
  });
});

type Past = { time: number; signal: string; value: number }[];

/** Fully in parentheses, so that it is the same tree again. */
function written(node: NumberNode | TruthNode): string {
  switch (node.kind) {
    case 'number':
      return String(node.value);
    case 'signal':
      return `'${node.name}'`;
    case 'negate':
      return `(-${written(node.of)})`;
    case 'not':
      return `(not ${written(node.of)})`;
    case 'arithmetic':
    case 'compare':
      return `(${written(node.left)} ${node.operator} ${written(node.right)})`;
    case 'and':
    case 'or':
      return `(${written(node.left)} ${node.kind} ${written(node.right)})`;
    case 'window':
      return `${node.statistic}('${node.signal}', ${node.lengthMs}ms)`;
    case 'hysteresis':
      return `hysteresis(${written(node.of)}, ${node.on}, ${node.off})`;
    default:
      return `${node.kind}(${written(node.of)})`;
  }
}

const orMissing = (value: number) => (Number.isFinite(value) ? value : Number.NaN);

/** The value at the n-th frame, from the first n frames alone. */
function slowNumber(node: NumberNode, past: Past, n: number): number {
  switch (node.kind) {
    case 'number':
      return node.value;
    case 'signal':
      return past.slice(0, n).findLast(({ signal }) => signal === node.name)?.value ?? Number.NaN;
    case 'negate':
      return -slowNumber(node.of, past, n);
    case 'abs':
      return Math.abs(slowNumber(node.of, past, n));
    case 'arithmetic': {
      const [l, r] = [slowNumber(node.left, past, n), slowNumber(node.right, past, n)];
      return orMissing({ '+': l + r, '-': l - r, '*': l * r, '/': l / r }[node.operator]);
    }
    case 'window': {
      const now = past[n - 1]!.time;
      const values = past
        .slice(0, n)
        .filter(
          ({ signal, time, value }) =>
            signal === node.signal && time > now - node.lengthMs && !Number.isNaN(value),
        )
        .map(({ value }) => value);
      if (values.length === 0) return Number.NaN;
      if (node.statistic === 'avg') return values.reduce((sum, value) => sum + value) / values.length;
      return Math[node.statistic](...values);
    }
  }
}

function slowTruth(node: TruthNode, past: Past, n: number): boolean {
  switch (node.kind) {
    case 'not':
      return !slowTruth(node.of, past, n);
    case 'and':
      return slowTruth(node.left, past, n) && slowTruth(node.right, past, n);
    case 'or':
      return slowTruth(node.left, past, n) || slowTruth(node.right, past, n);
    case 'isnan':
      return Number.isNaN(slowNumber(node.of, past, n));
    case 'compare': {
      const [l, r] = [slowNumber(node.left, past, n), slowNumber(node.right, past, n)];
      if (Number.isNaN(l) || Number.isNaN(r)) return false;
      return { '<': l < r, '<=': l <= r, '>': l > r, '>=': l >= r, '==': l === r, '!=': l !== r }[
        node.operator
      ];
    }
    case 'rising':
    case 'falling': {
      if (n < 2) return false;
      const [before, now] = [slowTruth(node.of, past, n - 1), slowTruth(node.of, past, n)];
      return node.kind === 'rising' ? now && !before : before && !now;
    }
    case 'hysteresis': {
      const value = n === 0 ? Number.NaN : slowNumber(node.of, past, n);
      if (Number.isNaN(value) || value < node.off) return false;
      return value > node.on || slowTruth(node, past, n - 1);
    }
  }
}
