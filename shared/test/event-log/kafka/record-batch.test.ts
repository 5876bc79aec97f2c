import { readFileSync } from 'node:fs';
import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NewRecord } from '@cardan/shared/event-log';
import {
  decodeRecordBatches,
  encodeRecordBatch,
  recordSizeBound,
} from '../../../src/event-log/kafka/record-batch.ts';

/** Made by Kafka's own Java classes: MakeRecordBatches.java. */
const JAVA = Object.fromEntries(
  Object.entries(
    JSON.parse(readFileSync(new URL('record-batches.json', import.meta.url), 'utf8')) as Record<
      string,
      string
    >,
  ).map(([name, base64]) => [name, Buffer.from(base64, 'base64')]),
);
const TIME = 1_700_000_000_000;
const PRODUCER = { producerId: 4711n, epoch: 3, sequence: 1_000_000 };
const RECORDS: NewRecord[] = [
  { key: 'car-1', value: Buffer.from('one'), timestamp: TIME },
  {
    key: 'car-1',
    value: Buffer.from('two'),
    timestamp: TIME + 1000,
    headers: { ce_type: 'io.cardan.telemetry', grüße: 'äöü 漢字 🚗', empty: '' },
  },
  { key: 'wagen-é', value: Buffer.from('ten years late'), timestamp: TIME - 86_400_000 * 3650 },
  { key: null, value: Buffer.alloc(10_000, 7), timestamp: TIME + 4_000_000_000_000 },
  { key: '', value: null, timestamp: 0 },
  { key: 'x'.repeat(70), value: Buffer.alloc(0), timestamp: TIME + 63 },
];
const read = (offset = 0) => RECORDS.map((record, i) => ({ headers: {}, ...record, offset: offset + i }));
const code = (name: string) => expect.objectContaining({ name: 'CardanError', code: name }) as unknown;

describe('a record batch', () => {
  it("is written as Kafka's own client writes it, to the byte", async () => {
    expect(await encodeRecordBatch(RECORDS, 'none', PRODUCER)).toEqual(JAVA.none);
  });

  it.each(['none', 'gzip', 'lz4'])("of Kafka's own client is read, compressed with %s", async (codec) => {
    expect(await decodeRecordBatches(JAVA[codec]!, 0)).toEqual({ records: read(), next: 6 });
  });

  it('compressed with zstd is read where Node.js can, and else refused with what to do', async () => {
    const reading = decodeRecordBatches(JAVA.zstd!, 0);
    if ('zstdDecompress' in zlib) expect(await reading).toEqual({ records: read(), next: 6 });
    else await expect(reading).rejects.toEqual(code('LOG_COMPRESSION'));
  });

  it('in a compression that is not known is refused with its name', async () => {
    await expect(decodeRecordBatches(JAVA.snappy!, 0)).rejects.toThrow(/snappy/);
    await expect(decodeRecordBatches(JAVA.snappy!, 0)).rejects.toEqual(code('LOG_COMPRESSION'));
  });

  it('may begin at any offset, and have the time of its append', async () => {
    expect(await decodeRecordBatches(JAVA.far!, 0)).toEqual({ records: read(2 ** 40), next: 2 ** 40 + 6 });
    const { records } = await decodeRecordBatches(JAVA.appendTime!, 0);
    expect(records).toEqual(read().map((record) => ({ ...record, timestamp: TIME + 5 })));
  });

  it('is read from an offset within it, and one cut off at the end is left', async () => {
    const two = Buffer.concat([JAVA.none!, JAVA.far!.subarray(0, 100)]);
    expect(await decodeRecordBatches(two, 4)).toEqual({ records: read().slice(4), next: 6 });
    expect(await decodeRecordBatches(JAVA.none!, 6)).toEqual({ records: [], next: 6 });
    for (const length of [0, 5, 11, 12, 60, 61, JAVA.none!.length - 1])
      expect(await decodeRecordBatches(JAVA.none!.subarray(0, length), 0)).toEqual({ records: [], next: 0 });
  });

  it('of a transaction counts unless it was rolled back; its marker is passed over', async () => {
    const transaction = (marker: string) => Buffer.concat([JAVA.transactional!, JAVA[marker]!]);
    expect(await decodeRecordBatches(transaction('committed'), 0)).toEqual({ records: read(), next: 7 });
    const aborted = [{ producerId: 4711n, firstOffset: 0 }];
    expect(await decodeRecordBatches(transaction('aborted'), 0, aborted)).toEqual({ records: [], next: 7 });
    const others = [{ producerId: 4712n, firstOffset: 0 }];
    expect((await decodeRecordBatches(transaction('committed'), 0, others)).records).toHaveLength(6);
  });

  it('of the same producer after one that was rolled back counts', async () => {
    const again = Buffer.from(JAVA.transactional!);
    again.writeBigInt64BE(7n, 0); // the offset is no part of the checksum
    const bytes = Buffer.concat([JAVA.transactional!, JAVA.aborted!, again]);
    const aborted = [{ producerId: 4711n, firstOffset: 0 }];
    expect(await decodeRecordBatches(bytes, 0, aborted)).toEqual({ records: read(7), next: 13 });
  });

  it.each(['none', 'gzip', 'lz4'] as const)(
    'of any records comes back, compressed with %s',
    async (codec) => {
      const text = fc.string({ unit: 'grapheme', maxLength: 80 });
      const record = fc.record({
        key: fc.option(text),
        value: fc.option(fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))),
        timestamp: fc.integer({ min: 0, max: 8.64e15 }),
        headers: fc.dictionary(text, text, { noNullPrototype: true }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 20 }), async (records) => {
          const batch = await encodeRecordBatch(records, codec, PRODUCER);
          const bound = records.reduce((sum, one) => sum + recordSizeBound(one), 61);
          if (codec === 'none') expect(batch.length).toBeLessThanOrEqual(bound);
          const back = await decodeRecordBatches(batch, 0);
          expect(back.next).toBe(records.length);
          expect(back.records).toEqual(records.map((one, offset) => ({ ...one, offset })));
        }),
      );
    },
  );

  it('that is damaged anywhere is never taken for sound', async () => {
    for (let at = 16; at < 400; at++) {
      const bytes = Buffer.from(JAVA.none!);
      bytes[at]! ^= 0x10;
      await expect(decodeRecordBatches(bytes, 0)).rejects.toEqual(code('LOG_CORRUPT'));
    }
  });

  it('with a good checksum and nonsense in it is refused, too', async () => {
    const { crc32c } = await import('@node-rs/crc32');
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 61, max: 260 }),
        fc.integer({ min: 0, max: 255 }),
        async (at, byte) => {
          const bytes = Buffer.from(JAVA.none!);
          bytes[at] = byte;
          bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17);
          await decodeRecordBatches(bytes, 0).catch((error: unknown) => {
            expect(error).toEqual(code('LOG_CORRUPT'));
          });
        },
      ),
      { numRuns: 500 },
    );
  });
});
