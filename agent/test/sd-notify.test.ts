import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, it } from 'vitest';
import { SdNotify } from '../src/sd-notify.ts';

/**
 * The other end as systemd has it: a datagram socket of the unix family, by Python. It prints one JSON line a message,
 * and closes the file descriptor that comes with BARRIER=1, for which systemd-notify waits.
 */
const RECEIVER = `
import array, json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print(json.dumps("bound"), flush=True)
while True:
    data, fds, _, _ = socket.recv_fds(s, 4096, 4)
    for fd in fds: os.close(fd)
    text = data.decode()
    if not text.startswith("BARRIER=1"): print(json.dumps(text.strip()), flush=True)
`;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function receiver(): Promise<{ path: string; next: () => Promise<string> }> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-notify-'));
  const path = join(dir, 'notify');
  const child = spawn('python3', ['-c', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  closing.push(() => {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse(String((await lines.next()).value)) as string;
  expect(await next()).toBe('bound');
  return { path, next };
}

function notifier(variables: Record<string, string>): { notify: SdNotify; problems: string[] } {
  const problems: string[] = [];
  const notify = new SdNotify({
    environment: { PATH: process.env.PATH, ...variables },
    onProblem: (message) => problems.push(message),
    pid: 77,
  });
  return { notify, problems };
}

describe('sd_notify', () => {
  it('tells systemd when it is ready, that it lives, and that it stops', async () => {
    const { path, next } = await receiver();
    const { notify, problems } = notifier({
      NOTIFY_SOCKET: path,
      WATCHDOG_USEC: '200000',
      WATCHDOG_PID: '77',
    });
    await notify.ready('reads CAN');
    expect(await next()).toBe('READY=1\nSTATUS=reads CAN');
    expect(await next()).toBe('WATCHDOG=1');
    expect(await next()).toBe('WATCHDOG=1');
    await notify.stopping();
    let last = await next();
    // One that was under way may still come before.
    while (last === 'WATCHDOG=1') last = await next();
    expect(last).toBe('STOPPING=1');
    expect(problems).toEqual([]);
  });

  it('feeds the watchdog twice per interval, and only when it is meant', () => {
    const of = (variables: Record<string, string>) => notifier(variables).notify.watchdogMs;
    expect(of({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '30000000' })).toBe(15_000);
    expect(of({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '30000000', WATCHDOG_PID: '78' })).toBeUndefined();
    expect(of({ NOTIFY_SOCKET: '/x' })).toBeUndefined();
    expect(of({ WATCHDOG_USEC: '30000000' })).toBeUndefined();
  });

  it('does nothing outside of systemd', async () => {
    const { notify, problems } = notifier({ PATH: '/nowhere' });
    await notify.ready('');
    await notify.stopping();
    expect(problems).toEqual([]);
  });

  it('says once when systemd-notify cannot be run', async () => {
    const { notify, problems } = notifier({ NOTIFY_SOCKET: '/nowhere/notify', PATH: '/nowhere' });
    await notify.ready('');
    await notify.stopping();
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain('systemd-notify');
  });
});
