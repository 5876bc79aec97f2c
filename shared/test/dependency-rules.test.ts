import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'rules-'));
afterAll(() => rmSync(dir, { recursive: true }));

/** A small tree that breaks every rule once. */
const BAD: Record<string, string> = {
  'shared/src/leaf.ts': "import '../../agent/src/a.ts';",
  'shared/src/event-log/index.ts': 'export {};',
  'agent/src/a.ts': 'export const a = 1;',
  'agent/src/tier.ts': "import '../../cloud/src/c.ts';",
  'agent/src/log.ts': "import '../../shared/src/event-log/index.ts';",
  'agent/src/undeclared.ts': "import 'vitest';",
  'cloud/src/c.ts': 'export const c = 1;',
  'cloud/src/one.ts': "import { two } from './two.ts';\nexport const one = two;",
  'cloud/src/two.ts': "import { one } from './one.ts';\nexport const two = one;",
  'cloud/src/missing.ts': "import './nowhere.ts';",
  'agent/package.json': '{"name":"bad-agent"}',
  'package.json': '{"name":"bad","devDependencies":{"vitest":"*"}}',
};

describe('The dependency rules', () => {
  it('bite: a tree that breaks each of them is refused, rule by rule', () => {
    for (const [path, text] of Object.entries(BAD)) {
      mkdirSync(dirname(join(dir, path)), { recursive: true });
      writeFileSync(join(dir, path), text);
    }
    for (const file of ['.dependency-cruiser.cjs', 'tsconfig.json'])
      cpSync(join(ROOT, file), join(dir, file));
    symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
    const run = spawnSync(
      process.execPath,
      [
        join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs'),
        'shared',
        'agent',
        'cloud',
        '--config',
        '.dependency-cruiser.cjs',
      ],
      { cwd: dir, encoding: 'utf8' },
    );
    expect(run.status, run.stderr).not.toBe(0);
    const broken = new Set(
      [...run.stdout.matchAll(/error ([a-z-]+): (\S+)/g)].map(([, rule, file]) => `${rule} ${file}`),
    );
    expect(broken).toEqual(
      new Set([
        'shared-is-a-leaf shared/src/leaf.ts',
        'tiers-meet-in-shared agent/src/tier.ts',
        'no-log-in-the-car agent/src/log.ts',
        'not-to-undeclared agent/src/undeclared.ts',
        'no-circular cloud/src/one.ts',
        'not-to-unresolvable cloud/src/missing.ts',
      ]),
    );
  });
});
