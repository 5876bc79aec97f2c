import { expect, test } from 'vitest';
import { LatencyBudget } from '../../src/scoring/latency-budget.ts';

/** The number of the row at which the budget is found to be exceeded; 0 when never. */
function stoppedAt(rows: number[], budget = new LatencyBudget(100)): number {
  return rows.findIndex((us) => !budget.push(us)) + 1;
}

test('a pause stops no model, however long it is', () => {
  const rows = Array.from({ length: 300 }, (_, i) => (i % 60 === 30 ? 10_000_000 : 100));
  expect(stoppedAt(rows)).toBe(0);
  // Fifteen slow rows in succession, over and over, with as many quick ones between them.
  expect(stoppedAt(Array.from({ length: 300 }, (_, i) => (i % 31 < 15 ? 500 : 5)))).toBe(0);
});

test('a model whose median is over the budget is stopped, after sixteen rows at the earliest', () => {
  expect(stoppedAt(Array.from({ length: 300 }, () => 101))).toBe(16);
  expect(
    stoppedAt([...Array.from({ length: 200 }, () => 5), ...Array.from({ length: 100 }, () => 101)]),
  ).toBe(216);
  expect(stoppedAt(Array.from({ length: 300 }, (_, i) => (i % 2 === 0 ? 101 : 5)))).toBe(31);
});
