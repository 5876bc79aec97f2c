import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { recordToEvent } from '@cardan/shared';
import { checkOther } from '../../src/distribution/access.ts';
import { openAccessDatabase } from '../../src/distribution/access-database.ts';
import { addressKey, RateLimit } from '../../src/distribution/rate-limit.ts';
import { TokenStore } from '../../src/distribution/token-store.ts';
import {
  removeTempDirs,
  type TestRegistry,
  testRegistry,
  type TestRegistryOptions,
} from '../registry/registry-fixture.ts';

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.reverse().splice(0)) await close();
  removeTempDirs();
});

/** A registry, and the store of its tokens as the command line opens it. */
async function registryWithTokens(
  options: TestRegistryOptions = {},
): Promise<{ registry: TestRegistry; tokens: TokenStore }> {
  const registry = await testRegistry(options);
  open.push(() => registry.close());
  const db = openAccessDatabase(join(registry.dir, 'registry'));
  open.push(async () => void db.close());
  return { registry, tokens: new TokenStore(db, options.clock) };
}

/** Status and code of a request. */
async function ask(url: string, token?: string, init: RequestInit = {}): Promise<string> {
  const headers = new Headers(init.headers);
  if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
  const answer = await fetch(url, { ...init, headers });
  const { code = '' } = answer.ok ? {} : ((await answer.json()) as { code: string });
  return `${answer.status} ${code}`.trim();
}
const training = { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } };

test('a token may what its roles say, and the events name it', async () => {
  const { registry, tokens } = await registryWithTokens();
  const { url, log } = registry;
  const viewer = tokens.create({ roles: ['viewer'], name: 'screen' }).token;
  const operator = tokens.create({ roles: ['operator'], name: 'ci' }).token;
  const approver = tokens.create({ roles: ['approver'], name: 'ann' }).token;
  for (const token of [viewer, operator, approver])
    expect(await ask(`${url}/v1/campaigns`, token)).toBe('200');
  expect(await ask(`${url}/v1/campaigns`)).toBe('401 UNAUTHORIZED');
  expect(await ask(`${url}/v1/trainings`, viewer, training)).toBe('403 FORBIDDEN');
  expect(await ask(`${url}/v1/trainings`, approver, training)).toBe('403 FORBIDDEN');
  expect(await ask(`${url}/v1/trainings`, operator, training)).toBe('202');
  const events = [];
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    events.push(...records.map(recordToEvent));
  expect(events.map(({ data }) => data)).toMatchObject([{ actor: 'token:ci' }]);
});

test('who says nothing is asked for a token as soon as there is one', async () => {
  const { registry, tokens } = await registryWithTokens();
  expect(await ask(`${registry.url}/v1/campaigns`)).toBe('200');
  tokens.create({ roles: ['viewer'] });
  const answer = await fetch(`${registry.url}/v1/campaigns`);
  expect([answer.status, answer.headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="cardan"']);
});

test('a token ends when it is revoked, and at its time', async () => {
  let now = Date.UTC(2026, 0, 1);
  const { registry, tokens } = await registryWithTokens({ clock: () => now });
  const url = `${registry.url}/v1/campaigns`;
  const revoked = tokens.create({ roles: ['viewer'] });
  const short = tokens.create({ roles: ['viewer'], expiresAt: now + 1000 });
  expect([await ask(url, revoked.token), await ask(url, short.token)]).toEqual(['200', '200']);
  tokens.revoke(revoked.id);
  expect(await ask(url, revoked.token)).toBe('401 UNAUTHORIZED');
  now += 1000;
  expect(await ask(url, short.token)).toBe('401 UNAUTHORIZED');
  // A right id with a wrong secret is nobody.
  const forged = `${short.token.slice(0, -4)}AAAA`;
  expect(await ask(url, forged)).toBe('401 UNAUTHORIZED');
  expect(() => tokens.revoke('none')).toThrow(expect.objectContaining({ code: 'TOKEN_UNKNOWN' }));
});

test('no token is on disk, only what it hashes to', async () => {
  const { registry, tokens } = await registryWithTokens();
  const { id, token } = tokens.create({ roles: ['operator'] });
  const secret = token.slice(`cardan_${id}_`.length);
  for (const file of ['access.db', 'access.db-wal'])
    expect(readFileSync(join(registry.dir, 'registry', file)).includes(secret), file).toBe(false);
});

test('the token of --token-file is of an operator who approves, too', async () => {
  const { registry } = await registryWithTokens({ token: 'secret' });
  expect(await ask(`${registry.url}/v1/trainings`, 'secret', training)).toBe('202');
  expect(await ask(`${registry.url}/v1/trainings`, 'secrets', training)).toBe('401 UNAUTHORIZED');
});

test('a car sees its own only, where cars must prove who they are', async () => {
  const { registry, tokens } = await registryWithTokens({ api: { vehiclesIdentified: true } });
  const desired = (vehicle: string) => `${registry.url}/v1/vehicles/${vehicle}/desired`;
  const car = tokens.create({ roles: [], vehicle: 'car-1' }).token;
  expect(await ask(desired('car-1'), car)).toBe('200');
  expect(await ask(desired('car-2'), car)).toBe('403 FORBIDDEN');
  expect(await ask(desired('car-1'))).toBe('401 UNAUTHORIZED');
  expect(await ask(`${registry.url}/v1/trainings`, car, training)).toBe('403 FORBIDDEN');
  // A token of a car makes nobody of the management say who he is; one of the management does, and may look.
  const viewer = tokens.create({ roles: ['viewer'] }).token;
  expect(await ask(desired('car-2'), viewer)).toBe('200');
  // What is signed is for anyone.
  expect(await ask(`${registry.url}/v1/tuf/timestamp.json`)).toBe('200');
});

test('a proxy names the car whose certificate it has checked; nobody else can', async () => {
  const proxied = async (addresses: string[]) => {
    const { registry } = await registryWithTokens({
      api: { vehiclesIdentified: true, proxies: { addresses, vehicleHeader: 'X-Cardan-Vehicle' } },
    });
    return (vehicle: string, named: string) =>
      ask(`${registry.url}/v1/vehicles/${vehicle}/desired`, undefined, {
        headers: { 'x-cardan-vehicle': named },
      });
  };
  const trusted = await proxied(['10.0.0.0/8', '127.0.0.1']);
  expect(await trusted('car-1', 'car-1')).toBe('200');
  expect(await trusted('car-1', 'car-2')).toBe('403 FORBIDDEN');
  expect(await trusted('car-1', '../etc')).toBe('401 UNAUTHORIZED');
  const stranger = await proxied(['10.0.0.0/8']);
  expect(await stranger('car-1', 'car-1')).toBe('401 UNAUTHORIZED');
});

test('too many requests of one caller are refused, with when to go on', async () => {
  const { registry, tokens } = await registryWithTokens({ api: { requestsPerMinute: 3 } });
  const url = `${registry.url}/v1/campaigns`;
  const [first, second] = ['a', 'b'].map((name) => tokens.create({ roles: ['viewer'], name }).token);
  for (let i = 0; i < 3; i++) expect(await ask(url, first)).toBe('200');
  const answer = await fetch(url, { headers: { authorization: `Bearer ${first}` } });
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([429, '20']);
  expect(await answer.json()).toMatchObject({ code: 'RATE_LIMITED' });
  expect(await ask(url, second)).toBe('200');
  // Who guesses tokens is slowed down, too.
  for (let i = 0; i < 3; i++) expect(await ask(url, 'guess')).toBe('401 UNAUTHORIZED');
  expect(await ask(url, 'guess')).toBe('429 RATE_LIMITED');
});

test('the limit refills as time passes, and is never more than a minute of it', () => {
  let now = 0;
  const limit = new RateLimit({ perMinute: 60, clock: () => now });
  const taken = () => {
    let count = 0;
    while (limit.take('car') === 0) count++;
    return count;
  };
  expect([taken(), limit.take('car'), limit.take('another')]).toEqual([60, 1, 0]);
  now += 10_000;
  expect(taken()).toBe(10);
  now += 3_600_000;
  expect(taken()).toBe(60);
});

test('a caller without a name is his address; of IPv6 his network', () => {
  expect(addressKey('192.0.2.7')).toBe('192.0.2.7');
  expect(addressKey('::ffff:192.0.2.7')).toBe('192.0.2.7');
  expect(addressKey('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64');
  expect(addressKey('2001:db8::9')).toBe('2001:db8:0:0::/64');
});

test('what one has created, another one approves', () => {
  const ann = { name: 'token:ann', roles: new Set(['operator', 'approver'] as const) };
  expect(() => checkOther(ann, 'token:ann')).toThrow(expect.objectContaining({ code: 'FORBIDDEN' }));
  expect(() => checkOther(ann, 'token:ben')).not.toThrow();
});
