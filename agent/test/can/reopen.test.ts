import { CardanError } from '@cardan/shared';
import { describe, expect, it } from 'vitest';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { reopening } from '../../src/can/reopen.ts';

const frame: CanFrame = { time: 0, id: 1, extended: false, fd: false, data: Buffer.of(1) };
const down = () => new CardanError('CAN_BUS_DOWN', 'down');

describe('a bus that is opened again', () => {
  it('waits longer each time, up to half a minute, and begins anew after a frame', async () => {
    const waits: number[] = [];
    const problems: string[] = [];
    const stop = new AbortController();
    let opened = 0;
    async function* open(): AsyncGenerator<CanFrame[]> {
      opened++;
      if (opened === 8) yield [frame];
      throw down();
    }
    const got: CanFrame[][] = [];
    for await (const frames of reopening(open, stop.signal, {
      onProblem: ({ code }) => problems.push(code),
      sleep: async (ms) => {
        if (waits.push(ms) === 10) stop.abort();
      },
    }))
      got.push(frames);
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 1000, 2000, 4000]);
    expect(got).toEqual([[frame]]);
    expect(problems).toEqual(Array(10).fill('CAN_BUS_DOWN'));
  });

  it('is opened again also when it ends without a word', async () => {
    const stop = new AbortController();
    let opened = 0;
    async function* open(): AsyncGenerator<CanFrame[]> {
      if (++opened < 3) return;
      yield [frame];
    }
    const batches = reopening(open, stop.signal, { sleep: () => Promise.resolve() });
    expect(await batches.next()).toEqual({ done: false, value: [frame] });
    expect(opened).toBe(3);
    await batches.return(undefined);
  });

  it('ends when it is aborted while it waits, and says no more', async () => {
    const stop = new AbortController();
    const problems: CardanError[] = [];
    // The real timer: an aborted wait rejects.
    const batches = reopening(
      // eslint-disable-next-line require-yield
      async function* () {
        throw down();
      },
      stop.signal,
      {
        onProblem: (problem) => {
          problems.push(problem);
          setImmediate(() => stop.abort());
        },
      },
    );
    expect((await batches.next()).done).toBe(true);
    expect(problems).toHaveLength(1);
  });

  it('does not hide a mistake of the program', async () => {
    const batches = reopening(
      // eslint-disable-next-line require-yield
      async function* () {
        throw new TypeError('a mistake');
      },
      new AbortController().signal,
      {},
    );
    await expect(batches.next()).rejects.toThrow('a mistake');
  });
});
