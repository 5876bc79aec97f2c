import type { TestProject } from 'vitest/node';
import { startKafka } from '../kafka/start-kafka.ts';
import { startMosquitto } from '../mosquitto/start-mosquitto.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** `HOST:PORT` of a real Kafka, one node. Tests take topics with a random prefix of their own. */
    kafkaBrokers: string;
    /** `mqtt://HOST:PORT` of a real Mosquitto. */
    mosquittoUrl: string;
  }
}

/**
 * Vitest's global setup for `npm run test:real`: one Kafka node and one Mosquitto for all test files, or those that
 * CARDAN_TEST_KAFKA (HOST:PORT) and CARDAN_TEST_MQTT (mqtt://HOST:PORT) name. What is missing on the machine is an
 * error: these tests are never skipped.
 */
export default async function realBrokers({ provide }: TestProject): Promise<() => Promise<void>> {
  const { CARDAN_TEST_KAFKA, CARDAN_TEST_MQTT } = process.env;
  const mosquitto = CARDAN_TEST_MQTT ? undefined : await startMosquitto();
  try {
    const kafka = CARDAN_TEST_KAFKA ? undefined : await startKafka();
    provide('kafkaBrokers', kafka?.brokers ?? CARDAN_TEST_KAFKA!);
    provide('mosquittoUrl', mosquitto?.url ?? CARDAN_TEST_MQTT!);
    return async () => {
      await Promise.all([kafka?.stop(), mosquitto?.stop()]);
    };
  } catch (error) {
    await mosquitto?.stop();
    throw error;
  }
}
