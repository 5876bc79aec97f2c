import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DbcLintReport } from '../src/dbc-lint.ts';

/** As a user runs it: exit status, standard output and standard error. */
describe('cardan-agent dbc lint', () => {
  let folder: string;
  let sound: string;
  let flat: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'cardan-lint-'));
    sound = join(folder, 'sound.dbc');
    flat = join(folder, 'flat.dbc');
    writeFileSync(sound, 'BO_ 1 A: 1 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n');
    writeFileSync(flat, 'BO_ 1 A: 1 X\n SG_ S : 0|8@1+ (0,0) [0|0] "" X\nnothing\n');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const lint = (...args: string[]) => {
    const bin = `${import.meta.dirname}/../bin/cardan-agent.js`;
    const { status, stdout, stderr } = spawnSync(process.execPath, [bin, 'dbc', 'lint', ...args], {
      encoding: 'utf8',
    });
    return { status, out: stdout.split('\n').slice(0, -1), err: stderr.split('\n').slice(0, -1) };
  };

  it('ends with 0 and no output when all is well', () => {
    expect(lint(sound)).toEqual({
      status: 0,
      out: [],
      err: ['0 findings in 1 file, 1 message, 1 signal'],
    });
  });

  it('prints findings as FILE:LINE: message, and ends with 1', () => {
    expect(lint(sound, flat)).toEqual({
      status: 1,
      out: [
        `${flat}:2: the factor of S is 0: all its values are 0`,
        `${flat}:3: "nothing" is no DBC statement`,
      ],
      err: ['2 findings in 2 files, 2 messages, 2 signals'],
    });
  });

  it('prints one JSON object per file', () => {
    const { status, out } = lint('--json', sound, flat);
    expect(status).toBe(1);
    expect(out.map((line) => JSON.parse(line) as DbcLintReport)).toEqual([
      { file: sound, messages: 1, signals: 1, findings: [] },
      {
        file: flat,
        messages: 1,
        signals: 1,
        findings: [
          { line: 2, check: 'zero-scale', message: 'the factor of S is 0: all its values are 0' },
          { line: 3, check: 'parse', message: '"nothing" is no DBC statement' },
        ],
      },
    ]);
  });

  it('names a file that is not there', () => {
    const { status, err } = lint(join(folder, 'none.dbc'));
    expect(status).toBe(1);
    expect(err.join('\n')).toContain('error FILE_NOT_FOUND');
    expect(lint().status).toBe(2);
  });
});
