import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { download } from '../setup-tfjs-node/native-library.ts';
import { run } from '../setup-tfjs-node/run.ts';

const folders: string[] = [];
const folder = () => {
  const made = mkdtempSync(join(tmpdir(), 'cardan-setup-'));
  folders.push(made);
  return made;
};

afterEach(() => {
  for (const made of folders.splice(0)) rmSync(made, { recursive: true });
});

test('a step that fails says how, and one that cannot be started, too', async () => {
  await expect(run('sh', ['-c', 'exit 3'], 60)).rejects.toThrow('"sh -c exit 3" ended with exit status 3');
  await expect(run('no-such-program', [], 60)).rejects.toThrow(/ENOENT/);
  await run('true', [], 60);
});

test('a step that hangs is killed at its limit, with what it started', async () => {
  const file = join(folder(), 'pid');
  await expect(run('sh', ['-c', `sleep 300 & echo $! > ${file}; wait`], 1)).rejects.toThrow(
    /was not ready after 1 s/,
  );
  const pid = Number(readFileSync(file, 'utf8'));
  // Its parent is gone, so that it may be a zombie until somebody takes note of its end.
  const state = () => {
    try {
      return /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    } catch {
      return 'gone';
    }
  };
  await expect.poll(state, { timeout: 10_000 }).toMatch(/gone|Z|X/);
});

test('where the download is closed it is given up before anything is started', async () => {
  // A port that nobody listens on.
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const before = { ...process.env };
  process.env.TFJS_NODE_CDN_STORAGE = `http://127.0.0.1:${port}/`;
  delete process.env.HTTPS_PROXY;
  delete process.env.https_proxy;
  try {
    await expect(download(folder())).rejects.toThrow(`http://127.0.0.1:${port}/ does not answer`);
  } finally {
    process.env = before;
  }
});
