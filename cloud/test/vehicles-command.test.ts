import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { tempDir, closeRegistries, openRegistry } from './registry/registry-fixture.ts';
import { runCommand } from './run-command.ts';

afterEach(closeRegistries);

const vehicles = (args: string[], input?: string) => runCommand(['vehicles', ...args], input);

test(
  'vehicles are registered from a file, with tokens for the cars, and listed',
  { timeout: 60_000 },
  async () => {
    const registry = await openRegistry({ token: 'secret' });
    const dir = tempDir();
    writeFileSync(join(dir, 'token'), 'secret\n');
    const at = ['--registry', registry.url, '--token-file', join(dir, 'token')];
    const file = join(dir, 'fleet.ndjson');
    writeFileSync(file, '{"id":"van-1","attributes":{"region":"north"}}\n\n{"id":"van-2"}\n');
    const tokens = join(dir, 'tokens.ndjson');
    expect(await vehicles(['register', file, '--tokens', tokens, ...at])).toMatchObject({
      code: 0,
      err: '2 new, 0 changed, 0 as before\n',
    });
    expect(statSync(tokens).mode & 0o777).toBe(0o600);
    const [first] = readFileSync(tokens, 'utf8').trim().split('\n');
    const { id, token } = JSON.parse(first!) as { id: string; token: string };
    const poll = await fetch(`${registry.url}/v1/vehicles/${id}/desired`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect([id, poll.status]).toEqual(['van-1', 200]);

    const again = await vehicles(['register', file, '--tokens', tokens, ...at]);
    expect([again.code, again.err]).toEqual([2, expect.stringContaining('Name a new one')]);
    const listed = await vehicles(['list', '--json', '--filter', 'region==north', ...at]);
    expect(JSON.parse(listed.out)).toMatchObject({ id: 'van-1', attributes: { region: 'north' } });
    const shown = await vehicles(['show', 'van-2', ...at]);
    expect(JSON.parse(shown.out)).toMatchObject({ id: 'van-2', attributes: {} });
    const wrong = await vehicles(['register', '-', ...at], '{"id":"van-3"}\n{"id":"a b"}\n');
    expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('Line 2')]);
  },
);
