import type { Signal } from './dbc.ts';

/** Some bits of a signal that lie side by side in one byte: byte bits [shift, shift+bits) are raw bits [at, at+bits). */
export interface Piece {
  byte: number;
  shift: number;
  bits: number;
  at: number;
}

/**
 * Where a signal's bits are, from its lowest bit up.
 *
 * Little endian ("Intel"): `start` is the lowest bit, bits go on upwards into the next byte.
 * Big endian ("Motorola"): `start` is the highest bit; bits go on downwards into the next byte.
 * Both number bits 7…0 in byte 0, 15…8 in byte 1, and so on.
 */
export function pieces(signal: Pick<Signal, 'start' | 'length' | 'byteOrder'>): Piece[] {
  const { start, length, byteOrder } = signal;
  const found: Piece[] = [];
  if (byteOrder === 'little') {
    for (let at = 0; at < length;) {
      const shift = (start + at) % 8;
      const bits = Math.min(8 - shift, length - at);
      found.push({ byte: Math.floor((start + at) / 8), shift, bits, at });
      at += bits;
    }
    return found;
  }
  // In the order of the wire, highest bit of byte 0 first, the signal is one run that ends at `last`.
  const last = networkBit(start) + length - 1;
  for (let at = 0; at < length;) {
    const bit = last - at;
    const shift = 7 - (bit % 8);
    const bits = Math.min(8 - shift, length - at);
    found.push({ byte: Math.floor(bit / 8), shift, bits, at });
    at += bits;
  }
  return found;
}

/** Position in the order of the wire, where the highest bit of byte 0 comes first. */
export function networkBit(start: number): number {
  return 8 * Math.floor(start / 8) + 7 - (start % 8);
}

/** Bytes that a frame must have to hold the signal. */
export function bytesNeeded(signal: Pick<Signal, 'start' | 'length' | 'byteOrder'>): number {
  const first = signal.byteOrder === 'little' ? signal.start : networkBit(signal.start);
  return Math.ceil((first + signal.length) / 8);
}

/** The pieces that hold raw bits [from, to), cut to that range and counted from `from`. */
export function cut(all: Piece[], from: number, to: number): Piece[] {
  return all.flatMap((p) => {
    const low = Math.max(p.at, from);
    const high = Math.min(p.at + p.bits, to);
    return low < high
      ? [{ byte: p.byte, shift: p.shift + low - p.at, bits: high - low, at: low - from }]
      : [];
  });
}
