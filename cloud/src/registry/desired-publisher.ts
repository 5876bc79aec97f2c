import mqtt, { type MqttClient } from 'mqtt';
import { CardanError, messageOf, type MqttConnection, mqttTopic } from '@cardan/shared';
import type { Fleet } from './fleet.ts';
import { problemFrom } from './problem.ts';
import type { Registry } from './registry.ts';

/** Publications under way at once: enough to keep a broker busy, few enough for its queues. */
const IN_FLIGHT_MAX = 200;

export interface DesiredPublisherOptions {
  mqttUrl: string;
  /** User, password, certificates. */
  connection?: MqttConnection | undefined;
  registry: Registry;
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
  /** What the broker has, per vehicle. */
  private readonly told = new Map<string, string>();
  private readonly unsubscribe: (() => void)[];
  private again = false;
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
      this.publish();
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
    const publish = () => this.publish();
    this.unsubscribe = [options.registry.onChange(publish), options.fleet.onChange(publish)];
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

  /** Publishes what differs from what the broker has. One round at a time; changes in between make another. */
  private publish(): void {
    this.again = true;
    this.running ??= this.rounds()
      .catch((error: unknown) => {
        if (!this.closed) this.options.onProblem(problemFrom(error));
      })
      .finally(() => {
        this.running = undefined;
      });
  }

  private async rounds(): Promise<void> {
    while (this.again && this.client.connected && !this.closed) {
      this.again = false;
      const changed = this.changed();
      for (let start = 0; start < changed.length; start += IN_FLIGHT_MAX)
        await Promise.all(changed.slice(start, start + IN_FLIGHT_MAX).map((change) => this.tell(change)));
    }
  }

  private changed(): [vehicle: string, desired: string][] {
    const { registry, fleet } = this.options;
    return [...fleet.vehicles()]
      .map(([vehicle, signalSet]): [string, string] => [
        vehicle,
        JSON.stringify(registry.desired(signalSet, vehicle)),
      ])
      .filter(([vehicle, desired]) => this.told.get(vehicle) !== desired);
  }

  private async tell([vehicle, desired]: [string, string]): Promise<void> {
    await this.client.publishAsync(mqttTopic(vehicle, 'desired'), desired, { qos: 1, retain: true });
    this.told.set(vehicle, desired);
  }
}
