import { setTimeout as pause } from 'node:timers/promises';
import type { EventLog } from '@cardan/shared/event-log';
import type { FleetMessages } from './fleet-messages.ts';
import type { MqttPublisher } from './mqtt-publisher.ts';

/** Messages generated and published at once. */
const CHUNK = 512;
/** How often the log is asked for its end. */
const ASK_MS = 20;
/** Nothing new in the log for so long means that something is broken; milliseconds. */
const STALLED_MS = 60_000;

export interface FlowOptions {
  publishers: readonly MqttPublisher[];
  log: EventLog;
  /** Where the messages arrive. */
  logTopic: string;
  messages: FleetMessages;
  mqttTopic: (vehicle: string) => string;
  /** Published and not yet in the log: enough that the bridge never waits, few enough that the broker stays small. */
  aheadMax: number;
}

/** Messages that flow from publishers over a broker and a bridge into the log. */
export class Flow {
  private readonly options: FlowOptions;
  private next = 0;

  constructor(options: FlowOptions) {
    this.options = options;
  }

  /**
   * Publishes `count` messages as fast as the log gets them, and resolves when all are in it, to the seconds that it
   * took. `onArrived` is told how many of them are in the log, time and again.
   */
  async run(count: number, onArrived: (arrived: number) => void = () => undefined): Promise<number> {
    const { publishers, messages, mqttTopic, aheadMax } = this.options;
    const begin = performance.now();
    const before = await this.endOfLog();
    let [published, arrived, arrivedAt] = [0, 0, begin];
    const arrive = async () => {
      const now = (await this.endOfLog()) - before;
      if (now > arrived) [arrived, arrivedAt] = [now, performance.now()];
      else if (performance.now() - arrivedAt > STALLED_MS)
        throw new Error(
          `Only ${arrived} of ${published} messages are in "${this.options.logTopic}", and none has come for a minute.`,
        );
      onArrived(arrived);
    };
    const publish = async () => {
      while (published < count) {
        if (published - arrived >= aheadMax) {
          await pause(ASK_MS / 4);
          continue;
        }
        const chunk = Math.min(CHUNK, count - published);
        // A vehicle stays with one connection, so its messages stay in order.
        const parts: { topic: string; payload: Buffer }[][] = publishers.map(() => []);
        for (let i = 0; i < chunk; i++, this.next++) {
          const topic = mqttTopic(messages.vehicle(this.next));
          const part = parts[(this.next % messages.vehicles) % publishers.length]!;
          part.push({ topic, payload: messages.payload(this.next) });
        }
        published += chunk;
        await Promise.all(publishers.map((publisher, i) => publisher.publish(parts[i]!)));
      }
    };
    const publishing = publish();
    while (arrived < count) {
      await arrive();
      // A publisher that fails ends the wait.
      await Promise.race([pause(ASK_MS), publishing.then(() => pause(ASK_MS))]);
    }
    await publishing;
    return (arrivedAt - begin) / 1000;
  }

  /** Publishes single messages until one is in the log: only then is the bridge known to be subscribed. */
  async begin(): Promise<void> {
    const { publishers, messages, mqttTopic } = this.options;
    const before = await this.endOfLog();
    for (const deadline = performance.now() + STALLED_MS; (await this.endOfLog()) === before;) {
      if (performance.now() > deadline)
        throw new Error(`No message has come to "${this.options.logTopic}" for a minute.`);
      const message = { topic: mqttTopic(messages.vehicle(0)), payload: messages.payload(0) };
      await publishers[0]!.publish([message]);
      await pause(200);
    }
  }

  private async endOfLog(): Promise<number> {
    const offsets = await this.options.log.offsets(this.options.logTopic);
    return offsets.reduce((sum, { latest }) => sum + latest, 0);
  }
}
