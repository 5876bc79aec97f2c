import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { build } from 'esbuild';
import type { Kernel } from './kernel.ts';

/** What runs in the machine. */
const PROGRAMS = ['candump', 'cansend', 'canplayer', 'setpriv'];
/** For all of it; on two cores it takes about a minute. */
const LIMIT_MS = 240_000;

export interface MachineOptions {
  kernel: Kernel;
  /** Unpacked package of the agent, at /agent in the machine. */
  agent: string;
  /** Gets what the machine prints, line by line. */
  onLine: (line: string) => void;
}

/** Where a program is, or undefined. */
export function which(program: string): string | undefined {
  try {
    return execFileSync('which', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

/** Programs that are missing here. */
export function missing(): string[] {
  return ['qemu-system-x86_64', 'busybox', 'apt-get', 'dpkg-deb', ...PROGRAMS].filter(
    (program) => which(program) === undefined,
  );
}

/**
 * Boots a small machine, runs guest.ts in it and returns its exit status; undefined when it has none, because the machine
 * stopped or took longer than it may.
 */
export async function runMachine({ kernel, agent, onLine }: MachineOptions): Promise<number | undefined> {
  const work = mkdtempSync(join(tmpdir(), 'cardan-machine-'));
  try {
    const host = await hostFolder(join(work, 'host'), agent);
    const initrd = initialFiles(join(work, 'initrd'), kernel);
    return await boot({ kernel, host, initrd, onLine });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** All files that the machine sees besides the first ones: nothing else of this computer. */
async function hostFolder(host: string, agent: string): Promise<string> {
  for (const folder of ['bin', 'proc', 'sys', 'dev', 'tmp', 'test'])
    mkdirSync(join(host, folder), { recursive: true });
  copyProgram(host, process.execPath, 'node');
  for (const program of PROGRAMS) copyProgram(host, which(program)!, program);
  copyProgram(host, which('busybox')!, 'busybox');
  for (const applet of ['ip', 'sh', 'ls', 'mkfifo']) symlinkSync('busybox', join(host, 'bin', applet));
  cpSync(agent, join(host, 'agent'), { recursive: true });
  await build({
    entryPoints: [join(import.meta.dirname, 'guest.ts')],
    outfile: join(host, 'test/guest.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['*.node'],
    banner: { js: "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);" },
    logLevel: 'error',
  });
  return host;
}

/** With the shared libraries that it needs, at the same paths as here. */
function copyProgram(root: string, path: string, name: string): void {
  cpSync(path, join(root, 'bin', name), { dereference: true });
  chmodSync(join(root, 'bin', name), 0o755);
  // ldd fails on what is static.
  const { stdout } = spawnSync('ldd', [path], { encoding: 'utf8' });
  for (const [, library = ''] of stdout.matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(join(root, dirname(library)), { recursive: true });
    cpSync(library, join(root, library), { dereference: true });
  }
}

/** What the kernel starts with: busybox, the modules in their order, and the script `init`. */
function initialFiles(root: string, kernel: Kernel): string {
  for (const folder of ['bin', 'modules', 'proc', 'host', 'dev'])
    mkdirSync(join(root, folder), { recursive: true });
  copyProgram(root, which('busybox')!, 'busybox');
  cpSync(join(import.meta.dirname, 'init'), join(root, 'init'));
  chmodSync(join(root, 'init'), 0o755);
  kernel.modules.forEach((file, i) => {
    cpSync(file, join(root, 'modules', `${String(i).padStart(2, '0')}-${basename(file)}`));
  });
  const archive = `${root}.cpio`;
  execFileSync('sh', ['-c', `find . | busybox cpio -o -H newc > "${archive}"`], { cwd: root, stdio: 'pipe' });
  return archive;
}

async function boot({
  kernel,
  host,
  initrd,
  onLine,
}: Omit<MachineOptions, 'agent'> & { host: string; initrd: string }): Promise<number | undefined> {
  const child = spawn(
    which('qemu-system-x86_64')!,
    [
      // Emulated: /dev/kvm is not on every machine that builds.
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '768'],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-kernel', kernel.image, '-initrd', initrd],
      ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off'],
      ...['-fsdev', `local,id=host,path=${host},security_model=none,readonly=on`],
      ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const late = setTimeout(() => {
    onLine(`Bail out! The machine took longer than ${LIMIT_MS / 1000} s.`);
    child.kill('SIGKILL');
  }, LIMIT_MS);
  const stop = () => void child.kill('SIGKILL');
  process.once('exit', stop);
  let status: number | undefined;
  let rest = '';
  try {
    child.stderr.setEncoding('utf8').on('data', (text: string) => onLine(`# qemu: ${text.trim()}`));
    for await (const text of child.stdout.setEncoding('utf8') as AsyncIterable<string>) {
      const lines = (rest + text).split(/\r*\n/);
      rest = lines.pop()!;
      for (const line of lines) {
        const match = /^# status (\d+)$/.exec(line);
        if (match) status = Number(match[1]);
        else onLine(line);
      }
    }
    return status;
  } finally {
    clearTimeout(late);
    process.removeListener('exit', stop);
    stop();
  }
}
