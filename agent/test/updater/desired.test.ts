import { expect, test } from 'vitest';
import { parseDesired } from '../../src/updater/desired.ts';

const parse = (desired: unknown) => parseDesired(Buffer.from(JSON.stringify(desired)));
const A = { name: 'anomaly', version: '1' };
const B = { name: 'anomaly', version: '2' };

test('a candidate stands beside the active model; without the field it is absent', () => {
  expect(parse({ generation: 1, active: A, candidate: { ...B, more: true } })).toEqual({
    generation: 1,
    active: A,
    candidate: B,
  });
  expect(parse({ generation: 1, active: A, candidate: null })).toEqual({
    generation: 1,
    active: A,
    candidate: null,
  });
  expect(parse({ generation: 1, active: null })).toEqual({ generation: 1, active: null });
});

test('a candidate that is no model is none, and the active model stays wanted', () => {
  for (const candidate of [7, 'x', {}, { name: 'anomaly' }])
    expect(parse({ generation: 1, active: A, candidate })).toEqual({
      generation: 1,
      active: A,
      candidate: null,
    });
});

test.each([
  [null],
  [{}],
  [{ generation: 1 }],
  [{ generation: -1, active: null }],
  [{ generation: 1, active: { name: 'x' } }],
])('%j is no desired state', (desired) => {
  expect(() => parse(desired)).toThrow(expect.objectContaining({ code: 'EVENT_MALFORMED' }));
});
