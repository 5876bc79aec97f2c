import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { recordToEvent, type ModelManifest } from '@cardan/shared';
import type { EventLog, Offsets } from '@cardan/shared/event-log';
import { registryOnKafka } from '../registry-on-kafka.ts';
import { drive, SET } from './telemetry-fixture.ts';

/** The three ways of consuming, by the commands that a user gives, on a real Kafka. */
const CLOUD = fileURLToPath(new URL('../../bin/cardan-cloud.js', import.meta.url));
const VEHICLES = ['v1', 'v2', 'v3', 'v4', 'v5', 'v6', 'v7', 'v8'];
const HOUR = 3600;
/** The data's own time; it has nothing to do with that of the test. */
const BEGIN_S = Date.UTC(2026, 0, 1) / 1000;

let log: EventLog;
let env: NodeJS.ProcessEnv;
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  const kafka = await registryOnKafka('v1', SET);
  closing.push(() => kafka.close());
  log = kafka.log;
  env = { ...kafka.env, CARDAN_DATA: join(kafka.dir, 'cloud') };
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function cloud(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [CLOUD, ...args], { env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

/** A service that runs; resolves when it says so. */
async function service(...args: string[]): Promise<ChildProcess> {
  const child = cloud(...args);
  await once(child, 'message');
  return child;
}

/** A command that ends; its output, which is a JSON value a line. */
async function output<T>(...args: string[]): Promise<T[]> {
  const child = cloud(...args);
  const [out, problems, [status]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'exit') as Promise<[number]>,
  ]);
  if (status !== 0) throw new Error(problems);
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

interface Trained {
  version: string;
  rows: number;
  vehicles: number;
  span: { from: string; to: string };
  offsets: Record<string, { from: number; to: number }>;
  metrics: Record<string, number>;
}

/** Every vehicle drives for an hour, from second `first` on: 72 records of 50 rows each. */
async function driveAll(first: number, seconds = HOUR): Promise<void> {
  const records = [];
  for (let at = first; at < first + seconds; at += 50)
    for (const vehicle of VEHICLES) records.push(drive(vehicle, at, 50, { beginS: BEGIN_S }));
  await log.append('telemetry', records);
}

async function nextModel(from: Offsets): Promise<ModelManifest> {
  for await (const { records } of log.read('models', { from }))
    for (const event of records.map(recordToEvent))
      if (event.type === 'io.cardan.model.published')
        return (event.data as { manifest: ModelManifest }).manifest;
  throw new Error('the log was closed');
}

const iso = (seconds: number) => new Date((BEGIN_S + seconds) * 1000).toISOString();
const lagOf = async (group: string) =>
  (await output<{ lag: number }>('lag', '--group', group, '--json')).reduce((sum, { lag }) => sum + lag, 0);

describe('on a real Kafka, a trainer', () => {
  it('in real time: --from latest learns from what comes, and from nothing before', async () => {
    await driveAll(0, 500);
    const end = await log.resolve('models', 'latest');
    const before = await log.resolve('telemetry', 'latest');
    await service('trainer', '--from', 'latest', '--min-rows', '1000');
    await driveAll(500, 1500);
    const { lineage } = await nextModel(end);
    expect(lineage.span.from).toBe(iso(500));
    expect(lineage.rows).toBeGreaterThanOrEqual(1000);
    for (const [partition, { from }] of Object.entries(lineage.offsets))
      expect(from).toBe(before[Number(partition)]);
  });

  it('retroactively: a span of time, the whole topic, some partitions, ranges of offsets', async () => {
    // The last hour comes first, as from a car that was in a tunnel when the others were not.
    for (const first of [2 * HOUR, 0, HOUR]) await driveAll(first);
    const [from, to] = [iso(HOUR), iso(2 * HOUR)];
    const [time] = await output<Trained>('trainer', '--from', from, '--to', to);
    expect(time).toMatchObject({
      version: '1',
      rows: VEHICLES.length * HOUR,
      vehicles: VEHICLES.length,
      span: { from: iso(HOUR), to: iso(2 * HOUR - 1) },
    });
    const [all] = await output<Trained>(
      'trainer',
      '--from',
      'earliest',
      '--to',
      'now',
      '--max-rows',
      '1000000',
    );
    expect(all).toMatchObject({ version: '2', rows: 3 * VEHICLES.length * HOUR });
    const filled = (await log.offsets('telemetry')).filter(({ latest }) => latest > 0);
    const [one, two] = filled.map(({ partition }) => partition) as [number, number];
    const some = `${one},${two}`;
    const [part] = await output<Trained>(
      ...['trainer', '--to', 'now', '--partitions', some, '--max-rows', '1000000'],
    );
    expect(part!.offsets).toEqual(
      Object.fromEntries(
        filled.slice(0, 2).map(({ partition, latest }) => [partition, { from: 0, to: latest }]),
      ),
    );
    expect(part!.rows).toBe(50 * (filled[0]!.latest + filled[1]!.latest));
    await log.createTopic('repairs', { partitions: 1 });
    const line = `v1,${iso(3 * HOUR)},clutch,replaced,,`;
    await log.append('repairs', [{ key: null, value: Buffer.from(line), timestamp: 0 }]);
    const [judged] = await output<Trained>('trainer', '--to', 'now', '--partitions', some, '--repairs');
    expect(judged!.metrics).toHaveProperty('repairs');
    const [range] = await output<Trained>('trainer', '--offsets', `${one}:10-50,${two}:0-20`);
    expect(range).toMatchObject({
      rows: 60 * 50,
      offsets: { [one]: { from: 10, to: 50 }, [two]: { from: 0, to: 20 } },
    });
  });

  it('falling behind: others keep their pace, its memory stays flat, its lag is seen, and it catches up', async () => {
    const slow = await service(
      'trainer',
      '--rows-per-second',
      '2000',
      '--group',
      'slow',
      '--min-rows',
      '1000000000',
    );
    const memory = () =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${slow.pid}/status`, 'utf8'))![1]) / 1024;
    await driveAll(0, 1000);
    const begun = memory();
    // Producers keep their pace: an append waits for no reader.
    const hours = 24;
    for (let hour = 1; hour <= hours; hour++) await driveAll(hour * HOUR);
    const records = VEHICLES.length * (20 + hours * 72);
    // So does another consumer: it has everything while the slow one is far behind.
    let read = 0;
    for await (const batch of log.subscribe('quick', ['telemetry'])) {
      read += batch.records.length;
      if (read === records) break;
    }
    const behind = await lagOf('slow');
    expect(behind).toBeGreaterThan(records / 2);
    expect(memory() - begun).toBeLessThan(50);

    slow.kill('SIGTERM');
    await once(slow, 'exit');
    await service('trainer', '--group', 'slow', '--min-rows', '1000000000');
    while ((await lagOf('slow')) > 0);
  });
});
