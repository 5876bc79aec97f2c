import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { filesOfProject } from '../format/files-of-project.ts';

const hasGit = spawnSync('git', ['--version']).status === 0;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'format-'));
  mkdirSync(join(dir, 'src'));
  for (const file of ['src/a.ts', 'src/b.ts', 'package.json']) writeFileSync(join(dir, file), '');
});
afterEach(() => rmSync(dir, { recursive: true }));

test.skipIf(!hasGit && !process.env.CI)(
  'what a user has in the checkout, such as a model of theirs, is neither judged nor changed',
  () => {
    const git = (...args: string[]) => execFileSync('git', args, { cwd: dir });
    git('init', '--quiet');
    git('add', '.');
    mkdirSync(join(dir, 'my model'));
    for (const file of ['my model/manifest.json', 'my model/model.json', 'model.yaml'])
      writeFileSync(join(dir, file), '{"a":    1}');
    rmSync(join(dir, 'src/b.ts'));
    expect(filesOfProject(dir)).toEqual(['package.json', 'src/a.ts']);
  },
);

test('an archive without git is looked at as a whole', () => {
  expect(filesOfProject(dir)).toEqual(['.']);
});
