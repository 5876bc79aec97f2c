import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Aedes } from 'aedes';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cloudEvent,
  decodeTelemetry,
  encodeTelemetry,
  parseAck,
  recordToEvent,
  signalSet,
  type Ack,
  type LogTopic,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog, type LogRecord } from '@cardan/shared/event-log';
import { Bridge } from '../src/bridge.ts';

let dir: string;
let aedes: Aedes;
let server: Server;
let url: string;
let log: EventLog;
let car: MqttClient;
let bridge: Bridge;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bridge-'));
  aedes = await Aedes.createBroker();
  server = createServer((socket) => {
    aedes.handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  car = await mqtt.connectAsync(url, { protocolVersion: 4 });
});
afterEach(async () => {
  await bridge.close();
  await car.endAsync(true);
  await log.close();
  await new Promise<void>((resolve) => aedes.close(() => server.close(() => resolve())));
  rmSync(dir, { recursive: true });
});

function telemetry(first: number, rows: number, epoch = 7): Buffer {
  return encodeTelemetry({
    signalSet: 'abc',
    epoch,
    firstSequence: first,
    times: Float64Array.from({ length: rows }, (_, i) => (first + i) * 1000),
    values: new Float32Array(rows * 2).fill(1.5),
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  });
}
async function acks(vehicle: string): Promise<() => Promise<Ack>> {
  const queue: Ack[] = [];
  const waiting: ((ack: Ack) => void)[] = [];
  car.on('message', (topic, payload) => {
    if (topic !== `cardan/v1/${vehicle}/ack`) return;
    const waiter = waiting.shift();
    if (waiter === undefined) queue.push(parseAck(payload));
    else waiter(parseAck(payload));
  });
  await car.subscribeAsync(`cardan/v1/${vehicle}/ack`);
  return () => {
    const ack = queue.shift();
    return ack === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(ack);
  };
}
async function recordsOf(topic: LogTopic): Promise<LogRecord[]> {
  const all: LogRecord[] = [];
  for await (const { records } of log.read(topic, { from: 'earliest', to: 'latest' })) all.push(...records);
  return all;
}
/** Waits until the topic has this many records, by tailing it. */
async function tail(topic: LogTopic, count: number): Promise<LogRecord[]> {
  const all: LogRecord[] = [];
  for await (const { records } of log.read(topic, { from: 'earliest' })) {
    all.push(...records);
    if (all.length >= count) break;
  }
  return all;
}

describe('Bridge', () => {
  it('acknowledges rows when they are in the log, and not before', async () => {
    bridge = await Bridge.start({ mqttUrl: url, log });
    const next = await acks('a');
    await car.publishAsync('cardan/v1/a/telemetry', telemetry(1, 50), { qos: 1 });
    expect(await next()).toEqual({ epoch: 7, rows: [[1, 50]], events: [] });
    const [record] = await recordsOf('telemetry');
    expect(record).toMatchObject({
      key: 'a',
      timestamp: 50_000, // that of the newest row
      headers: {
        ce_type: 'io.cardan.telemetry',
        ce_source: '/vehicles/a',
        ce_id: '7-1-50',
        'content-type': 'application/protobuf',
      },
    });
    expect(decodeTelemetry(record?.value ?? Buffer.alloc(0)).times.length).toBe(50);
  });

  it('tells nobody anything while the log is away, keeps what came, and acknowledges it afterwards', async () => {
    let away = true;
    // The real log behind a door that is shut for a while.
    const failing = new Proxy(log, {
      get(target, name: keyof EventLog) {
        if (name === 'append' && away) return () => Promise.reject(new Error('the log is away'));
        return (target[name] as () => unknown).bind(target);
      },
    });
    let told = () => {};
    const tried = new Promise<void>((resolve) => {
      told = resolve;
    });
    bridge = await Bridge.start({ mqttUrl: url, log: failing, onProblem: () => told() });
    const next = await acks('a');
    await car.publishAsync('cardan/v1/a/telemetry', telemetry(1, 10), { qos: 1 });
    await tried;
    await car.publishAsync('cardan/v1/a/telemetry', telemetry(11, 10), { qos: 1 });
    expect(await recordsOf('telemetry')).toEqual([]);
    away = false;
    const got = await next();
    const rows =
      got.rows.length === 2 || got.rows[0]?.[1] === 20 ? got.rows : [...got.rows, ...(await next()).rows];
    expect(rows.flat().at(-1)).toBe(20);
    expect(bridge.counts.appendRetries).toBeGreaterThan(0);
  });

  it('carries events in binary mode, and signal sets to their own topic', async () => {
    bridge = await Bridge.start({ mqttUrl: url, log });
    const next = await acks('a');
    const source = '/vehicles/a';
    const set = signalSet([{ name: 'Vehicle.Speed', unit: 'km/h' }]);
    const boot = {
      ...cloudEvent(
        'io.cardan.vehicle.boot',
        { source, id: '7-1', time: 5 },
        { agent: '1', signalSet: set.id },
      ),
      outboxepoch: '7',
      sequence: '1',
    };
    const columns = {
      ...cloudEvent('io.cardan.signal-set', { source, id: '7-2', time: 5 }, set),
      outboxepoch: '7',
      sequence: '2',
    };
    await car.publishAsync('cardan/v1/a/event', JSON.stringify(boot), { qos: 1 });
    await car.publishAsync('cardan/v1/a/event', JSON.stringify(columns), { qos: 1 });
    const acked = [...(await next()).events];
    while ((acked.at(-1)?.[1] ?? 0) < 2) acked.push(...(await next()).events);
    expect((await tail('vehicle-events', 1)).map(recordToEvent)).toEqual([boot]);
    expect((await tail('signal-sets', 1)).map(({ key }) => key)).toEqual([set.id]);
  });

  it.each([
    ['telemetry', Buffer.from('nonsense'), 'TELEMETRY_MALFORMED'],
    ['telemetry', Buffer.alloc(0), 'TELEMETRY_MALFORMED'],
    ['event', Buffer.from('{"specversion":"1.0"}'), 'EVENT_MALFORMED'],
    [
      'event',
      Buffer.from(
        JSON.stringify(
          cloudEvent(
            'io.cardan.vehicle.status',
            { source: '/vehicles/b', id: '1', time: 0 },
            { online: true },
          ),
        ),
      ),
      'EVENT_MALFORMED',
    ],
    ['reported', Buffer.from('[]'), 'EVENT_MALFORMED'],
    ['status', Buffer.from('{'), 'EVENT_MALFORMED'],
  ])(
    'puts a malformed %s (%#) into dead-letters with the reason, and counts it',
    async (channel, payload, code) => {
      bridge = await Bridge.start({ mqttUrl: url, log });
      await car.publishAsync(`cardan/v1/a/${channel}`, payload, { qos: 1 });
      const [record] = await tail('dead-letters', 1);
      expect(record?.key).toBe('a');
      expect(record?.value).toEqual(payload);
      expect(record?.headers).toMatchObject({ 'mqtt-topic': `cardan/v1/a/${channel}`, 'error-code': code });
      expect(bridge.counts.deadLetters).toBe(1);
    },
  );

  it('says so when no broker answers', async () => {
    bridge = await Bridge.start({ mqttUrl: url, log }); // for afterEach
    await expect(Bridge.start({ mqttUrl: 'mqtt://127.0.0.1:9', log })).rejects.toMatchObject({
      code: 'MQTT_UNREACHABLE',
    });
  });

  it('puts what it holds into the log before it goes', async () => {
    bridge = await Bridge.start({ mqttUrl: url, log });
    await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        car.publishAsync('cardan/v1/a/telemetry', telemetry(1 + i * 5, 5), { qos: 1 }),
      ),
    );
    await bridge.close();
    expect(bridge.counts.rows).toBe((await recordsOf('telemetry')).length * 5);
  });
});
