/**
 * Training from the log on Kafka, end to end: fetched, decoded, freed of copies, windowed, standardised, mixed, and once
 * through the article's network (18-14-7-7-14-18) in batches of 100, by the code of `cardan-cloud train`. 18 signals, 50
 * rows in a record as cars send them. Beside it the same without the network, and both on SQLite. In a process of its own
 * each, so that the peak of its memory is its own. One JSON line per figure.
 *
 *   node --import tsx bench/train-kafka.ts [--rows N] [--rounds N]
 *
 * Needs Java and Maven (first use). What is missing is said and left out.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LOG_TOPICS } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { startKafka } from '../ops/kafka/start-kafka.ts';
import { median, printFigure } from './parts/figure.ts';
import { FleetMessages } from './parts/fleet-messages.ts';
import { orSkip } from './parts/or-skip.ts';
import type { TrainedRows } from './parts/train-process.ts';

const VEHICLES = 200;
const ROWS_PER_RECORD = 50;
const SIGNALS = 18;
const APPEND_RECORDS = 500;
const PROCESS = fileURLToPath(new URL('parts/train-process.ts', import.meta.url));

const { values } = parseArgs({
  options: { rows: { type: 'string', default: '2000000' }, rounds: { type: 'string', default: '5' } },
});
const [rows, rounds] = [Number(values.rows), Number(values.rounds)];

await orSkip('the training from Kafka', async () => {
  const kafka = await startKafka();
  try {
    await compare('kafka', `kafka:${kafka.brokers}`);
  } finally {
    await kafka.stop();
  }
});
const dir = mkdtempSync(join(tmpdir(), 'bench-train-'));
try {
  await compare('sqlite', `sqlite:${join(dir, 'log.db')}`);
} finally {
  rmSync(dir, { recursive: true });
}

async function compare(engine: string, url: string): Promise<void> {
  const log = await openEventLog(url);
  try {
    await fill(log);
  } finally {
    await log.close();
  }
  await measure(`train_${engine}_read`, url, 'read');
  await measure(`train_${engine}`, url, 'epoch');
  await measure(`train_${engine}_all`, url, 'all');
}

async function fill(log: EventLog): Promise<void> {
  const fleet = new FleetMessages({ vehicles: VEHICLES, rows: ROWS_PER_RECORD });
  await log.createTopic('telemetry', LOG_TOPICS.telemetry);
  await log.createTopic('vehicle-events', LOG_TOPICS['vehicle-events']);
  const records = rows / ROWS_PER_RECORD;
  for (let from = 0; from < records; from += APPEND_RECORDS)
    await log.append(
      'telemetry',
      Array.from({ length: Math.min(APPEND_RECORDS, records - from) }, (_, i) => ({
        key: fleet.vehicle(from + i),
        value: fleet.payload(from + i),
        timestamp: 1_700_000_000_000 + from + i,
      })),
    );
}

/**
 * `read`: blocks of features, and no network; `epoch`: one epoch; `all`: a whole training of one epoch, with the pass
 * before it that surveys the span, and the threshold after it.
 */
async function measure(bench: string, url: string, what: 'read' | 'epoch' | 'all'): Promise<void> {
  const all: TrainedRows[] = [];
  const args = ['--import', 'tsx', PROCESS, url, what, String(SIGNALS), String(rounds)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (data: Buffer) => (out += data.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`${bench} ended with ${code}.`);
  for (const line of out.trim().split('\n')) all.push(JSON.parse(line) as TrainedRows);
  const round = median(all, ({ cpuUs }) => cpuUs);
  printFigure({
    bench,
    value: median(all, ({ rowsPerSecond }) => rowsPerSecond).rowsPerSecond,
    unit: 'rows/s',
    cpu_us_per_item: round.cpuUs,
    rows_per_core_second: 1e6 / round.cpuUs,
    rss_mb_max: Math.max(...all.map(({ rssMb }) => rssMb)),
    rows,
    signals: SIGNALS,
    rows_per_record: ROWS_PER_RECORD,
  });
}
