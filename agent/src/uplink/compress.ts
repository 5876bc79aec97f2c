import zlib from 'node:zlib';
import type { Compression } from '../outbox.ts';

/** Smaller payloads are mostly names and numbers that differ: not worth the computing. */
const BYTES_MIN = 512;

/** It must get smaller by a tenth, or it goes as it is. */
const PART_MAX = 0.9;

/** Node.js has it from 22.15 on. */
const { zstdCompressSync } = zlib as { zstdCompressSync?: (data: Buffer) => Buffer };

/**
 * The payload as it goes up: compressed if that pays. Readers know by the first bytes, with which neither a
 * `TelemetryBatch` nor JSON begins: 1f 8b is gzip, 28 b5 2f fd is zstd. Without zstd it is gzip.
 */
export function compressed(payload: Buffer, how: Compression): Buffer {
  if (how === 'none' || payload.byteLength < BYTES_MIN) return payload;
  const smaller =
    how === 'zstd' && zstdCompressSync !== undefined ? zstdCompressSync(payload) : zlib.gzipSync(payload);
  return smaller.byteLength <= PART_MAX * payload.byteLength ? smaller : payload;
}
