import * as zlib from 'node:zlib';
import { promisify } from 'node:util';
import { crc32c } from '@node-rs/crc32';
import { compressFrameSync, decompressFrameSync } from 'lz4-napi';
import { CardanError, messageOf } from '../../errors.ts';
import type { LogRecord, NewRecord } from '../event-log.ts';
import type { Compression } from '../kafka-settings.ts';

/**
 * Record batches as they lie in Kafka and go over its wire ("message format v2", magic 2), the only format that Kafka 4
 * has. https://kafka.apache.org/documentation/#messageformat
 *
 *    at  bytes                               a record, in the part that may be compressed
 *     0      8  base offset                  varint   bytes that follow
 *     8      4  bytes that follow            int8     attributes, none
 *    12      4  leader epoch                 varint   timestamp - base timestamp
 *    16      1  magic, 2                     varint   offset - base offset
 *    17      4  crc32c of all from 21        varint   bytes of the key, -1 for null; key
 *    21      2  attributes                   varint   bytes of the value, -1 for null; value
 *    23      4  last offset - base offset    varint   number of headers, and for each:
 *    27      8  base timestamp                          varint   bytes of the name; name
 *    35      8  largest timestamp                       varint   bytes of the value, -1 for null; value
 *    43      8  producer id
 *    51      2  producer epoch               attributes: 0-2 compression, 3 time is that of the append,
 *    53      4  base sequence                            4 transactional, 5 control
 *    57      4  number of records            varints are zigzag
 *    61         records
 */

/** Who writes, and the number of the batch's first record: by these a broker drops copies. */
export interface BatchProducer {
  producerId: bigint;
  epoch: number;
  sequence: number;
}

/** A transaction that was given up: its records from this offset on, up to the marker of its end, count as not there. */
export interface AbortedTransaction {
  producerId: bigint;
  firstOffset: number;
}

const HEAD_BYTES = 61;
/** What stands before the part that the length counts. */
const PREFIX_BYTES = 12;
const CRC_AT = 17;
const CRC_FROM = 21;
const MAGIC = 2;
const COMPRESSION_BITS = 7;
const APPEND_TIME = 8;
const TRANSACTIONAL = 16;
const CONTROL = 32;
const ABORT_MARKER = 0;
/** A batch is at most 16 MiB as we write it; one that claims to be far more is an attack or damage. */
const INFLATED_BYTES_MAX = 256 * 1024 * 1024;
/** Two varints of 5 bytes, one of 10, the attributes, and the number of headers. */
const RECORD_BYTES_MAX = 5 + 1 + 10 + 5 + 5 + 5 + 5;
const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

// Compressing takes milliseconds a batch: it goes to another thread, where the library can.
const gzip = promisify(zlib.gzip);
const gunzip = promisify(zlib.gunzip);
/** Node.js 22.15 and newer. */
const { zstdDecompress } = zlib as { zstdDecompress?: typeof zlib.gunzip };

/** Most bytes that a record takes in a batch before compression. */
export function recordSizeBound({ key, value, headers }: NewRecord): number {
  let bytes = RECORD_BYTES_MAX + 3 * (key?.length ?? 0) + (value?.length ?? 0);
  for (const name in headers) bytes += 10 + 3 * (name.length + headers[name]!.length);
  return bytes;
}

/** The batch that holds these records, which are at least one. */
export async function encodeRecordBatch(
  records: readonly NewRecord[],
  compression: Compression,
  { producerId, epoch, sequence }: BatchProducer,
): Promise<Buffer> {
  const base = records[0]!.timestamp;
  let bound = HEAD_BYTES;
  let largest = base;
  for (const record of records) {
    bound += recordSizeBound(record);
    if (record.timestamp > largest) largest = record.timestamp;
  }
  let batch: Buffer = Buffer.allocUnsafe(bound);
  let end = HEAD_BYTES;
  for (let i = 0; i < records.length; i++) end = writeRecord(batch, end, records[i]!, i, base);
  if (compression !== 'none') {
    const plain = batch.subarray(HEAD_BYTES, end);
    const packed = compression === 'gzip' ? await gzip(plain) : compressFrameSync(plain);
    const head = batch;
    end = HEAD_BYTES + packed.length;
    batch = Buffer.allocUnsafe(end);
    head.copy(batch, 0, 0, HEAD_BYTES);
    packed.copy(batch, HEAD_BYTES);
  }
  batch.writeBigInt64BE(0n, 0);
  batch.writeInt32BE(end - PREFIX_BYTES, 8);
  batch.writeInt32BE(-1, 12);
  batch.writeInt8(MAGIC, 16);
  batch.writeInt16BE(CODECS.indexOf(compression), 21);
  batch.writeInt32BE(records.length - 1, 23);
  batch.writeBigInt64BE(BigInt(base), 27);
  batch.writeBigInt64BE(BigInt(largest), 35);
  batch.writeBigInt64BE(producerId, 43);
  batch.writeInt16BE(epoch, 51);
  batch.writeInt32BE(sequence, 53);
  batch.writeInt32BE(records.length, 57);
  batch.writeUInt32BE(crc32c(batch.subarray(CRC_FROM, end)), CRC_AT);
  return batch.subarray(0, end);
}

/** Writes one record, and returns where it ends. */
function writeRecord(to: Buffer, start: number, record: NewRecord, index: number, base: number): number {
  const { key, value, timestamp, headers } = record;
  // Its length stands before it, and is known after it: room for two bytes of it is almost always right.
  let at = start + 2;
  to[at++] = 0;
  at = writeVarint(to, at, timestamp - base);
  at = writeVarint(to, at, index);
  at = key === null ? writeVarint(to, at, -1) : writeText(to, at, key);
  if (value === null) at = writeVarint(to, at, -1);
  else {
    at = writeVarint(to, at, value.length);
    to.set(value, at);
    at += value.length;
  }
  const names = headers === undefined ? [] : Object.keys(headers);
  at = writeVarint(to, at, names.length);
  for (const name of names) {
    at = writeText(to, at, name);
    at = writeText(to, at, headers![name]!);
  }
  const length = at - start - 2;
  const body = start + varintBytes(length);
  if (body !== start + 2) to.copyWithin(body, start + 2, at);
  writeVarint(to, start, length);
  return body + length;
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = 2 * value; rest >= 0x80; rest /= 0x80) bytes++;
  return bytes;
}

/** A whole number of at most 53 bits as a zigzag varint; returns where it ends. */
function writeVarint(to: Buffer, at: number, value: number): number {
  if (value >= -0x40000000 && value < 0x40000000) {
    let bits = (value << 1) ^ (value >> 31);
    while (bits >= 0x80) {
      to[at++] = (bits & 0x7f) | 0x80;
      bits >>>= 7;
    }
    to[at++] = bits;
    return at;
  }
  // Past 32 bits, and past 53 when doubled: BigInt. Only times far apart come here.
  let bits = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
  for (; bits >= 0x80n; bits >>= 7n) to[at++] = Number(bits & 0x7fn) | 0x80;
  to[at++] = Number(bits);
  return at;
}

/** A text as UTF-8 behind its length; returns where it ends. */
function writeText(to: Buffer, at: number, text: string): number {
  const { length } = text;
  // Short ASCII is quicker by hand than by a call into Node.
  if (length < 64) {
    let i = 0;
    let end = writeVarint(to, at, length);
    for (; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 0x80) break;
      to[end++] = code;
    }
    if (i === length) return end;
  }
  const bytes = Buffer.byteLength(text);
  const begin = writeVarint(to, at, bytes);
  to.write(text, begin);
  return begin + bytes;
}

/**
 * The records from offset `from` on out of batches as a fetch brings them, and the offset behind the last batch. A
 * batch that is cut off at the end is left for the next fetch. What was rolled back is left out; values are views.
 *
 * Throws LOG_CORRUPT (a checksum or a length is wrong), LOG_COMPRESSION.
 */
export async function decodeRecordBatches(
  bytes: Buffer,
  from: number,
  aborted: readonly AbortedTransaction[] = [],
): Promise<{ records: LogRecord[]; next: number }> {
  const records: LogRecord[] = [];
  const rolledBack = new Set<bigint>();
  const toCome = [...aborted].sort((a, b) => a.firstOffset - b.firstOffset);
  let next = from;
  for (let at = 0; at + HEAD_BYTES <= bytes.length;) {
    const base = Number(bytes.readBigInt64BE(at));
    const end = at + PREFIX_BYTES + bytes.readInt32BE(at + 8);
    if (end > bytes.length) break;
    if (end < at + HEAD_BYTES) throw damaged(base, 'its length is wrong');
    const magic = bytes.readInt8(at + 16);
    if (magic !== MAGIC) throw damaged(base, `it has the unknown format ${magic}`);
    if (crc32c(bytes.subarray(at + CRC_FROM, end)) !== bytes.readUInt32BE(at + CRC_AT))
      throw damaged(base, 'its checksum is wrong');
    const attributes = bytes.readInt16BE(at + 21);
    const last = base + bytes.readInt32BE(at + 23);
    const producerId = bytes.readBigInt64BE(at + 43);
    while (toCome.length > 0 && toCome[0]!.firstOffset <= last) rolledBack.add(toCome.shift()!.producerId);
    const skipped =
      last < from ||
      (attributes & CONTROL) !== 0 ||
      ((attributes & TRANSACTIONAL) !== 0 && rolledBack.has(producerId));
    if (!skipped) {
      const body = await inflate(attributes & COMPRESSION_BITS, bytes.subarray(at + HEAD_BYTES, end), base);
      const reader = new RecordReader(body, base);
      const appendTime = (attributes & APPEND_TIME) === 0 ? undefined : Number(bytes.readBigInt64BE(at + 35));
      const time = Number(bytes.readBigInt64BE(at + 27));
      for (let count = bytes.readInt32BE(at + 57); count > 0; count--) {
        const record = reader.record(time);
        if (appendTime !== undefined) record.timestamp = appendTime;
        if (record.offset >= from) records.push(record);
      }
    } else if ((attributes & CONTROL) !== 0) {
      const marker = new RecordReader(bytes.subarray(at + HEAD_BYTES, end), base).controlType();
      if (marker === ABORT_MARKER) rolledBack.delete(producerId);
    }
    next = Math.max(next, last + 1);
    at = end;
  }
  return { records, next };
}

async function inflate(codec: number, packed: Buffer, offset: number): Promise<Buffer> {
  const name = CODECS[codec];
  try {
    if (name === 'none') return packed;
    if (name === 'gzip') return await gunzip(packed, { maxOutputLength: INFLATED_BYTES_MAX });
    if (name === 'lz4') return decompressFrameSync(packed);
    if (name === 'zstd' && zstdDecompress !== undefined)
      return await promisify(zstdDecompress)(packed, { maxOutputLength: INFLATED_BYTES_MAX });
  } catch (cause) {
    throw damaged(offset, `it cannot be decompressed (${messageOf(cause)})`, cause);
  }
  throw new CardanError(
    'LOG_COMPRESSION',
    `The records from offset ${offset} on are compressed with ${name ?? `codec ${codec}`}, which Node.js ${process.version} cannot read here. ` +
      'Let their producer use none, gzip or lz4 (zstd takes Node.js 22.15 or newer).',
  );
}

function damaged(offset: number, why: string, cause?: unknown): CardanError {
  return new CardanError('LOG_CORRUPT', `The record batch at offset ${offset} is damaged: ${why}.`, {
    cause,
  });
}

/** Reads the records of one batch. */
class RecordReader {
  readonly #bytes: Buffer;
  readonly #base: number;
  #at = 0;
  /** The key before: records of a batch often have the same. */
  #key = '';

  constructor(bytes: Buffer, base: number) {
    this.#bytes = bytes;
    this.#base = base;
  }

  record(baseTime: number): LogRecord {
    const length = this.#varint();
    const end = this.#at + length;
    if (length < 0 || end > this.#bytes.length) throw damaged(this.#base, 'a record goes beyond its end');
    this.#at++; // attributes
    const timestamp = baseTime + this.#varint();
    const offset = this.#base + this.#varint();
    const keyBytes = this.#varint();
    const key = keyBytes < 0 ? null : this.#keyText(keyBytes);
    const valueBytes = this.#varint();
    const value = valueBytes < 0 ? null : this.#bytes.subarray(this.#at, this.#skip(valueBytes));
    const headers: Record<string, string> = {};
    for (let count = this.#varint(); count > 0; count--) {
      const name = this.#text(this.#varint());
      const bytes = this.#varint();
      const text = bytes < 0 ? '' : this.#text(bytes);
      // The one name that would not become a property of its own.
      if (name === '__proto__')
        Object.defineProperty(headers, name, {
          value: text,
          enumerable: true,
          configurable: true,
          writable: true,
        });
      else headers[name] = text;
    }
    if (this.#at !== end) throw damaged(this.#base, 'a record is not as long as it says');
    return { offset, key, value, timestamp, headers };
  }

  /** Of a control record: 0 aborts, 1 commits. Its key is a version and a type, two bytes each. */
  controlType(): number {
    this.#varint();
    this.#at++;
    this.#varint();
    this.#varint();
    this.#varint();
    this.#at += 4;
    if (this.#at > this.#bytes.length) throw damaged(this.#base, 'a control record is cut off');
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  #varint(): number {
    const bytes = this.#bytes;
    let bits = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[this.#at++];
      if (byte === undefined) throw damaged(this.#base, 'it ends within a number');
      bits |= (byte & 0x7f) << shift;
      if (byte < 0x80) return (bits >>> 1) ^ -(bits & 1);
    }
    return this.#longVarint(BigInt(bits));
  }

  /** On from the fifth byte; at most ten. */
  #longVarint(low: bigint): number {
    let bits = low;
    for (let shift = 28n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw damaged(this.#base, 'it ends within a number');
      bits |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number((bits >> 1n) ^ -(bits & 1n));
    }
    throw damaged(this.#base, 'a number has more than ten bytes');
  }

  #skip(bytes: number): number {
    this.#at += bytes;
    if (bytes < 0 || this.#at > this.#bytes.length) throw damaged(this.#base, 'a record goes beyond its end');
    return this.#at;
  }

  #keyText(length: number): string {
    const before = this.#key;
    const begin = this.#at;
    if (before.length === length && begin + length <= this.#bytes.length) {
      let i = 0;
      for (; i < length; i++) {
        const byte = this.#bytes[begin + i]!;
        if (byte >= 0x80 || byte !== before.charCodeAt(i)) break;
      }
      if (i === length) {
        this.#at += length;
        return before;
      }
    }
    this.#key = this.#text(length);
    return this.#key;
  }

  #text(length: number): string {
    const begin = this.#at;
    return this.#bytes.toString('utf8', begin, this.#skip(length));
  }
}
