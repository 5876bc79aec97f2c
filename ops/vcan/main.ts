/**
 * `npm run test:vcan`: SocketCAN for real. Boots Debian's kernel in an emulated machine with virtual CAN interfaces, and
 * runs guest.ts there, which prints one line per test (TAP). Needs `apt install qemu-system-x86 busybox-static can-utils`.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageAgent } from '../package-agent/build.ts';
import { debianKernel, type Kernel } from './kernel.ts';
import { missing, runMachine } from './machine.ts';

const began = performance.now();
const found = kernelHere();
if (typeof found === 'string') {
  console.log(`skipped: no machine with SocketCAN can be booted here: ${found}`);
  // A CI that skips would say that all is well.
  if (process.env.CI) process.exitCode = 1;
} else {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-vcan-agent-'));
  process.once('SIGINT', () => process.exit(130));
  process.once('SIGTERM', () => process.exit(143));
  try {
    const tarball = await packageAgent({ out: dir, arch: 'x64' });
    const agent = join(dir, 'agent');
    mkdirSync(agent);
    execFileSync('tar', ['-xzf', tarball, '-C', agent, '--strip-components=1']);
    const status = await runMachine({ kernel: found, agent, onLine: (line) => console.log(line) });
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    console.log(`# kernel ${found.release}, emulated, ${seconds} s in all`);
    process.exitCode = status ?? 1;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The kernel, or why there is none. */
function kernelHere(): Kernel | string {
  if (process.arch !== 'x64') return `this is ${process.arch}, and the machine is x64`;
  const programs = missing();
  if (programs.length > 0)
    return `${programs.join(', ')} missing (apt install qemu-system-x86 busybox-static can-utils)`;
  try {
    return debianKernel();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
