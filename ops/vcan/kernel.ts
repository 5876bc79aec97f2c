import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** What the machine needs beyond what is built into Debian's kernel: a folder of this one, and CAN. */
const WANTED = ['virtio_pci', '9pnet_virtio', '9p', 'can-raw', 'vcan'];

export interface Kernel {
  release: string;
  image: string;
  /** Files of the modules, each behind those that it needs. */
  modules: string[];
}

/**
 * Debian's kernel for this machine's release, unpacked into a cache and not installed. Throws when it cannot be had; the
 * message says why.
 */
export function debianKernel(): Kernel {
  const depends = execFileSync('apt-cache', ['depends', 'linux-image-amd64'], { encoding: 'utf8' });
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new Error('apt knows no linux-image-amd64; run apt-get update');
  const cache = join(tmpdir(), 'cardan-vcan');
  const folder = join(cache, name);
  if (!existsSync(folder)) {
    mkdirSync(cache, { recursive: true });
    const work = mkdtempSync(join(cache, 'download-'));
    try {
      execFileSync('apt-get', ['download', name], { cwd: work, stdio: 'pipe' });
      const deb = readdirSync(work).find((file) => file.endsWith('.deb'))!;
      execFileSync('dpkg-deb', ['-x', deb, 'unpacked'], { cwd: work });
      renameSync(join(work, 'unpacked'), folder);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  const release = name.replace('linux-image-', '');
  const tree = join(folder, 'lib/modules', release);
  const files = new Map(
    readdirSync(tree, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ko'))
      .map((file) => [moduleName(file), join(tree, file)]),
  );
  const modules = new Set<string>();
  const add = (module: string) => {
    const file = files.get(moduleName(module));
    if (file === undefined) throw new Error(`the kernel ${release} has no module ${module}`);
    for (const needed of dependencies(file)) add(needed);
    modules.add(file);
  };
  WANTED.forEach(add);
  return { release, image: join(folder, 'boot', `vmlinuz-${release}`), modules: [...modules] };
}

/** From the module's own table (`.modinfo`), as modinfo reads it: kmod need not be there. */
function dependencies(file: string): string[] {
  const text = readFileSync(file, 'latin1');
  return (/\0depends=([^\0]*)\0/.exec(text)?.[1] ?? '').split(',').filter((name) => name !== '');
}

/** The kernel takes `-` and `_` for the same. */
function moduleName(file: string): string {
  return basename(file, '.ko').replaceAll('-', '_');
}
