import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CardanError } from '@cardan/shared';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SocketCanSource } from '../../src/can/socketcan.ts';

/** On interfaces it is tested in a machine that has them: npm run test:vcan. */
describe('SocketCAN where it cannot be', () => {
  const path = process.env.PATH;
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'cardan-socketcan-'))));
  afterEach(() => {
    process.env.PATH = path;
    rmSync(dir, { recursive: true });
  });

  /** The first problem that a source reports. */
  async function problemOf(name: string): Promise<CardanError> {
    const stop = new AbortController();
    const problems: CardanError[] = [];
    const source = new SocketCanSource({
      interface: name,
      onProblem: (problem) => problems.push(problem),
      sleep: async () => stop.abort(),
    });
    expect((await source.frames(stop.signal).next()).done).toBe(true);
    expect(source.state).toBe('closed');
    return problems[0]!;
  }

  it('says which package to install when setpriv is missing', async () => {
    process.env.PATH = dir;
    const { code, message } = await problemOf('can0');
    expect([code, message]).toEqual(['CAN_UNAVAILABLE', expect.stringContaining('install util-linux')]);
  });

  it('says which package to install when candump is missing', async () => {
    symlinkSync(execFileSync('which', ['setpriv'], { encoding: 'utf8' }).trim(), join(dir, 'setpriv'));
    process.env.PATH = dir;
    const { code, message } = await problemOf('can0');
    expect([code, message]).toEqual(['CAN_UNAVAILABLE', expect.stringContaining('install can-utils')]);
  });

  it('says which package to install when cansend is missing', async () => {
    process.env.PATH = dir;
    const frame = { time: 0, id: 1, extended: false, fd: false, data: Buffer.of(1) };
    await expect(new SocketCanSource({ interface: 'can0' }).send(frame)).rejects.toMatchObject({
      code: 'CAN_SEND_FAILED',
      message: expect.stringContaining('install can-utils') as unknown,
    });
  });
});
