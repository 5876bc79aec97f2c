import { describe, expect, it, onTestFinished } from 'vitest';
import { SlcanLines, parseSlcan, slcanLine } from '../../src/can/slcan-line.ts';
import { SlcanSource } from '../../src/can/slcan.ts';
import { frameOf, hasPython, plain, type PlainFrame, someFrames, startPeer } from './python-can.ts';

describe.skipIf(!hasPython('can', 'serial'))('python-can’s slcan over a pseudo terminal', () => {
  it('gets and sends 400 of 400 frames, CAN FD among them', async () => {
    const peer = startPeer('slcan_peer.py', []);
    onTestFinished(() => peer.close());
    const device = await peer.line();
    let opened: () => void = () => undefined;
    const open = new Promise<void>((resolve) => (opened = resolve));
    const source = new SlcanSource({ device, bitrate: 500_000, onOpen: () => opened() });
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const got: PlainFrame[] = [];
    let all: () => void = () => undefined;
    const complete = new Promise<void>((resolve) => (all = resolve));
    const reading = (async () => {
      for await (const frames of source.frames(stop.signal)) {
        got.push(...frames.map(plain));
        if (got.length >= 400) all();
      }
    })();
    await open;
    const sent = someFrames(400, 1);
    peer.tell({ send: sent });
    expect(await peer.line()).toBe('sent');
    await complete;
    expect(got).toEqual(sent);
    expect(source.malformed).toBe(0);

    const back = someFrames(400, 0);
    peer.tell({ receive: 400 });
    for (const frame of back) await source.send(frameOf(frame));
    expect(JSON.parse(await peer.line())).toEqual(back);
    stop.abort();
    await reading;
  });

  it('says what to do when there is no such device, and looks again', async () => {
    const stop = new AbortController();
    const problems: string[] = [];
    const source = new SlcanSource({
      device: '/dev/no-such-adapter',
      bitrate: 500_000,
      onProblem: ({ code }) => problems.push(code),
      sleep: () => (problems.length === 2 ? Promise.resolve(stop.abort()) : Promise.resolve()),
    });
    expect((await source.frames(stop.signal).next()).done).toBe(true);
    expect(problems).toEqual(['CAN_UNAVAILABLE', 'CAN_UNAVAILABLE']);
  });
});

describe('a line of slcan', () => {
  it.each([
    ['t1232AABB', { id: 0x123, extended: false, fd: false, data: 'aabb' }],
    ['T18FEF1001FF', { id: 0x18fef100, extended: true, fd: false, data: 'ff' }],
    ['t1230', { id: 0x123, data: '' }],
    ['t12310112AB', { id: 0x123, data: '01' }],
    [`d123F${'AB'.repeat(64)}`, { fd: true, data: 'ab'.repeat(64) }],
    [`B00000001A${'01'.repeat(16)}`, { fd: true, extended: true, data: '01'.repeat(16) }],
  ])('may be %s', (line, expected) => {
    const parsed = parseSlcan(line);
    expect(parsed.kind === 'data' && plain({ ...parsed.frame, time: 0 })).toMatchObject(expected);
  });

  it.each([
    't12',
    't123',
    't1239AA',
    't12G1AA',
    't8001AA',
    'TFFFFFFFF0',
    't1231A',
    't1231AABB',
    't12310112ABCD',
    't12301FFFF',
    't1230FFFF',
    'hello',
  ])('is refused: %s', (line) => {
    expect(() => parseSlcan(line)).toThrow(expect.objectContaining({ code: 'CAN_FRAME_INVALID' }) as Error);
  });

  it('may be remote, an answer or an echo, which are no frames', () => {
    expect(['r1230', 'R000000018', 'z', '', 'V1013', 'S6', 'O'].map((line) => parseSlcan(line).kind)).toEqual(
      ['remote', 'remote', 'other', 'other', 'other', 'other', 'other'],
    );
  });

  it('is written as it is read', () => {
    for (const frame of someFrames(200, 0)) {
      const parsed = parseSlcan(slcanLine(frameOf(frame)).slice(0, -1));
      expect(parsed.kind === 'data' && plain({ ...parsed.frame, time: 0 })).toEqual(frame);
    }
  });

  it('comes in pieces, and one without an end is bounded and counted once', () => {
    const lines = new SlcanLines();
    expect(lines.push('t12')).toEqual([]);
    expect(lines.push('30\rt1')).toEqual(['t1230']);
    expect(lines.push('x'.repeat(300))).toEqual([null]);
    expect(lines.push('x'.repeat(300))).toEqual([]);
    expect(lines.push('tail\rt1230\r\x07')).toEqual(['t1230', '']);
  });
});
