import zlib from 'node:zlib';
import { CardanError, messageOf } from '@cardan/shared';
import { BRIDGE_DEFAULTS } from './config.ts';

type Decompress = (data: Uint8Array, options: { maxOutputLength: number }) => Buffer;

/** Node.js has zstd from 22.15 on. */
const { zstdDecompressSync } = zlib as { zstdDecompressSync?: Decompress };

/**
 * A batch as it goes into the log: cars may compress theirs for the way, readers of the log need not know. The first
 * bytes tell, as MQTT 3.1.1 has no place for it. No `TelemetryBatch` begins like that: 1f would be a field of wire
 * type 7, which protobuf does not have; 28 an unpacked time delta, which is not accepted.
 *
 *   1f 8b         gzip (RFC 1952)
 *   28 b5 2f fd   zstd (RFC 8878)
 *
 * What it becomes is bounded, so that a small message cannot fill the memory.
 *
 * @throws CardanError TELEMETRY_MALFORMED
 */
export function decompressed(payload: Buffer): Buffer {
  if (payload.length < 4) return payload;
  if (payload.readUInt16BE(0) === 0x1f8b) return unpack('gzip', zlib.gunzipSync, payload);
  if (payload.readUInt32BE(0) !== 0x28b52ffd) return payload;
  if (zstdDecompressSync === undefined)
    throw new CardanError(
      'TELEMETRY_MALFORMED',
      'A batch is compressed with zstd, which this Node.js cannot read: run the bridge on 22.15 or newer, or let cars use gzip.',
    );
  return unpack('zstd', zstdDecompressSync, payload);
}

function unpack(name: string, decompress: Decompress, payload: Buffer): Buffer {
  try {
    return decompress(payload, { maxOutputLength: BRIDGE_DEFAULTS.batchBytesMax });
  } catch (cause) {
    throw new CardanError(
      'TELEMETRY_MALFORMED',
      `A batch is no ${name} of at most ${BRIDGE_DEFAULTS.batchBytesMax} bytes (${messageOf(cause)}).`,
      { cause },
    );
  }
}
