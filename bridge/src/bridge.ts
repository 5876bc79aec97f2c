import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import mqtt, { type MqttClient } from 'mqtt';
import {
  CardanError,
  cloudEvent,
  decodeTelemetry,
  eventToRecord,
  ensureLogTopics,
  messageOf,
  mqttTopic,
  parseCloudEvent,
  parseMqttTopic,
  parseSignalSet,
  type Ack,
  type LogTopic,
  type MqttConnection,
  type VehicleReported,
} from '@cardan/shared';
import type { EventLog, NewRecord } from '@cardan/shared/event-log';
import { BRIDGE_DEFAULTS } from './config.ts';

export interface BridgeOptions {
  mqttUrl: string;
  connection?: MqttConnection;
  log: EventLog;
  /** Names this bridge to the broker. Two bridges need two names. */
  clientId?: string;
  now?: () => number;
  onProblem?: (error: CardanError) => void;
}

/** Counters since the start. */
export interface BridgeCounts {
  messages: number;
  /** Records that are in the log. */
  records: number;
  /** Rows of telemetry that are in the log; copies count again. */
  rows: number;
  deadLetters: number;
  /** Appends that failed and were tried again. */
  appendRetries: number;
}

/** A message that has become a record, and what to tell its vehicle when it is in the log. */
interface Item {
  topic: LogTopic;
  record: NewRecord;
  bytes: number;
  rows: number;
  ack?: { vehicle: string; epoch: number; stream: 'rows' | 'events'; first: number; last: number };
}

/**
 * Carries what vehicles send into the log. A vehicle is told only after `append` has resolved, and only the
 * ranges that are in. What cannot be read goes to the topic `dead-letters`, with the reason in its headers.
 */
export class Bridge {
  readonly counts: BridgeCounts = { messages: 0, records: 0, rows: 0, deadLetters: 0, appendRetries: 0 };
  private readonly options: BridgeOptions;
  private readonly client: MqttClient;
  private readonly now: () => number;
  private readonly onProblem: (error: CardanError) => void;
  private queue: Item[] = [];
  private queuedBytes = 0;
  private appending: Promise<void> | undefined;
  private held: (() => void) | undefined;
  private closing = false;

  /** Creates the log's topics, connects and subscribes. */
  static async start(options: BridgeOptions): Promise<Bridge> {
    await ensureLogTopics(options.log);
    const bridge = new Bridge(options);
    await bridge.connect();
    return bridge;
  }

  private constructor(options: BridgeOptions) {
    this.options = options;
    this.now = options.now ?? Date.now;
    this.onProblem = options.onProblem ?? (() => undefined);
    this.client = mqtt.connect(options.mqttUrl, {
      ...options.connection,
      clientId: options.clientId ?? `cardan-bridge-${randomUUID().slice(0, 8)}`,
      protocolVersion: 4,
      clean: true, // what a bridge has not put into the log, its vehicle sends again
      reconnectPeriod: 1000,
      connectTimeout: 10_000,
      manualConnect: true,
    });
    // Back-pressure: the client reads no further packet until its callback is called, so TCP fills up, and
    // the broker keeps the rest.
    this.client.handleMessage = (packet, callback) => {
      if (packet.cmd === 'publish') this.take(packet.topic, packet.payload as Buffer);
      if (this.queuedBytes < BRIDGE_DEFAULTS.queueBytesMax) callback();
      else this.held = callback;
    };
  }

  private async connect(): Promise<void> {
    const { client, options } = this;
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error) =>
        reject(
          new CardanError(
            'MQTT_UNREACHABLE',
            `No MQTT broker answers at ${options.mqttUrl} (${cause.message || 'connection refused'}). Start one, or give another address with --mqtt.`,
            { cause },
          ),
        );
      client.once('error', failed);
      client.on('connect', () => {
        const filters = (['telemetry', 'event', 'reported', 'status'] as const).map((channel) =>
          mqttTopic('+', channel),
        );
        client.subscribe(filters, { qos: 1 }, (error, granted) => {
          const refused = granted?.find(({ qos }) => qos === 128);
          if (error === null && refused === undefined) {
            client.off('error', failed);
            resolve();
            return;
          }
          const refusal = new CardanError(
            'MQTT_REFUSED',
            `The broker refused the subscription ${refused?.topic ?? filters.join(', ')}. Give the bridge the right to read it.`,
            { cause: error },
          );
          this.onProblem(refusal);
          reject(refusal);
        });
      });
      client.connect();
    }).catch(async (error: unknown) => {
      client.options.reconnectPeriod = 0; // or mqtt.js goes on trying although it has ended
      await client.endAsync(true);
      throw error;
    });
    client.on('error', (cause) => {
      this.onProblem(
        new CardanError(
          'MQTT_UNREACHABLE',
          `MQTT broker ${options.mqttUrl}: ${messageOf(cause)}. Trying again.`,
          { cause },
        ),
      );
    });
  }

  /** Takes nothing more, puts what it holds into the log, acknowledges it, and disconnects. */
  async close(): Promise<void> {
    this.closing = true;
    if (this.client.connected)
      await this.client.unsubscribeAsync(
        (['telemetry', 'event', 'reported', 'status'] as const).map((channel) => mqttTopic('+', channel)),
      );
    await this.appending;
    await this.client.endAsync(!this.client.connected);
  }

  private take(topic: string, payload: Buffer): void {
    this.counts.messages++;
    let items: Item[];
    try {
      items = this.toItems(topic, payload);
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      items = [this.deadLetter(topic, payload, error)];
      this.onProblem(error);
    }
    for (const item of items) {
      this.queue.push(item);
      this.queuedBytes += item.bytes;
    }
    this.appending ??= this.appendAll();
  }

  /** The records that a message becomes. Throws a CardanError when it is not what its topic says. */
  private toItems(topic: string, payload: Buffer): Item[] {
    const parsed = parseMqttTopic(topic);
    if (parsed === undefined)
      throw new CardanError(
        'EVENT_MALFORMED',
        `"${topic}" is no topic of a vehicle: its id has forbidden characters.`,
      );
    const { vehicle, channel } = parsed;
    if (channel === 'telemetry') return [telemetryItem(vehicle, payload)];
    if (channel === 'event') return [eventItem(vehicle, payload)];
    if (payload.length === 0) return []; // a retained message was deleted
    const source = `/vehicles/${vehicle}`;
    let value: unknown;
    try {
      value = JSON.parse(payload.toString('utf8'));
    } catch (cause) {
      throw new CardanError('EVENT_MALFORMED', `"${topic}" is not JSON.`, { cause });
    }
    const id = randomUUID();
    if (channel === 'status') {
      const { online } = (value ?? {}) as { online?: unknown };
      if (typeof online !== 'boolean')
        throw new CardanError('EVENT_MALFORMED', `"${topic}" has no boolean "online".`);
      const event = cloudEvent('io.cardan.vehicle.status', { source, id, time: this.now() }, { online });
      return [plainItem('vehicle-events', eventToRecord(vehicle, event))];
    }
    const reported = (value ?? {}) as VehicleReported;
    if (typeof reported.signalSet !== 'string' || !Number.isSafeInteger(reported.observedGeneration))
      throw new CardanError('EVENT_MALFORMED', `"${topic}" has no "signalSet" and "observedGeneration".`);
    const said = Date.parse(reported.time);
    const event = cloudEvent(
      'io.cardan.vehicle.reported',
      { source, id, time: Number.isNaN(said) ? this.now() : said },
      reported,
    );
    return [plainItem('vehicle-events', eventToRecord(vehicle, event))];
  }

  private deadLetter(topic: string, payload: Buffer, error: CardanError): Item {
    this.counts.deadLetters++;
    return plainItem('dead-letters', {
      key: parseMqttTopic(topic)?.vehicle ?? null,
      value: payload,
      timestamp: this.now(),
      headers: { 'mqtt-topic': topic, 'error-code': error.code, 'error-message': error.message },
    });
  }

  /** Appends until the queue is empty. What arrives meanwhile makes the next, larger batch. */
  private async appendAll(): Promise<void> {
    // One turn of the event loop collects what one read of the socket has brought.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.queue.length > 0) {
      const items = this.queue;
      this.queue = [];
      this.queuedBytes = 0;
      const { held } = this;
      this.held = undefined;
      held?.();
      const byTopic = groupByTopic(items);
      await Promise.all([...byTopic].map(([topic, group]) => this.append(topic, group)));
    }
    this.appending = undefined;
  }

  private async append(topic: LogTopic, items: Item[]): Promise<void> {
    const records = items.map(({ record }) => record);
    for (let tries = 0; ; tries++) {
      try {
        await this.options.log.append(topic, records);
        break;
      } catch (error) {
        this.counts.appendRetries++;
        this.onProblem(
          error instanceof CardanError
            ? error
            : new CardanError('LOG_CLOSED', `The log took no records: ${messageOf(error)}. Trying again.`, {
                cause: error,
              }),
        );
        // Nothing is acknowledged, so giving up at shutdown loses nothing: the vehicles send it again.
        if (this.closing) return;
        await wait(Math.min(BRIDGE_DEFAULTS.retryMs * 2 ** Math.min(tries, 10), BRIDGE_DEFAULTS.retryMaxMs));
      }
    }
    this.counts.records += items.length;
    for (const { rows } of items) this.counts.rows += rows;
    for (const [vehicle, ack] of acksOf(items))
      this.client.publish(mqttTopic(vehicle, 'ack'), JSON.stringify(ack), { qos: 0 });
  }
}

function plainItem(topic: LogTopic, record: NewRecord): Item {
  return { topic, record, bytes: (record.value?.length ?? 0) + 200, rows: 0 };
}

function telemetryItem(vehicle: string, payload: Buffer): Item {
  const batch = decodeTelemetry(payload);
  const rows = batch.times.length;
  // The time of the newest row: a reader that begins at a time then also gets the batch that straddles it.
  const timestamp = batch.times[rows - 1]!;
  const last = batch.firstSequence + rows - 1;
  return {
    topic: 'telemetry',
    record: {
      key: vehicle,
      value: payload,
      timestamp,
      headers: {
        ce_specversion: '1.0',
        ce_type: 'io.cardan.telemetry',
        ce_source: `/vehicles/${vehicle}`,
        ce_id: `${batch.epoch}-${batch.firstSequence}-${last}`,
        ce_time: new Date(timestamp).toISOString(),
        'content-type': 'application/protobuf',
      },
    },
    bytes: payload.length + 200,
    rows,
    ack: { vehicle, epoch: batch.epoch, stream: 'rows', first: batch.firstSequence, last },
  };
}

function eventItem(vehicle: string, payload: Buffer): Item {
  const event = parseCloudEvent(payload);
  if (event.source !== `/vehicles/${vehicle}`)
    throw new CardanError(
      'EVENT_MALFORMED',
      `Event ${event.id} of ${event.source} came on the topic of ${vehicle}.`,
    );
  const item =
    event.type === 'io.cardan.signal-set'
      ? plainItem('signal-sets', eventToRecord(parseSignalSet(event.data).id, event))
      : plainItem('vehicle-events', eventToRecord(vehicle, event));
  const epoch = Number(event.outboxepoch);
  const sequence = Number(event.sequence);
  if (Number.isSafeInteger(epoch) && Number.isSafeInteger(sequence))
    item.ack = { vehicle, epoch, stream: 'events', first: sequence, last: sequence };
  return item;
}

function groupByTopic(items: Item[]): Map<LogTopic, Item[]> {
  const groups = new Map<LogTopic, Item[]>();
  for (const item of items) {
    const group = groups.get(item.topic);
    if (group === undefined) groups.set(item.topic, [item]);
    else group.push(item);
  }
  return groups;
}

/** One ack per vehicle; neighbouring ranges become one. */
function acksOf(items: Item[]): Map<string, Ack> {
  const acks = new Map<string, Ack>();
  for (const { ack } of items) {
    if (ack === undefined) continue;
    const known = acks.get(ack.vehicle);
    if (known !== undefined && known.epoch !== ack.epoch) continue; // the vehicle will ask again
    const all = known ?? { epoch: ack.epoch, rows: [], events: [] };
    acks.set(ack.vehicle, all);
    const newest = all[ack.stream].at(-1);
    if (newest !== undefined && newest[1] + 1 === ack.first) newest[1] = ack.last;
    else all[ack.stream].push([ack.first, ack.last]);
  }
  return acks;
}
