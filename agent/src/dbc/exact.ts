import { scaleInteger } from './conversion.ts';
import type { Signal } from './dbc.ts';
import { fromFloat16 } from './float16.ts';
import { pieces } from './layout.ts';

/**
 * The scaled value of a signal without loss: a bigint where it is an integer, else the double. Slow; for 64-bit
 * integers that a double cannot hold.
 *
 * @param data the frame, which must hold the whole signal
 */
export function exactValue(signal: Signal, data: Uint8Array): bigint | number {
  const bits = rawBits(signal, data);
  if (signal.type === 'float') {
    const raw = toFloat(bits, signal.length);
    return signal.conversion.kind === 'identity' ? raw : raw * signal.scale + signal.offset;
  }
  return scaleInteger(
    signal.conversion,
    signal.type === 'signed' ? BigInt.asIntN(signal.length, bits) : bits,
  );
}

function rawBits(signal: Signal, data: Uint8Array): bigint {
  let raw = 0n;
  for (const { byte, shift, bits, at } of pieces(signal))
    raw |= BigInt(((data[byte] ?? 0) >> shift) & ((1 << bits) - 1)) << BigInt(at);
  return raw;
}

function toFloat(bits: bigint, length: number): number {
  if (length === 16) return fromFloat16(Number(bits));
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return length === 32 ? view.getFloat32(4) : view.getFloat64(0);
}
