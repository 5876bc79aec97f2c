import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import { ensureLogTopics } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { offsetRanges } from '../../cloud/src/trainer/log-span.ts';
import { readTrainingData } from '../../cloud/src/trainer/training-data.ts';
import { startKafka } from '../../ops/kafka/start-kafka.ts';
import { startMosquitto } from '../../ops/mosquitto/start-mosquitto.ts';
import { accountRows } from '../src/account.ts';
import { simulatedCar, Fleet } from '../src/fleet.ts';
import { Random } from '../src/random.ts';

const BRIDGE = fileURLToPath(new URL('../../bridge/bin/cardan-bridge.js', import.meta.url));
const CARS = 4;
const CRASHES = 12;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A bridge as a process of its own that can be killed and started again. */
class BridgeProcess {
  private child: ChildProcess | undefined;
  private readonly args: string[];

  constructor(args: string[]) {
    this.args = args;
    closing.push(() => this.kill());
  }

  async start(): Promise<void> {
    const child = (this.child = spawn(process.execPath, [BRIDGE, ...this.args], { stdio: 'ignore' }));
    await once(child, 'spawn');
    // With broker or log away it ends with an error. A supervisor starts it again.
    child.once('exit', () => {
      if (this.child === child) void this.start();
    });
  }

  async kill(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

/** The rows that a training would get, per vehicle: how many, and how many different times. */
async function trainingInput(log: EventLog) {
  const data = await readTrainingData(log, {
    signalSet: simulatedCar().map.set.id,
    offsets: offsetRanges(
      await log.resolve('telemetry', 'earliest'),
      await log.resolve('telemetry', 'latest'),
    ),
    eventOffsets: offsetRanges(
      await log.resolve('vehicle-events', 'earliest'),
      await log.resolve('vehicle-events', 'latest'),
    ),
    rowsMax: 1_000_000,
  });
  const rows = data.vehicles.map(({ vehicle, times }) => [vehicle, times.length, new Set(times).size]);
  return { rows, copies: data.duplicatesDropped };
}

it('whatever is killed, and whenever: every row is once in what the trainer reads', async () => {
  const random = new Random(20260101);
  const dir = mkdtempSync(join(tmpdir(), 'cardan-crash-'));
  closing.push(() => rmSync(dir, { recursive: true, force: true }));
  const kafka = await startKafka();
  closing.push(() => kafka.stop());
  const mosquitto = await startMosquitto();
  closing.push(() => mosquitto.stop());
  const log = await openEventLog(`kafka:${kafka.brokers}`);
  closing.push(() => log.close());
  await ensureLogTopics(log);

  const bridges = [1, 2].map(
    (n) =>
      new BridgeProcess([
        ...['--mqtt', mosquitto.url, '--kafka', kafka.brokers],
        ...['--client-id', `bridge-${n}-${randomUUID()}`],
      ]),
  );
  await Promise.all(bridges.map((bridge) => bridge.start()));
  const fleet = await Fleet.start({
    vehicles: CARS,
    seed: 3,
    speedup: 20,
    dataDir: dir,
    mqttUrl: mosquitto.url,
  });
  closing.push(() => fleet.close());

  const victims = [
    { kill: () => bridges[0]!.kill(), start: () => bridges[0]!.start() },
    { kill: () => bridges[1]!.kill(), start: () => bridges[1]!.start() },
    mosquitto,
    kafka.nodes[0]!,
  ];
  for (let crash = 0; crash < CRASHES; crash++) {
    await pause(1500 * random.uniform());
    // Every one gets its turn, and some two go at once.
    const first = victims[crash % victims.length]!;
    const second = random.uniform() < 0.3 ? victims[Math.floor(random.uniform() * victims.length)]! : first;
    const chosen = [...new Set([first, second])];
    await Promise.all(chosen.map((victim) => victim.kill()));
    await pause(1000 * random.uniform());
    await Promise.all(chosen.map((victim) => victim.start()));
  }
  const sampled = await fleet.finish();

  const { rows } = await trainingInput(log);
  expect(rows).toEqual(
    sampled.map(({ vehicle, rows }) => [vehicle, rows, rows]).sort(([a], [b]) => (a! < b! ? -1 : 1)),
  );
  expect(sampled.every(({ rows, dropped }) => rows > 100 && dropped === 0)).toBe(true);
  expect(await accountRows(log, sampled)).toMatchObject({ lost: 0 });
}, 240_000);
