import mqtt, { type MqttClient } from 'mqtt';
import { CardanError, messageOf, type MqttConnection, mqttTopic } from '@cardan/shared';
import { type DesiredSource, desiredText } from '../fleet/desired-source.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { problemFrom } from './problem.ts';

/** Publications under way at once: enough to keep a broker busy, few enough for its queues. */
const IN_FLIGHT_MAX = 200;

export interface DesiredPublisherOptions {
  mqttUrl: string;
  /** User, password, certificates. */
  connection?: MqttConnection | undefined;
  source: DesiredSource;
  fleet: Fleet;
  onProblem: (error: CardanError) => void;
}

/**
 * Tells each vehicle what it should run, by a retained message (QoS 1) on its `desired` topic. It is a hint: a
 * car believes signed metadata only, and asks over HTTP when no hint comes.
 */
export class DesiredPublisher {
  private readonly options: DesiredPublisherOptions;
  private readonly client: MqttClient;
  /** What the broker has, per vehicle. Most texts are the same one. */
  private readonly told = new Map<string, string>();
  private readonly unsubscribe: (() => void)[];
  /** Whether every vehicle must be looked at; otherwise these. */
  private all = false;
  private changed = new Set<string>();
  private running: Promise<void> | undefined;
  private closed = false;

  constructor(options: DesiredPublisherOptions) {
    this.options = options;
    this.client = mqtt.connect(options.mqttUrl, {
      ...options.connection,
      // 3.1.1: every broker speaks it, the embedded one nothing else.
      protocolVersion: 4,
      reconnectPeriod: 1000,
      connectTimeout: 10_000,
      queueQoSZero: false,
    });
    this.client.on('connect', () => {
      // A broker that was restarted may have forgotten its retained messages.
      this.told.clear();
      this.publishAll();
    });
    this.client.on('error', (cause) => {
      options.onProblem(
        new CardanError(
          'MQTT_UNREACHABLE',
          `MQTT broker ${options.mqttUrl}: ${messageOf(cause)}. Trying again; cars poll over HTTP meanwhile.`,
          { cause },
        ),
      );
    });
    this.unsubscribe = [
      options.source.onChange(() => this.publishAll()),
      options.fleet.onChange((changed) => {
        // Without a connection nothing is kept: after the next one all are told.
        if (!this.client.connected) return;
        for (const vehicle of changed) this.changed.add(vehicle);
        this.publish();
      }),
    ];
  }

  get connected(): boolean {
    return this.client.connected;
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const stop of this.unsubscribe) stop();
    // By force: a publication that no broker takes would never end.
    await this.client.endAsync(true);
    await this.running;
  }

  private publishAll(): void {
    this.all = true;
    this.publish();
  }

  /** Publishes what differs from what the broker has. One round at a time; changes in between make another. */
  private publish(): void {
    this.running ??= this.rounds()
      .catch((error: unknown) => {
        if (!this.closed) this.options.onProblem(problemFrom(error));
      })
      .finally(() => {
        this.running = undefined;
      });
  }

  private async rounds(): Promise<void> {
    while ((this.all || this.changed.size > 0) && this.client.connected && !this.closed) {
      const { all, changed } = this;
      this.all = false;
      this.changed = new Set();
      try {
        if (all) await this.tellAll();
        else await this.tellThese(changed);
      } catch (error) {
        // What was not told would stay so; the next change or connection looks at all of them.
        this.all = true;
        throw error;
      }
    }
  }

  private async tellAll(): Promise<void> {
    for await (const vehicles of this.options.fleet.signalSets()) {
      if (this.closed || this.all) return; // all of them anew
      await this.tell(vehicles);
    }
  }

  private async tellThese(ids: ReadonlySet<string>): Promise<void> {
    const vehicles: { id: string; signalSet: string | null }[] = [];
    for (const id of ids) {
      const there = this.options.fleet.polling(id);
      if (there === undefined) this.told.delete(id);
      else vehicles.push({ id, signalSet: there.signalSet });
    }
    await this.tell(vehicles);
  }

  private async tell(vehicles: readonly { id: string; signalSet: string | null }[]): Promise<void> {
    const { source } = this.options;
    const changes: [vehicle: string, text: string][] = [];
    for (const { id, signalSet } of vehicles) {
      const text = desiredText(source.desired(signalSet ?? '', id));
      if (this.told.get(id) !== text) changes.push([id, text]);
    }
    // Lanes, not rounds: a slow answer holds up one of them only.
    const next = changes.values();
    const lane = async () => {
      for (const [vehicle, text] of next) {
        if (this.closed) return;
        await this.client.publishAsync(mqttTopic(vehicle, 'desired'), text, { qos: 1, retain: true });
        this.told.set(vehicle, text);
      }
    };
    await Promise.all(Array.from({ length: Math.min(IN_FLIGHT_MAX, changes.length) }, lane));
  }
}
