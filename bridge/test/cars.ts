import mqtt, { type MqttClient } from 'mqtt';
import { encodeTelemetry, parseAck, parseMqttTopic } from '@cardan/shared';
import type { EventLog, LogRecord } from '@cardan/shared/event-log';

const EPOCH = 7;

/** A batch of telemetry, two columns; row n has the sequence number n and the time n seconds. */
export function telemetry(first: number, rows: number, epoch = EPOCH): Buffer {
  return encodeTelemetry({
    signalSet: 'abc',
    epoch,
    firstSequence: first,
    times: Float64Array.from({ length: rows }, (_, i) => (first + i) * 1000),
    values: new Float32Array(rows * 2).fill(1.5),
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  });
}

/**
 * Many vehicles behind one connection. Like the agent each has one batch under way, and sends it again until a bridge
 * has acknowledged it.
 */
export class Cars {
  private readonly client: MqttClient;
  private readonly resendMs: number;
  private readonly waiting = new Map<string, { last: number; acknowledged: () => void }>();
  acked = 0;

  static async connect(url: string, { resendMs = 60_000 } = {}): Promise<Cars> {
    const client = await mqtt.connectAsync(url, { protocolVersion: 4, reconnectPeriod: 50 });
    client.on('error', () => undefined); // it connects again
    await client.subscribeAsync('cardan/v1/+/ack');
    return new Cars(client, resendMs);
  }

  private constructor(client: MqttClient, resendMs: number) {
    this.client = client;
    this.resendMs = resendMs;
    client.on('message', (topic, payload) => {
      const vehicle = parseMqttTopic(topic)!.vehicle;
      const sent = this.waiting.get(vehicle);
      if (sent === undefined || !parseAck(payload).rows.some(([, last]) => last >= sent.last)) return;
      this.waiting.delete(vehicle);
      this.acked++;
      sent.acknowledged();
    });
  }

  /** Sends rows 1 … of a vehicle, batch by batch; resolves when all are acknowledged. */
  async drive(vehicle: string, batches: number, rows: number): Promise<void> {
    for (let batch = 0; batch < batches; batch++) {
      const first = 1 + batch * rows;
      const send = () => void this.publish(`cardan/v1/${vehicle}/telemetry`, telemetry(first, rows));
      const acknowledged = new Promise<void>((resolve) => {
        this.waiting.set(vehicle, { last: first + rows - 1, acknowledged: resolve });
      });
      send();
      const again = setInterval(send, this.resendMs);
      await acknowledged;
      clearInterval(again);
    }
  }

  /** Resolves when the broker has the message. */
  async publish(topic: string, payload: string | Buffer, retain = false): Promise<void> {
    await this.client.publishAsync(topic, payload, { qos: 1, retain });
  }

  async close(): Promise<void> {
    this.client.options.reconnectPeriod = 0;
    await this.client.endAsync(true);
  }
}

/** Resolves when the condition holds; fails after the deadline, saying what it waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 60_000,
): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${deadlineMs} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function recordsOf(log: EventLog, topic: string): Promise<LogRecord[]> {
  const all: LogRecord[] = [];
  for await (const { records } of log.read(topic, { from: 'earliest', to: 'latest' })) all.push(...records);
  return all;
}

/** `vehicle epoch-first-last` of each telemetry record. */
export function batchIds(records: readonly LogRecord[]): string[] {
  return records.map(({ key, headers }) => `${key} ${headers.ce_id}`);
}

/** The log behind a door: while it is shut, appends fail as with a Kafka that is away. */
export function doored(log: EventLog): { log: EventLog; door: { open: boolean; tries: number } } {
  const door = { open: true, tries: 0 };
  return {
    door,
    log: new Proxy(log, {
      get(target, name: keyof EventLog) {
        if (name === 'append' && !door.open)
          return () => {
            door.tries++;
            return Promise.reject(new Error('no broker answers'));
          };
        return (target[name] as () => unknown).bind(target);
      },
    }),
  };
}
