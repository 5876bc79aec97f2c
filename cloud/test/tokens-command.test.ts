import { afterEach, expect, test } from 'vitest';
import { removeTempDirs, tempDir, type TestRegistry, testRegistry } from './registry/registry-fixture.ts';
import { runCommand } from './run-command.ts';

let registry: TestRegistry | undefined;
afterEach(async () => {
  await registry?.close();
  registry = undefined;
  removeTempDirs();
});

const tokens = (...args: string[]) => runCommand(['tokens', ...args]);

test('a token is made, listed and revoked beside a registry that runs', { timeout: 60_000 }, async () => {
  // The fixture's folder of the registry is where the command looks for it.
  registry = await testRegistry();
  const { url, dir } = registry;
  const data = ['--data', dir];
  const status = async (token: string) =>
    (await fetch(`${url}/v1/campaigns`, { headers: { authorization: `Bearer ${token}` } })).status;

  const made = await tokens('create', '--role', 'operator', '--role', 'viewer', '--name', 'ci', ...data);
  expect(made).toMatchObject({ code: 0, err: expect.stringContaining('never again') as string });
  const token = made.out.trim();
  expect(token).toMatch(/^cardan_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
  expect([await status(token), await status('another')]).toEqual([200, 401]);

  const [entry] = (await tokens('list', '--json', ...data)).out.trim().split('\n');
  const { id, ...rest } = JSON.parse(entry ?? '') as Record<string, unknown>;
  expect(rest).toMatchObject({ name: 'ci', roles: ['viewer', 'operator'], vehicle: null, revokedAt: null });
  expect((await tokens('list', ...data)).out).not.toContain(token.slice(-20));

  expect((await tokens('revoke', String(id), ...data)).err).toBe(`${String(id)} is revoked\n`);
  expect(await status(token)).toBe(401);
});

test('it says what is wrong', { timeout: 60_000 }, async () => {
  const data = ['--data', tempDir()];
  const says = async (words: string, code: number, ...args: string[]) =>
    expect(await tokens(...args, ...data)).toMatchObject({
      code,
      err: expect.stringContaining(words) as string,
    });
  await says('error USAGE: Say --role', 2, 'create');
  await says('error USAGE: There is no role "boss"', 2, 'create', '--role', 'boss');
  await says(
    'error USAGE: --expires takes',
    2,
    'create',
    '--role',
    'viewer',
    '--expires',
    '2001-01-01T00:00Z',
  );
  await says('error TOKEN_UNKNOWN: ', 1, 'revoke', '0000000000000000');
});
