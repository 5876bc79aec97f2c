import { randomUUID } from 'node:crypto';
import { inject } from 'vitest';
import { KafkaEventLog, type KafkaEventLogOptions } from '../../src/event-log/kafka/kafka.ts';
import { eventLogContract } from './contract.ts';

const brokers = inject('kafkaBrokers').split(',');

function openLogs(settings: Partial<KafkaEventLogOptions>) {
  const logs: KafkaEventLog[] = [];
  const open = async () => {
    const log = await KafkaEventLog.open({ brokers, sessionTimeoutMs: 6000, ...settings });
    logs.push(log);
    return log;
  };
  return { open, close: () => Promise.all(logs.map((log) => log.close())) };
}

for (const settings of [{}, { topicPrefix: `p${randomUUID().slice(0, 8)}.`, compression: 'lz4' }] as const)
  eventLogContract(`KafkaEventLog ${JSON.stringify(settings)}`, {
    async open() {
      const { open, close } = openLogs(settings);
      return {
        log: await open(),
        another: open,
        destroy: async () => {
          await close();
        },
      };
    },
  });
