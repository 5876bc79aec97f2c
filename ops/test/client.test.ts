import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { startRegistry } from '../../cloud/src/distribution/start-registry.ts';
import { RegistryClient } from '../../cloud/src/registry-client.ts';
import { testModel } from '../../cloud/test/registry/model-fixture.ts';

/** docs/api.md tells how to make a TypeScript client of the OpenAPI document; this goes that way. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const bin = (name: string) => join(ROOT, 'node_modules', name);
const node = (...args: string[]) => promisify(execFile)(process.execPath, args, { cwd: dir });

const CLIENT = `
import createClient from 'openapi-fetch';
import type { paths } from './cardan-api.js';

const cardan = createClient<paths, 'application/json' | 'application/problem+json'>({
  baseUrl: process.argv[2]!,
  headers: { authorization: \`Bearer \${process.argv[3]}\` },
});
const { data, error } = await cardan.GET('/v1/models', { params: { query: { limit: 10 } } });
if (error) throw new Error(\`\${error.code}: \${error.detail}\`);
const names: string[] = data.models.map(({ name, versions }) => \`\${name} \${versions.at(-1)?.version}\`);
const training = await cardan.POST('/v1/trainings', {
  params: { header: { 'idempotency-key': 'one' } },
  body: { reason: 'asked for by a client' },
});
console.log(JSON.stringify({ names, status: training.response.status, id: typeof training.data?.training }));
const missing = await cardan.GET('/v1/models/{name}', { params: { path: { name: 'none' } } });
console.log(missing.error?.code);
`;
const SETTINGS = {
  compilerOptions: {
    target: 'ES2023',
    module: 'NodeNext',
    lib: ['ES2023', 'DOM'],
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: true,
  },
  include: ['client.ts', 'cardan-api.d.ts'],
};

let dir: string;
const closing: (() => Promise<void>)[] = [];
beforeEach(() => {
  // Within the repository, so that its packages are found.
  mkdirSync(bin('.cache'), { recursive: true });
  dir = mkdtempSync(join(bin('.cache'), 'cardan-client-'));
});
afterEach(async () => {
  for (const close of closing.reverse().splice(0)) await close();
  rmSync(dir, { recursive: true, force: true });
});

async function startService(): Promise<string> {
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closing.push(() => log.close());
  const service = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:1',
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    token: 'secret',
    onProblem: () => {},
  });
  closing.push(() => service.close());
  return service.url;
}

async function publishModel(url: string): Promise<void> {
  const { manifestBytes, modelBytes, weightsBytes } = testModel('7');
  const files = { manifest: manifestBytes, model: modelBytes, weights: weightsBytes };
  await new RegistryClient(url, 'secret').publish(files, 'anomaly');
}

test(
  'a client that is made of the document compiles, and talks to a registry',
  { timeout: 120_000 },
  async () => {
    const document = join(ROOT, 'docs', 'openapi.json');
    await node(bin('openapi-typescript/bin/cli.js'), document, '-o', 'cardan-api.d.ts');
    writeFileSync(join(dir, 'client.ts'), CLIENT);
    writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify(SETTINGS));
    await node(bin('typescript/bin/tsc'), '-p', '.');

    const url = await startService();
    const refused = await node('client.js', url, 'wrong').catch((error: { stderr: string }) => error);
    expect(refused.stderr).toContain('UNAUTHORIZED');
    await publishModel(url);
    const { stdout } = await node('client.js', url, 'secret');
    const [first = '', second] = stdout.split('\n');
    expect(JSON.parse(first)).toEqual({ names: ['anomaly 7'], status: 202, id: 'string' });
    expect(second).toBe('MODEL_UNKNOWN');
  },
);
