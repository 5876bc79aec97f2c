import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { filesOfProject } from './files-of-project.ts';

// `npm run format` and `npm run check:lint`: Prettier on the files of the project, wherever one stands.
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** A command line is at most 32,767 characters long on Windows. */
const LINE_CHARACTERS_MAX = 30_000;

const mode = process.argv[2];
if (mode !== '--check' && mode !== '--write') {
  console.error('Usage: node ops/format/format.js --check | --write');
  process.exit(2);
}
const prettier = join(dirname(createRequire(import.meta.url).resolve('prettier')), 'bin', 'prettier.cjs');
for (const files of lines(filesOfProject(ROOT))) {
  const options = { cwd: ROOT, stdio: 'inherit' } as const;
  const { status } = spawnSync(process.execPath, [prettier, mode, '--ignore-unknown', ...files], options);
  if (status !== 0) process.exitCode = 1;
}

function lines(files: readonly string[]): string[][] {
  const all: string[][] = [];
  let characters = Infinity;
  for (const file of files) {
    characters += file.length + 3;
    if (characters > LINE_CHARACTERS_MAX) {
      all.push([]);
      characters = file.length + 3;
    }
    all.at(-1)!.push(file);
  }
  return all;
}
