import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { registryGet, type RegistryFiles } from '../../agent/src/updater/registry-connection.ts';
import { apiSettings, type ApiFlags } from '../../cloud/src/distribution/api-settings.ts';
import { startRegistry } from '../../cloud/src/distribution/start-registry.ts';
import { type Certificates, makeCertificates } from '../../ops/kafka/certificates.ts';

/** Certificates by openssl, the registry over TLS, and what the agent asks it with. The client's CN is `cardan-client`. */
let dir: string;
let certificates: Certificates;
const closing: (() => Promise<void>)[] = [];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-identity-'));
  certificates = await makeCertificates(dir);
});
afterEach(async () => {
  for (const close of closing.reverse().splice(0)) await close();
  rmSync(dir, { recursive: true, force: true });
});

async function registry(flags: Partial<ApiFlags> = {}): Promise<string> {
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closing.push(() => log.close());
  const { ca, server } = certificates;
  const service = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:1',
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    token: 'secret',
    api: apiSettings({
      tlsCert: server,
      tlsKey: server,
      clientCa: ca,
      vehicleHeader: 'X-Cardan-Vehicle',
      oidcRoleClaim: 'roles',
      rateLimit: 0,
      ...flags,
    }),
    onProblem: () => {},
  });
  closing.push(() => service.close());
  return service.url;
}

async function ask(url: string, vehicle: string, files: RegistryFiles): Promise<number> {
  const get = registryGet(url, files);
  const signal = new AbortController().signal;
  const answer = await get(`${url}/v1/vehicles/${vehicle}/desired`, { headers: {}, signal });
  for await (const chunk of answer.body ?? []) expect(chunk.length).toBeGreaterThan(0);
  return answer.status;
}

test('a car is whom its certificate names', async () => {
  const url = await registry();
  expect(url).toMatch(/^https:/);
  const { ca, clientCert, clientKey } = certificates;
  const car = { registryCa: ca, registryCert: clientCert, registryKey: clientKey };
  expect(await ask(url, 'cardan-client', car)).toBe(200);
  expect(await ask(url, 'another-car', car)).toBe(403);
  expect(await ask(url, 'cardan-client', { registryCa: ca })).toBe(401);
  // An authority that the car does not know.
  await expect(ask(url, 'cardan-client', {})).rejects.toThrow();
});

test('a certificate of another authority names nobody', async () => {
  const url = await registry();
  const elsewhere = join(dir, 'elsewhere');
  mkdirSync(elsewhere);
  const { clientCert, clientKey } = await makeCertificates(elsewhere);
  const forged = { registryCa: certificates.ca, registryCert: clientCert, registryKey: clientKey };
  expect(await ask(url, 'cardan-client', forged)).toBe(401);
});

test('a token in a file does as well; operators need no certificate', async () => {
  const url = await registry();
  const file = join(dir, 'token');
  writeFileSync(file, 'secret\n');
  expect(await ask(url, 'any-car', { registryCa: certificates.ca, registryTokenFile: file })).toBe(200);
});

test('a car shows its token to the registry only, not to where that sends it', async () => {
  const heard: (string | undefined)[] = [];
  const cdn = createServer((request, response) => {
    heard.push(request.headers.authorization);
    response.end('{}');
  });
  await new Promise<void>((resolve) => cdn.listen(0, '127.0.0.1', resolve));
  const front = createServer((request, response) => {
    heard.push(request.headers.authorization);
    response.writeHead(302, { location: `http://127.0.0.1:${(cdn.address() as AddressInfo).port}/x` }).end();
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  for (const server of [cdn, front])
    closing.push(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
  const file = join(dir, 'token');
  writeFileSync(file, 'secret\n');
  const url = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
  expect(await ask(url, 'car-1', { registryTokenFile: file })).toBe(200);
  expect(heard).toEqual(['Bearer secret', undefined]);
});
