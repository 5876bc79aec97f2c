/** Record batches, message format v2. */
import { gunzipSync, gzipSync } from 'node:zlib';
import { crc32c } from '@node-rs/crc32';
import { compressFrameSync, decompressFrameSync } from 'lz4-napi';
import type { LogRecord, NewRecord } from '../event-log.ts';
import type { Compression } from '../kafka-settings.ts';
export interface BatchProducer {
  producerId: bigint;
  epoch: number;
  sequence: number;
}
export interface AbortedTransaction {
  producerId: bigint;
  firstOffset: number;
}
export function recordSizeBound(r: NewRecord): number {
  let n = 40 + 3 * (r.key?.length ?? 0) + (r.value?.length ?? 0);
  for (const k in r.headers) n += 12 + 3 * k.length + 3 * r.headers[k]!.length;
  return n;
}
function varint(out: number[], value: number | bigint): void {
  let v = BigInt(value);
  v = v >= 0n ? v * 2n : -v * 2n - 1n;
  while (v > 127n) {
    out.push(Number(v & 127n) | 128);
    v >>= 7n;
  }
  out.push(Number(v));
}
export async function encodeRecordBatch(
  records: readonly NewRecord[],
  compression: Compression,
  p: BatchProducer,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  const first = records[0]!.timestamp;
  let max = 0;
  records.forEach((r, i) => {
    max = Math.max(max, r.timestamp);
    const body: Buffer[] = [];
    const head: number[] = [0];
    varint(head, r.timestamp - first);
    varint(head, i);
    const put = (b: Uint8Array | null) => {
      const h: number[] = [];
      if (b === null) varint(h, -1);
      else varint(h, b.length);
      body.push(Buffer.from(h));
      if (b) body.push(Buffer.from(b));
    };
    body.push(Buffer.from(head));
    put(r.key === null ? null : Buffer.from(r.key));
    put(r.value);
    const hs = Object.keys(r.headers ?? {});
    const c: number[] = [];
    varint(c, hs.length);
    body.push(Buffer.from(c));
    for (const h of hs) {
      put(Buffer.from(h));
      put(Buffer.from(r.headers![h]!));
    }
    const b = Buffer.concat(body);
    const l: number[] = [];
    varint(l, b.length);
    parts.push(Buffer.from(l), b);
  });
  let payload: Buffer = Buffer.concat(parts);
  if (compression === 'gzip') payload = gzipSync(payload);
  else if (compression === 'lz4') payload = compressFrameSync(payload);
  const b = Buffer.alloc(61);
  b.writeInt32BE(49 + payload.length, 8);
  b.writeInt32BE(-1, 12);
  b.writeInt8(2, 16);
  b.writeInt16BE(compression === 'gzip' ? 1 : compression === 'lz4' ? 3 : 0, 21);
  b.writeInt32BE(records.length - 1, 23);
  b.writeBigInt64BE(BigInt(first), 27);
  b.writeBigInt64BE(BigInt(max), 35);
  b.writeBigInt64BE(p.producerId, 43);
  b.writeInt16BE(p.epoch, 51);
  b.writeInt32BE(p.sequence, 53);
  b.writeInt32BE(records.length, 57);
  const all = Buffer.concat([b, payload]);
  all.writeUInt32BE(crc32c(all.subarray(21)), 17);
  return all;
}
export async function decodeRecordBatches(
  bytes: Buffer,
  from: number,
  aborted: readonly AbortedTransaction[] = [],
): Promise<{ records: LogRecord[]; next: number }> {
  const records: LogRecord[] = [];
  let next = from;
  let at = 0;
  void aborted;
  while (at + 61 <= bytes.length) {
    const length = bytes.readInt32BE(at + 8);
    if (at + 12 + length > bytes.length) break;
    const base = Number(bytes.readBigInt64BE(at));
    const attr = bytes.readInt16BE(at + 21);
    const first = bytes.readBigInt64BE(at + 27);
    let body: Buffer = bytes.subarray(at + 61, at + 12 + length);
    const count = bytes.readInt32BE(at + 57);
    if ((attr & 7) === 1) body = gunzipSync(body);
    else if ((attr & 7) === 3) body = decompressFrameSync(body);
    let i = 0;
    const vi = () => {
      let v = 0n,
        s = 0n;
      for (;;) {
        const x = body[i++]!;
        v |= BigInt(x & 127) << s;
        if (x < 128) break;
        s += 7n;
      }
      return Number((v >> 1n) ^ -(v & 1n));
    };
    const by = () => {
      const n = vi();
      if (n < 0) return null;
      i += n;
      return body.subarray(i - n, i);
    };
    if (!(attr & 32))
      for (let k = 0; k < count; k++) {
        vi();
        i++;
        const dt = vi();
        const d = vi();
        const key = by();
        const value = by();
        const n = vi();
        const headers: Record<string, string> = {};
        for (let h = 0; h < n; h++) {
          const name = String(by());
          Object.defineProperty(headers, name, {
            value: String(by() ?? ''),
            enumerable: true,
            configurable: true,
            writable: true,
          });
        }
        if (base + d >= from)
          records.push({
            offset: base + d,
            key: key === null ? null : String(key),
            value: value,
            timestamp: Number(first) + dt,
            headers,
          });
      }
    next = Math.max(next, base + bytes.readInt32BE(at + 23) + 1);
    at += 12 + length;
  }
  return { records, next };
}
