/**
 * A process of its own on a log, which is a file or `kafka:HOST:PORT`: `append LOG TOPIC KEY COUNT` appends records
 * in sevens and prints after each append how many are in; `hold LOG TOPIC GROUP SESSION_MS` prints the values of the
 * first batch that it is given and never finishes it.
 */
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { KafkaEventLog } from '../../src/event-log/kafka/kafka.ts';

const [mode, where = '', topic = '', name = '', number = ''] = process.argv.slice(2);

function open(sessionTimeoutMs: number): Promise<EventLog> {
  if (!where.startsWith('kafka:')) return SqliteEventLog.open({ path: where, sessionTimeoutMs });
  return KafkaEventLog.open({ brokers: where.slice('kafka:'.length).split(','), sessionTimeoutMs });
}

if (mode === 'append') {
  const log = await open(10_000);
  for (let sent = 0; sent < Number(number); sent += 7) {
    const seven = Array.from({ length: 7 }, (_, i) => ({
      key: name,
      value: Buffer.from(String(sent + i)),
      timestamp: 1_700_000_000_000 + sent + i,
    }));
    await log.append(topic, seven);
    console.log(sent + 7);
  }
  await log.close();
} else {
  const log = await open(Number(number));
  for await (const { records } of log.subscribe(name, [topic])) {
    console.log(records.map(({ value }) => String(value)).join());
    setInterval(() => {}, 1000);
    await new Promise(() => {});
  }
}
