import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { IsoTpLink, type IsoTpOptions, separationMs } from '../../src/diagnostics/iso-tp.ts';
import { FakeTimers, settled } from '../fake-timers.ts';

interface Recording {
  length: number;
  extended: boolean;
  padding: number | null;
  frameBytes: number;
  blockSize: number;
  separation: number;
  payload: string;
  /** 0: sender, 1: receiver. */
  frames: [side: 0 | 1, data: string][];
}

const golden = JSON.parse(readFileSync(new URL('golden.json', import.meta.url), 'utf8')) as {
  isoTp: Recording[];
};

const TESTER = { id: 0x7e0, extended: false };
const UNIT = { id: 0x7e8, extended: false };

function link(options: Partial<IsoTpOptions> = {}) {
  const timers = new FakeTimers();
  const sent: string[] = [];
  const messages: string[] = [];
  const lost: string[] = [];
  const tp = new IsoTpLink({
    address: { transmit: TESTER, receive: UNIT },
    timers,
    send: async (frame) => void sent.push(hex(frame.data)),
    onMessage: (payload) => messages.push(hex(payload)),
    onLost: (reason) => lost.push(reason),
    ...options,
  });
  const receive = (data: string, from = UNIT) =>
    tp.receive({ ...from, time: 0, fd: data.length > 16, data: Buffer.from(data, 'hex') });
  return { tp, timers, sent, messages, lost, receive };
}

function hex(data: Uint8Array): string {
  return Buffer.from(data).toString('hex');
}

describe('as can-isotp does it', () => {
  test.each(golden.isoTp)(
    '$length bytes, frames of $frameBytes, padding $padding, block size $blockSize, 29 bits $extended',
    async (recording) => {
      const { extended, padding, frameBytes, blockSize, separation, frames } = recording;
      const ids = (extended ? [0x18da10f1, 0x18daf110] : [0x7e0, 0x7e8]).map((id) => ({ id, extended }));
      const options = { padding, frameBytes, blockSize, separation, bytesMax: 1 << 20 };

      const sender = link({ ...options, address: { transmit: ids[0]!, receive: ids[1]! } });
      const sending = sender.tp.send(Buffer.from(recording.payload, 'hex'));
      const receiver = link({ ...options, address: { transmit: ids[1]!, receive: ids[0]! } });
      for (const [side, data] of frames) {
        if (side === 0) receiver.receive(data, ids[0]);
        else {
          await sender.timers.advance(10);
          sender.receive(data, ids[1]);
          await settled();
        }
      }
      await sender.timers.advance(1000);
      await sending;
      expect(sender.sent).toEqual(frames.flatMap(([side, data]) => (side === 0 ? [data] : [])));
      expect(receiver.sent).toEqual(frames.flatMap(([side, data]) => (side === 1 ? [data] : [])));
      expect(receiver.messages).toEqual([recording.payload]);
      expect(receiver.lost).toEqual([]);
      expect([sender.timers.pending, receiver.timers.pending]).toEqual([0, 0]);
    },
  );
});

describe('a message that comes', () => {
  test('is lost when the next frame does not come within a second', async () => {
    const { tp, timers, receive, messages, lost } = link();
    receive('1014490201314731');
    await timers.advance(999);
    expect(lost).toEqual([]);
    await timers.advance(1);
    expect(lost).toEqual(['the next consecutive frame did not come in time']);
    receive('215a543535415852');
    expect([messages, tp.counters.timeouts, tp.counters.ignored]).toEqual([[], 1, 1]);
  });

  test('is lost when a frame is missing or comes twice', () => {
    const { tp, receive, messages, lost } = link();
    receive('1014490201314731');
    receive('225a543535415852');
    receive('1014490201314731');
    receive('215a543535415852');
    receive('215a543535415852');
    expect([messages, lost.length, tp.counters.sequenceErrors]).toEqual([[], 2, 2]);
  });

  test('is lost when another begins, which then arrives', () => {
    const { tp, receive, messages } = link();
    receive('1014490201314731');
    receive('03410d32cccccccc');
    expect([messages, tp.counters.interrupted]).toEqual([['410d32'], 1]);
  });

  test('that is longer than the bound is refused by an overflow', async () => {
    const { tp, receive, sent } = link({ bytesMax: 100 });
    receive('1065490201314731');
    receive('1000fffffffe0102');
    await settled();
    expect([sent, tp.counters.tooLong]).toEqual([['320000cccccccccc', '320000cccccccccc'], 2]);
  });

  test('frames that no node may send are counted', () => {
    const { tp, receive, messages, timers } = link();
    for (const data of [
      '',
      '00',
      '08112233445566',
      '0711',
      '1007010203040506',
      '10000000000a0102',
      '40',
      'f0',
      '300000',
    ])
      receive(data);
    expect([messages, tp.counters.ignored, timers.pending]).toEqual([[], 9, 0]);
  });
});

describe('sending', () => {
  const long = new Uint8Array(30);

  test('fails when no flow control comes within a second', async () => {
    const { tp, timers, sent } = link();
    const failed = expect(tp.send(long)).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
    await timers.advance(1000);
    await failed;
    expect([sent.length, tp.counters.timeouts]).toEqual([1, 1]);
    // The link is free again.
    await tp.send(Uint8Array.of(1));
  });

  test('waits as long as the peer says so, and not for ever', async () => {
    const { tp, timers, receive } = link();
    const failed = expect(tp.send(long)).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
    for (let i = 0; i < 17; i++) {
      await timers.advance(900);
      receive('310000');
    }
    await failed;
  });

  test('ends when the peer has no room', async () => {
    const { tp, receive } = link();
    const failed = expect(tp.send(long)).rejects.toMatchObject({ code: 'DIAGNOSTICS_REFUSED' });
    await settled();
    receive('320000');
    await failed;
  });

  test('keeps the separation time', async () => {
    const { tp, timers, receive, sent } = link();
    const sending = tp.send(long);
    await settled();
    receive('300014');
    await timers.advance(19);
    expect(sent.length).toBe(2);
    await timers.advance(1);
    expect(sent.length).toBe(3);
    await timers.advance(100);
    await sending;
    expect(sent.length).toBe(5);
  });

  test('fails when the bus takes no frame', async () => {
    const { tp, timers } = link({ send: () => new Promise<void>(() => {}) });
    const failed = expect(tp.send(Uint8Array.of(1))).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
    await timers.advance(1000);
    await failed;
  });
});

test('separation times by ISO 15765-2', () => {
  expect([0, 1, 0x7f, 0xf1, 0xf9, 0x80, 0xf0, 0xfa, 0xff].map(separationMs)).toEqual([
    0, 1, 127, 0.1, 0.9, 127, 127, 127, 127,
  ]);
});

test('frames of others are not taken', () => {
  const { tp } = link();
  const frame: CanFrame = { time: 0, id: 0x7e9, extended: false, fd: false, data: Uint8Array.of(1, 2) };
  expect([tp.receive(frame), tp.receive({ ...frame, id: 0x7e8, extended: true })]).toEqual([false, false]);
});
