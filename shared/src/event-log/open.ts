import { CardanError } from '../errors.ts';
import type { EventLog } from './event-log.ts';
import type { KafkaSettings } from './kafka-settings.ts';

/**
 * Opens the log that a URL names: `sqlite:PATH`, or `kafka:HOST:PORT,HOST:PORT,…` with its settings. The engine is
 * loaded only when it is named: who uses one need not have the other installed.
 *
 * `onProblem` is told of trouble that is being got over, such as a broker that is away.
 *
 * Throws USAGE for any other URL, and what the engine throws.
 */
export async function openEventLog(
  url: string,
  kafka: KafkaSettings & { onProblem?: (error: CardanError) => void } = {},
): Promise<EventLog> {
  if (url.startsWith('sqlite:')) {
    const { SqliteEventLog } = await import('./sqlite.ts');
    return SqliteEventLog.open({ path: url.slice('sqlite:'.length) });
  }
  if (url.startsWith('kafka:')) {
    const { KafkaEventLog } = await import('./kafka/kafka.ts');
    return KafkaEventLog.open({ brokers: url.slice('kafka:'.length).split(','), ...kafka });
  }
  throw new CardanError(
    'USAGE',
    `"${url}" names no event log. Use sqlite:FILE or kafka:HOST:PORT (several with commas between them).`,
  );
}
