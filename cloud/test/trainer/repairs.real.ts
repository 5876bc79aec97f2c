import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { ensureLogTopics } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { freePorts } from '../../../ops/free-ports.ts';
import { readRepairs, REPAIRS_TOPIC, type Repairs } from '../../src/trainer/repairs.ts';

/** Kafka Connect between files and the log, with the very settings of ops/connect, started as docs/legacy-systems.md says. */

const ROOT = resolve(import.meta.dirname, '../../..');
const SETTINGS = join(ROOT, 'ops/connect');
const HEADER = 'vehicle,time,component,action,odometer_km,note';
const MARCH = Date.UTC(2026, 2, 1, 15, 30);

let prefix: string;
let dir: string;
let log: EventLog;
let worker: ChildProcess | undefined;

beforeEach(async () => {
  prefix = `legacy-${randomUUID().slice(0, 8)}.`;
  dir = mkdtempSync(join(tmpdir(), 'legacy-'));
  mkdirSync(join(dir, '.cardan'));
  // Names of connectors are names of consumer groups, and all tests share one Kafka.
  for (const name of ['repairs-source', 'dead-letters-sink'])
    copySettings(name, (text) => text.replace(`name=${name}`, `name=${prefix}${name}`));
  const [port] = await freePorts(1);
  copySettings('worker', (text) => text.replace(':8083', `:${port}`));
  log = await openEventLog(`kafka:${inject('kafkaBrokers')}`, { topicPrefix: prefix });
});
afterEach(async () => {
  await stopWorker();
  await log.close();
  rmSync(dir, { recursive: true });
});

function copySettings(name: string, change: (text: string) => string): void {
  const text = readFileSync(join(SETTINGS, `${name}.properties`), 'utf8');
  const changed = change(text);
  expect(changed).not.toBe(text);
  writeFileSync(join(dir, `${name}.properties`), changed);
}

const environment = () => ({
  ...process.env,
  KAFKA_BROKERS: inject('kafkaBrokers'),
  CARDAN_TOPIC_PREFIX: prefix,
});

function startWorker(...connectors: string[]): void {
  worker = spawn(
    process.execPath,
    [join(ROOT, 'ops/kafka/connect.js'), ...['worker', ...connectors].map((name) => `${name}.properties`)],
    {
      cwd: dir,
      env: environment(),
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
}

/** SIGTERM: the worker notes how far it has read. */
async function stopWorker(): Promise<void> {
  if (worker === undefined) return;
  const ended = once(worker, 'exit');
  worker.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  worker = undefined;
}

const file = (name: string) => join(dir, '.cardan', name);

/** The repairs in the topic when it has this many lines. The topic comes with the first of them. */
async function repairsAmong(lines: number): Promise<Repairs> {
  await expect
    .poll(() => log.resolve(REPAIRS_TOPIC, 'latest').catch(() => undefined), { timeout: 60_000 })
    .toEqual({ 0: lines });
  return readRepairs(log, { from: { 0: 0 }, to: { 0: lines } });
}

describe("A workshop's table", () => {
  it('becomes repairs of vehicles, also what is added later, and once when Connect reads it again', async () => {
    writeFileSync(
      file('repairs.csv'),
      [
        `\uFEFF${HEADER}`,
        'van-7,2026-03-01T16:30:00+01:00,Kühlmittelpumpe,ersetzt,123456,"undicht, Lager ausgeschlagen"',
        'truck-1,2026-02-03T08:00:00Z,tyre,changed,,"front left, ""slow puncture"""',
        'van-7;2026-03-02T16:30:00+01:00;pump;replaced;123456;',
        '',
        'van-7,2026-01-20T10:00:00Z,wheel bearing,replaced,120001.5,',
        '',
      ].join('\r\n'),
    );
    startWorker('repairs-source');
    const first = await repairsAmong(6);
    const ofVan = [
      {
        vehicle: 'van-7',
        time: Date.UTC(2026, 0, 20, 10),
        component: 'wheel bearing',
        action: 'replaced',
        odometerKm: 120001.5,
        note: '',
      },
      {
        vehicle: 'van-7',
        time: MARCH,
        component: 'Kühlmittelpumpe',
        action: 'ersetzt',
        odometerKm: 123456,
        note: 'undicht, Lager ausgeschlagen',
      },
    ];
    const ofTruck = [
      {
        vehicle: 'truck-1',
        time: Date.UTC(2026, 1, 3, 8),
        component: 'tyre',
        action: 'changed',
        odometerKm: null,
        note: 'front left, "slow puncture"',
      },
    ];
    expect([...first.vehicles]).toEqual([
      ['truck-1', ofTruck],
      ['van-7', ofVan],
    ]);
    expect(first).toMatchObject({ repairs: 3, duplicatesDropped: 0, badLines: 1 });
    expect(first.firstBadLines).toMatchObject([{ partition: 0, offset: 3 }]);

    const admin = new Kafka({
      brokers: inject('kafkaBrokers').split(','),
      logLevel: logLevel.NOTHING,
    }).admin();
    await admin.connect();
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: `${prefix}${REPAIRS_TOPIC}`, configNames: ['retention.ms'] }],
    });
    await admin.disconnect();
    expect(resources[0]!.configEntries[0]!.configValue).toBe('-1');

    appendFileSync(file('repairs.csv'), 'truck-1,2026-03-05T08:00:00Z,tyre,changed,88000,\r\n');
    expect(await repairsAmong(7)).toMatchObject({ repairs: 4 });

    // Each start reads all of the file again.
    await stopWorker();
    appendFileSync(file('repairs.csv'), 'truck-1,2026-03-06T08:00:00Z,brake,adjusted,88100,\r\n');
    startWorker('repairs-source');
    const again = await repairsAmong(7 + 8);
    expect(again).toMatchObject({ repairs: 5, duplicatesDropped: 4, badLines: 2 });
    expect(again.vehicles.get('van-7')).toEqual(ofVan);
  });
});

describe('Dead letters', () => {
  it('become lines of a file, each with its offset in the log', async () => {
    await ensureLogTopics(log, ['dead-letters']);
    startWorker('dead-letters-sink');
    const letter = (value: string) => ({
      key: 'van-7',
      value: Buffer.from(value),
      timestamp: MARCH,
      headers: {
        'mqtt-topic': 'cardan/v1/van-7/event',
        'error-code': 'EVENT_MALFORMED',
        'error-message': 'bad',
      },
    });
    await log.append('dead-letters', [letter('{"type":'), letter('Schlüssel, verloren')]);
    await log.append('dead-letters', [letter('third')]);
    const lines = () =>
      existsSync(file('dead-letters.txt')) ? readFileSync(file('dead-letters.txt'), 'utf8').split('\n') : [];
    await expect
      .poll(lines, { timeout: 60_000 })
      .toEqual([
        'Struct{message={"type":,offset=0}',
        'Struct{message=Schlüssel, verloren,offset=1}',
        'Struct{message=third,offset=2}',
        '',
      ]);
  });
});

describe('npm run connect', () => {
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, [join(ROOT, 'ops/kafka/connect.js'), ...args], {
      cwd: dir,
      env: environment(),
    });
    let said = '';
    child.stderr.on('data', (data: Buffer) => (said += data.toString('utf8')));
    const [status] = (await once(child, 'close')) as [number];
    return { status, said };
  };

  it('says how it is used, and which file is missing', async () => {
    expect(await run('worker.properties')).toEqual({
      status: 1,
      said: expect.stringContaining('WORKER.properties CONNECTOR.properties') as string,
    });
    expect(await run('worker.properties', 'none.properties')).toEqual({
      status: 1,
      said: 'There is no file none.properties.\n',
    });
  });

  it('ends when Connect does not take a connector', async () => {
    writeFileSync(join(dir, 'unknown.properties'), 'name=unknown\nconnector.class=Unknown\n');
    const { status, said } = await run('worker.properties', 'unknown.properties');
    expect(status).toBe(1);
    expect(said).toContain(
      'Failed to find any class that implements Connector and which name matches Unknown',
    );
  });
});
