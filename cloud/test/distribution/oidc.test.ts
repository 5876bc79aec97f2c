import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, expect, test } from 'vitest';
import { removeTempDirs, testRegistry } from '../registry/registry-fixture.ts';

/** An issuer with real keys, over HTTP, as an OpenID provider publishes them. */
class Issuer {
  keySetFetches = 0;
  private readonly server: Server;
  private published: object[] = [];
  private keys = new Map<string, Awaited<ReturnType<typeof generateKeyPair>>['privateKey']>();

  constructor() {
    this.server = createServer((request, response) => {
      response.setHeader('content-type', 'application/json');
      if (request.url === '/.well-known/openid-configuration')
        response.end(JSON.stringify({ issuer: this.url, jwks_uri: `${this.url}/keys` }));
      else if (request.url === '/keys') {
        this.keySetFetches++;
        response.end(JSON.stringify({ keys: this.published }));
      } else response.writeHead(404).end('{}');
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async start(port = 0): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    return this;
  }

  /** From now on its keys are these. */
  async rotate(...kids: string[]): Promise<void> {
    this.published = [];
    for (const kid of kids) {
      const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
      this.keys.set(kid, privateKey);
      this.published.push({ ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' });
    }
  }

  token(kid: string, claims: Record<string, unknown> = {}, at = NOW): Promise<string> {
    const seconds = at / 1000;
    return new SignJWT({
      iss: this.url,
      aud: 'cardan',
      sub: 'ann',
      roles: ['operator', 'of another application'],
      iat: seconds,
      exp: seconds + 300,
      ...claims,
    })
      .setProtectedHeader({ alg: 'ES256', kid })
      .sign(this.keys.get(kid)!);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }
}

const NOW = Date.UTC(2026, 0, 1);
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.reverse().splice(0)) await close();
  removeTempDirs();
});

async function started(options: { roleClaim?: string } = {}): Promise<{
  issuer: Issuer;
  /** Status and code of a request that operators may make, or one that all may. */
  ask: (token: string, method?: 'GET' | 'POST') => Promise<string>;
}> {
  const issuer = await new Issuer().start();
  closing.push(() => issuer.close());
  await issuer.rotate('one');
  const { roleClaim = 'roles' } = options;
  const registry = await testRegistry({
    clock: () => NOW,
    api: { oidc: { issuer: issuer.url, audience: 'cardan', roleClaim, cooldownMs: 0 } },
  });
  closing.push(() => registry.close());
  const ask = async (token: string, method = 'POST') => {
    const answer = await fetch(`${registry.url}/v1/${method === 'GET' ? 'campaigns' : 'trainings'}`, {
      method,
      ...(method === 'GET' ? {} : { body: '{}' }),
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    });
    const { code = '' } = answer.ok ? {} : ((await answer.json()) as { code: string });
    return `${answer.status} ${code}`.trim();
  };
  return { issuer, ask };
}

test('a token of the issuer may what its roles say', async () => {
  const { issuer, ask } = await started();
  expect(await ask(await issuer.token('one'))).toBe('202');
  expect(await ask(await issuer.token('one', { roles: ['viewer'] }))).toBe('403 FORBIDDEN');
  expect(await ask(await issuer.token('one', { roles: 'viewer operator' }))).toBe('202');
  expect(await ask(await issuer.token('one', { roles: [] }), 'GET')).toBe('403 FORBIDDEN');
  // Not asked for more often than needed.
  expect(issuer.keySetFetches).toBe(1);
});

test('roles may stand deeper in the token', async () => {
  const { issuer, ask } = await started({ roleClaim: 'realm_access.roles' });
  expect(await ask(await issuer.token('one', { realm_access: { roles: ['operator'] } }))).toBe('202');
  expect(await ask(await issuer.token('one'))).toBe('403 FORBIDDEN');
});

test('a token of somebody else, for somebody else, too old or too new is refused', async () => {
  const { issuer, ask } = await started();
  const refused = '401 UNAUTHORIZED';
  expect(await ask(await issuer.token('one', { iss: 'https://other.example' }))).toBe(refused);
  expect(await ask(await issuer.token('one', { aud: 'another' }))).toBe(refused);
  expect(await ask(await issuer.token('one', { exp: undefined }))).toBe(refused);
  expect(await ask(await issuer.token('one', { sub: undefined }))).toBe(refused);
  // The clocks of both may differ by a minute, not more.
  const seconds = NOW / 1000;
  expect(await ask(await issuer.token('one', { exp: seconds - 59 }))).toBe('202');
  expect(await ask(await issuer.token('one', { exp: seconds - 61 }))).toBe(refused);
  expect(await ask(await issuer.token('one', { nbf: seconds + 59 }))).toBe('202');
  expect(await ask(await issuer.token('one', { nbf: seconds + 61 }))).toBe(refused);
});

test('only the algorithms of the list count, whatever the token says', async () => {
  const { issuer, ask } = await started();
  const claims = { iss: issuer.url, aud: 'cardan', sub: 'eve', roles: ['operator'], exp: NOW / 1000 + 300 };
  // Looks like a JWT, has no signature.
  expect(await ask(new UnsecuredJWT(claims).encode())).toBe('401 UNAUTHORIZED');
  // Signed with what everybody knows: the public key as the secret of an HMAC.
  const answer = (await (await fetch(`${issuer.url}/keys`)).json()) as { keys: { x: string }[] };
  const secret = new TextEncoder().encode(answer.keys[0]!.x);
  const hmac = await new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'one' }).sign(secret);
  expect(await ask(hmac)).toBe('401 UNAUTHORIZED');
  const { privateKey } = await generateKeyPair('ES256');
  const stranger = await new SignJWT(claims)
    .setProtectedHeader({ alg: 'ES256', kid: 'one' })
    .sign(privateKey);
  expect(await ask(stranger)).toBe('401 UNAUTHORIZED');
});

test('the issuer takes new keys, and takes old ones away', async () => {
  const { issuer, ask } = await started();
  const old = await issuer.token('one');
  expect(await ask(old)).toBe('202');
  await issuer.rotate('two');
  // A key that is not known yet is asked for.
  expect(await ask(await issuer.token('two'))).toBe('202');
  expect(await ask(old)).toBe('401 UNAUTHORIZED');
});

test('while the issuer is away nobody is let in by its tokens; then all goes on', async () => {
  const { issuer, ask } = await started();
  const token = await issuer.token('one');
  const port = Number(new URL(issuer.url).port);
  await issuer.close();
  expect(await ask(token)).toBe('503 HTTP_UNREACHABLE');
  await issuer.start(port);
  expect(await ask(token)).toBe('202');
});
