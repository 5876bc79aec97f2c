import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import zlib from 'node:zlib';
import mqtt from 'mqtt';
import { describe, expect, it } from 'vitest';
import { decodeTelemetry } from '@cardan/shared';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { Bridge } from '../src/bridge.ts';
import { BRIDGE_DEFAULTS } from '../src/config.ts';
import { decompressed } from '../src/decompress.ts';
import { startAedes } from './aedes-broker.ts';
import { recordsOf, telemetry, until } from './cars.ts';

const batch = telemetry(1, 100);
const malformed = expect.objectContaining({ code: 'TELEMETRY_MALFORMED' }) as Error;
const { zstdCompressSync } = zlib as { zstdCompressSync?: (data: Buffer) => Buffer };

describe('a batch that is compressed', () => {
  it('becomes what it was, and others stay as they are', () => {
    expect(decompressed(zlib.gzipSync(batch))).toEqual(batch);
    for (const other of [batch, Buffer.alloc(0), Buffer.from([0x1f, 0x8b]), Buffer.from('{"a":1}')])
      expect(decompressed(other)).toBe(other);
  });

  it.skipIf(zstdCompressSync === undefined)('may be zstd where this Node.js has it', () => {
    expect(decompressed(zstdCompressSync!(batch))).toEqual(batch);
  });

  it.skipIf(zstdCompressSync !== undefined)(
    'is refused with what to do where this Node.js has no zstd',
    () => {
      expect(() => decompressed(Buffer.from('28b52ffd0000', 'hex'))).toThrow(
        expect.objectContaining({ message: expect.stringContaining('22.15') as string }) as Error,
      );
    },
  );

  it('is refused when it is damaged', () => {
    const zipped = zlib.gzipSync(batch);
    expect(() => decompressed(zipped.subarray(0, zipped.length / 2))).toThrow(malformed);
    const damaged = Buffer.from(zipped);
    damaged[zipped.length - 6]! ^= 1; // its checksum
    expect(() => decompressed(damaged)).toThrow(malformed);
  });

  it('is refused when it would become too large', () => {
    const bomb = zlib.gzipSync(Buffer.alloc(100 * 1024 * 1024));
    expect(bomb.length).toBeLessThan(110_000);
    expect(() => decompressed(bomb)).toThrow(malformed);
    const most = Buffer.alloc(BRIDGE_DEFAULTS.batchBytesMax);
    expect(decompressed(zlib.gzipSync(most)).length).toBe(most.length);
  });

  it('begins as no batch can begin that a reader accepts', () => {
    for (const start of ['1f8b', '28b52ffd'])
      expect(() => decodeTelemetry(Buffer.concat([Buffer.from(start, 'hex'), batch]))).toThrow(malformed);
  });
});

it('is plain in the log, acknowledged, and a dead letter as it came when it is damaged', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bridge-'));
  const broker = await startAedes();
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  const car = await mqtt.connectAsync(broker.url, { protocolVersion: 4 });
  const bridge = await Bridge.start({ mqttUrl: broker.url, log });
  try {
    const acks: string[] = [];
    car.on('message', (_topic, payload) => acks.push(payload.toString('utf8')));
    await car.subscribeAsync('cardan/v1/a/ack');
    const damaged = zlib.gzipSync(batch).subarray(0, 50);
    await car.publishAsync('cardan/v1/a/telemetry', damaged, { qos: 1 });
    await car.publishAsync('cardan/v1/a/telemetry', zlib.gzipSync(batch), { qos: 1 });
    await until('an acknowledgement', () => acks.length > 0);
    expect(JSON.parse(acks[0]!)).toMatchObject({ rows: [[1, 100]] });
    expect((await recordsOf(log, 'telemetry')).map(({ value }) => value)).toEqual([batch]);
    const [dead] = await recordsOf(log, 'dead-letters');
    expect(dead?.value).toEqual(damaged);
    expect(dead?.headers).toMatchObject({ 'error-code': 'TELEMETRY_MALFORMED' });
    expect(bridge.counts).toMatchObject({ rows: 100, deadLetters: 1 });
  } finally {
    await bridge.close();
    await car.endAsync(true);
    await log.close();
    await broker.close();
    rmSync(dir, { recursive: true });
  }
});
