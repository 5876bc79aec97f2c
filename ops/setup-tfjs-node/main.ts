import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build, download, packageIn } from './native-library.ts';
import { run } from './run.ts';

const USAGE = `npm run setup:tfjs-node -- [--from download|wheel]
Installs the native library of TensorFlow.js, for the trainer's engine "tfjs". package.json and package-lock.json stay as
they are, so npm ci and npm install take it away again.
  --from download   only as its own install script does, from where TensorFlow.js publishes it
  --from wheel      only built here, against the library in TensorFlow's wheel for Python (x86-64 Linux)
                    default: the first, and where that is closed the second`;

const VERSION = '4.22.0';
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MODULES = join(ROOT, 'node_modules');
const INSTALLED = packageIn(ROOT);
/** Beside its place, so that it gets there by a rename; nothing half-ready is ever found. */
const FOLDER = join(MODULES, '.setup-tfjs-node');

/** Loads it as the trainer does, and computes something. Node.js 23 took a function away that the package asks for. */
const PROBE = `
  process.env.TF_ENABLE_ONEDNN_OPTS = '0';
  process.env.TF_CPP_MIN_LOG_LEVEL = '2';
  const util = require('node:util');
  util.isNullOrUndefined ??= (value) => value === null || value === undefined;
  const tf = require('@tensorflow/tfjs-node');
  const [sum] = tf.tensor1d([1, 2]).sum().dataSync();
  if (tf.getBackend() !== 'tensorflow' || sum !== 3) throw new Error('it computes something else');
`;

const { values } = parseArgs({
  options: { from: { type: 'string' }, help: { type: 'boolean', short: 'h', default: false } },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
if (values.from !== undefined && values.from !== 'download' && values.from !== 'wheel') {
  console.error('--from is download or wheel.');
  process.exit(2);
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    process.exit(1);
  });
process.on('exit', () => {
  rmSync(FOLDER, { recursive: true, force: true });
});

try {
  if (!existsSync(join(MODULES, '@tensorflow', 'tfjs')))
    throw new Error('TensorFlow.js itself is not installed here. First: npm ci');
  if (await works()) console.log(`@tensorflow/tfjs-node is there already, and works: ${INSTALLED}`);
  else console.log(await install());
} catch (error) {
  console.error(messages(error));
  process.exitCode = 1;
}

async function install(): Promise<string> {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER);
  writeFileSync(join(FOLDER, 'package.json'), '{"private": true}\n');
  // Not in our own folder: npm would take away what is there beside the lock file, and run the install script.
  await run(
    'npm',
    [
      ...['install', '--prefix', FOLDER, '--ignore-scripts', '--no-save', '--no-audit', '--no-fund'],
      ...['--loglevel=error', `@tensorflow/tfjs-node@${VERSION}`],
    ],
    300,
    FOLDER,
  );
  const how = await library();
  arrange();
  mkdirSync(join(MODULES, '@tensorflow'), { recursive: true });
  rmSync(INSTALLED, { recursive: true, force: true });
  renameSync(packageIn(FOLDER), INSTALLED);
  if (!(await works())) {
    rmSync(INSTALLED, { recursive: true, force: true });
    throw new Error('What was built does not load on this machine; it was removed again.');
  }
  return `@tensorflow/tfjs-node ${VERSION} is installed, ${how}: ${INSTALLED}
package.json and package-lock.json are as they were: npm ci and npm install take it away again.`;
}

/** Gets the native library, one way or the other; returns which. */
async function library(): Promise<string> {
  if (values.from !== 'wheel')
    try {
      await download(FOLDER);
      return 'with the library that TensorFlow.js publishes';
    } catch (error) {
      if (values.from === 'download') throw error;
      console.error(
        `No download (${messages(error)}). Building against the library of a Python wheel instead.`,
      );
    }
  return `built against the library of ${await build(FOLDER)}`;
}

/** Puts what the package needs into it, but for TensorFlow.js, of which there must be one in a process. */
function arrange(): void {
  const [from, to] = [join(FOLDER, 'node_modules'), join(packageIn(FOLDER), 'node_modules')];
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from))
    if (name !== '@tensorflow' && name !== '.package-lock.json') renameSync(join(from, name), join(to, name));
}

async function works(): Promise<boolean> {
  if (!existsSync(INSTALLED)) return false;
  try {
    await run(process.execPath, ['--eval', PROBE], 120, ROOT);
    return true;
  } catch {
    return false;
  }
}

function messages(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${messages(error.cause)}`;
}
