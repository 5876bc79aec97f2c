import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export const CLOUD = fileURLToPath(new URL('../bin/cardan-cloud.js', import.meta.url));

/** Runs `cardan-cloud …` to its end, as a user does. */
export async function runCommand(
  args: readonly string[],
  input = '',
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [CLOUD, ...args], { env });
  let [out, err] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (out += data.toString('utf8')));
  child.stderr.on('data', (data: Buffer) => (err += data.toString('utf8')));
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number];
  return { code, out, err };
}

/** Runs `cardan-cloud …`, and stops it (SIGINT) as soon as it says that an epoch has begun. */
export async function interruptTraining(
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ code: number; err: string }> {
  const child = spawn(process.execPath, [CLOUD, ...args], { env });
  let err = '';
  child.stderr.on('data', (data: Buffer) => {
    const before = err;
    err += data.toString('utf8');
    if (!/epoch \d/.test(before) && /epoch \d/.test(err)) child.kill('SIGINT');
  });
  const [code] = (await once(child, 'close')) as [number];
  return { code, err };
}
