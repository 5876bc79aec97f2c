/**
 * Append and read of the event log on SQLite, in a file on the disk of the temporary folder.
 * One JSON line per figure: `node --import tsx bench/event-log.ts`.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NewRecord, SqliteEventLog } from '@cardan/shared/event-log';

const BATCH = 1000;

/** Runs `work`, which handles `items` records of `bytes` each, and prints its figures. */
async function measure(
  bench: string,
  items: number,
  bytes: number,
  work: () => Promise<void>,
): Promise<void> {
  const cpu = process.cpuUsage();
  const begin = performance.now();
  await work();
  const seconds = (performance.now() - begin) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const figure = {
    bench,
    value: Math.round(items / seconds),
    unit: 'records/s',
    record_bytes: bytes,
    mb_per_s: Number(((items * bytes) / seconds / 1e6).toFixed(1)),
    cpu_us_per_item: Number(((user + system) / items).toFixed(2)),
    node: process.version,
  };
  console.log(JSON.stringify(figure));
}

function records(count: number, bytes: number): NewRecord[] {
  const value = Buffer.alloc(bytes, 0xa5);
  return Array.from({ length: count }, (_, i) => ({
    key: `vehicle-${i % 100}`,
    value,
    timestamp: 1_700_000_000_000 + i,
  }));
}

async function withLog(work: (log: SqliteEventLog, path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cardan-bench-'));
  const path = join(folder, 'log.db');
  const log = await SqliteEventLog.open({ path });
  try {
    await log.createTopic('telemetry', { partitions: 6 });
    await work(log, path);
  } finally {
    await log.close();
    await rm(folder, { recursive: true });
  }
}

async function readAll(log: SqliteEventLog, expected: number): Promise<void> {
  let count = 0;
  for await (const batch of log.read('telemetry', { from: 'earliest', to: 'latest' }))
    count += batch.records.length;
  if (count !== expected) throw new Error(`read ${count} of ${expected} records`);
}

for (const [bytes, batches] of [
  [200, 400],
  [1000, 150],
  [4500, 40],
] as const)
  await withLog(async (log, path) => {
    const batch = records(BATCH, bytes);
    const items = BATCH * batches;
    await measure('event_log_append', items, bytes, async () => {
      for (let i = 0; i < batches; i++) await log.append('telemetry', batch);
    });
    await measure('event_log_read', items, bytes, () => readAll(log, items));
    const disk = (await stat(path)).size + (await stat(`${path}-wal`)).size;
    console.log(
      JSON.stringify({
        bench: 'event_log_disk',
        value: Math.round(disk / items),
        unit: 'bytes/record',
        record_bytes: bytes,
        node: process.version,
      }),
    );
  });

// What a bridge does under load: many appends of one record each, waiting at the same time.
await withLog(async (log) => {
  const concurrent = 256;
  const rounds = 100;
  await measure('event_log_append_single_256_concurrent', concurrent * rounds, 200, async () => {
    const lanes = records(concurrent, 200).map(async (record) => {
      for (let i = 0; i < rounds; i++) await log.append('telemetry', [record]);
    });
    await Promise.all(lanes);
  });
});

await withLog(async (log) => {
  const batch = records(1, 200);
  await measure('event_log_append_single_sequential', 2000, 200, async () => {
    for (let i = 0; i < 2000; i++) await log.append('telemetry', batch);
  });
});
