import { spawn } from 'node:child_process';

/**
 * Runs a program until it ends, at most `limitSeconds`, then kills it with all that it started. What it prints goes to
 * our standard error. Rejects when it cannot be started, fails or takes too long, saying which.
 */
export async function run(
  command: string,
  args: readonly string[],
  limitSeconds: number,
  cwd?: string,
): Promise<void> {
  const title = [command, ...args].join(' ').slice(0, 100);
  // In a group of its own, so that no child of the child is left.
  const child = spawn(command, args, { cwd, stdio: ['ignore', 2, 2], detached: true });
  const end = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end();
  }, limitSeconds * 1000);
  process.once('exit', end);
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (status, signal) => {
        if (status === 0) resolve();
        else if (late) reject(new Error(`"${title}" was not ready after ${limitSeconds} s`));
        else reject(new Error(`"${title}" ended with ${signal ?? `exit status ${status ?? 'unknown'}`}`));
      });
    });
  } finally {
    clearTimeout(timer);
    process.removeListener('exit', end);
  }
}
