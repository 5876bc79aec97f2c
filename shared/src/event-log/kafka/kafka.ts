import { CardanError } from '../../errors.ts';
import type { EventLog } from '../event-log.ts';
import type { KafkaSettings } from '../kafka-settings.ts';

export interface KafkaEventLogOptions extends KafkaSettings {
  /** HOST:PORT of some of the brokers; the others are found through them. */
  brokers: readonly string[];
}

export const KafkaEventLog = {
  open(options: KafkaEventLogOptions): Promise<EventLog> {
    return Promise.reject(new CardanError('LOG_UNREACHABLE', `No Kafka at ${options.brokers.join(',')}.`));
  },
};
