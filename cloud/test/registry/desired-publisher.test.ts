import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Aedes } from 'aedes';
import mqtt from 'mqtt';
import { afterEach, expect, test } from 'vitest';
import { cloudEvent, eventToRecord, mqttTopic } from '@cardan/shared';
import { campaignDocument, publishCampaign, withdrawCampaign } from './campaign-fixture.ts';
import { COLUMNS, OTHER_COLUMNS, publish, testModel } from './model-fixture.ts';
import { removeTempDirs, testRegistry, type TestRegistry } from './registry-fixture.ts';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  removeTempDirs();
});

async function broker(port = 0): Promise<{ port: number; close: () => Promise<void> }> {
  const aedes = await Aedes.createBroker();
  const server: Server = createServer((socket) => aedes.handle(socket));
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () =>
    new Promise<void>((resolve) =>
      aedes.close(() => (server.listening ? server.close(() => resolve()) : resolve())),
    );
  closing.push(close);
  return { port: (server.address() as AddressInfo).port, close };
}

/** What a car that connects now is told. */
async function retained(port: number, vehicle: string): Promise<unknown> {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { protocolVersion: 4 });
  closing.push(() => client.endAsync(true));
  return new Promise((resolve) => {
    client.on('message', (_topic, payload) => resolve(JSON.parse(payload.toString('utf8'))));
    client.subscribe(mqttTopic(vehicle, 'desired'), { qos: 1 });
  });
}

async function boot({ log }: TestRegistry, vehicle: string, signalSet: string): Promise<void> {
  const source = `/vehicles/${vehicle}`;
  const event = cloudEvent(
    'io.cardan.vehicle.boot',
    { source, id: '1-1', time: 0 },
    { agent: '0', signalSet },
  );
  await log.append('vehicle-events', [eventToRecord(vehicle, event)]);
}

test('each vehicle is told what is decided for its signals, now and when it changes', async () => {
  const { port } = await broker();
  const registry = await testRegistry({ mqttUrl: `mqtt://127.0.0.1:${port}` });
  closing.push(registry.close);
  await boot(registry, 'car-1', COLUMNS.id);
  await boot(registry, 'car-2', OTHER_COLUMNS.id);
  const told = (vehicle: string) => expect.poll(() => retained(port, vehicle), { timeout: 10_000 });
  await told('car-1').toEqual({ generation: 0, active: null });
  await publish(registry.url, testModel('1'));
  await told('car-1').toEqual({ generation: 1, active: { name: 'anomaly', version: '1' } });
  await told('car-2').toEqual({ generation: 0, active: null });
  await boot(registry, 'car-2', COLUMNS.id);
  await told('car-2').toEqual({ generation: 1, active: { name: 'anomaly', version: '1' } });
});

test('each vehicle is told of the campaigns that are for it', async () => {
  const { port } = await broker();
  const registry = await testRegistry({ mqttUrl: `mqtt://127.0.0.1:${port}` });
  closing.push(registry.close);
  await boot(registry, 'car-1', COLUMNS.id);
  await boot(registry, 'van-1', COLUMNS.id);
  const told = (vehicle: string) => expect.poll(() => retained(port, vehicle), { timeout: 10_000 });
  await publishCampaign(registry.url, campaignDocument({ vehicles: { ids: ['van-*'] } }));
  await told('van-1').toEqual({ generation: 1, active: null, campaigns: [{ id: 'speed', version: '1' }] });
  await told('car-1').toEqual({ generation: 0, active: null });
  await withdrawCampaign(registry.url, 'speed');
  await told('van-1').toEqual({ generation: 2, active: null, campaigns: [] });
});

test('a broker that comes up later, or again without its memory, is told everything', async () => {
  const first = await broker();
  const registry = await testRegistry({ mqttUrl: `mqtt://127.0.0.1:${first.port}` });
  closing.push(registry.close);
  await boot(registry, 'car-1', COLUMNS.id);
  await publish(registry.url, testModel('1'));
  const expected = { generation: 1, active: { name: 'anomaly', version: '1' } };
  await expect.poll(() => retained(first.port, 'car-1'), { timeout: 10_000 }).toEqual(expected);
  await first.close();
  await broker(first.port);
  expect(await retained(first.port, 'car-1')).toEqual(expected);
});
