import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { recordToEvent, type CardanError } from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { startMosquitto, type Mosquitto } from '../../ops/mosquitto/start-mosquitto.ts';
import { Bridge, type BridgeOptions } from '../src/bridge.ts';
import { batchIds, Cars, doored, recordsOf, telemetry, until } from './cars.ts';

/** Bridges at a real Mosquitto, one of its own for each test: MQTT 5 and shared subscriptions. */

const BIN = fileURLToPath(new URL('../bin/cardan-bridge.js', import.meta.url));

let dir: string;
let mosquitto: Mosquitto;
let log: EventLog;
let closing: (() => Promise<unknown>)[];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bridge-'));
  closing = [];
  mosquitto = await startMosquitto();
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  await log.close();
  await mosquitto.stop();
  rmSync(dir, { recursive: true });
});

async function startBridge(options: Partial<BridgeOptions> = {}): Promise<Bridge> {
  const bridge = await Bridge.start({ mqttUrl: mosquitto.url, log, ...options });
  closing.push(() => bridge.close(1000));
  return bridge;
}
async function connectCars(options?: { resendMs: number }): Promise<Cars> {
  const cars = await Cars.connect(mosquitto.url, options);
  closing.push(() => cars.close());
  return cars;
}
/** A bridge in a process of its own; resolves when it is at work. */
async function spawnBridge(...args: string[]): Promise<{ child: ChildProcess; said: () => string }> {
  const child = spawn(
    process.execPath,
    [BIN, '--mqtt', mosquitto.url, '--log', `sqlite:${join(dir, 'log.db')}`, ...args],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  let words = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      words += data.toString('utf8');
      if (words.includes('MQTT 5')) resolve();
    });
    child.once('exit', () => reject(new Error(words)));
  });
  return { child, said: () => words };
}
/** What a fleet has sent, as `batchIds` names it. */
function driven(vehicles: number, batches: number, rows: number): string[] {
  return Array.from({ length: vehicles * batches }, (_, i) => {
    const first = 1 + Math.floor(i / vehicles) * rows;
    return `car-${i % vehicles} 7-${first}-${first + rows - 1}`;
  });
}

describe('Several bridges at one broker', () => {
  it('share what comes: every message is in the log once', async () => {
    const bridges = [await startBridge(), await startBridge(), await startBridge()];
    for (const { mqttVersion, shareGroup } of bridges)
      expect([mqttVersion, shareGroup]).toEqual([5, 'cardan-bridge']);
    const cars = await connectCars();
    await Promise.all(Array.from({ length: 60 }, (_, i) => cars.drive(`car-${i}`, 20, 3)));
    expect(batchIds(await recordsOf(log, 'telemetry')).sort()).toEqual(driven(60, 20, 3).sort());
    for (const { counts } of bridges) expect(counts.messages).toBeGreaterThan(100);
  });

  it('keep the order of a vehicle', async () => {
    await startBridge();
    await startBridge();
    const cars = await connectCars();
    await Promise.all(Array.from({ length: 10 }, (_, i) => cars.drive(`car-${i}`, 50, 2)));
    const times = new Map<string, number[]>();
    for (const { key, timestamp } of await recordsOf(log, 'telemetry'))
      times.set(key!, [...(times.get(key!) ?? []), timestamp]);
    for (const of of times.values()) expect(of).toEqual(of.toSorted((a, b) => a - b));
  });

  it('lose nothing when one is killed, and the others take its part', async () => {
    const [first] = await Promise.all([spawnBridge(), spawnBridge()]);
    const cars = await connectCars({ resendMs: 300 });
    const drives = Promise.all(Array.from({ length: 100 }, (_, i) => cars.drive(`car-${i}`, 30, 2)));
    await until('a third is acknowledged', () => cars.acked > 1000);
    first.child.kill('SIGKILL');
    await drives;
    // Copies are allowed: what was in the log and whose acknowledgement died with the bridge.
    expect([...new Set(batchIds(await recordsOf(log, 'telemetry')))].sort()).toEqual(
      driven(100, 30, 2).sort(),
    );
  });

  it('of two groups each get everything', async () => {
    const other = await SqliteEventLog.open({ path: join(dir, 'other.db') });
    closing.push(() => other.close());
    await startBridge();
    await startBridge({ log: other, shareGroup: 'other' });
    const cars = await connectCars();
    await Promise.all(Array.from({ length: 20 }, (_, i) => cars.drive(`car-${i}`, 5, 1)));
    await until('the other one has all', async () => (await recordsOf(other, 'telemetry')).length === 100);
    expect(batchIds(await recordsOf(other, 'telemetry')).sort()).toEqual(driven(20, 5, 1).sort());
    expect(batchIds(await recordsOf(log, 'telemetry')).sort()).toEqual(driven(20, 5, 1).sort());
  });

  it('bring what cars said while none was there, and share what they say from then on', async () => {
    const cars = await connectCars();
    const report = (n: number, i: number) =>
      cars.publish(
        `cardan/v1/car-${i}/reported`,
        JSON.stringify({ signalSet: 'abc', observedGeneration: n, time: new Date(n).toISOString() }),
        true,
      );
    const status = (online: boolean, i: number) =>
      cars.publish(`cardan/v1/car-${i}/status`, JSON.stringify({ online }), true);
    const fleet = Array.from({ length: 3000 }, (_, i) => i);
    await Promise.all(fleet.map((i) => report(1, i)));
    await Promise.all(fleet.map((i) => status(i % 2 === 0, i)));

    await startBridge({ receiveMaximum: 50 });
    await startBridge({ receiveMaximum: 50 });
    const reports = new Map<string, Set<string>>();
    const online = new Map<string, unknown>();
    await until('all is in the log', async () => {
      for (const record of await recordsOf(log, 'vehicle-events')) {
        const { type, id, data } = recordToEvent(record);
        if (type === 'io.cardan.vehicle.status')
          online.set(record.key!, (data as { online: boolean }).online);
        else reports.set(record.key!, (reports.get(record.key!) ?? new Set()).add(id));
      }
      return online.size === fleet.length && reports.size === fleet.length;
    });
    expect(fleet.every((i) => online.get(`car-${i}`) === (i % 2 === 0))).toBe(true);
    // Copies of one report are one event.
    expect(fleet.every((i) => reports.get(`car-${i}`)?.size === 1)).toBe(true);

    // After a while a report goes to one bridge only. A status goes to each, and comes after the report.
    let copies = 0;
    for (let n = 2; copies !== 1; n++) {
      const from = await log.resolve('vehicle-events', 'latest');
      await report(n, fleet.length);
      await status(true, fleet.length);
      let statuses = 0;
      await until('both have the status', async () => {
        [copies, statuses] = [0, 0];
        for await (const { records } of log.read('vehicle-events', { from, to: 'latest' }))
          for (const { key, headers } of records)
            if (key !== `car-${fleet.length}`) continue;
            else if (headers.ce_type === 'io.cardan.vehicle.status') statuses++;
            else copies++;
        return statuses === 2;
      });
    }
  });
});

describe('A bridge', () => {
  it('lets the broker hold back what is not in the log, by Receive Maximum', async () => {
    const { log: behind, door } = doored(log);
    door.open = false;
    const bridge = await startBridge({ log: behind, receiveMaximum: 10 });
    const cars = await connectCars();
    for (let i = 0; i < 200; i++) await cars.publish(`cardan/v1/car-${i}/telemetry`, telemetry(1, 5));
    await until('it has tried', () => door.tries > 1);
    expect(bridge.counts.messages).toBe(10);
    expect(bridge.health()).toMatchObject({ ready: false });
    door.open = true;
    await until('all are in the log', () => bridge.counts.records === 200);
    expect(bridge.health()).toEqual({ ready: true, why: [] });
    expect(new Set(batchIds(await recordsOf(log, 'telemetry'))).size).toBe(200);
  });

  it('puts everything into the log before it ends on SIGTERM, also what the broker still has for it', async () => {
    const { child, said } = await spawnBridge('--receive-maximum', '20');
    const cars = await connectCars();
    await Promise.all(
      Array.from({ length: 5000 }, (_, i) => cars.publish(`cardan/v1/car-${i}/telemetry`, telemetry(1, 2))),
    );
    child.kill('SIGTERM');
    const [status] = (await once(child, 'exit')) as [number];
    expect(status).toBe(0);
    expect(said()).toContain('5000 messages, 10000 rows in the log, 0 dead letters');
    expect(new Set(batchIds(await recordsOf(log, 'telemetry'))).size).toBe(5000);
  });

  it('goes on when the broker was killed and is back', async () => {
    const problems: CardanError[] = [];
    const bridge = await startBridge({ onProblem: (error) => problems.push(error) });
    const cars = await connectCars({ resendMs: 300 });
    const drives = Promise.all(Array.from({ length: 50 }, (_, i) => cars.drive(`car-${i}`, 40, 2)));
    await until('some are acknowledged', () => cars.acked > 300);
    await mosquitto.kill();
    await until('it has noticed', () => !bridge.health().ready);
    expect(bridge.health().why.join()).toContain('MQTT_UNREACHABLE');
    await mosquitto.start();
    await drives;
    expect([...new Set(batchIds(await recordsOf(log, 'telemetry')))].sort()).toEqual(
      driven(50, 40, 2).sort(),
    );
    expect(bridge.health()).toEqual({ ready: true, why: [] });
    expect(new Set(problems.map(({ code }) => code))).toEqual(new Set(['MQTT_UNREACHABLE']));
  });

  it('speaks MQTT 3.1.1 when told to, and is alone then', async () => {
    const bridge = await startBridge({ mqttVersion: 4 });
    expect([bridge.mqttVersion, bridge.shareGroup]).toEqual([4, null]);
    const cars = await connectCars();
    await cars.drive('car-0', 3, 5);
    expect(batchIds(await recordsOf(log, 'telemetry'))).toEqual(driven(1, 3, 5));
  });
});
