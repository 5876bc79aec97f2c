import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';
import { AGENT_VERSION } from '../../agent/src/config.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const FILES = join(import.meta.dirname, 'files');

export type Arch = 'x64' | 'arm64';

export interface PackageOptions {
  /** Folder that the tarball is written to. */
  out: string;
  arch: Arch;
  /**
   * better-sqlite3's compiled module for that machine and version of Node.js; by default the one that npm has installed
   * here, which fits this machine only.
   */
  nativeModule?: string;
  /** `process.versions.modules` of the Node.js that the module is for; by default of this one. */
  nodeAbi?: string;
  /** A Node.js binary to put in; without it the target's own is used. */
  node?: string;
}

/**
 * Makes `cardan-agent-VERSION-ARCH.tar.gz`: the agent as one JavaScript file, SQLite as a native module, what systemd
 * and the CAN hat need. Nothing of it needs npm, tsx or a network.
 *
 * @returns the tarball's path
 */
export async function packageAgent(options: PackageOptions): Promise<string> {
  const { arch } = options;
  if (options.nativeModule === undefined && arch !== process.arch)
    throw new Error(
      `This machine is ${process.arch}; for ${arch} give --native-module FILE (npm run test:arm64 shows how it is ` +
        `compiled), or run this on the target itself.`,
    );
  const nativeModule =
    options.nativeModule ?? join(packageDir('better-sqlite3'), 'build/Release/better_sqlite3.node');
  if (!existsSync(nativeModule)) throw new Error(`${nativeModule} is missing; run npm ci first.`);

  const work = mkdtempSync(join(tmpdir(), 'cardan-package-'));
  try {
    const name = `cardan-agent-${AGENT_VERSION}-${arch}`;
    const folder = join(work, name);
    const lib = join(folder, 'lib');
    mkdirSync(lib, { recursive: true });
    const inputs = await bundle(join(lib, 'cardan-agent.mjs'));
    cpSync(nativeModule, join(lib, 'better_sqlite3.node'));
    if (options.node !== undefined) {
      cpSync(options.node, join(lib, 'node'));
      chmodSync(join(lib, 'node'), 0o755);
    }
    writeFileSync(join(lib, 'node-abi'), `${options.nodeAbi ?? process.versions.modules}\n`);
    writeFileSync(join(lib, 'arch'), `${arch}\n`);
    cpSync(FILES, folder, { recursive: true });
    for (const file of ['bin/cardan-agent', 'install.sh', 'uninstall.sh'])
      chmodSync(join(folder, file), 0o755);
    cpSync(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'));
    writeFileSync(join(folder, 'THIRD-PARTY-LICENSES'), licences(inputs));
    mkdirSync(options.out, { recursive: true });
    const tarball = join(resolve(options.out), `${name}.tar.gz`);
    execFileSync('tar', ['--owner=0', '--group=0', '--numeric-owner', '-czf', tarball, '-C', work, name]);
    return tarball;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The agent and all that it imports as one file; returns the files that went in. */
async function bundle(outfile: string): Promise<string[]> {
  const { metafile } = await build({
    entryPoints: [join(ROOT, 'agent/src/main.ts')],
    absWorkingDir: ROOT,
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // Half of the size to parse at the start; names stay, for stack traces.
    minifySyntax: true,
    minifyWhitespace: true,
    keepNames: true,
    metafile: true,
    external: ['*.node'],
    // CommonJS packages in the bundle call require() for Node's own modules and the native one.
    banner: {
      js: "import { createRequire as cardanRequire } from 'node:module'; const require = cardanRequire(import.meta.url);",
    },
    plugins: [
      {
        // It looks for the native module in a node_modules folder; here it lies beside the bundle.
        name: 'native-module-beside',
        setup(plugin) {
          plugin.onResolve({ filter: /^bindings$/ }, () => ({ path: 'bindings', namespace: 'beside' }));
          plugin.onLoad({ filter: /.*/, namespace: 'beside' }, () => ({
            contents: "module.exports = () => require('./better_sqlite3.node');",
          }));
        },
      },
    ],
    logLevel: 'error',
  });
  return Object.keys(metafile.inputs);
}

/** The licence texts of all packages in the bundle, as most licences ask for. */
function licences(inputs: readonly string[]): string {
  const dirs = new Set<string>();
  for (const input of inputs) {
    const match = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
    if (match) dirs.add(match[0]);
  }
  return [...dirs]
    .sort()
    .map((dir) => {
      const path = join(ROOT, dir);
      const { name, version, license } = JSON.parse(
        readFileSync(join(path, 'package.json'), 'utf8'),
      ) as Record<'name' | 'version' | 'license', string>;
      const file = readdirSync(path).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
      const text = file === undefined ? '' : readFileSync(join(path, file), 'utf8').trim();
      return `== ${name} ${version} (${license})\n\n${text}\n`;
    })
    .join('\n');
}

function packageDir(name: string): string {
  return dirname(createRequire(join(ROOT, 'shared/package.json')).resolve(`${name}/package.json`));
}
