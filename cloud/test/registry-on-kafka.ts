import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inject } from 'vitest';
import { cloudEvent, ensureLogTopics, eventToRecord, type SignalSet } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { startRegistry } from '../src/distribution/start-registry.ts';

export interface RegistryOnKafka {
  log: EventLog;
  url: string;
  /** A folder for the test. */
  dir: string;
  /** For commands that are to use this log and registry. */
  env: NodeJS.ProcessEnv;
  close(): Promise<void>;
}

/** Topics of the test's own on the real Kafka, in which a vehicle has said which signals it has, and a registry. */
export async function registryOnKafka(vehicle: string, set: SignalSet): Promise<RegistryOnKafka> {
  const prefix = `${randomUUID()}.`;
  const brokers = inject('kafkaBrokers');
  const dir = mkdtempSync(join(tmpdir(), 'cardan-on-kafka-'));
  const log = await openEventLog(`kafka:${brokers}`, { topicPrefix: prefix });
  await ensureLogTopics(log);
  const event = cloudEvent('io.cardan.signal-set', { source: `/vehicles/${vehicle}`, id: '1', time: 0 }, set);
  await log.append('signal-sets', [eventToRecord(set.id, event)]);
  const registry = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:9', // nobody: models go nowhere here
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    onProblem: () => undefined,
  });
  return {
    log,
    url: registry.url,
    dir,
    env: {
      ...process.env,
      KAFKA_BROKERS: brokers,
      CARDAN_TOPIC_PREFIX: prefix,
      CARDAN_REGISTRY: registry.url,
    },
    close: async () => {
      await registry.close();
      await log.close();
      rmSync(dir, { recursive: true });
    },
  };
}
