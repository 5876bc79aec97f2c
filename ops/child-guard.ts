import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';

/**
 * Reads the process ids to end, one list a line, until its input ends, which it does however the parent dies.
 * Then it ends them and removes the folder, if one was given. Ten tries: the processes may write until they are gone.
 */
const WATCH = `
while read -r line; do pids="$line"; done
for pid in $pids; do kill -KILL "$pid"; done
[ -n "$1" ] || exit 0
for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit 0; sleep 0.1; done
`;

/** A process that `ChildGuard` started. */
export interface Child {
  process: ChildProcess;
  /** Resolves with a text such as `exit status 1` or `SIGKILL` when the process has ended. Never rejects. */
  ended: Promise<string>;
}

/**
 * Starts child processes that do not outlive this one, whatever ends it: a watching shell kills them, also when this
 * process gets SIGKILL. They are in groups of their own: Ctrl-C reaches this process only, which then stops them in
 * good order.
 */
export class ChildGuard {
  private readonly watch: ChildProcess;
  private readonly running = new Set<Child>();

  /** `folder` is removed with the processes when this one dies. */
  constructor(folder?: string) {
    this.watch = spawn('sh', ['-c', WATCH, 'child-guard', folder ?? ''], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    this.watch.unref();
    (this.watch.stdin as Socket).unref();
    this.watch.stdin!.on('error', () => undefined);
  }

  /**
   * Starts a program; what it prints is added to the file `output`, or goes where this process prints, by default.
   * Rejects when it cannot be started.
   */
  async start(command: string, args: string[], output?: string): Promise<Child> {
    const out = output === undefined ? 'inherit' : openSync(output, 'a');
    let process: ChildProcess;
    try {
      process = spawn(command, args, { stdio: ['ignore', out, out], detached: true });
    } finally {
      if (out !== 'inherit') closeSync(out);
    }
    const ended = new Promise<string>((resolve) => {
      process.once('exit', (status, signal) => {
        resolve(signal ?? `exit status ${status ?? 'unknown'}`);
      });
    });
    const child = { process, ended };
    await once(process, 'spawn');
    this.running.add(child);
    this.tell();
    void ended.then(() => {
      this.running.delete(child);
      this.tell();
    });
    return child;
  }

  /** Ends what still runs with SIGKILL, and the watching. The folder is the caller's again. */
  async close(): Promise<void> {
    const running = [...this.running];
    for (const child of running) child.process.kill('SIGKILL');
    await Promise.all(running.map((child) => child.ended));
    if (this.watch.exitCode !== null || this.watch.signalCode !== null) return;
    this.watch.ref();
    const gone = once(this.watch, 'exit');
    this.watch.kill('SIGKILL');
    await gone;
  }

  private tell(): void {
    this.watch.stdin!.write([...this.running].map((child) => child.process.pid).join(' ') + '\n');
  }
}
