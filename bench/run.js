// Runs the benches one after the other; each prints one JSON line per figure.
//   npm run bench                 all
//   npm run bench -- scorer loop  these
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const here = new URL('.', import.meta.url);
const all = readdirSync(here)
  .filter((name) => name.endsWith('.ts'))
  .map((name) => name.slice(0, -3));
const chosen = process.argv.length > 2 ? process.argv.slice(2) : all;
for (const name of chosen) {
  if (!all.includes(name)) {
    console.error(`There is no bench "${name}". There are: ${all.join(', ')}.`);
    process.exit(2);
  }
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', new URL(`${name}.ts`, here).pathname], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
