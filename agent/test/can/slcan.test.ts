import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { SeveralSources } from '../../src/can/several.ts';
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

  it('is read on two adapters at once, each at its own speed and with its own counters', async () => {
    const peers = [startPeer('slcan_peer.py', []), startPeer('slcan_peer.py', [])];
    onTestFinished(async () => void (await Promise.all(peers.map((peer) => peer.close()))));
    const devices = await Promise.all(peers.map((peer) => peer.line()));
    let open = 0;
    let opened: () => void = () => undefined;
    const both = new Promise<void>((resolve) => (opened = resolve));
    const source = new SeveralSources(
      devices.map(
        (device, i) =>
          new SlcanSource({
            device,
            bitrate: [250_000, 1_000_000][i]!,
            baud: [921_600, 57_600][i]!,
            onOpen: () => ++open === 2 && opened(),
          }),
      ),
      ['engine', 'body'],
    );
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const got: PlainFrame[] = [];
    let all: () => void = () => undefined;
    const complete = new Promise<void>((resolve) => (all = resolve));
    const reading = (async () => {
      for await (const frames of source.frames(stop.signal)) {
        got.push(...frames.map(plain));
        if (got.length >= 300) all();
      }
    })();
    await both;
    const speeds = devices.map((device) =>
      execFileSync('stty', ['-F', device, 'speed'], { encoding: 'utf8' }).trim(),
    );
    expect(speeds).toEqual(['921600', '57600']);
    const frames = [someFrames(200, 1), someFrames(100, 0)];
    peers.forEach((peer, i) => peer.tell({ send: frames[i]! }));
    for (const peer of peers) expect(await peer.line()).toBe('sent');
    await complete;
    expect(got.filter(({ id }) => id % 2 === 1)).toEqual(frames[0]);
    expect(got.filter(({ id }) => id % 2 === 0)).toEqual(frames[1]);
    expect(source.counters).toMatchObject({
      engine: { state: 'open', received: 200, malformed: 0 },
      body: { state: 'open', received: 100, malformed: 0 },
    });
    stop.abort();
    await reading;
  });

  it('says that an adapter was unplugged, and reads another that comes in its place', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'cardan-slcan-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const device = join(dir, 'adapter');
    const first = startPeer('slcan_peer.py', []);
    onTestFinished(() => first.close());
    symlinkSync(await first.line(), device);
    const problems: string[] = [];
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    let second: ReturnType<typeof startPeer> | undefined;
    let peer = first;
    const [before, after] = [someFrames(10, 1), someFrames(10, 0)];
    const source = new SlcanSource({
      device,
      bitrate: 500_000,
      onOpen: () => peer.tell({ send: peer === first ? before : after }),
      onProblem: ({ code }) => problems.push(code),
      sleep: async () => {
        if (problems.length === 1) {
          rmSync(device);
          return;
        }
        second = startPeer('slcan_peer.py', []);
        onTestFinished(() => second?.close());
        symlinkSync(await second.line(), device);
        peer = second;
      },
    });
    const got: PlainFrame[] = [];
    for await (const frames of source.frames(stop.signal)) {
      got.push(...frames.map(plain));
      if (got.length === 10) await first.close();
      if (got.length === 20) break;
    }
    expect(got).toEqual([...before, ...after]);
    expect(problems).toEqual(['CAN_BUS_DOWN', 'CAN_UNAVAILABLE']);
    expect(source.state).toBe('closed');
  });

  it('takes the time stamps of an adapter that sends them', async () => {
    const peer = startPeer('slcan_peer.py', []);
    onTestFinished(() => peer.close());
    const device = await peer.line();
    let clock = 1_700_000_000_000;
    let opened: () => void = () => undefined;
    const open = new Promise<void>((resolve) => (opened = resolve));
    const source = new SlcanSource({ device, bitrate: 500_000, onOpen: () => opened(), now: () => clock });
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const batches = source.frames(stop.signal);
    const times: number[] = [];
    // Stamps 59,990, 0 and 10 are 10 ms apart each; the second arrives 3 ms late, the third at once.
    let next = batches.next();
    await open;
    for (const [raw, arrival] of [
      ['t1231AAEA56\r', 0],
      ['t1231AA0000\r', 13],
      ['t1231AA000A\r', 20],
    ] as const) {
      clock = 1_700_000_000_000 + arrival;
      peer.tell({ raw });
      const { value } = (await next) as { value: CanFrame[] };
      times.push(...value.map(({ time }) => Math.round(time - 1_700_000_000_000)));
      next = batches.next();
    }
    expect(times).toEqual([0, 10, 20]);
    stop.abort();
    await next;
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
