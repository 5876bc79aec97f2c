import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { publish, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import { World } from './car-fixture.ts';

/**
 * python-tuf is the reference that we did not write: `cardan-agent tuf` on a repository of python-tuf, by the command line
 * of the TUF project's conformance tests; and python-tuf's client on our registry. The conformance suite itself is run by
 * ops/test/tuf-conformance.
 */

const hasPythonTuf = spawnSync('python3', ['-c', 'import tuf, securesystemslib']).status === 0;
if (!hasPythonTuf && process.env.CI)
  throw new Error('CI needs python-tuf: pip install tuf securesystemslib[crypto]');
if (!hasPythonTuf) console.log('skipped: no Python with tuf here (pip install tuf securesystemslib[crypto])');

const world = new World();
const closing: (() => void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) close();
  await world.close();
});

function run(command: string, args: string[]): Promise<{ status: number | null; out: string; err: string }> {
  const child = spawn(command, args, { env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' } });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, out, err })));
}
const python = (script: string, ...args: string[]) =>
  run('python3', [join(import.meta.dirname, script), ...args]);
const agent = (...args: string[]) =>
  run(process.execPath, [join(import.meta.dirname, '../../bin/cardan-agent.js'), 'tuf', ...args]);

/** A plain file server, as a CDN is one. */
async function serve(dir: string): Promise<{ url: string; requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url ?? '');
    const path = join(dir, decodeURIComponent(request.url ?? ''));
    if (existsSync(path) && statSync(path).isFile()) createReadStream(path).pipe(response);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => void server.close().closeAllConnections());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

describe.skipIf(!hasPythonTuf)('with python-tuf', () => {
  test('cardan-agent tuf follows its root 2 of 3, its delegation and its hashes, and downloads once only', async () => {
    const [dir, metadata, targets] = [join(world.dir(), 'repository'), world.dir(), world.dir()];
    const made = await python('python_tuf_repository.py', dir);
    expect(made).toMatchObject({ status: 0 });
    const { url, requests } = await serve(dir);
    const at = ['--metadata-dir', metadata, '--metadata-url', `${url}/metadata`];
    const wanted = ['--target-name', 'models/anomaly/7/weights.bin', '--target-base-url', `${url}/targets`];
    expect(await agent('--metadata-dir', metadata, 'init', join(dir, 'metadata/1.root.json'))).toMatchObject({
      status: 0,
    });
    expect(requests).toEqual([]);
    expect(await agent(...at, 'refresh')).toMatchObject({ status: 0, err: '' });
    expect(requests).toEqual([
      '/metadata/2.root.json',
      '/metadata/timestamp.json',
      '/metadata/1.snapshot.json',
      '/metadata/1.targets.json',
    ]);
    const json = () => readdirSync(metadata).filter((name) => name.endsWith('.json'));
    expect(json().sort()).toEqual(['root.json', 'snapshot.json', 'targets.json', 'timestamp.json']);

    const download = await agent(...at, ...wanted, '--target-dir', targets, 'download');
    expect(download).toMatchObject({ status: 0, err: '' });
    const { sha256 } = JSON.parse(made.out) as { sha256: string };
    const bytes = readFileSync(download.out.trim());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256);
    expect(await agent(...at, ...wanted, '--target-dir', targets, 'download')).toMatchObject({ status: 0 });
    expect(requests.filter((path) => path.includes('weights.bin'))).toHaveLength(1);

    const nothing = ['--target-name', 'models/anomaly/8/weights.bin', '--target-base-url', `${url}/targets`];
    expect(await agent(...at, ...nothing, '--target-dir', targets, 'download')).toMatchObject({
      status: 1,
      err: expect.stringContaining('TUF_TARGET_UNKNOWN') as string,
    });
  });

  test('cardan-agent tuf follows it to a new root with other keys', async () => {
    const [dir, metadata] = [join(world.dir(), 'repository'), world.dir()];
    expect(await python('python_tuf_repository.py', dir, 'rotate')).toMatchObject({ status: 0, err: '' });
    const { url } = await serve(dir);
    await agent('--metadata-dir', metadata, 'init', join(dir, 'metadata/1.root.json'));
    const refresh = await agent('--metadata-dir', metadata, '--metadata-url', `${url}/metadata`, 'refresh');
    expect(refresh).toMatchObject({ status: 0, err: '' });
    expect(JSON.parse(readFileSync(join(metadata, 'root.json'), 'utf8'))).toMatchObject({
      signed: { version: 2 },
    });
  });

  test('its client takes a model from our registry, through the delegation', async () => {
    const registry = await world.registry();
    const model = testModel('1');
    await publish(registry.url, model);
    const name = 'models/anomaly/1/weights.bin';
    const downloaded = await python(
      'python_tuf_client.py',
      world.dir(),
      registry.rootPath,
      registry.url,
      name,
    );
    expect(downloaded).toMatchObject({ status: 0, err: '' });
    expect(readFileSync(downloaded.out.trim()).equals(model.weightsBytes)).toBe(true);
  });
});
