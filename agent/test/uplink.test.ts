import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Aedes } from 'aedes';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { cloudEvent, decodeTelemetry, type Ack, type TelemetryBatch } from '@cardan/shared';
import { Outbox } from '../src/outbox.ts';
import { Uplink, type UplinkOptions } from '../src/uplink.ts';

const context = { signalSet: 'abc', modelName: '', modelVersion: '' };
let dir: string;
let aedes: Aedes;
let server: Server;
let url: string;
let cloud: MqttClient;
let outbox: Outbox;
const uplinks: Uplink[] = [];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'uplink-'));
  aedes = await Aedes.createBroker();
  server = createServer((socket) => {
    aedes.handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
  cloud = await mqtt.connectAsync(url, { protocolVersion: 4 });
  outbox = new Outbox({
    path: join(dir, 'outbox.db'),
    rowsMax: 10_000,
    eventsMax: 100,
    synchronous: 'NORMAL',
  });
});
afterEach(async () => {
  for (const uplink of uplinks.splice(0)) await uplink.close();
  await cloud.endAsync(true);
  outbox.close();
  await new Promise<void>((resolve) => aedes.close(() => server.close(() => resolve())));
  rmSync(dir, { recursive: true });
});

function start(options: Partial<UplinkOptions> = {}): Uplink {
  const uplink = new Uplink({
    url,
    vehicle: 'a',
    outbox,
    batchRows: 10,
    batchMs: 20,
    backlogBatchRows: 100,
    ackTimeoutMs: 60_000,
    onDesired: () => undefined,
    onProblem: () => undefined,
    ...options,
  });
  uplinks.push(uplink);
  return uplink;
}
function add(from: number, to: number) {
  for (let time = from; time < to; time++) outbox.addRow(time, Float32Array.of(time), undefined, context);
}
/** Subscribes, and gives the batches one after the other. */
async function batches(): Promise<() => Promise<TelemetryBatch>> {
  const queue: TelemetryBatch[] = [];
  const waiting: ((batch: TelemetryBatch) => void)[] = [];
  cloud.on('message', (topic, payload) => {
    if (topic !== 'cardan/v1/a/telemetry') return;
    const batch = decodeTelemetry(payload);
    const waiter = waiting.shift();
    if (waiter === undefined) queue.push(batch);
    else waiter(batch);
  });
  await cloud.subscribeAsync('cardan/v1/a/telemetry', { qos: 1 });
  return () => {
    const batch = queue.shift();
    return batch === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(batch);
  };
}
async function acknowledge(ack: Partial<Ack>) {
  await cloud.publishAsync(
    'cardan/v1/a/ack',
    JSON.stringify({ epoch: outbox.epoch, rows: [], events: [], ...ack }),
  );
}

describe('Uplink', () => {
  it('sends the next batch only when the one before is in the log, and empties the outbox', async () => {
    const next = await batches();
    const uplink = start();
    add(0, 10);
    const first = await next();
    expect([first.firstSequence, first.times.length]).toEqual([1, 10]);
    add(10, 30); // a backlog now: it goes in one larger batch, but only after the acknowledgement
    await acknowledge({ rows: [[1, 10]] });
    const second = await next();
    expect([second.firstSequence, second.times.length]).toEqual([11, 20]);
    const drained = uplink.drain();
    await acknowledge({ rows: [[11, 30]] });
    await drained;
    expect(outbox.pendingRows).toBe(0);
  });

  it('sends rows that are fewer than a batch after a while', async () => {
    const next = await batches();
    start();
    add(0, 3);
    expect((await next()).times.length).toBe(3);
  });

  it('sends all that has waited for long enough, also when it takes several batches', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const next = await batches();
      await cloud.subscribeAsync('cardan/v1/a/status');
      const online = new Promise((resolve) => cloud.once('message', resolve));
      start({ batchMs: 5000 });
      await online;
      // Rows of two campaigns in turn: no batch can hold rows of both.
      for (let time = 0; time < 6; time++)
        outbox.addRow(time, Float32Array.of(time), undefined, { ...context, campaign: `c${time % 2}` });
      outbox.flush();
      await vi.advanceTimersByTimeAsync(5000);
      for (let sequence = 1; sequence <= 6; sequence++) {
        expect((await next()).firstSequence).toBe(sequence);
        await acknowledge({ rows: [[sequence, sequence]] });
      }
    } finally {
      vi.useRealTimers();
    }
  });

  it('sends again what is not acknowledged in time', async () => {
    const next = await batches();
    start({ ackTimeoutMs: 50 });
    add(0, 10);
    expect((await next()).firstSequence).toBe(1);
    expect((await next()).firstSequence).toBe(1);
    expect(outbox.pendingRows).toBe(10);
  });

  it('does not take the acknowledgement of another epoch, or one that cannot be read', async () => {
    const problems: string[] = [];
    const next = await batches();
    const uplink = start({ onProblem: ({ code }) => problems.push(code) });
    add(0, 10);
    await next();
    await acknowledge({ epoch: outbox.epoch + 1, rows: [[1, 10]] });
    await cloud.publishAsync('cardan/v1/a/ack', 'not json');
    await acknowledge({ rows: [[1, 5]] });
    add(10, 20);
    const drained = uplink.drain();
    await acknowledge({ rows: [[6, 10]] }); // only now has the first batch landed as a whole
    expect((await next()).firstSequence).toBe(11);
    await acknowledge({ rows: [[11, 20]] });
    await drained;
    expect(problems).toEqual(['EVENT_MALFORMED']);
  });

  it('keeps everything while there is no broker, and sends it on connection', async () => {
    const { port } = server.address() as AddressInfo;
    await cloud.endAsync(true);
    await new Promise<void>((resolve) => aedes.close(() => server.close(() => resolve())));
    start();
    add(0, 25);
    aedes = await Aedes.createBroker();
    server = createServer((socket) => {
      aedes.handle(socket);
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    cloud = await mqtt.connectAsync(url, { protocolVersion: 4 });
    const next = await batches();
    expect((await next()).times.length).toBeGreaterThan(0);
    expect(outbox.pendingRows).toBe(25);
  });

  it('sends events in order, one at a time, and says hello and goodbye', async () => {
    const seen: string[] = [];
    const gone = new Promise<void>((resolve) => {
      cloud.on('message', (topic, payload) => {
        const text = payload.toString('utf8');
        if (topic.endsWith('/event')) {
          const { sequence } = JSON.parse(text) as { sequence: string };
          seen.push(sequence);
          void acknowledge({ events: [[Number(sequence), Number(sequence)]] });
        } else {
          seen.push(text);
          if (text.includes('false')) resolve();
        }
      });
    });
    await cloud.subscribeAsync(['cardan/v1/a/event', 'cardan/v1/a/status'], { qos: 1 });
    for (let i = 0; i < 3; i++)
      outbox.addEvent(({ sequence }) =>
        cloudEvent(
          'io.cardan.vehicle.status',
          { source: '/vehicles/a', id: String(sequence), time: 0 },
          { online: true },
        ),
      );
    const uplink = start();
    await uplink.drain();
    await uplinks.pop()?.close();
    await gone;
    expect(seen).toEqual(['{"online":true}', '1', '2', '3', '{"online":false}']);
  });

  it('ends also when the broker goes while it says goodbye', async () => {
    const uplink = start();
    await once(aedes, 'subscribe');
    aedes.authorizePublish = (client, packet, callback) => {
      if (String(packet.payload) === '{"online":false}') client?.conn.destroy();
      else callback(null);
    };
    await uplink.close();
    expect(uplink.connectedNow).toBe(false);
  });
});
