import { execFile } from 'node:child_process';
import { systemCode } from '@cardan/shared';

/** Programs of the system answer at once, or are in trouble. */
const PROGRAM_MS = 3000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

/** What a program has printed; `missing` when there is no such program. */
export type Ran = { status: number; out: string; err: string } | 'missing';

/** Runs a program of the system, for a bounded time. Never rejects. */
export function runProgram(program: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      program,
      args,
      { timeout: PROGRAM_MS, maxBuffer: OUTPUT_BYTES_MAX, env: { ...process.env, LC_ALL: 'C' } },
      (error, out, err) => {
        if (error !== null && systemCode(error) === 'ENOENT') resolve('missing');
        else resolve({ status: error === null ? 0 : Number(error.code ?? 1) || 1, out, err: err.trim() });
      },
    );
  });
}
