import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { startRegistry } from '../../cloud/src/distribution/start-registry.ts';
import { campaignDocument } from '../../cloud/test/registry/campaign-fixture.ts';
import { publish, sha256, testModel } from '../../cloud/test/registry/model-fixture.ts';

/**
 * schemathesis (PyPI, must be on the PATH) makes requests out of the registry's OpenAPI document, right ones and wrong
 * ones, and judges the answers by it: no 5xx, no undocumented status or body, nothing accepted that the document forbids.
 */
const SETTINGS = fileURLToPath(new URL('../openapi/schemathesis.toml', import.meta.url));

const dir = mkdtempSync(join(tmpdir(), 'cardan-fuzz-'));
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.reverse().splice(0)) await close();
  rmSync(dir, { recursive: true, force: true });
});

async function startService(): Promise<{ url: string; problems: string[] }> {
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closing.push(() => log.close());
  const problems: string[] = [];
  const service = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:1',
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    api: { requestsPerMinute: 0 },
    onProblem: ({ code, message }) => {
      if (code !== 'MQTT_UNREACHABLE') problems.push(`${code}: ${message}`);
    },
  });
  closing.push(() => service.close());
  return { url: service.url, problems };
}

/** What it says at its end, and how it ended. */
async function schemathesis(url: string, settings: string, examples: number): Promise<[number, string]> {
  const args = ['--config-file', settings, 'run', `${url}/openapi.json`, '--no-color', '--seed', '1'];
  const child = spawn('schemathesis', [...args, '--max-examples', String(examples)], { cwd: dir });
  let text = '';
  child.stdout.on('data', (data: Buffer) => (text += data.toString('utf8')));
  child.stderr.on('data', (data: Buffer) => (text += data.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number];
  return [code, text.slice(-20_000)];
}

test('requests that are made of its OpenAPI document find nothing wrong', { timeout: 300_000 }, async () => {
  const { url, problems } = await startService();
  const [code, text] = await schemathesis(url, SETTINGS, 15);
  expect(text).toContain('No issues found');
  expect([code, problems]).toEqual([0, []]);
});

test('nor do they on a model, a campaign and a vehicle that are there', { timeout: 300_000 }, async () => {
  const { url, problems } = await startService();
  const model = testModel('1');
  expect(await publish(url, model)).toBe(201);
  for (const [path, body] of [
    ['campaigns', campaignDocument()],
    ['vehicles', { id: 'car-1' }],
  ] as const) {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${url}/v1/${path}`, { method: 'POST', body: JSON.stringify(body), headers });
    expect(answer.status).toBe(201);
  }
  const hash = sha256(model.weightsBytes);
  const settings = join(dir, 'schemathesis.toml');
  writeFileSync(
    settings,
    `${readFileSync(SETTINGS, 'utf8')}
[parameters]
name = "anomaly"
version = "1"
alias = "champion"
vehicle = "car-1"
sha256 = "${hash}"
file = "timestamp.json"
path = "models/anomaly/1/${hash}.weights.bin"
`,
  );
  const [code, text] = await schemathesis(url, settings, 5);
  expect(text).toContain('No issues found');
  expect([code, problems]).toEqual([0, []]);
});
