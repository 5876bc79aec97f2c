/**
 * A process that reads `telemetry` as a training does, and says in a line of JSON how much memory it has each time a
 * million more rows are read:  node --import tsx bench/parts/reader-process.ts BROKERS ROWS_MAX
 */
import { openEventLog } from '@cardan/shared/event-log';
import { readTelemetry } from './training-reader.ts';

/** What a line says. */
export interface ReaderSample {
  rows: number;
  rss: number;
}

const SAMPLE_ROWS = 1_000_000;
const [brokers = '', rowsMax = ''] = process.argv.slice(2);
const log = await openEventLog(`kafka:${brokers}`);
let next = SAMPLE_ROWS;
const say = (rows: number) => {
  const sample: ReaderSample = { rows, rss: process.memoryUsage.rss() };
  process.stdout.write(`${JSON.stringify(sample)}\n`);
};
const read = await readTelemetry(log, Number(rowsMax), (rows) => {
  for (; rows >= next; next += SAMPLE_ROWS) say(next);
});
say(read);
await log.close();
