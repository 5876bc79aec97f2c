import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Not acknowledged by the broker, per connection. Far below the 65,535 ids that there are. */
const IN_FLIGHT_MAX = 2000;
/** Messages in one write: a write costs more than a message. */
const WRITE_MESSAGES = 64;

const CONNACK_BYTES = 4;
const PUBACK_BYTES = 4;

/**
 * Publishes with QoS 1 (MQTT 3.1.1) over one raw connection: at a tenth of the cost of an MQTT library, so that the
 * publisher is not what a bench measures. All that the broker sends back is PUBACKs; they are counted, not parsed.
 */
export class MqttPublisher {
  private readonly socket: Socket;
  private sent = 0;
  private acknowledgedBytes = 0;
  private failure: Error | undefined;
  private wake: () => void = () => undefined;

  static async connect(port: number, clientId: string): Promise<MqttPublisher> {
    const socket = connect(port, '127.0.0.1');
    socket.setNoDelay(true);
    await once(socket, 'connect');
    // CONNECT: clean session, no keep-alive.
    const body = Buffer.concat([
      Buffer.from([0, 4, ...Buffer.from('MQTT'), 4, 2, 0, 0]),
      prefixed(Buffer.from(clientId)),
    ]);
    socket.write(Buffer.concat([Buffer.from([0x10]), remainingLength(body.length), body]));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    if (answer.length !== CONNACK_BYTES || answer[3] !== 0)
      throw new Error(`The broker refuses the publisher (${answer.toString('hex')}).`);
    return new MqttPublisher(socket);
  }

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (data) => {
      this.acknowledgedBytes += data.length;
      this.wake();
    });
    socket.on('drain', () => this.wake());
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('The broker has closed the connection of the publisher.')));
  }

  /** Hands over messages, in this order; resolves when all are with the broker's side of the socket, or nearly. */
  async publish(messages: readonly { topic: string; payload: Buffer }[]): Promise<void> {
    for (let from = 0; from < messages.length; from += WRITE_MESSAGES) {
      while (this.inFlight > IN_FLIGHT_MAX - WRITE_MESSAGES || this.socket.writableNeedDrain)
        await this.change();
      const frames = messages.slice(from, from + WRITE_MESSAGES).flatMap((message) => this.frame(message));
      this.socket.write(Buffer.concat(frames));
    }
  }

  /** Resolves when the broker has acknowledged everything. */
  async acknowledged(): Promise<void> {
    while (this.inFlight > 0) await this.change();
  }

  close(): void {
    this.socket.removeAllListeners('close');
    this.socket.end(Buffer.from([0xe0, 0]));
  }

  private get inFlight(): number {
    return this.sent - Math.floor(this.acknowledgedBytes / PUBACK_BYTES);
  }

  /** PUBLISH with QoS 1: topic, id, payload. */
  private frame({ topic, payload }: { topic: string; payload: Buffer }): Buffer[] {
    const name = prefixed(Buffer.from(topic));
    const id = Buffer.alloc(2);
    id.writeUInt16BE((this.sent++ % 65_535) + 1);
    return [Buffer.from([0x32]), remainingLength(name.length + 2 + payload.length), name, id, payload];
  }

  /** Resolves when the broker has said something, or there is room to write. Rejects when the connection is lost. */
  private async change(): Promise<void> {
    if (this.failure === undefined)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    if (this.failure !== undefined) throw new Error(this.failure.message, { cause: this.failure });
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.wake();
  }
}

function prefixed(bytes: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function remainingLength(length: number): Buffer {
  const bytes: number[] = [];
  let rest = length;
  for (; rest >= 0x80; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}
