import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import mqtt from 'mqtt';
import { afterEach, expect, inject, it } from 'vitest';
import { startMosquitto, type Mosquitto, type MosquittoOptions } from '../mosquitto/start-mosquitto.ts';

const brokers: Mosquitto[] = [];
const folders: string[] = [];
afterEach(async () => {
  await Promise.all(brokers.splice(0).map((broker) => broker.stop()));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function start(options?: MosquittoOptions): Promise<Mosquitto> {
  const broker = await startMosquitto(options);
  brokers.push(broker);
  return broker;
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'cardan-mosquitto-test-'));
  folders.push(path);
  return path;
}

const session = { clientId: 'reader', clean: false, reconnectPeriod: 0 };

/** Makes a session of `reader` that is away, with this many messages waiting for it. */
async function leaveMessages(url: string, count: number): Promise<void> {
  const reader = await mqtt.connectAsync(url, session);
  await reader.subscribeAsync('queue', { qos: 1 });
  await reader.endAsync();
  const writer = await mqtt.connectAsync(url);
  await Promise.all(
    Array.from({ length: count }, (_, i) => writer.publishAsync('queue', String(i), { qos: 1 })),
  );
  await writer.endAsync();
}

it('is shared by the tests', async () => {
  const client = await mqtt.connectAsync(inject('mosquittoUrl'));
  await client.endAsync();
});

it('keeps all messages of a session that is away, through a kill too', async () => {
  const { url, kill, start: again } = await start({ persistenceDir: folder() });
  await leaveMessages(url, 500);
  await kill();
  await again();
  const reader = mqtt.connect(url, session);
  const received: string[] = [];
  await new Promise<void>((resolve) => {
    reader.on('message', (_topic, payload) => {
      if (received.push(payload.toString()) === 500) resolve();
    });
  });
  expect(received).toEqual(Array.from({ length: 500 }, (_, i) => String(i)));
  await reader.endAsync();
});

it('forgets sessions in a kill when it has no folder for them', async () => {
  const { url, kill, start: again } = await start();
  await leaveMessages(url, 1);
  await kill();
  await again();
  const reader = mqtt.connect(url, session);
  const [{ sessionPresent }] = await new Promise<[mqtt.IConnackPacket]>((resolve) => {
    reader.on('connect', (...packet) => resolve(packet));
  });
  expect(sessionPresent).toBe(false);
  await reader.endAsync();
});

it('takes lines of mosquitto.conf, and says what is wrong with them', async () => {
  const { url } = await start({ config: ['retain_available false'] });
  const client = await mqtt.connectAsync(url, { protocolVersion: 5 });
  const [{ properties }] = await new Promise<[mqtt.IConnackPacket]>((resolve) => {
    client.on('connect', (...packet) => resolve(packet));
    client.reconnect();
  });
  expect(properties?.retainAvailable).toBe(false);
  await client.endAsync();
  await expect(start({ config: ['no_such_setting 1'] })).rejects.toThrow(/no_such_setting/);
});

it('says that its port is in use', async () => {
  const { port } = await start();
  await expect(start({ port })).rejects.toThrow(`Port ${port} is in use`);
});

it('leaves no process and no file', async () => {
  const { port, stop } = await startMosquitto();
  const mine = async () => {
    const { stdout } = await promisify(execFile)('ps', ['-eo', 'args'], { maxBuffer: 1 << 26 });
    const configs = [...stdout.matchAll(/mosquitto -c (\S+)/g)].map((match) => match[1]!);
    return configs.filter(
      (config) => existsSync(config) && readFileSync(config, 'utf8').includes(`listener ${port} `),
    );
  };
  const [config] = await mine();
  expect(config).toBeDefined();
  await stop();
  expect(await mine()).toEqual([]);
  expect(existsSync(dirname(config!))).toBe(false);
});
