import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { serveBridge, type BridgeHttp } from '../src/bridge-http.ts';
import { Bridge } from '../src/bridge.ts';
import { startAedes, type AedesBroker } from './aedes-broker.ts';
import { doored, telemetry, until } from './cars.ts';

let dir: string;
let broker: AedesBroker;
let log: EventLog;
let door: { open: boolean; tries: number };
let car: MqttClient;
let bridge: Bridge;
let http: BridgeHttp;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bridge-http-'));
  broker = await startAedes();
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  const doorway = doored(log);
  door = doorway.door;
  bridge = await Bridge.start({ mqttUrl: broker.url, log: doorway.log });
  http = await serveBridge(bridge, '127.0.0.1', 0);
  car = await mqtt.connectAsync(broker.url, { protocolVersion: 4 });
});
afterEach(async () => {
  await http.close();
  await bridge.close(1000);
  await car.endAsync(true);
  await log.close();
  await broker.close();
  rmSync(dir, { recursive: true });
});

async function get(path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${http.url}${path}`);
  return { status: response.status, body: await response.text() };
}
async function readiness(): Promise<{ status: number; ready: boolean; why: string[] }> {
  const { status, body } = await get('/readyz');
  return { status, ...(JSON.parse(body) as { ready: boolean; why: string[] }) };
}
/** A figure of /metrics. */
async function metric(name: string): Promise<number | undefined> {
  const line = (await get('/metrics')).body.split('\n').find((text) => text.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length));
}
const send = (payload: Buffer) => car.publishAsync('cardan/v1/a/telemetry', payload, { qos: 1 });

describe('serveBridge', () => {
  it('is live, and ready when connected', async () => {
    expect(await get('/livez')).toMatchObject({ status: 200 });
    expect(await readiness()).toEqual({ status: 200, ready: true, why: [] });
    expect(await get('/')).toMatchObject({ status: 404 });
    expect((await fetch(`${http.url}/livez`, { method: 'POST' })).status).toBe(405);
  });

  it('is not ready while the log takes nothing, and says why', async () => {
    door.open = false;
    await send(telemetry(1, 5));
    await until('it has tried', () => door.tries > 0);
    expect(await readiness()).toEqual({
      status: 503,
      ready: false,
      why: ['LOG_CLOSED: The log took no records: no broker answers. Trying again.'],
    });
    expect(await metric('cardan_bridge_ready')).toBe(0);
    expect(await metric('cardan_bridge_queue_messages')).toBe(1);
    expect(await metric('cardan_bridge_append_retries_total')).toBeGreaterThan(0);
    door.open = true;
    await until('it is ready', async () => (await readiness()).ready);
    expect(await metric('cardan_bridge_queue_messages')).toBe(0);
  });

  it('is not ready without a broker, and live all the same', async () => {
    await broker.close();
    await until('it has noticed', async () => (await readiness()).status === 503);
    expect((await readiness()).why.join()).toContain('MQTT_UNREACHABLE');
    expect(await metric('cardan_bridge_connected')).toBe(0);
    expect(await get('/livez')).toMatchObject({ status: 200 });
  });

  it('is not ready while it drains', async () => {
    door.open = false;
    await send(telemetry(1, 5));
    await until('it has tried', () => door.tries > 0);
    const closed = bridge.close(60_000);
    expect((await readiness()).why).toContain('The bridge is shutting down.');
    door.open = true;
    expect(await closed).toBe(0);
  });

  it('counts what passes, and shows the process', async () => {
    await send(telemetry(1, 5));
    await send(telemetry(6, 5));
    await send(Buffer.from('nonsense'));
    await until('it has all', async () => (await metric('cardan_bridge_rows_total')) === 10);
    await until('it has the dead letter', () => bridge.counts.records === 3);
    expect(await metric('cardan_bridge_messages_total{channel="telemetry"}')).toBe(3);
    expect(await metric('cardan_bridge_records_total{topic="telemetry"}')).toBe(2);
    expect(await metric('cardan_bridge_records_total{topic="dead-letters"}')).toBe(1);
    expect(await metric('cardan_bridge_dead_letters_total{code="TELEMETRY_MALFORMED"}')).toBe(1);
    expect(await metric('cardan_bridge_connected')).toBe(1);
    expect(await metric('cardan_bridge_queue_bytes')).toBe(0);
    expect(await metric('cardan_bridge_append_seconds_count{topic="telemetry"}')).toBeGreaterThan(0);
    expect(await metric('nodejs_eventloop_lag_seconds')).toBeDefined();
    expect(await metric('process_resident_memory_bytes')).toBeGreaterThan(0);
  });

  it('says that its port is taken', async () => {
    await expect(serveBridge(bridge, '127.0.0.1', Number(new URL(http.url).port))).rejects.toMatchObject({
      code: 'PORT_IN_USE',
    });
  });
});

describe('cardan-bridge', () => {
  it('says where its health and metrics are, and ends with status 0', async () => {
    const bin = fileURLToPath(new URL('../bin/cardan-bridge.js', import.meta.url));
    const child = spawn(
      process.execPath,
      [bin, '--mqtt', broker.url, '--log', `sqlite:${join(dir, 'child.db')}`, '--metrics-port', '0'],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let words = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (data: Buffer) => {
        words += data.toString('utf8');
        if (words.includes('→')) resolve();
      });
      child.once('exit', () => reject(new Error(words)));
    });
    const url = /health and metrics at (\S+)/.exec(words)![1]!;
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect(words).toContain('run only one for this log');
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(words).toContain('0 messages, 0 rows in the log, 0 dead letters');
  });
});
