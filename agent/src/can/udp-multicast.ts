import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { CardanError, messageOf } from '@cardan/shared';
import type { BusState, CanBus, CanFrame } from './can-frame.ts';
import { FrameQueue } from './frame-queue.ts';
import { decodePythonCan, encodePythonCan } from './python-can-message.ts';
import { reopening, type ReopenOptions } from './reopen.ts';

/** The port of python-can. */
export const UDP_CAN_PORT = 43113;
/** Asked of the kernel for bursts; it gives what net.core.rmem_max allows. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

export interface UdpMulticastOptions extends ReopenOptions {
  /** Multicast address, IPv4 or IPv6. */
  group: string;
  port?: number;
  /** Name of the network interface (`lo`, `eth0`); by default the one that the routes say. */
  interface?: string;
  /** Routers that a datagram may pass plus one; 1 stays in the local network. */
  hops?: number;
  /** Told when frames can come. */
  onOpen?: () => void;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/**
 * CAN over UDP multicast, one frame a datagram, as python-can's bus `udp_multicast` speaks it. A frame's time is that of
 * its arrival. Nobody is authenticated: it is for a bench and a trusted network.
 */
export class UdpMulticastSource implements CanBus {
  /** Datagrams that were no message of python-can. */
  malformed = 0;
  /** Remote frames, skipped. */
  remote = 0;
  /** Error frames, skipped. */
  errors = 0;
  state: BusState = 'closed';
  readonly #options: UdpMulticastOptions;
  readonly #queue: { current: FrameQueue | undefined; dropped: number } = { current: undefined, dropped: 0 };
  #sender: Promise<Socket> | undefined;
  #ownPort: number | undefined;

  constructor(options: UdpMulticastOptions) {
    this.#options = options;
  }

  /** Frames for which this process had no room. What the kernel drops of UDP is not known here. */
  get dropped(): number {
    return this.#queue.dropped + (this.#queue.current?.dropped ?? 0);
  }

  /** A network that is missing or goes (a car's router starts later than the agent) is looked for again. */
  frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    return reopening((s) => this.#read(s), signal, this.#options);
  }

  /** @throws CardanError CAN_UNAVAILABLE, CAN_BUS_DOWN */
  async *#read(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    if (signal.aborted) return;
    const now = this.#options.now ?? (() => performance.timeOrigin + performance.now());
    const queue = new FrameQueue();
    this.#queue.current = queue;
    const stop = () => queue.end();
    signal.addEventListener('abort', stop, { once: true });
    let socket: Socket | undefined;
    try {
      socket = await this.#open();
      socket.on('message', (datagram, from) => {
        if (!this.#isOwn(from)) this.#take(datagram, now(), queue);
      });
      socket.on('error', (cause) => queue.end(this.#down(cause)));
      this.state = 'open';
      this.#options.onOpen?.();
      yield* queue.batches();
    } finally {
      signal.removeEventListener('abort', stop);
      this.state = 'closed';
      socket?.close();
      this.#queue.dropped += queue.dropped;
      this.#queue.current = undefined;
      const sender = await this.#sender?.catch(() => undefined);
      this.#sender = undefined;
      sender?.close();
    }
  }

  async send(frame: CanFrame): Promise<void> {
    const { group, port = UDP_CAN_PORT } = this.#options;
    try {
      this.#sender ??= this.#openSender();
      const socket = await this.#sender;
      await new Promise<void>((resolve, reject) => {
        socket.send(encodePythonCan(frame), port, group, (error) => (error ? reject(error) : resolve()));
      });
    } catch (cause) {
      throw new CardanError('CAN_SEND_FAILED', `Cannot send to udp:${group}: ${messageOf(cause)}.`, {
        cause,
      });
    }
  }

  #take(datagram: Uint8Array, time: number, queue: FrameQueue): void {
    try {
      const message = decodePythonCan(datagram, time);
      if (message.kind === 'data') queue.push(message.frame);
      else if (message.kind === 'remote') this.remote++;
      else this.errors++;
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      this.malformed++;
    }
  }

  async #open(): Promise<Socket> {
    const { group, port = UDP_CAN_PORT } = this.#options;
    const socket = createSocket({ type: this.#type, reuseAddr: true, ipv6Only: this.#type === 'udp6' });
    try {
      // Bound to the group: what other groups of this machine get on the same port does not come here.
      socket.bind({ port, address: group, exclusive: true });
      await once(socket, 'listening');
      socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
      socket.addMembership(group, this.#address);
    } catch (cause) {
      socket.close();
      throw this.#unavailable(cause);
    }
    return socket;
  }

  /** Sending has a socket of its own, so that the own frames can be told by their port: the kernel loops them back. */
  async #openSender(): Promise<Socket> {
    const socket = createSocket({ type: this.#type });
    socket.on('error', () => undefined); // send() has told
    socket.bind({ port: 0 });
    await once(socket, 'listening');
    const address = this.#address;
    if (address !== undefined) socket.setMulticastInterface(address);
    socket.setMulticastTTL(this.#options.hops ?? 1);
    socket.unref();
    this.#ownPort = socket.address().port;
    return socket;
  }

  #isOwn({ port, address }: RemoteInfo): boolean {
    if (port !== this.#ownPort) return false;
    const bare = address.split('%')[0];
    return Object.values(networkInterfaces()).some((list) => list?.some((own) => own.address === bare));
  }

  get #type(): 'udp4' | 'udp6' {
    return isIPv6(this.#options.group) ? 'udp6' : 'udp4';
  }

  /** Of the interface, as Node wants it: an IPv4 address, or `::%NAME`. */
  get #address(): string | undefined {
    const name = this.#options.interface;
    if (name === undefined) return undefined;
    if (this.#type === 'udp6') return `::%${name}`;
    if (isIPv4(name)) return name;
    const found = networkInterfaces()[name]?.find(({ family }) => family === 'IPv4');
    if (found === undefined)
      throw new CardanError(
        'CAN_UNAVAILABLE',
        `There is no network interface ${name} with an IPv4 address. "ip address" lists them.`,
      );
    return found.address;
  }

  #down(cause: Error): CardanError {
    return new CardanError(
      'CAN_BUS_DOWN',
      `udp:${this.#options.group} has failed: ${cause.message}. It is opened again.`,
      { cause },
    );
  }

  #unavailable(cause: unknown): CardanError {
    if (cause instanceof CardanError) return cause;
    return new CardanError(
      'CAN_UNAVAILABLE',
      `Cannot listen on udp:${this.#options.group}: ${messageOf(cause)}. ` +
        'Is there a route for multicast? "ip route get GROUP" tells; an interface can be named: udp:GROUP%eth0.',
      { cause },
    );
  }
}
