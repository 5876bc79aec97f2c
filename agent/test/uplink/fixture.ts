import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Aedes } from 'aedes';
import mqtt, { type MqttClient } from 'mqtt';
import type { Ack } from '@cardan/shared';

/** What came up from the vehicle `a`. */
export interface Message {
  channel: string;
  payload: Buffer;
}

/** A broker with a client that stands for the cloud: it sees what comes up from vehicle `a`, in order, and can acknowledge. */
export class Cloud {
  readonly url: string;
  readonly dir = mkdtempSync(join(tmpdir(), 'uplink-'));
  /** Everything that came, by channel. */
  readonly seen: string[] = [];
  /** Takes what comes, instead of `next`. */
  answer: ((message: Message) => void) | undefined;
  private readonly queue: Message[] = [];
  private waiting: ((message: Message) => void) | undefined;
  private readonly aedes: Aedes;
  private readonly server: Server;
  private readonly client: MqttClient;

  static async open(channels: readonly string[]): Promise<Cloud> {
    const aedes = await Aedes.createBroker();
    const server = createServer((socket) => {
      aedes.handle(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const client = await mqtt.connectAsync(url, { protocolVersion: 4 });
    const cloud = new Cloud(url, aedes, server, client);
    await client.subscribeAsync(
      channels.map((channel) => `cardan/v1/a/${channel}`),
      { qos: 1 },
    );
    return cloud;
  }

  private constructor(url: string, aedes: Aedes, server: Server, client: MqttClient) {
    this.url = url;
    this.aedes = aedes;
    this.server = server;
    this.client = client;
    client.on('message', (topic, payload) => {
      const message = { channel: topic.slice('cardan/v1/a/'.length), payload };
      this.seen.push(message.channel);
      const { waiting, answer } = this;
      this.waiting = undefined;
      if (answer !== undefined) answer(message);
      else if (waiting === undefined) this.queue.push(message);
      else waiting(message);
    });
  }

  /** The next message, whenever it comes. */
  next(): Promise<Message> {
    const message = this.queue.shift();
    if (message !== undefined) return Promise.resolve(message);
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }

  async acknowledge(ack: Partial<Ack> & { epoch: number }): Promise<void> {
    await this.client.publishAsync('cardan/v1/a/ack', JSON.stringify({ rows: [], events: [], ...ack }));
  }

  async close(): Promise<void> {
    await this.client.endAsync(true);
    await new Promise<void>((resolve) => this.aedes.close(() => this.server.close(() => resolve())));
    rmSync(this.dir, { recursive: true });
  }
}
