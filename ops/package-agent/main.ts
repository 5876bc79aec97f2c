import { parseArgs } from 'node:util';
import { packageAgent, type Arch, type PackageOptions } from './build.ts';

const USAGE = `npm run package:agent -- [--out DIR] [--arch x64|arm64] [--node FILE] [--native-module FILE] [--node-abi N]
Makes cardan-agent-VERSION-ARCH.tar.gz, which runs without npm.
  --out DIR              where it is written (default .)
  --arch ARCH            machine that it is for (default: this one)
  --node FILE            puts this Node.js in; without it the car's own is used
  --native-module FILE   better_sqlite3.node for that machine; needed when it is not this one
  --node-abi N           process.versions.modules of the Node.js that the module is for (default: this one's)`;

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: '.' },
    arch: { type: 'string', default: process.arch },
    node: { type: 'string' },
    'native-module': { type: 'string' },
    'node-abi': { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(USAGE);
} else {
  try {
    if (!['x64', 'arm64'].includes(values.arch)) throw new Error('--arch is x64 or arm64.');
    const options: PackageOptions = { out: values.out, arch: values.arch as Arch };
    if (values.node !== undefined) options.node = values.node;
    if (values['native-module'] !== undefined) options.nativeModule = values['native-module'];
    if (values['node-abi'] !== undefined) options.nodeAbi = values['node-abi'];
    console.log(await packageAgent(options));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
