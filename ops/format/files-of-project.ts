import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Names of all files: some hundred kB. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/**
 * The files of a checkout that belong to the project: those that git tracks, by their paths in it. What else lies there, such
 * as a model that somebody has made or a configuration of theirs, is not ours to judge, and least of all to change. Without
 * git, or where nothing is tracked (an unpacked archive), it is the whole folder.
 */
export function filesOfProject(root: string): string[] {
  let tracked: string[];
  try {
    tracked = execFileSync('git', ['ls-files', '-z'], {
      cwd: root,
      maxBuffer: OUTPUT_BYTES_MAX,
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
    }).split('\0');
  } catch {
    return ['.'];
  }
  const there = tracked.filter((file) => file !== '' && existsSync(join(root, file)));
  return there.length > 0 ? there : ['.'];
}
