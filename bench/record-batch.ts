/**
 * Record batches of Kafka, encoded and decoded, on one core: ours and those of kafkajs. The records are as the bridge
 * writes telemetry, 200 bytes and CloudEvents headers, 1000 in a batch. One JSON line per figure.
 */
import { createRequire } from 'node:module';
import { decodeRecordBatches, encodeRecordBatch } from '../shared/src/event-log/kafka/record-batch.ts';

const RECORDS = 1000;
const ROUNDS = 200;
const require = createRequire(import.meta.url);
/** Not part of its public interface; the version is pinned. */
const kafkajs = (path: string) =>
  require(`../node_modules/kafkajs/src/protocol/${path}`) as (...args: unknown[]) => unknown;

const headers = (i: number) => ({
  ce_specversion: '1.0',
  ce_type: 'io.cardan.telemetry',
  ce_source: `/vehicles/car-${i % 100}`,
  ce_id: `7301934612345-${i * 5}-${i * 5 + 4}`,
  ce_time: '2026-01-01T12:00:00.000Z',
  'content-type': 'application/protobuf',
});
const value = Buffer.alloc(200, 0xa5);
const records = Array.from({ length: RECORDS }, (_, i) => ({
  key: `car-${i % 100}`,
  value,
  timestamp: 1_767_268_800_000 + i,
  headers: headers(i),
}));
const producer = { producerId: 1n, epoch: 0, sequence: 0 };
const ours = await encodeRecordBatch(records, 'none', producer);

await measure('record_batch_encode', () => encodeRecordBatch(records, 'none', producer));
const encodeRecord = kafkajs('recordBatch/record/v0');
const { RecordBatch } = kafkajs('recordBatch/v0') as unknown as {
  RecordBatch: (batch: object) => Promise<unknown>;
};
await measure('record_batch_encode_kafkajs', () =>
  RecordBatch({
    compression: 0,
    firstTimestamp: records[0]!.timestamp,
    maxTimestamp: records.at(-1)!.timestamp,
    producerId: 1,
    producerEpoch: 0,
    firstSequence: 0,
    partition: 0,
    lastOffsetDelta: RECORDS - 1,
    records: records.map((record, i) =>
      encodeRecord({ ...record, offsetDelta: i, timestampDelta: record.timestamp - records[0]!.timestamp }),
    ),
  }),
);
await measure('record_batch_decode', () => decodeRecordBatches(ours, 0));
const Decoder = kafkajs('decoder') as unknown as new (bytes: Buffer) => object;
const decode = kafkajs('recordBatch/v0/decoder') as unknown as (decoder: object) => Promise<unknown>;
await measure('record_batch_decode_kafkajs', () => decode(new Decoder(ours)));

async function measure(bench: string, round: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < 20; i++) await round();
  const cpu = process.cpuUsage();
  const started = performance.now();
  for (let i = 0; i < ROUNDS; i++) await round();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const figure = {
    bench,
    value: Math.round((ROUNDS * RECORDS) / seconds),
    unit: 'records/s',
    cpu_us_per_item: Number(((user + system) / (ROUNDS * RECORDS)).toFixed(2)),
    node: process.version,
  };
  console.log(JSON.stringify(figure));
}
