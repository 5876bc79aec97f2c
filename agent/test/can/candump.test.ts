import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { type CandumpOptions, CandumpSource, parseCandumpLine } from '../../src/can/candump.ts';

const hex = (frame: CanFrame) => Buffer.from(frame.data).toString('hex');

describe('a line of candump -L', () => {
  it('is a classic frame', () => {
    const frame = parseCandumpLine('(1436509052.249713) vcan0 044#2A366C2BBA');
    expect({ ...frame, data: hex(frame) }).toEqual({
      time: 1436509052249.713,
      id: 0x44,
      extended: false,
      fd: false,
      data: '2a366c2bba',
    });
  });

  it.each([
    ['(0.000000) can0 18FEF100#', { time: 0, id: 0x18fef100, extended: true, fd: false }, ''],
    ['(0.000000) can0 00000001#00', { id: 1, extended: true }, '00'],
    ['(1700000000) can0 7FF#11 R', { time: 1.7e12, id: 0x7ff, extended: false }, '11'],
    ['  (0001.5)  can0  1f0#aa  T  ', { time: 1500, id: 0x1f0 }, 'aa'],
    ['(1.000001) can0 123##1', { time: 1000.001, fd: true }, ''],
    [`(1.0) can0 123##5${'ab'.repeat(64)}`, { fd: true }, 'ab'.repeat(64)],
    ['(1.0) can0 123#1122334455667788_B', { fd: false }, '1122334455667788'],
  ])('may be %s', (line, expected, data) => {
    const frame = parseCandumpLine(line);
    expect(frame).toMatchObject(expected);
    expect(hex(frame)).toBe(data);
  });

  it.each([
    ['can0 123#11', /expected "\(seconds\) interface ID#DATA"/],
    ['(x) can0 123#11', /expected/],
    ['(1.0) can0 123 11', /expected/],
    ['(1.0) can0 123#11 X', /expected/],
    ['(1.0) can0 12#11', /"12" has 2 digits/],
    ['(1.0) can0 1234#11', /"1234" has 4 digits/],
    ['(1.0) can0 800#11', /800 has more than 11 bits/],
    ['(1.0) can0 80000000#11', /more than 29 bits/],
    ['(1.0) can0 123#1', /odd number/],
    ['(1.0) can0 123#GG', /not hexadecimal/],
    ['(1.0) can0 123#112233445566778899', /9 bytes; at most 8/],
    ['(1.0) can0 123##', /one digit of flags/],
    [`(1.0) can0 123##0${'00'.repeat(65)}`, /65 bytes; at most 64/],
    ['(1.0) can0 123#R9', /no remote frame/],
    ['(1.0) can0 123#R', /a remote frame carries no signals/],
    ['(1.0) can0 20000004#0000000000000000', /an? error frame carries no signals/],
    ['(9999999999999.0) can0 123#11', /beyond the year/],
  ])('is refused: %s', (line, message) => {
    expect(() => parseCandumpLine(line)).toThrow(
      expect.objectContaining({
        code: 'CAN_FRAME_INVALID',
        message: expect.stringMatching(message) as unknown,
      }),
    );
  });
});

describe('the candump source', () => {
  let folder: string;
  beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'cardan-candump-'))));
  afterAll(() => rmSync(folder, { recursive: true }));

  async function play(options: Partial<CandumpOptions>, signal = new AbortController().signal) {
    const source = new CandumpSource({ path: '-', speed: Infinity, ...options });
    const batches: CanFrame[][] = [];
    for await (const batch of source.frames(signal)) batches.push(batch);
    return { source, batches, frames: batches.flat() };
  }
  const line = (ms: number, id: string, rest = '#00') => `(${(ms / 1000).toFixed(6)}) can0 ${id}${rest}\n`;

  it('yields all frames in order, in bounded batches', async () => {
    const path = join(folder, 'long.log');
    const lines = Array.from({ length: 5000 }, (_, i) =>
      line(i, '123', `#${i.toString(16).padStart(4, '0')}`),
    );
    writeFileSync(path, lines.join(''));
    const { batches, frames } = await play({ path });
    expect(frames.map(hex)).toEqual(lines.map((l) => /#(\w+)/.exec(l)?.[1]));
    expect(Math.max(...batches.map((b) => b.length))).toBeLessThanOrEqual(512);
  });

  it('counts and reports what is no frame, and skips remote and error frames', async () => {
    const text =
      `${line(1, '001')}\r\n\n  \nnonsense\n${line(2, '002').replace('\n', '\r\n')}` +
      `${line(3, '003', '#R8')}${line(4, '20000004', '#0000000000000000')}` +
      `(1.0) ${'x'.repeat(300_000)}\n${line(5, '005')}(1.0) can0 12`;
    const reported: [number, string][] = [];
    const { source, frames } = await play({
      stdin: Readable.from(cut(Buffer.from(text), 1000)),
      onMalformed: (number, message) => reported.push([number, message.slice(0, 40)]),
    });
    expect(frames.map((f) => f.id)).toEqual([1, 2, 5]);
    expect(source).toMatchObject({ malformed: 3, remote: 1, errors: 1 });
    expect(reported).toEqual([
      [5, 'Not a CAN frame: expected "(seconds) int'],
      [9, 'Not a CAN frame: the line is too long.'],
      [11, 'Not a CAN frame: expected "(seconds) int'],
    ]);
  });

  it('plays at the recorded pace', async () => {
    let clock = 1_000_000;
    const slept: number[] = [];
    const { batches } = await play({
      speed: 2,
      stdin: Readable.from([
        line(5000, '001') + line(5000, '002') + line(5100, '003') + line(200_000_000, '004'),
      ]),
      now: () => clock,
      sleep: async (ms) => {
        slept.push(ms);
        clock += ms;
      },
    });
    expect(batches.map((b) => b.map((f) => f.id))).toEqual([[1, 2], [3], [4]]);
    expect(slept[0]).toBe(50);
    expect(Math.max(...slept)).toBeLessThanOrEqual(60_000); // a timer cannot wait longer than 24 days
    expect(clock - 1_000_000).toBeCloseTo((200_000_000 - 5000) / 2, 3);
  });

  it('does not drift, however late the timer rings, and wakes at most every 10 ms', async () => {
    let clock = 0;
    let slept = 0;
    const lines = Array.from({ length: 6001 }, (_, i) => line(10_000 + i * 2.5, '001'));
    const late: number[] = [];
    const source = new CandumpSource({
      path: '-',
      speed: 1,
      stdin: Readable.from(lines),
      now: () => clock,
      // Timers of Node.js ring up to some milliseconds late; here each one does.
      sleep: async (ms) => {
        slept++;
        clock += ms + 1.7;
      },
    });
    for await (const batch of source.frames(new AbortController().signal))
      for (const { time } of batch) late.push(clock - (time - 10_000));
    expect(late).toHaveLength(6001);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...late)).toBeLessThan(11.8);
    // 15 s of frames, each sleep 11.7 ms long, and those that came meanwhile at once.
    expect(slept).toBeLessThan(15_000 / 11.7 + 1);
  });

  it('sleeps through an hour of silence with one timer a minute', async () => {
    let clock = 0;
    const slept: number[] = [];
    await play({
      speed: 1,
      stdin: Readable.from([line(1000, '001'), line(3_601_000, '002')]),
      now: () => clock,
      sleep: async (ms) => {
        slept.push(ms);
        clock += ms;
      },
    });
    expect(slept).toEqual(Array(60).fill(60_000));
  });

  it('goes on at once behind a time that jumps back', async () => {
    const { frames } = await play({
      speed: 1,
      stdin: Readable.from([line(9_000_000, '001'), line(1000, '002'), line(2000, '003')]),
      now: () => 0,
      sleep: () => Promise.reject(new Error('nothing is to be waited for')),
    });
    expect(frames.map((f) => f.id)).toEqual([1, 2, 3]);
  });

  it('hands on what has arrived before it waits for more', async () => {
    const stdin = new PassThrough();
    const source = new CandumpSource({ path: '-', speed: 1, stdin });
    const frames = source.frames(new AbortController().signal);
    stdin.write(line(1, '001') + line(1, '002') + '(0.001) can0 0');
    expect(((await frames.next()).value as CanFrame[]).map((f) => f.id)).toEqual([1, 2]);
    stdin.end('03#00\n');
    expect(((await frames.next()).value as CanFrame[]).map((f) => f.id)).toEqual([3]);
    expect((await frames.next()).done).toBe(true);
  });

  it.each(['while it reads', 'while it sleeps'])('ends when it is aborted %s', async (when) => {
    const abort = new AbortController();
    const stdin = new PassThrough();
    stdin.write(line(1, '001') + (when === 'while it sleeps' ? line(100_000, '002') : ''));
    const source = new CandumpSource({ path: '-', speed: 1, stdin });
    const seen: number[] = [];
    for await (const batch of source.frames(abort.signal)) {
      seen.push(...batch.map((f) => f.id));
      setImmediate(() => abort.abort());
    }
    expect(seen).toEqual([1]);
    if (!stdin.closed) await once(stdin, 'close');
  });

  it('says what is wrong with its file or its speed', async () => {
    const path = join(folder, 'missing.log');
    await expect(play({ path })).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
      message: expect.stringContaining(path) as unknown,
    });
    await expect(play({ path: folder })).rejects.toMatchObject({ code: 'FILE_NOT_READABLE' });
    for (const speed of [0, -1, NaN]) await expect(play({ speed })).rejects.toMatchObject({ code: 'USAGE' });
  });
});

function* cut(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
