import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { CalmPipe } from '../../src/can/calm-pipe.ts';

async function outputOf(script: string): Promise<string[]> {
  const pipe = new CalmPipe();
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', pipe.writeEnd, 'inherit'] });
  const pieces: string[] = [];
  for await (const piece of pipe.read()) pieces.push(piece);
  if (child.exitCode === null) await once(child, 'exit');
  return pieces;
}

describe('a calm pipe', () => {
  it('gives all that was written, in order, and ends with the program', async () => {
    const pieces = await outputOf('i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done');
    expect(pieces.join('')).toBe(Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join(''));
    // Each line was a write of its own.
    expect(pieces.length).toBeLessThan(2000);
  });

  it('gives nothing of a program that writes nothing, or is not there', async () => {
    expect(await outputOf('exit 1')).toEqual([]);
    const pipe = new CalmPipe();
    const child = spawn('/no/such/program', [], { stdio: ['ignore', pipe.writeEnd, 'ignore'] });
    const failed = once(child, 'error');
    for await (const piece of pipe.read()) expect.unreachable(piece);
    await failed;
  });

  it('does not hold on to its program when nobody reads on', async () => {
    const pipe = new CalmPipe();
    const child = spawn('sh', ['-c', 'while echo line; do :; done 2>/dev/null'], {
      stdio: ['ignore', pipe.writeEnd, 'ignore'],
    });
    const ended = once(child, 'exit');
    for await (const piece of pipe.read()) {
      expect(piece.startsWith('line\n')).toBe(true);
      break;
    }
    await ended;
  });
});
