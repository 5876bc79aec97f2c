/** Parameter group of the active trouble codes, sent once a second and on every change. */
export const DM1_PGN = 0xfeca;

export type LampState = 'off' | 'on' | 'error' | 'unavailable';

/** What SAE J1939-73 calls DM1 (active) and, in the same layout, DM2 (previously active). */
export interface Dm1 {
  malfunction: LampState;
  redStop: LampState;
  amberWarning: LampState;
  protect: LampState;
  codes: J1939TroubleCode[];
}

export interface J1939TroubleCode {
  /** Suspect parameter number, 19 bits: what is wrong. */
  spn: number;
  /** Failure mode, 5 bits: how it is wrong. */
  fmi: number;
  /** How often it was, 0 to 126; null when the sender does not count. */
  occurrences: number | null;
}

const LAMPS: readonly LampState[] = ['off', 'on', 'error', 'unavailable'];

/** Reads DM1 or DM2; null when the bytes are none. Codes are in conversion method 0, the one in use since 1996. */
export function parseDm1(data: Uint8Array): Dm1 | null {
  if (data.length < 6) return null;
  const lamps = data[0]!;
  const lamp = (shift: number): LampState => LAMPS[(lamps >> shift) & 3]!;
  const codes: J1939TroubleCode[] = [];
  for (let at = 2; at + 4 <= data.length; at += 4) {
    const spn = data[at]! | (data[at + 1]! << 8) | ((data[at + 2]! >> 5) << 16);
    const fmi = data[at + 2]! & 0x1f;
    // All zeros says "no code"; older senders say it with ones, which also fill the frame.
    if ((spn === 0 && fmi === 0) || (spn === 0x7_ffff && fmi === 0x1f)) continue;
    const count = data[at + 3]! & 0x7f;
    codes.push({ spn, fmi, occurrences: count === 0x7f ? null : count });
  }
  return { malfunction: lamp(6), redStop: lamp(4), amberWarning: lamp(2), protect: lamp(0), codes };
}

/** The bytes of a DM1: 8 for up to one code, else the transport protocol's to carry. */
export function formatDm1(dm1: Dm1): Uint8Array {
  const data = new Uint8Array(Math.max(8, 2 + 4 * dm1.codes.length)).fill(0xff);
  const bits = (state: LampState): number => LAMPS.indexOf(state);
  data[0] =
    (bits(dm1.malfunction) << 6) |
    (bits(dm1.redStop) << 4) |
    (bits(dm1.amberWarning) << 2) |
    bits(dm1.protect);
  if (dm1.codes.length === 0) data.fill(0, 2, 6);
  for (const [i, { spn, fmi, occurrences }] of dm1.codes.entries())
    data.set([spn & 0xff, (spn >> 8) & 0xff, ((spn >> 16) << 5) | fmi, occurrences ?? 0x7f], 2 + 4 * i);
  return data;
}
