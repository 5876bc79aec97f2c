/**
 * A process of its own on a log: `append FILE TOPIC KEY COUNT` appends records in sevens and prints after each
 * append how many are in; `hold FILE TOPIC GROUP SESSION_MS` prints the values of the first batch that it is
 * given and never finishes it.
 */
import { SqliteEventLog } from '@cardan/shared/event-log';

const [mode, path = '', topic = '', name = '', number = ''] = process.argv.slice(2);
if (mode === 'append') {
  const log = await SqliteEventLog.open({ path });
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
  const log = await SqliteEventLog.open({ path, sessionTimeoutMs: Number(number) });
  for await (const { records } of log.subscribe(name, [topic])) {
    console.log(records.map(({ value }) => String(value)).join());
    setInterval(() => {}, 1000);
    await new Promise(() => {});
  }
}
