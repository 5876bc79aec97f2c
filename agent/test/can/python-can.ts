import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { CanFrame } from '../../src/can/can-frame.ts';

/** A frame in JSON, without its time. */
export interface PlainFrame {
  id: number;
  extended: boolean;
  fd: boolean;
  data: string;
}

export const plain = ({ id, extended, fd, data }: CanFrame): PlainFrame => ({
  id,
  extended,
  fd,
  data: Buffer.from(data).toString('hex'),
});

export const frameOf = ({ data, ...rest }: PlainFrame): CanFrame => ({
  ...rest,
  time: 0,
  data: Buffer.from(data, 'hex'),
});

const FD_LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64];

/** All kinds of data frames, each different; ids are even or odd, so that the sides can be told apart. */
export function someFrames(count: number, odd: 0 | 1): PlainFrame[] {
  return Array.from({ length: count }, (_, i) => {
    const extended = i % 2 === 1;
    const fd = i % 4 > 1;
    const length = fd ? FD_LENGTHS[i % 16]! : i % 9;
    return {
      id: ((i * 2 * 7919) % (extended ? 0x2000_0000 : 0x800)) + odd,
      extended,
      fd,
      data: Buffer.from(Array.from({ length }, (_, k) => (i * 31 + k * 7) % 256)).toString('hex'),
    };
  });
}

/** Whether Python has these modules. In CI it must. */
export function hasPython(...modules: string[]): boolean {
  const found = spawnSync('python3', ['-c', `import ${modules.join(',')}`]).status === 0;
  if (!found && process.env.CI) throw new Error(`CI needs Python's ${modules.join(', ')}`);
  if (!found)
    console.log(
      `skipped: no Python with ${modules.join(', ')} here (pip install python-can msgpack pyserial)`,
    );
  return found;
}

/** A Python script that answers lines with lines. */
export function startPeer(script: string, args: string[]) {
  const process_ = spawn('python3', [`${import.meta.dirname}/${script}`, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  return {
    async line(): Promise<string> {
      const { done, value } = (await lines.next()) as IteratorResult<string, undefined>;
      if (done === true) throw new Error(`${script} has ended`);
      return value;
    },
    tell(request: object): void {
      process_.stdin.write(`${JSON.stringify(request)}\n`);
    },
    async close(): Promise<void> {
      if (process_.exitCode !== null || process_.signalCode !== null) return;
      const gone = once(process_, 'exit');
      process_.stdin.end();
      process_.kill();
      await gone;
    },
  };
}
