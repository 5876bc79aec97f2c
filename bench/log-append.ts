/**
 * Append to the log on Kafka, beside Kafka's own producer as its own bench runs it (ProducerPerformance): the same
 * record size, broker, partitions, acks=all and no compression, in turn. Ours gives every record a key (and so sorts
 * them by partition), theirs has none. One JSON line per figure.
 *
 *   node --import tsx bench/log-append.ts [--megabytes N] [--rounds N]
 *
 * The peer is measured twice: with its defaults (batches of 16 kB), and with batches as large as ours (1 MB). Its rate
 * is that of its best 5 seconds, and Java's start is taken off its CPU. Needs Linux, Java and Maven (first use). What is missing is said and left out.
 */
import { parseArgs } from 'node:util';
import { LOG_TOPICS } from '@cardan/shared';
import { openEventLog, type EventLog, type NewRecord } from '@cardan/shared/event-log';
import { startKafka, type KafkaCluster } from '../ops/kafka/start-kafka.ts';
import { median, printFigure } from './parts/figure.ts';
import { orSkip } from './parts/or-skip.ts';
import { needProc } from './parts/process-cpu.ts';
import { producerPerformance } from './parts/producer-performance.ts';

const BATCH_RECORDS = 1000;
/** Appended and not yet in the log; as much as the peer's buffer.memory. */
const WAITING_BYTES_MAX = 32 * 1024 * 1024;
const VEHICLES = 5000;
/** So few that Java does little else than start. */
const START_RECORDS = 100;
const PEERS = {
  default: {},
  batch_1mb: { 'batch.size': '1000000' },
};

const { values } = parseArgs({
  options: { megabytes: { type: 'string', default: '500' }, rounds: { type: 'string', default: '3' } },
});
const [megabytes, rounds] = [Number(values.megabytes), Number(values.rounds)];

interface Round {
  bytesPerSecond: number;
  cpuUs: number;
}

await orSkip('the append to Kafka', async () => {
  needProc();
  // Files of deleted topics go at once, so that 2 GB of disk are enough.
  const kafka = await startKafka({ properties: { 'log.segment.delete.delay.ms': '1000' } });
  try {
    for (const recordBytes of [200, 1000]) await compare(kafka, recordBytes);
  } finally {
    await kafka.stop();
  }
});

async function compare(kafka: KafkaCluster, recordBytes: number): Promise<void> {
  const records = Math.round((megabytes * 1e6) / recordBytes / BATCH_RECORDS) * BATCH_RECORDS;
  /** Every run begins with an empty topic and new connections, and leaves none. */
  const inTopic = async <T>(name: string, work: (topic: string, log: EventLog) => Promise<T>): Promise<T> => {
    const topic = `${name}-${recordBytes}`;
    const log = await openEventLog(`kafka:${kafka.brokers}`);
    try {
      await log.createTopic(topic, { partitions: LOG_TOPICS.telemetry.partitions });
      return await work(topic, log);
    } finally {
      await log.close();
      const to = ['--bootstrap-server', kafka.internalBrokers];
      await kafka.tool('org.apache.kafka.tools.TopicCommand', [...to, '--delete', '--topic', topic]);
    }
  };
  const byPeer = (topic: string, count: number, properties?: Record<string, string>) =>
    producerPerformance(kafka, {
      topic,
      records: count,
      recordBytes,
      ...(properties === undefined ? {} : { properties }),
    });
  const ours: Round[] = [];
  const theirs = Object.entries(PEERS).map(([name, properties]) => ({
    name,
    properties,
    rounds: [] as Round[],
  }));
  const start = await inTopic('start', (topic) => byPeer(topic, START_RECORDS));
  await inTopic('warm-up', (topic, log) => append(log, topic, records, recordBytes));
  for (let round = 0; round < rounds; round++) {
    ours.push(await inTopic(`ours-${round}`, (topic, log) => append(log, topic, records, recordBytes)));
    for (const { name, properties, rounds } of theirs) {
      const run = await inTopic(`${name}-${round}`, (topic) => byPeer(topic, records, properties));
      const cpuSeconds = run.cpuSeconds - start.cpuSeconds;
      rounds.push({ bytesPerSecond: run.bytesPerSecond, cpuUs: (cpuSeconds * 1e6) / records });
    }
  }

  const we = summary(ours);
  const peers = theirs.map(({ name, rounds }) => ({ name, ...summary(rounds) }));
  printFigure({
    bench: `log_append_kafka_${recordBytes}`,
    value: we.bytesPerSecond,
    unit: 'bytes/s',
    cpu_us_per_item: we.cpuUs,
    record_bytes: recordBytes,
    records: records * rounds,
    peer: 'ProducerPerformance',
    ...Object.fromEntries(
      peers.flatMap(({ name, bytesPerSecond, cpuUs }) => [
        [`peer_${name}_value`, bytesPerSecond],
        [`peer_${name}_cpu_us_per_item`, cpuUs],
        [`ratio_to_${name}`, we.bytesPerSecond / bytesPerSecond],
      ]),
    ),
  });
}

/** Appends batches, several at a time, as fast as they go. */
async function append(log: EventLog, topic: string, records: number, recordBytes: number): Promise<Round> {
  const value = Buffer.alloc(recordBytes, 0xa5);
  const now = Date.now();
  const lanes = Math.floor(WAITING_BYTES_MAX / (BATCH_RECORDS * recordBytes));
  let next = 0;
  const lane = async () => {
    while (next < records) {
      const from = next;
      next += BATCH_RECORDS;
      const batch = Array.from({ length: BATCH_RECORDS }, (_, i): NewRecord => ({
        key: `car-${(from + i) % VEHICLES}`,
        value,
        timestamp: now + i,
      }));
      await log.append(topic, batch);
    }
  };
  const cpu = process.cpuUsage();
  const begin = performance.now();
  await Promise.all(Array.from({ length: lanes }, lane));
  const seconds = (performance.now() - begin) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { bytesPerSecond: (records * recordBytes) / seconds, cpuUs: (user + system) / records };
}

/** Medians. */
function summary(all: readonly Round[]): Round {
  return {
    bytesPerSecond: median(all, ({ bytesPerSecond }) => bytesPerSecond).bytesPerSecond,
    cpuUs: median(all, ({ cpuUs }) => cpuUs).cpuUs,
  };
}
