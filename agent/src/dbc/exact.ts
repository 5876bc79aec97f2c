import { scaleInteger } from './conversion.ts';
import type { Signal } from './dbc.ts';
import { fromFloat16, roundHalfEven, toFloat16 } from './float16.ts';
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

/**
 * The raw bits of a scaled integer, computed without loss as far as cantools does, and rounded half to even. Null where
 * doubles do as well, or nothing fits: the encoder's own code then takes or refuses it.
 */
export function exactRaw({ type, length, conversion }: Signal, value: bigint): bigint | null {
  if (conversion.kind === 'identity') return type === 'float' ? null : value;
  if (Number(conversion.scale) === 0) return null;
  if (conversion.kind === 'linear') {
    if (conversion.offsetInteger === null) return null;
    const raw = Number(value - conversion.offsetInteger) / conversion.scale;
    if (!Number.isFinite(raw)) return null;
    return type === 'float' ? floatBits(raw, length) : BigInt(roundHalfEven(raw));
  }
  const { scale, offset } = conversion;
  const [top, bottom] = scale < 0n ? [offset - value, -scale] : [value - offset, scale];
  const rest = ((top % bottom) + bottom) % bottom;
  const floor = (top - rest) / bottom;
  const up = 2n * rest > bottom || (2n * rest === bottom && floor % 2n !== 0n);
  return up ? floor + 1n : floor;
}

/** Null when the float cannot hold a number of this size. */
function floatBits(raw: number, length: number): bigint | null {
  const view = new DataView(new ArrayBuffer(8));
  if (length === 16) view.setUint16(6, toFloat16(raw));
  else if (length === 32) view.setFloat32(4, raw);
  else view.setFloat64(0, raw);
  const bits = view.getBigUint64(0);
  return Number.isFinite(toFloat(bits, length)) ? bits : null;
}

/** Writes the bits of a raw value over those in a frame. Slow; any length. */
export function putRawBits(signal: Signal, raw: bigint, out: Uint8Array): void {
  for (const { byte, shift, bits, at } of pieces(signal)) {
    const mask = (1 << bits) - 1;
    out[byte] = (out[byte]! & ~(mask << shift)) | (Number((raw >> BigInt(at)) & BigInt(mask)) << shift);
  }
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
