import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './run.ts';

const UNPACK = fileURLToPath(new URL('unpack-wheel.py', import.meta.url));

/** Whose libtensorflow is built against: the newest that was tried. */
const WHEEL = 'tensorflow-cpu==2.21.0';
/** The wheel is for one Python, but for its libraries any Python will do that can unpack it. */
const WHEEL_TAGS = ['--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311'];
const WHEEL_PLATFORM = 'manylinux_2_27_x86_64';

/** A host that is closed off may take the connection and never answer. */
const ANSWER_SECONDS = 10;
/** 270 MB at 1 MB/s; and a compiler on a slow machine. */
const DOWNLOAD_SECONDS = 300;
const BUILD_SECONDS = 300;

/**
 * The package's own way: its install script downloads libtensorflow and a built addon. `folder` has the package in its
 * node_modules. Rejects where the download is closed, within the time limits.
 */
export async function download(folder: string): Promise<void> {
  const { CDN_STORAGE, TFJS_NODE_CDN_STORAGE, HTTPS_PROXY, https_proxy } = process.env;
  const host = TFJS_NODE_CDN_STORAGE ?? CDN_STORAGE ?? 'https://storage.googleapis.com/';
  // The script uses a proxy, which this would not.
  if (HTTPS_PROXY === undefined && https_proxy === undefined) {
    try {
      await fetch(host, { method: 'HEAD', signal: AbortSignal.timeout(ANSWER_SECONDS * 1000) });
    } catch (cause) {
      throw new Error(`${host} does not answer`, { cause });
    }
  }
  await run('npm', ['run', 'install'], DOWNLOAD_SECONDS, packageIn(folder));
}

/**
 * Builds the addon against the libtensorflow in a wheel for Python, which has the same C interface. Needs x86-64 Linux,
 * Python 3 with pip, make and a C++ compiler. Rejects, saying what is missing.
 */
export async function build(folder: string): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(`there is such a wheel for x86-64 Linux, not for ${process.platform} ${process.arch}`);
  const wheels = join(folder, 'wheel');
  mkdirSync(wheels);
  await run('python3', ['-m', 'pip', '--version'], 60).catch((cause: unknown) => {
    throw new Error('Python with pip is needed. On Debian and Ubuntu: apt install python3-pip', { cause });
  });
  await run(
    'python3',
    [
      ...['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--no-cache-dir'],
      ...['--only-binary=:all:', ...WHEEL_TAGS, '--platform', WHEEL_PLATFORM, '--dest', wheels, WHEEL],
    ],
    DOWNLOAD_SECONDS,
  );
  const tfjs = packageIn(folder);
  const deps = join(tfjs, 'deps');
  // What a download left that was cut off.
  rmSync(deps, { recursive: true, force: true });
  await run('python3', [UNPACK, join(wheels, readdirSync(wheels)[0]!), deps], BUILD_SECONDS);
  writeFileSync(join(tfjs, 'scripts', 'custom-binary.json'), '{"tf-lib": "local"}\n');
  await run('npm', ['run', 'install'], BUILD_SECONDS, tfjs);
  if (!existsSync(join(tfjs, 'lib')))
    throw new Error('the addon was not built; a C++ compiler and make are needed');
  return WHEEL;
}

/** Where npm has put tfjs-node. */
export function packageIn(folder: string): string {
  return join(folder, 'node_modules', '@tensorflow', 'tfjs-node');
}
