import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { removeTempDirs, tempDir, testRegistry, type TestRegistry } from './registry/registry-fixture.ts';

const CLOUD = fileURLToPath(new URL('../bin/cardan-cloud.js', import.meta.url));

const open: TestRegistry[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
  removeTempDirs();
});

/** Runs `cardan-cloud vehicles …`. */
async function vehicles(args: string[], input = ''): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [CLOUD, 'vehicles', ...args]);
  let [out, err] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (out += data.toString('utf8')));
  child.stderr.on('data', (data: Buffer) => (err += data.toString('utf8')));
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number];
  return { code, out, err };
}

test(
  'vehicles are registered from a file, with tokens for the cars, and listed',
  { timeout: 60_000 },
  async () => {
    const registry = await testRegistry({ token: 'secret' });
    open.push(registry);
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
