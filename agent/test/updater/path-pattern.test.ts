import { expect, test } from 'vitest';
import { matchesPattern } from '../../src/updater/path-pattern.ts';

test.each([
  ['models/anomaly/7/weights.bin', 'models/*/*/*', true],
  ['models/anomaly/weights.bin', 'models/*/*/*', false],
  ['models/anomaly/7/x/weights.bin', 'models/*/*/*', false],
  ['campaigns/brakes/2.json', 'models/*/*/*', false],
  ['foo-1.tgz', 'foo-?.tgz', true],
  ['foo-10.tgz', 'foo-?.tgz', false],
  ['foo-.tgz', 'foo-?.tgz', false],
  ['releases/x.zip', '*.zip', false],
  ['x.ZIP', '*.zip', false],
  ['abcabc', 'a*c', true],
  ['abcabd', 'a*c', false],
  ['aXbXc', 'a*b*c', true],
  ['', '*', true],
  ['a', '', false],
  // No other syntax: these stand for themselves.
  ['a', '[a-z]', false],
  ['a', '{a,b}', false],
  ['a', '!b', false],
  ['.hidden', '*', true],
])('%s by %s: %s', (path, pattern, expected) => {
  expect(matchesPattern(path, pattern)).toBe(expected);
});

test('a pattern that is made to be slow is not', () => {
  expect(matchesPattern('a'.repeat(5000), `${'a*'.repeat(500)}b`)).toBe(false);
});
