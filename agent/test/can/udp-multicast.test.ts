import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import type { CardanError } from '@cardan/shared';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freePorts } from '../../../ops/free-ports.ts';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { decodePythonCan, encodePythonCan } from '../../src/can/python-can-message.ts';
import { SeveralSources } from '../../src/can/several.ts';
import { UdpMulticastSource } from '../../src/can/udp-multicast.ts';
import { frameOf, hasPython, plain, type PlainFrame, someFrames, startPeer } from './python-can.ts';

/** What reads a source in the background, and what it has got. */
function readUntil(source: UdpMulticastSource, count: number) {
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const got: PlainFrame[] = [];
  const all = (async () => {
    for await (const frames of source.frames(stop.signal)) {
      got.push(...frames.map(plain));
      if (got.length >= count) return;
    }
  })();
  return { got, all };
}

/** python-can's own default group for IPv6. */
const IPV6_GROUP = 'ff15:7079:7468:6f6e:6465:6d6f:6d63:6173';
/** Multicast of IPv6 needs another interface than the loopback; with no hop, nothing leaves this computer. */
const ipv6Interface = Object.entries(networkInterfaces()).find(([, list]) =>
  list?.some(({ family, internal }) => family === 'IPv6' && !internal),
)?.[0];
if (ipv6Interface === undefined) console.log('skipped: no interface has IPv6 here');
const buses = [
  { group: '239.74.163.2', interface: 'lo', hops: 1 },
  ...(ipv6Interface === undefined ? [] : [{ group: IPV6_GROUP, interface: ipv6Interface, hops: 0 }]),
];

describe.skipIf(!hasPython('can', 'msgpack'))('python-can over UDP multicast', () => {
  it.each(buses)('gets and sends 400 of 400 frames on $group, CAN FD among them', async (bus) => {
    const [port] = await freePorts(1);
    const peer = startPeer('udp_peer.py', [bus.group, String(port), '400', bus.interface]);
    onTestFinished(() => peer.close());
    expect(await peer.line()).toBe('ready');
    let opened: () => void = () => undefined;
    const open = new Promise<void>((resolve) => (opened = resolve));
    const source = new UdpMulticastSource({ ...bus, port: port!, onOpen: () => opened() });
    const sent = someFrames(400, 1);
    const { got, all } = readUntil(source, 400);
    await open;
    expect(source.state).toBe('open');
    peer.tell({ send: sent });
    expect(await peer.line()).toBe('sent');
    await all;
    expect(got).toEqual(sent);
    expect([source.malformed, source.dropped]).toEqual([0, 0]);

    const back = someFrames(400, 0);
    peer.tell({ receive: 400 });
    expect(await peer.line()).toBe('receiving');
    for (const frame of back) await source.send(frameOf(frame));
    expect(JSON.parse(await peer.line())).toEqual(back);
  });

  it('is read on two groups at once, each with its own counters', async () => {
    const groups = ['239.74.163.4', '239.74.163.5'];
    const ports = await freePorts(2);
    const peers = groups.map((group, i) => startPeer('udp_peer.py', [group, String(ports[i]), '0']));
    onTestFinished(async () => void (await Promise.all(peers.map((peer) => peer.close()))));
    for (const peer of peers) expect(await peer.line()).toBe('ready');
    let open = 0;
    let opened: () => void = () => undefined;
    const both = new Promise<void>((resolve) => (opened = resolve));
    const source = new SeveralSources(
      groups.map(
        (group, i) =>
          new UdpMulticastSource({
            group,
            port: ports[i]!,
            interface: 'lo',
            onOpen: () => ++open === 2 && opened(),
          }),
      ),
      ['engine', 'body'],
    );
    const stop = new AbortController();
    const got: PlainFrame[] = [];
    const all = (async () => {
      for await (const frames of source.frames(stop.signal)) {
        got.push(...frames.map(plain));
        if (got.length >= 300) return;
      }
    })();
    await both;
    const frames = [someFrames(200, 1), someFrames(100, 0)];
    peers.forEach((peer, i) => peer.tell({ send: frames[i]! }));
    await all;
    expect(got.filter(({ id }) => id % 2 === 1)).toEqual(frames[0]);
    expect(got.filter(({ id }) => id % 2 === 0)).toEqual(frames[1]);
    expect(source.counters).toMatchObject({ engine: { received: 200 }, body: { received: 100 } });
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

  it('is opened again: another program has the port, and gives it back', async () => {
    const [port] = await freePorts(1);
    const other = createSocket('udp4');
    other.bind({ port: port!, address: '239.74.163.6', exclusive: true });
    await new Promise((resolve) => other.once('listening', resolve));
    const problems: string[] = [];
    let opened: () => void = () => undefined;
    const open = new Promise<void>((resolve) => (opened = resolve));
    const source = new UdpMulticastSource({
      group: '239.74.163.6',
      port: port!,
      interface: 'lo',
      onOpen: () => opened(),
      onProblem: ({ code }) => problems.push(code),
      sleep: () => new Promise<void>((resolve) => other.close(() => resolve())),
    });
    const frame = { id: 5, extended: false, fd: false, data: '0102' };
    const { got, all } = readUntil(source, 1);
    await open;
    expect(problems).toEqual(['CAN_UNAVAILABLE']);
    await new UdpMulticastSource({ group: '239.74.163.6', port: port!, interface: 'lo' }).send(
      frameOf(frame),
    );
    await all;
    expect(got).toEqual([frame]);
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
