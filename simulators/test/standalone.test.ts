import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { decodeScores, decodeTelemetry, isEvent, recordToEvent, type LogTopic } from '@cardan/shared';
import { SqliteEventLog, type EventLog, type LogRecord } from '@cardan/shared/event-log';
import { Car, CAR_DBC_PATH, CAR_VSS_PATH } from '../src/car.ts';
import { record } from './record.ts';

/**
 * Each part as a process of its own, connected only by MQTT, the log and HTTP; and a recording instead of a
 * simulator.
 */
const bin = (workspace: string, name: string) =>
  fileURLToPath(new URL(`../../${workspace}/bin/${name}.js`, import.meta.url));
const BROKER = bin('simulators', 'cardan-sim');
const AGENT = bin('agent', 'cardan-agent');
const BRIDGE = bin('bridge', 'cardan-bridge');
const CLOUD = bin('cloud', 'cardan-cloud');

let dir: string;
const running: ChildProcess[] = [];
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'standalone-'));
});
afterEach(async () => {
  for (const child of running.splice(0).reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Starts a service, and resolves to what its first line that matches says. */
async function service(command: string, args: string[], says: RegExp): Promise<string> {
  // Standard input stays open: who reads it waits for more.
  const child = spawn(process.execPath, [command, ...args], { stdio: ['pipe', 'ignore', 'pipe'] });
  running.push(child);
  let words = '';
  return new Promise((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      words += data.toString('utf8');
      const match = says.exec(words);
      if (match !== null) resolve(match[1] ?? '');
    });
    child.once('exit', (code) =>
      reject(new Error(`${command} ${args.join(' ')} ended with ${code}: ${words}`)),
    );
  });
}
async function finish(command: string, args: string[]): Promise<{ code: number | null; err: string }> {
  const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let err = '';
  child.stderr.on('data', (data: Buffer) => (err += data.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, err };
}

async function readAll(log: EventLog, topic: LogTopic): Promise<LogRecord[]> {
  const all: LogRecord[] = [];
  for await (const { records } of log.read(topic, { from: 'earliest', to: 'latest' })) all.push(...records);
  return all;
}
/** Tails the topic until a record satisfies the condition. */
async function awaitRecord(
  log: EventLog,
  topic: LogTopic,
  condition: (record: LogRecord) => boolean,
): Promise<LogRecord> {
  for await (const { records } of log.read(topic, { from: 'earliest' })) {
    const found = records.find(condition);
    if (found !== undefined) return found;
  }
  throw new Error('the log was closed');
}

describe('Each part on its own', () => {
  it(
    'takes a recording through agent, bridge and log to a model, and the model back into the car',
    { timeout: 120_000 },
    async () => {
      const start = Date.UTC(2026, 0, 5, 8);
      const car = new Car({ id: 'rec', seed: 5, startTime: start });
      const minutes = 12;
      const first = join(dir, 'first.log');
      const second = join(dir, 'second.log');
      const frames = await record(first, car, start, start + minutes * 60_000);
      await record(second, car, start + minutes * 60_000, start + (minutes + 5) * 60_000);

      const mqtt = await service(BROKER, ['broker', '--port', '0'], /broker: (\S+)/);
      const logUrl = `sqlite:${join(dir, 'log.db')}`;
      await service(BRIDGE, ['--mqtt', mqtt, '--log', logUrl], /bridge: (\S+)/);
      const registryArgs = [
        'registry',
        '--mqtt',
        mqtt,
        '--log',
        logUrl,
        '--data',
        join(dir, 'cloud'),
        '--port',
        '0',
      ];
      const registry = await service(CLOUD, registryArgs, /registry: (http:\S+)/);
      const root = join(dir, 'cloud/registry/tuf/1.root.json');
      const trainerArgs = [
        'trainer',
        'predictor',
        '--mqtt',
        mqtt,
        '--log',
        logUrl,
        '--data',
        join(dir, 'cloud'),
        '--registry',
        registry,
      ];
      await service(CLOUD, [...trainerArgs, '--min-rows', '600'], /predictor: (\S+)/);
      const page = await service(
        CLOUD,
        ['monitor', '--log', logUrl, '--data', join(dir, 'cloud'), '--port', '0'],
        /monitor: (http:\S+)/,
      );

      const agentArgs = (file: string) => [
        ...[
          'run',
          '--can',
          `candump:${file}`,
          '--dbc',
          CAR_DBC_PATH,
          '--vss',
          CAR_VSS_PATH,
          '--mqtt',
          mqtt,
          '--speed',
          '0',
        ],
        ...['--vehicle', 'rec', '--data', join(dir, 'agent'), '--registry', registry, '--root', root],
      ];
      const drive = await finish(AGENT, agentArgs(first));
      expect(drive.err).toContain(`${frames} frames (0 with an id`);
      expect(drive.err).toContain('all rows are in the log');
      expect(drive.code).toBe(0);

      const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
      const rows = (await readAll(log, 'telemetry')).reduce(
        (sum, { value }) => sum + decodeTelemetry(value!).times.length,
        0,
      );
      expect(rows).toBe(minutes * 60 - 1); // one a second; the last second of the recording is not over
      const published = await awaitRecord(
        log,
        'models',
        (record) => recordToEvent(record).type === 'io.cardan.model.published',
      );
      const event = recordToEvent(published);
      const lineage = isEvent(event, 'io.cardan.model.published') ? event.data.manifest.lineage : undefined;
      expect(lineage).toMatchObject({ vehicles: 1, duplicatesDropped: 0 });
      expect(lineage?.rows).toBeGreaterThanOrEqual(600); // it begins as soon as there are enough
      expect(lineage?.rows).toBeLessThanOrEqual(rows);

      // The car stands with its agent on: it is told of the model, fetches it, and says so. In the next drive it scores.
      await service(AGENT, agentArgs('-'), /(\d+) signals/);
      await awaitRecord(log, 'vehicle-events', (record) => {
        const said = recordToEvent(record);
        return isEvent(said, 'io.cardan.vehicle.reported') && said.data.active?.version === '1';
      });
      const standing = running.pop()!;
      standing.kill('SIGTERM');
      await once(standing, 'exit');
      expect((await finish(AGENT, agentArgs(second))).code).toBe(0);
      const scored = (await readAll(log, 'telemetry'))
        .map(({ value }) => decodeTelemetry(value!))
        .filter(({ modelVersion }) => modelVersion === '1');
      expect(scored.length).toBeGreaterThan(0);
      // Car and cloud run the same engine: where both have a score of one row by one model, it is the same number.
      const last = scored.at(-1)!;
      await awaitRecord(log, 'predictions', ({ value }) => {
        const { firstSequence, modelVersion } = decodeScores(value!);
        return modelVersion === '1' && firstSequence === last.firstSequence;
      });
      const inCloud = new Map<number, number>();
      for (const { value } of await readAll(log, 'predictions')) {
        const { firstSequence, scores } = decodeScores(value!);
        scores.forEach((score, i) => inCloud.set(firstSequence + i, score));
      }
      const pairs = scored.flatMap(({ firstSequence, scores }) =>
        [...scores].flatMap((score, i) => {
          const cloud = inCloud.get(firstSequence + i) ?? Number.NaN;
          return Number.isNaN(score) || Number.isNaN(cloud) ? [] : [[score, cloud]];
        }),
      );
      expect(pairs.length).toBeGreaterThan(100);
      for (const [inCar, cloud] of pairs) expect(cloud).toBe(inCar);

      const fleet = await (await fetch(`${page}/api/fleet`)).text();
      expect(fleet).toContain('rec');
      await log.close();
    },
  );

  it(
    'keeps the rows when there is no broker, and sends them the next time',
    { timeout: 60_000 },
    async () => {
      const start = Date.UTC(2026, 0, 6, 8);
      const file = join(dir, 'short.log');
      await record(file, new Car({ id: 'off', seed: 6, startTime: start }), start, start + 20_000);
      const args = (mqtt: string) => [
        'run',
        '--can',
        `candump:${file}`,
        '--dbc',
        CAR_DBC_PATH,
        '--mqtt',
        mqtt,
        '--speed',
        '0',
        '--vehicle',
        'off',
        '--data',
        join(dir, 'off'),
      ];
      const alone = spawn(process.execPath, [AGENT, ...args('mqtt://127.0.0.1:9')], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let err = '';
      await new Promise<void>((resolve) => {
        alone.stderr.on('data', (data: Buffer) => {
          err += data.toString('utf8');
          if (err.includes('MQTT_UNREACHABLE') && err.includes('19 rows wait to be sent')) resolve();
        });
      });
      alone.kill('SIGKILL'); // the power goes
      await once(alone, 'exit');
      const mqtt = await service(BROKER, ['broker', '--port', '0'], /broker: (\S+)/);
      const logPath = join(dir, 'off.db');
      await service(BRIDGE, ['--mqtt', mqtt, '--log', `sqlite:${logPath}`], /bridge: (\S+)/);
      const again = await finish(AGENT, args(mqtt));
      expect(again.err).toContain('all rows are in the log');
      const log = await SqliteEventLog.open({ path: logPath });
      const sequences = (await readAll(log, 'telemetry')).flatMap(({ value }) => {
        const { firstSequence, times } = decodeTelemetry(value!);
        return [...times].map((_, i) => firstSequence + i);
      });
      // Who comes after a process that was killed leaves numbers out, so that none is used twice.
      const numbers = [...new Set(sequences)].sort((a, b) => a - b);
      const next = numbers[19]!;
      expect(next).toBeGreaterThan(20);
      expect(numbers).toEqual(Array.from({ length: 38 }, (_, i) => (i < 19 ? 1 + i : next + i - 19)));
      await log.close();
    },
  );

  it.each([
    [AGENT, ['run', '--can', 'socketcan', '--dbc', CAR_DBC_PATH], 1, 'CAN_SOURCE_UNKNOWN'],
    [AGENT, ['run', '--can', 'candump:-', '--dbc', '/nowhere.dbc'], 1, 'FILE_NOT_FOUND'],
    [AGENT, ['run', '--can', 'candump:-', '--dbc', CAR_DBC_PATH, '--vehicle', 'a/b'], 2, 'USAGE'],
    [
      AGENT,
      ['run', '--can', 'candump:-', '--dbc', CAR_DBC_PATH, '--registry', 'http://127.0.0.1:1'],
      2,
      'USAGE',
    ],
    [BRIDGE, ['--mqtt', 'mqtt://127.0.0.1:9', '--log', 'sqlite:none.db'], 1, 'MQTT_UNREACHABLE'],
    [BRIDGE, ['--log', 'postgres:x'], 2, 'USAGE'],
    [CLOUD, ['lake'], 2, 'USAGE'],
    [CLOUD, ['all', '--port', '1'], 2, 'USAGE'],
    [CLOUD, ['registry', '--host', '0.0.0.0'], 1, 'TOKEN_REQUIRED'],
  ])('%s %j says what is wrong', async (command, args, code, error) => {
    const child = spawn(process.execPath, [command, ...args], {
      cwd: dir,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let err = '';
    child.stderr.on('data', (data: Buffer) => (err += data.toString('utf8')));
    const [status] = (await once(child, 'close')) as [number | null];
    expect(err).toContain(`error ${error}: `);
    expect(err).not.toMatch(/^\s+at /m);
    expect(status).toBe(code);
  });
});
