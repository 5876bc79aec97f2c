import type { Registry } from 'prom-client';
import { ensureLogTopics, type CardanError, type ErrorCode, type MqttConnection } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { bridgeMetrics, type BridgeCounts } from './bridge-metrics.ts';
import { BRIDGE_DEFAULTS } from './config.ts';
import { LogWriter, type Item } from './log-writer.ts';
import { MqttLink, type Delivery } from './mqtt-link.ts';
import { MessageReader, UnreadableMessage, type Channel, type VehicleRecord } from './vehicle-message.ts';

export interface BridgeOptions {
  mqttUrl: string;
  connection?: MqttConnection;
  log: EventLog;
  /** Names this bridge to the broker. Two bridges need two names. Default: a random one. */
  clientId?: string;
  /** Default: 5 where the broker speaks it, else 4 (MQTT 3.1.1). */
  mqttVersion?: 4 | 5;
  /**
   * Bridges of one group share what comes, where the broker can do that (MQTT 5): those that write to one log. null:
   * this bridge gets everything; it should be the only one of its log then.
   */
  shareGroup?: string | null;
  /** Messages that an MQTT 5 broker may have sent before they are in the log. */
  receiveMaximum?: number;
  /** Bytes that may be held before reading from the broker pauses. */
  queueBytesMax?: number;
  now?: () => number;
  /** 0 to 1, for the length of pauses. */
  random?: () => number;
  onProblem?: (error: CardanError) => void;
}

/** Whether the bridge does its work now, and if not why. */
export interface BridgeHealth {
  ready: boolean;
  why: string[];
}

/**
 * Carries what vehicles send into the log. Broker and vehicles are told only after `append` has resolved, and only
 * what is in. What cannot be read, or what the log will never take, goes to the topic `dead-letters`, with the reason
 * in its headers.
 */
export class Bridge {
  readonly counts: BridgeCounts = { messages: 0, records: 0, rows: 0, deadLetters: 0, appendRetries: 0 };
  /** Of this bridge alone, without those of the process. */
  readonly metrics: Registry;
  private readonly byChannel = new Map<Channel | 'unknown', number>();
  private readonly byTopic = new Map<string, number>();
  private readonly byCode = new Map<ErrorCode, number>();
  private readonly reader: MessageReader;
  private readonly writer: LogWriter;
  private readonly onProblem: (error: CardanError) => void;
  private link: MqttLink | undefined;
  private closing: Promise<number> | undefined;

  /** Creates the topics that it writes to, connects and subscribes. */
  static async start(options: BridgeOptions): Promise<Bridge> {
    await ensureLogTopics(options.log, ['telemetry', 'vehicle-events', 'signal-sets', 'dead-letters']);
    const bridge = new Bridge(options);
    await bridge.connect(options);
    return bridge;
  }

  private constructor(options: BridgeOptions) {
    this.onProblem = options.onProblem ?? (() => undefined);
    this.reader = new MessageReader(options.now ?? Date.now);
    const metrics = bridgeMetrics({
      messages: this.byChannel,
      records: this.byTopic,
      deadLetters: this.byCode,
      counts: this.counts,
      queue: () => ({ bytes: this.writer.heldBytes, messages: this.writer.heldItems }),
      connected: () => this.link?.connected ?? false,
      ready: () => this.health().ready,
    });
    this.metrics = metrics.registry;
    this.writer = new LogWriter({
      log: options.log,
      queueBytesMax: options.queueBytesMax ?? BRIDGE_DEFAULTS.queueBytesMax,
      random: options.random ?? Math.random,
      onAppended: (items) => this.appended(items),
      toDeadLetter: ({ delivery, content }, refusal) => {
        this.onProblem(refusal);
        return this.deadLetter(delivery, refusal, content?.ack);
      },
      onRetry: (error) => {
        this.counts.appendRetries++;
        this.onProblem(error);
      },
      onSeconds: metrics.appendSeconds,
    });
  }

  /** MQTT version in use: 5, or 4 for 3.1.1. */
  get mqttVersion(): 4 | 5 {
    return this.link!.version;
  }

  /** The group with which it shares; null when it gets everything, and should be alone. */
  get shareGroup(): string | null {
    return this.link!.group;
  }

  /** What keeps the bridge from its work now. */
  health(): BridgeHealth {
    const why: string[] = [];
    const { link, writer } = this;
    if (this.closing !== undefined) why.push('The bridge is shutting down.');
    if (link?.refused !== undefined) why.push(`${link.refused.code}: ${link.refused.message}`);
    else if (link?.connected !== true) why.push('MQTT_UNREACHABLE: There is no connection to the broker.');
    if (writer.problem !== undefined) why.push(`${writer.problem.code}: ${writer.problem.message}`);
    return { ready: why.length === 0, why };
  }

  /**
   * Takes nothing more, puts what it holds and what the broker still has for it into the log, acknowledges it, and
   * disconnects. After `drainMs` it gives up. Resolves to the number of messages that it held then: they are not
   * acknowledged, so that they are sent again.
   */
  close(drainMs: number = BRIDGE_DEFAULTS.drainMs): Promise<number> {
    this.closing ??= this.drain(drainMs);
    return this.closing;
  }

  private async drain(drainMs: number): Promise<number> {
    const { writer, counts } = this;
    const link = this.link!;
    let gaveUp = false;
    const late = new Promise<void>((resolve) => {
      setTimeout(() => {
        gaveUp = true;
        writer.giveUp();
        resolve();
      }, drainMs).unref();
    });
    // Each acknowledgement may bring a message that the broker has kept for us: until an answer of it brings none.
    let before: number;
    do {
      before = counts.messages;
      await Promise.race([link.unsubscribe(), late]);
      await writer.idle();
    } while (counts.messages !== before && !gaveUp);
    const left = writer.heldItems;
    await link.close(gaveUp);
    return left;
  }

  private async connect(options: BridgeOptions): Promise<void> {
    this.link = await MqttLink.connect({
      url: options.mqttUrl,
      connection: options.connection,
      clientId: options.clientId,
      version: options.mqttVersion,
      shareGroup: options.shareGroup === undefined ? BRIDGE_DEFAULTS.shareGroup : options.shareGroup,
      receiveMaximum: options.receiveMaximum ?? BRIDGE_DEFAULTS.receiveMaximum,
      onMessage: (delivery) => this.take(delivery),
      full: () => this.writer.full,
      onProblem: this.onProblem,
    });
  }

  private take(delivery: Delivery): void {
    const { mqttTopic, payload } = delivery;
    this.counts.messages++;
    const from = this.reader.topicOf(mqttTopic);
    add(this.byChannel, from?.channel ?? 'unknown', 1);
    let content: VehicleRecord | undefined;
    try {
      content = this.reader.read(from, mqttTopic, payload);
    } catch (error) {
      if (!(error instanceof UnreadableMessage)) throw error;
      content = this.deadLetter(delivery, error.error, error.ack);
      this.onProblem(error.error);
    }
    this.writer.add({ delivery, content });
  }

  private deadLetter(
    { mqttTopic, payload }: Delivery,
    error: CardanError,
    ack: VehicleRecord['ack'],
  ): VehicleRecord {
    this.counts.deadLetters++;
    add(this.byCode, error.code, 1);
    return this.reader.deadLetter(mqttTopic, payload, error, ack);
  }

  private async appended(items: readonly Item[]): Promise<void> {
    for (const { content } of items) {
      if (content === undefined) continue;
      this.counts.records++;
      this.counts.rows += content.rows;
      add(this.byTopic, content.topic, 1);
    }
    const { link } = this;
    await link?.acknowledge(items.map(({ delivery, content }) => ({ delivery, ack: content?.ack })));
    if (!this.writer.full) link?.resume();
  }
}

function add<K>(counts: Map<K, number>, key: K, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
