import { createSocket } from 'node:dgram';
import type { CardanError } from '@cardan/shared';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freePorts } from '../../../ops/free-ports.ts';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { decodePythonCan, encodePythonCan } from '../../src/can/python-can-message.ts';
import { UdpMulticastSource } from '../../src/can/udp-multicast.ts';
import { frameOf, hasPython, plain, type PlainFrame, someFrames, startPeer } from './python-can.ts';

describe.skipIf(!hasPython('can', 'msgpack'))('python-can over UDP multicast', () => {
  it('gets and sends 400 of 400 frames, CAN FD among them', async () => {
    const group = '239.74.163.2';
    const [port] = await freePorts(1);
    const peer = startPeer('udp_peer.py', [group, String(port), '400']);
    onTestFinished(() => peer.close());
    expect(await peer.line()).toBe('ready');
    let opened: () => void = () => undefined;
    const open = new Promise<void>((resolve) => (opened = resolve));
    const source = new UdpMulticastSource({ group, port: port!, interface: 'lo', onOpen: () => opened() });
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const sent = someFrames(400, 1);
    const got: PlainFrame[] = [];
    const reading = (async () => {
      for await (const frames of source.frames(stop.signal)) {
        got.push(...frames.map(plain));
        if (got.length >= 400) return;
      }
    })();
    await open;
    peer.tell({ send: sent });
    expect(await peer.line()).toBe('sent');
    await reading;
    expect(got).toEqual(sent);
    expect([source.malformed, source.dropped]).toEqual([0, 0]);

    const back = someFrames(400, 0);
    peer.tell({ receive: 400 });
    expect(await peer.line()).toBe('receiving');
    for (const frame of back) await source.send(frameOf(frame));
    expect(JSON.parse(await peer.line())).toEqual(back);
  });
});

describe('a source on UDP multicast', () => {
  it('counts what is no frame, skips its own, and goes on', async () => {
    const [port] = await freePorts(1);
    const source = new UdpMulticastSource({
      group: '239.74.163.3',
      port: port!,
      interface: 'lo',
      now: () => 7,
    });
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const batches = source.frames(stop.signal);
    const next = batches.next();
    const socket = createSocket('udp4');
    onTestFinished(() => void socket.close());
    socket.bind(0, '127.0.0.1');
    await new Promise((resolve) => socket.once('listening', resolve));
    socket.setMulticastInterface('127.0.0.1');
    const frame = frameOf({ id: 5, extended: false, fd: false, data: '0102' });
    await source.send(frame);
    for (const datagram of [
      Buffer.from('no msgpack'),
      Buffer.of(0x80),
      encodePythonCan(frame).subarray(0, 40),
      encodePythonCan(frame),
    ])
      await new Promise<void>((resolve, reject) => {
        socket.send(datagram, port, '239.74.163.3', (error) => (error ? reject(error) : resolve()));
      });
    const got = await next;
    expect((got.value as CanFrame[]).map((f) => ({ ...plain(f), time: f.time }))).toEqual([
      { ...plain(frame), time: 7 },
    ]);
    expect(source.malformed).toBe(3);
    stop.abort();
    expect(await batches.next()).toEqual({ done: true, value: undefined });
  });

  it('says what to do when the interface is missing, and looks again', async () => {
    const stop = new AbortController();
    const problems: CardanError[] = [];
    const source = new UdpMulticastSource({
      group: '239.74.163.3',
      interface: 'nosuch0',
      onProblem: (problem) => problems.push(problem),
      sleep: async () => {
        if (problems.length === 2) stop.abort();
      },
    });
    expect((await source.frames(stop.signal).next()).done).toBe(true);
    expect(problems.map(({ code }) => code)).toEqual(['CAN_UNAVAILABLE', 'CAN_UNAVAILABLE']);
    expect(problems[0]!.message).toContain('ip address');
  });
});

describe('a message of python-can', () => {
  const frame = { time: 1500, id: 0x18fef100, extended: true, fd: true, data: Buffer.alloc(64, 3) };

  it('is read as it was written', () => {
    const message = decodePythonCan(encodePythonCan(frame), 9);
    expect(message).toEqual({ kind: 'data', frame: { ...frame, time: 9, data: new Uint8Array(64).fill(3) } });
  });

  it('is refused at every length but its own, and when it claims more', () => {
    const bytes = encodePythonCan(frame);
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodePythonCan(bytes.subarray(0, length), 0)).toThrow(
        expect.objectContaining({ code: 'CAN_FRAME_INVALID' }) as Error,
      );
    for (const bad of [
      Buffer.concat([bytes, Buffer.of(0)]),
      encodePythonCan({ ...frame, fd: false }),
      encodePythonCan({ ...frame, extended: false }),
      Buffer.of(0xde, 0xff, 0xff),
      Buffer.of(0x81, 0x01, 0x01),
      Buffer.of(0x81, 0xa1, 0x61, 0x91, 0x01),
    ])
      expect(() => decodePythonCan(bad, 0)).toThrow(
        expect.objectContaining({ code: 'CAN_FRAME_INVALID' }) as Error,
      );
  });
});
