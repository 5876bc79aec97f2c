import { randomUUID } from 'node:crypto';
import mqtt, { type IConnackPacket, type IPublishPacket, type MqttClient } from 'mqtt';
import { CardanError, messageOf, mqttTopic, type MqttConnection } from '@cardan/shared';
import { BRIDGE_DEFAULTS } from './config.ts';
import { encodeReceipts } from './mqtt-frames.ts';
import { CHANNELS, type Channel, type VehicleAck } from './vehicle-message.ts';

export interface MqttLinkOptions {
  url: string;
  connection?: MqttConnection | undefined;
  clientId?: string | undefined;
  /** Default: 5, and 4 (MQTT 3.1.1) where the broker does not speak it. */
  version?: 4 | 5 | undefined;
  /** null: a subscription of its own, in any case. */
  shareGroup: string | null;
  receiveMaximum: number;
  onMessage: (delivery: Delivery) => void;
  /** Whether no more can be taken. Reading then pauses until `resume`. */
  full: () => boolean;
  onProblem: (error: CardanError) => void;
}

/** A message as it came. */
export interface Delivery {
  mqttTopic: string;
  payload: Buffer;
  /** Of the broker; undefined with QoS 0. */
  messageId: number | undefined;
  /** It came because it is retained, not because it was just published. */
  retained: boolean;
  /** A message id counts on its connection only. */
  connection: number;
}

/** Channels whose messages go to one bridge of a group each. */
const SHARED_CHANNELS = ['telemetry', 'event', 'reported'] as const;
/** Of the CONNACK: the broker speaks other versions of MQTT. */
const VERSION_REFUSALS = new Set([1, 132]);
/** Of the CONNACK: it knows the version, but not this client. */
const ACCESS_REFUSALS = new Set([2, 4, 5, 133, 134, 135, 138, 140]);
const SHARED_NOT_SUPPORTED = 158;

/**
 * To mqtt.js: go on without a PUBACK. It takes one message at a time otherwise, and would wait for the log with each.
 */
const NOT_YET = new Error('The broker is told when the message is in the log.');

/** The broker does not speak this version of MQTT. */
class VersionRefused extends Error {}

/**
 * The bridge's connection to the broker: subscribes anew whenever it has been lost, and acknowledges what is in the
 * log. The session is a clean one. What was not acknowledged when a connection is lost comes again: telemetry and
 * events from their vehicles, `reported` and `status` because they are retained.
 *
 * On MQTT 5 `telemetry`, `event` and `reported` come by a shared subscription, which is not given retained messages;
 * so `reported` is also subscribed for itself after each connection, until the retained ones have come. `status` goes
 * to every bridge: two of one vehicle (the last will, the next connection) may be a millisecond apart, and with each
 * bridge the newest comes last.
 */
export class MqttLink {
  readonly version: 4 | 5;
  /** The group with which this bridge shares; null when it gets everything. */
  group: string | null = null;
  /** Why the broker gives us nothing although we are connected. */
  refused: CardanError | undefined;
  private readonly options: MqttLinkOptions;
  private readonly client: MqttClient;
  private connection = 0;
  private subscribed = false;
  private ending = false;
  /** Continues reading; there while it is paused. */
  private paused: (() => void) | undefined;
  private signsOfLife: NodeJS.Timeout | undefined;
  private retainedQuiet: NodeJS.Timeout | undefined;
  /** Retained messages that have come and are not in the log yet. */
  private retainedHeld = 0;
  private subscribeAgain: NodeJS.Timeout | undefined;

  /** Resolves when the subscription stands. Throws MQTT_UNREACHABLE or MQTT_REFUSED. */
  static async connect(options: MqttLinkOptions): Promise<MqttLink> {
    if (options.version !== undefined) return MqttLink.attempt(options, options.version);
    try {
      return await MqttLink.attempt(options, 5);
    } catch (error) {
      if (!(error instanceof CardanError) || !(error.cause instanceof VersionRefused)) throw error;
      return MqttLink.attempt(options, 4);
    }
  }

  private static async attempt(options: MqttLinkOptions, version: 4 | 5): Promise<MqttLink> {
    const link = new MqttLink(options, version);
    try {
      await link.begin();
    } catch (error) {
      await link.close(true);
      throw error;
    }
    return link;
  }

  private constructor(options: MqttLinkOptions, version: 4 | 5) {
    this.options = options;
    this.version = version;
    const { receiveMaximum, clientId = `cardan-bridge-${randomUUID().slice(0, 8)}` } = options;
    this.client = mqtt.connect(options.url, {
      ...options.connection,
      clientId,
      protocolVersion: version,
      clean: true,
      resubscribe: false, // `subscribe` does it, and looks at the answer
      reconnectPeriod: 1000,
      reconnectOnConnackError: true,
      connectTimeout: 10_000,
      keepalive: BRIDGE_DEFAULTS.keepaliveSeconds,
      manualConnect: true,
      log: () => undefined, // what it would trace costs time even when nobody looks
      ...(version === 5 ? { properties: { receiveMaximum } } : {}),
    });
    this.client.handleMessage = (packet, callback) => {
      this.take(packet);
      if (options.full()) this.pause(() => callback(NOT_YET));
      else callback(NOT_YET);
    };
  }

  get connected(): boolean {
    return this.client.connected && this.subscribed;
  }

  /** Reads on, if it had paused. */
  resume(): void {
    const { paused } = this;
    this.clearPause();
    paused?.();
  }

  /**
   * Tells the broker and the vehicles that these are in the log. Resolves when more can be sent. While there is no
   * connection nobody is told, and what is not acknowledged is sent again.
   */
  async acknowledge(items: readonly { delivery: Delivery; ack: VehicleAck | undefined }[]): Promise<void> {
    const { client } = this;
    if (!client.connected) return;
    const ids: number[] = [];
    for (const { delivery } of items) {
      if (delivery.connection !== this.connection) continue;
      if (delivery.retained) this.retainedHeld--;
      if (delivery.messageId !== undefined) ids.push(delivery.messageId);
    }
    const frames = encodeReceipts(
      this.version,
      ids,
      items.map(({ ack }) => ack),
    );
    const { stream } = client;
    if (frames.length === 0 || stream.write(frames)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        stream.off('drain', done);
        stream.off('close', done);
        resolve();
      };
      stream.on('drain', done);
      stream.on('close', done);
    });
  }

  /** Resolves when the broker has answered. What it has kept for us it may send nevertheless, before the answer or after acknowledgements. */
  async unsubscribe(): Promise<void> {
    clearTimeout(this.retainedQuiet);
    clearTimeout(this.subscribeAgain);
    if (!this.client.connected) return;
    // The connection may be lost meanwhile, and the subscriptions with it.
    await this.client.unsubscribeAsync(this.filters(this.group)).catch(() => undefined);
  }

  /** Ends the connection; `force` without a goodbye, for a broker that does not answer. */
  async close(force: boolean): Promise<void> {
    this.ending = true;
    this.stopTimers();
    const { client } = this;
    const end = force || !client.connected;
    client.options.reconnectPeriod = 0; // or mqtt.js goes on trying although it has ended
    await client.endAsync(end);
  }

  private async begin(): Promise<void> {
    const { client, options } = this;
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error) => reject(this.connectError(cause));
      const closed = () => failed(new VersionRefused('it closed the connection'));
      client.once('error', failed);
      client.once('close', closed);
      client.once('connect', (packet) => {
        client.off('error', failed);
        client.off('close', closed);
        client.on('error', (cause) => {
          if (!this.ending) options.onProblem(this.connectError(cause, ' Trying again.'));
        });
        client.on('close', () => this.lost());
        this.connection++;
        this.subscribe(packet).then(resolve, reject);
        client.on('connect', (again) => {
          this.connection++;
          void this.subscribeUntilItStands(again);
        });
      });
      client.connect();
    });
  }

  private async subscribeUntilItStands(packet: IConnackPacket): Promise<void> {
    try {
      await this.subscribe(packet);
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      if (this.ending || !this.client.connected) return; // the next connection subscribes
      this.options.onProblem(error);
      this.subscribeAgain = setTimeout(
        () => void this.subscribeUntilItStands(packet),
        BRIDGE_DEFAULTS.retryMaxMs,
      );
    }
  }

  /** Throws MQTT_REFUSED, or MQTT_UNREACHABLE when the connection is lost meanwhile. */
  private async subscribe({ properties }: IConnackPacket): Promise<void> {
    const { shareGroup } = this.options;
    // A broker says only that it does not share.
    const shares = this.version === 5 && properties?.sharedSubscriptionAvailable !== false;
    let group = shares ? shareGroup : null;
    let refusals = await this.askFor(this.filters(group));
    if (group !== null && refusals.some(({ code }) => code === SHARED_NOT_SUPPORTED)) {
      group = null;
      refusals = await this.askFor(this.filters(group));
    }
    const [refusal] = refusals;
    if (refusal !== undefined) {
      this.refused = new CardanError(
        'MQTT_REFUSED',
        `The broker refused the subscription ${refusal.filter}. Give the bridge the right to read it.`,
      );
      throw this.refused;
    }
    this.refused = undefined;
    this.subscribed = true;
    this.group = group;
    if (group !== null)
      this.retainedQuiet = setTimeout(() => this.leaveRetained(), BRIDGE_DEFAULTS.retainedQuietMs);
  }

  /** Subscribes; resolves to what was refused. */
  private async askFor(filters: readonly string[]): Promise<{ filter: string; code: number }[]> {
    const map = Object.fromEntries(filters.map((filter) => [filter, { qos: 1 as const }]));
    const granted = await new Promise<readonly unknown[]>((resolve, reject) => {
      this.client.subscribe(map, (error, _, packet) => {
        if (packet !== undefined) resolve(packet.granted);
        else reject(this.connectError(error ?? new Error('it did not answer')));
      });
    });
    return filters.flatMap((filter, i) => {
      const code = Number(granted[i]);
      return code >= 0x80 ? [{ filter, code }] : [];
    });
  }

  private filters(group: string | null): string[] {
    const plain = (channels: readonly Channel[]) => channels.map((channel) => mqttTopic('+', channel));
    if (group === null) return plain(CHANNELS);
    return [
      ...plain(SHARED_CHANNELS).map((filter) => `$share/${group}/${filter}`),
      ...plain(['reported', 'status']),
    ];
  }

  private leaveRetained(): void {
    // Until its retained message is in the log, a newer one of the same vehicle must come after it: by this connection.
    if (this.retainedHeld > 0) this.retainedQuiet?.refresh();
    else if (this.client.connected) this.client.unsubscribe(mqttTopic('+', 'reported'));
  }

  private take(packet: IPublishPacket): void {
    const { topic, payload, messageId, retain } = packet;
    if (retain) {
      this.retainedHeld++;
      this.retainedQuiet?.refresh();
    }
    this.options.onMessage({
      mqttTopic: topic,
      payload: payload as Buffer,
      messageId,
      retained: retain,
      connection: this.connection,
    });
  }

  private pause(resume: () => void): void {
    this.paused = resume;
    // The broker's answers to our signs of life wait behind the messages that we do not read.
    this.signsOfLife = setInterval(
      () => {
        this.client.sendPing();
        this.client.reschedulePing(true);
      },
      (BRIDGE_DEFAULTS.keepaliveSeconds * 1000) / 2,
    );
  }

  private clearPause(): void {
    this.paused = undefined;
    clearInterval(this.signsOfLife);
  }

  private lost(): void {
    const before = this.subscribed;
    this.subscribed = false;
    this.retainedHeld = 0;
    this.stopTimers();
    if (before && !this.ending)
      this.options.onProblem(this.connectError(new Error('the connection is lost'), ' Trying again.'));
  }

  private stopTimers(): void {
    this.clearPause();
    clearTimeout(this.retainedQuiet);
    clearTimeout(this.subscribeAgain);
  }

  private connectError(cause: Error, further = ''): CardanError {
    const { url } = this.options;
    const code = 'code' in cause && typeof cause.code === 'number' ? cause.code : undefined;
    if (code !== undefined && VERSION_REFUSALS.has(code))
      return new CardanError(
        'MQTT_REFUSED',
        `The broker at ${url} does not speak MQTT ${this.version === 5 ? '5' : '3.1.1'}. Choose another version with --mqtt-version.`,
        { cause: new VersionRefused(messageOf(cause)) },
      );
    if (code !== undefined && ACCESS_REFUSALS.has(code))
      return new CardanError(
        'MQTT_REFUSED',
        `The broker at ${url} lets the bridge not in (${messageOf(cause)}). Check user, password and certificates.${further}`,
        { cause },
      );
    return new CardanError(
      'MQTT_UNREACHABLE',
      further === ''
        ? `No MQTT broker answers at ${url} (${messageOf(cause) || 'connection refused'}). Start one, or give another address with --mqtt.`
        : `MQTT broker ${url}: ${messageOf(cause)}.${further}`,
      { cause },
    );
  }
}
