/**
 * How fast rows get from the log on Kafka into the matrix that a training reads: 18 signals, 50 rows in a record as
 * cars send them, by the trainer's own code: read, decoded, freed of copies, and copied into one block of floats per
 * vehicle. Beside it the same rows as JSON,
 * 50 to a record and one to a record. One JSON line per figure.
 *
 *   node --import tsx bench/trainer-read.ts [--rows N] [--rounds N]
 *
 * Needs Java and Maven (first use). What is missing is said and left out.
 */
import { parseArgs } from 'node:util';
import { decodeTelemetry, LOG_TOPICS } from '@cardan/shared';
import { openEventLog, type EventLog, type NewRecord } from '@cardan/shared/event-log';
import { startKafka } from '../ops/kafka/start-kafka.ts';
import { median, printFigure } from './parts/figure.ts';
import { FleetMessages } from './parts/fleet-messages.ts';
import { orSkip } from './parts/or-skip.ts';
import { readJsonInto, readTelemetry, TrainingMatrix, type JsonBatch } from './parts/training-reader.ts';

const VEHICLES = 200;
const ROWS_PER_RECORD = 50;
const SIGNALS = 18;
const APPEND_RECORDS = 500;
/** Most rows that a training keeps, as --max-rows; it reads all of them. */
const ROWS_MAX = 100_000;
/** JSON is that much slower: so many rows fewer. */
const JSON_SHARE = 1 / 8;

const { values } = parseArgs({
  options: { rows: { type: 'string', default: '2000000' }, rounds: { type: 'string', default: '5' } },
});
const [rows, rounds] = [Number(values.rows), Number(values.rounds)];

await orSkip('the training rows from Kafka', async () => {
  const kafka = await startKafka();
  try {
    const log = await openEventLog(`kafka:${kafka.brokers}`);
    try {
      await compare(log);
    } finally {
      await log.close();
    }
  } finally {
    await kafka.stop();
  }
});

async function compare(log: EventLog): Promise<void> {
  const fleet = new FleetMessages({ vehicles: VEHICLES, rows: ROWS_PER_RECORD });
  const telemetry = (i: number): NewRecord => ({
    key: fleet.vehicle(i),
    value: fleet.payload(i),
    timestamp: 1_700_000_000_000 + i,
  });
  const json = (i: number, rowsPerRecord: number): NewRecord[] => {
    const { key, value, timestamp } = telemetry(i);
    const { epoch, firstSequence, times, values } = decodeTelemetry(value!);
    const all = Array.from(times, (time, row) => ({
      time,
      // Three digits behind the point, as sensors have: a float32 written out has up to seventeen.
      values: Array.from(values.subarray(row * SIGNALS, (row + 1) * SIGNALS), (x) => Number(x.toFixed(3))),
    }));
    return Array.from({ length: all.length / rowsPerRecord }, (_, part) => {
      const from = part * rowsPerRecord;
      const batch: JsonBatch = {
        epoch,
        firstSequence: firstSequence + from,
        rows: all.slice(from, from + rowsPerRecord),
      };
      return { key, value: Buffer.from(JSON.stringify(batch)), timestamp };
    });
  };
  const records = Math.round(rows / ROWS_PER_RECORD);
  const jsonRecords = Math.round(records * JSON_SHARE);
  await fill(log, 'telemetry', records, (i) => [telemetry(i)]);
  await fill(log, 'json-batches', jsonRecords, (i) => json(i, ROWS_PER_RECORD));
  await fill(log, 'json-rows', jsonRecords, (i) => json(i, 1));

  await log.createTopic('vehicle-events', LOG_TOPICS['vehicle-events']);
  await measure('trainer_read_telemetry', records, ROWS_PER_RECORD, () => readTelemetry(log, ROWS_MAX));
  const json50 = new TrainingMatrix(rows, SIGNALS);
  await measure('trainer_read_json_50_rows', jsonRecords, ROWS_PER_RECORD, () =>
    readJsonInto(json50, log, 'json-batches'),
  );
  const json1 = new TrainingMatrix(rows, SIGNALS);
  await measure('trainer_read_json_1_row', jsonRecords, 1, () => readJsonInto(json1, log, 'json-rows'));
}

async function fill(
  log: EventLog,
  topic: string,
  records: number,
  recordsOf: (i: number) => NewRecord[],
): Promise<void> {
  await log.createTopic(topic, { partitions: LOG_TOPICS.telemetry.partitions });
  for (let from = 0; from < records; from += APPEND_RECORDS) {
    const count = Math.min(APPEND_RECORDS, records - from);
    await log.append(topic, Array.from({ length: count }, (_, i) => recordsOf(from + i)).flat());
  }
}

/** Prints the median of several rounds behind one to warm up. */
async function measure(
  bench: string,
  batches: number,
  rowsPerRecord: number,
  read: () => Promise<number>,
): Promise<void> {
  const expected = batches * ROWS_PER_RECORD;
  const all: { rowsPerSecond: number; cpuUs: number }[] = [];
  for (let round = -1; round < rounds; round++) {
    const cpu = process.cpuUsage();
    const begin = performance.now();
    const count = await read();
    const seconds = (performance.now() - begin) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    if (count !== expected) throw new Error(`${bench} has read ${count} of ${expected} rows.`);
    if (round >= 0) all.push({ rowsPerSecond: expected / seconds, cpuUs: (user + system) / expected });
  }
  const { cpuUs } = median(all, (one) => one.cpuUs);
  printFigure({
    bench,
    value: median(all, (one) => one.rowsPerSecond).rowsPerSecond,
    unit: 'rows/s',
    cpu_us_per_item: cpuUs,
    rows_per_core_second: 1e6 / cpuUs,
    rows: expected,
    signals: SIGNALS,
    rows_per_record: rowsPerRecord,
  });
}
