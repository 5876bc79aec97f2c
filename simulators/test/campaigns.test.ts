import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  decodeTelemetry,
  isEvent,
  recordToEvent,
  signalSet,
  type LogTopic,
  type TelemetryBatch,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog, type LogRecord } from '@cardan/shared/event-log';
import { Car, CAR_DBC_PATH, CAR_VSS_PATH } from '../src/car.ts';
import { candumpLines } from './record.ts';

/** Campaigns through the whole loop: broker, bridge, registry and agent as processes of their own, on a bus that runs. */

const bin = (workspace: string, name: string) =>
  fileURLToPath(new URL(`../../${workspace}/bin/${name}.js`, import.meta.url));

let dir: string;
let log: EventLog;
const running: ChildProcess[] = [];
const buses: NodeJS.Timeout[] = [];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'campaigns-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
});
afterEach(async () => {
  for (const bus of buses.splice(0)) clearInterval(bus);
  for (const child of running.splice(0).reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  await log.close();
  rmSync(dir, { recursive: true });
});

/** Starts a service; resolves when it says so, to what it says. */
async function service(command: string, args: string[], says: RegExp): Promise<[ChildProcess, string]> {
  const child = spawn(process.execPath, [command, ...args], { stdio: ['pipe', 'ignore', 'pipe'] });
  running.push(child);
  let words = '';
  return new Promise((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      words += data.toString('utf8');
      const match = says.exec(words);
      if (match !== null) resolve([child, match[1] ?? '']);
    });
    child.once('exit', (code) => reject(new Error(`${command} ended with ${code}: ${words}`)));
  });
}

/** The bus of a car that drives, fifty times as fast as a real one. */
class Bus {
  time: number;
  private readonly car: Car;

  constructor(start: number, to: Writable) {
    this.time = start;
    this.car = new Car({ id: 'van-1', seed: 7, startTime: start });
    buses.push(
      setInterval(() => {
        if (to.writableNeedDrain) return;
        this.time += 1000;
        to.write(candumpLines(this.car, this.time).join(''));
      }, 20),
    );
  }
}

/** Tails the topic until a record satisfies the condition. */
async function awaitRecord(topic: LogTopic, condition: (record: LogRecord) => boolean): Promise<LogRecord> {
  for await (const { records } of log.read(topic, { from: 'earliest' })) {
    const found = records.find(condition);
    if (found !== undefined) return found;
  }
  throw new Error('the log was closed');
}

/** Waits for a batch of rows. */
async function rows(condition: (batch: TelemetryBatch) => boolean): Promise<TelemetryBatch> {
  const { value } = await awaitRecord('telemetry', (record) => condition(decodeTelemetry(record.value!)));
  return decodeTelemetry(value!);
}

/** Waits until the car has said this of its campaigns, after it has said something else. */
async function reported(expected: unknown, after = -1): Promise<number> {
  const { offset } = await awaitRecord('vehicle-events', (record) => {
    const event = recordToEvent(record);
    return (
      record.offset > after &&
      isEvent(event, 'io.cardan.vehicle.reported') &&
      JSON.stringify(event.data.campaigns) === JSON.stringify(expected)
    );
  });
  return offset;
}

it(
  'a campaign that is published while the agent runs is collected, renewed and ended without a restart',
  { timeout: 120_000 },
  async () => {
    const logUrl = `sqlite:${join(dir, 'log.db')}`;
    const [, mqtt] = await service(
      bin('simulators', 'cardan-sim'),
      ['broker', '--port', '0'],
      /broker: (\S+)/,
    );
    await service(bin('bridge', 'cardan-bridge'), ['--mqtt', mqtt, '--log', logUrl], /bridge: (\S+)/);
    const cloud = ['registry', '--mqtt', mqtt, '--log', logUrl, '--data', join(dir, 'cloud'), '--port', '0'];
    const [, registry] = await service(bin('cloud', 'cardan-cloud'), cloud, /registry: (http:\S+)/);
    const root = join(dir, 'cloud/registry/tuf/1.root.json');
    const [agent] = await service(
      bin('agent', 'cardan-agent'),
      [
        ...['run', '--can', 'candump:-', '--speed', '0', '--dbc', CAR_DBC_PATH, '--vss', CAR_VSS_PATH],
        ...['--vehicle', 'van-1', '--data', join(dir, 'agent'), '--mqtt', mqtt],
        ...['--registry', registry, '--root', root],
      ],
      /(\d+) signals/,
    );
    const bus = new Bus(Math.floor(Date.now() / 1000) * 1000 - 86_400_000, agent.stdin!);
    await rows(({ campaign }) => campaign === undefined); // it runs, and nobody has asked for more

    const publish = async (version: string, signals: string[]): Promise<void> => {
      const document = {
        schema: 1,
        id: 'engine',
        name: 'The engine, ten times a second',
        version,
        vehicles: { ids: ['van-*'] },
        signals,
        collection: { type: 'time', periodMs: 100 },
      };
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`${registry}/v1/campaigns`, {
        method: 'POST',
        headers,
        body: JSON.stringify(document),
      });
      expect(answer.status).toBe(201);
    };
    const setOf = async (id: string) => {
      const { value } = await awaitRecord('signal-sets', ({ key }) => key === id);
      return signalSet(
        (JSON.parse(value!.toString('utf8')) as { signals: { name: string; unit: string }[] }).signals,
      );
    };

    await publish('1', ['EngineSpeed']);
    const first = await rows(({ campaign }) => campaign === 'engine');
    expect((await setOf(first.signalSet)).signals.map(({ name }) => name)).toEqual(['EngineSpeed']);
    expect([...first.times.slice(0, 3)].map((time, i, times) => time - times[0]! - i * 100)).toEqual([
      0, 0, 0,
    ]);
    expect([...first.values].every((speed) => speed >= 0 && speed < 8000)).toBe(true);
    await reported([{ id: 'engine', version: '1', phase: 'active', error: null }]);

    await publish('2', ['EngineSpeed', 'Vehicle.Speed']);
    const second = await rows(
      ({ campaign, times, values }) => campaign === 'engine' && values.length === 2 * times.length,
    );
    expect((await setOf(second.signalSet)).signals.map(({ name }) => name)).toEqual([
      'EngineSpeed',
      'Vehicle.Speed',
    ]);
    const renewed = await reported([{ id: 'engine', version: '2', phase: 'active', error: null }]);

    expect((await fetch(`${registry}/v1/campaigns/engine`, { method: 'DELETE' })).status).toBe(204);
    await reported(undefined, renewed);
    const ended = bus.time;
    await rows(({ campaign, times }) => campaign === undefined && times.at(-1)! > ended + 60_000);
    const collected: number[] = [];
    for await (const { records } of log.read('telemetry', { from: 'earliest', to: 'latest' }))
      for (const { value } of records) {
        const { campaign, times } = decodeTelemetry(value!);
        if (campaign === 'engine') collected.push(...times);
      }
    expect(Math.max(...collected)).toBeLessThanOrEqual(ended);
    expect(agent.exitCode).toBe(null); // it was one process all the time
  },
);
