import { expect, test } from 'vitest';
import { runCommand } from './run-command.ts';

test.each([
  ['loop aprove 1', "error USAGE: unknown command 'aprove'\n(Did you mean approve?)\n"],
  [
    'rollouts pauze 1 --registry http://127.0.0.1:9',
    "error USAGE: unknown command 'pauze'\n(Did you mean pause?)\n",
  ],
  [
    'loop frobnicate',
    "error USAGE: unknown command 'frobnicate'\n(there are: status, list, explain, approve, reject)\n",
  ],
  ['loop predictor frobnicate', 'error USAGE: There is no service and no command "frobnicate". '],
  ['models list --frobnicate', "error USAGE: unknown option '--frobnicate'\n"],
])('cardan-cloud %s says what is wrong, and what there is', async (line, said) => {
  const { code, out, err } = await runCommand(line.split(' '));
  expect(err.slice(0, said.length)).toBe(said);
  expect([code, out]).toEqual([2, '']);
});
