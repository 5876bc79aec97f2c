import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from 'aedes';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  CardanError,
  cloudEvent,
  decodeTelemetry,
  parseAck,
  recordToEvent,
  signalSet,
  type Ack,
  type LogTopic,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog, type LogRecord, type NewRecord } from '@cardan/shared/event-log';
import { Bridge } from '../src/bridge.ts';
import { startAedes, type AedesBroker } from './aedes-broker.ts';
import { doored, recordsOf, telemetry, until } from './cars.ts';

let dir: string;
let broker: AedesBroker;
let url: string;
let log: EventLog;
let car: MqttClient;
let bridge: Bridge;
let clients: Map<string, Client>;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bridge-'));
  broker = await startAedes();
  ({ url } = broker);
  clients = new Map();
  broker.aedes.on('client', (client) => clients.set(client.id, client));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  car = await mqtt.connectAsync(url, { protocolVersion: 4 });
});
afterEach(async () => {
  await bridge.close();
  await car.endAsync(true);
  await log.close();
  await broker.close();
  rmSync(dir, { recursive: true });
});

async function heldBytes(): Promise<number> {
  const { values } = await bridge.metrics.getSingleMetric('cardan_bridge_queue_bytes')!.get();
  return values[0]!.value;
}
/** The log, but it will never take some records, and nothing of an append with one of them. */
function refusing(real: EventLog, refused: (record: NewRecord) => boolean): EventLog {
  return new Proxy(real, {
    get(target, name: keyof EventLog) {
      if (name === 'append')
        return async (topic: string, records: readonly NewRecord[]) => {
          if (records.some(refused)) throw new CardanError('RECORD_REFUSED', 'It is refused.');
          await target.append(topic, records);
        };
      return (target[name] as () => unknown).bind(target);
    },
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
    const [record] = await recordsOf(log, 'telemetry');
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
    const { log: behind, door } = doored(log);
    door.open = false;
    bridge = await Bridge.start({ mqttUrl: url, log: behind });
    const next = await acks('a');
    await car.publishAsync('cardan/v1/a/telemetry', telemetry(1, 10), { qos: 1 });
    await until('it has tried', () => door.tries > 0);
    await car.publishAsync('cardan/v1/a/telemetry', telemetry(11, 10), { qos: 1 });
    expect(await recordsOf(log, 'telemetry')).toEqual([]);
    door.open = true;
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
    expect(await bridge.close()).toBe(0);
    expect(bridge.counts.rows).toBe((await recordsOf(log, 'telemetry')).length * 5);
  });

  it('says how many messages it holds when the time to close is over', async () => {
    const { log: behind, door } = doored(log);
    door.open = false;
    bridge = await Bridge.start({ mqttUrl: url, log: behind });
    for (let i = 0; i < 7; i++)
      await car.publishAsync('cardan/v1/a/telemetry', telemetry(1 + i * 5, 5), { qos: 1 });
    await until('they have come', () => bridge.counts.messages === 7);
    expect(await bridge.close(100)).toBe(7);
  });

  it('falls back to MQTT 3.1.1, without a share and without a word', async () => {
    const problems: CardanError[] = [];
    bridge = await Bridge.start({ mqttUrl: url, log, onProblem: (error) => problems.push(error) });
    expect([bridge.mqttVersion, bridge.shareGroup]).toEqual([4, null]);
    await expect(Bridge.start({ mqttUrl: url, log, mqttVersion: 5 })).rejects.toMatchObject({
      code: 'MQTT_REFUSED',
      message: expect.stringContaining('does not speak MQTT 5') as string,
    });
    expect(problems).toEqual([]);
  });

  it('holds no more than its bound while the log is away, and gets the rest afterwards', async () => {
    const { log: behind, door } = doored(log);
    door.open = false;
    const queueBytesMax = 500_000;
    bridge = await Bridge.start({ mqttUrl: url, log: behind, queueBytesMax });
    const sent = 400;
    for (let i = 0; i < sent; i++)
      await car.publishAsync('cardan/v1/a/telemetry', telemetry(1 + i * 1000, 1000), { qos: 1 });
    await until('it is full', async () => (await heldBytes()) >= queueBytesMax);
    await until('it has tried again', () => door.tries > 2);
    expect(await heldBytes()).toBeLessThan(queueBytesMax + 20_000); // one message more
    expect(bridge.counts.messages).toBeLessThan(sent);
    door.open = true;
    await until('all are in the log', () => bridge.counts.rows === sent * 1000);
    expect(await heldBytes()).toBe(0);
  });

  it('makes dead letters of what the log will never take, acknowledges them, and goes on with the rest', async () => {
    const problems: CardanError[] = [];
    const bad = new Set(['7-11-20', '7-51-60']);
    const picky = refusing(log, ({ headers }) => bad.has(headers?.ce_id ?? ''));
    bridge = await Bridge.start({ mqttUrl: url, log: picky, onProblem: (error) => problems.push(error) });
    const next = await acks('a');
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        car.publishAsync('cardan/v1/a/telemetry', telemetry(1 + i * 10, 10), { qos: 1 }),
      ),
    );
    const acked = new Set<number>();
    while (acked.size < 100)
      for (const [first, last] of (await next()).rows) for (let n = first; n <= last; n++) acked.add(n);
    const dead = await recordsOf(log, 'dead-letters');
    expect(dead.map(({ key, value, headers }) => [key, value, headers])).toEqual(
      [11, 51].map((first) => [
        'a',
        telemetry(first, 10),
        {
          'mqtt-topic': 'cardan/v1/a/telemetry',
          'error-code': 'RECORD_REFUSED',
          'error-message': 'It is refused.',
        },
      ]),
    );
    const times = (await recordsOf(log, 'telemetry')).map(({ timestamp }) => timestamp / 1000);
    expect(times).toEqual([10, 30, 40, 50, 70, 80, 90, 100]);
    expect(bridge.counts).toMatchObject({ messages: 10, records: 10, rows: 80, deadLetters: 2 });
    expect(new Set(problems.map(({ code }) => code))).toEqual(new Set(['RECORD_REFUSED']));
  });

  it('cuts a dead letter that is too large for the log', async () => {
    const strict = refusing(log, ({ value }) => value!.length > 20_000);
    bridge = await Bridge.start({ mqttUrl: url, log: strict });
    const payload = Buffer.alloc(100_000, 'x');
    await car.publishAsync('cardan/v1/a/telemetry', payload, { qos: 1 });
    const [record] = await tail('dead-letters', 1);
    expect(record?.value).toEqual(payload.subarray(0, 16 * 1024));
    expect(record?.headers).toMatchObject({
      'truncated-from': '100000',
      'error-code': 'TELEMETRY_MALFORMED',
    });
  });

  it('acknowledges an event that is surely of its vehicle but says nothing useful, so that its outbox goes on', async () => {
    bridge = await Bridge.start({ mqttUrl: url, log });
    const next = await acks('a');
    const event = {
      ...cloudEvent(
        'io.cardan.signal-set',
        { source: '/vehicles/a', id: '7-3', time: 5 },
        { id: 'wrong', signals: [{ name: 'x', unit: '' }] },
      ),
      outboxepoch: '7',
      sequence: '3',
    };
    await car.publishAsync('cardan/v1/a/event', JSON.stringify(event), { qos: 1 });
    expect(await next()).toEqual({ epoch: 7, rows: [], events: [[3, 3]] });
    expect((await recordsOf(log, 'dead-letters')).length).toBe(1);
  });

  it('names a subscription that the broker refuses, and reads when it may', async () => {
    let refuse = true;
    broker.aedes.authorizeSubscribe = (_client, subscription, done) => {
      done(null, refuse && subscription.topic.endsWith('/event') ? null : subscription);
    };
    await expect(Bridge.start({ mqttUrl: url, log })).rejects.toMatchObject({
      code: 'MQTT_REFUSED',
      message: expect.stringContaining('cardan/v1/+/event') as string,
    });
    refuse = false;
    bridge = await Bridge.start({ mqttUrl: url, log, clientId: 'it' });
    expect(bridge.health()).toEqual({ ready: true, why: [] });

    // The right is taken away, and the connection is lost.
    refuse = true;
    clients.get('it')!.close();
    await until('it is refused', () => bridge.health().why.join().includes('MQTT_REFUSED'));
    refuse = false;
    clients.get('it')!.close();
    await until('it reads again', () => bridge.health().ready);
  });

  it('says so when the broker does not let it in', async () => {
    bridge = await Bridge.start({ mqttUrl: url, log }); // for afterEach
    broker.aedes.authenticate = (_client, _user, _password, done) => done(null, false);
    await expect(Bridge.start({ mqttUrl: url, log })).rejects.toMatchObject({
      code: 'MQTT_REFUSED',
      message: expect.stringContaining('Check user, password') as string,
    });
  });
});
