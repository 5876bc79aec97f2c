/**
 * From raw to scaled numbers, with the results of cantools (`database/conversion.py`), which computes with Python's
 * numbers: integers there have no limit, so a DBC's `2` and `2.0` may differ in the last bit of a 64-bit signal.
 */
export type Conversion =
  | { kind: 'identity' }
  /** Factor and offset are whole, the raw value too: exact, rounded to a double once, at the end. */
  | { kind: 'integer'; scale: bigint; offset: bigint }
  /**
   * In doubles, but `raw * scaleInteger` is exact where factor is written as an integer and raw is one, and, the other
   * way, `scaled - offsetInteger`.
   */
  | {
      kind: 'linear';
      scale: number;
      offset: number;
      scaleInteger: bigint | null;
      offsetInteger: bigint | null;
    };

/** Factor or offset as written in the file: an integer stays one. */
export function parseFactor(text: string): number | bigint | null {
  if (/^[+-]?\d+$/.test(text)) return BigInt(text.replace('+', ''));
  const value = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? Number(text) : NaN;
  return Number.isFinite(value) ? value : null;
}

export function conversionOf(scale: number | bigint, offset: number | bigint, isFloat: boolean): Conversion {
  if (Number(scale) === 1 && Number(offset) === 0) return { kind: 'identity' };
  const whole = (x: number | bigint) => typeof x === 'bigint' || Number.isInteger(x);
  if (whole(scale) && whole(offset) && !isFloat)
    return { kind: 'integer', scale: BigInt(scale), offset: BigInt(offset) };
  return {
    kind: 'linear',
    scale: Number(scale),
    offset: Number(offset),
    scaleInteger: typeof scale === 'bigint' && !isFloat ? scale : null,
    offsetInteger: typeof offset === 'bigint' ? offset : null,
  };
}

/** A raw integer, scaled: a bigint where cantools has an integer, else the double. */
export function scaleInteger(conversion: Conversion, raw: bigint): bigint | number {
  if (conversion.kind === 'identity') return raw;
  if (conversion.kind === 'integer') return raw * conversion.scale + conversion.offset;
  const { scale, offset, scaleInteger: factor } = conversion;
  return (factor === null ? Number(raw) * scale : Number(raw * factor)) + offset;
}

/** Whether doubles give what integers would, for raw values of up to `rawMax` either way. */
export function exactInDoubles(conversion: Conversion, rawMax: bigint): boolean {
  const abs = (x: bigint) => (x < 0n ? -x : x);
  const LIMIT = 2n ** 53n;
  if (conversion.kind === 'integer') return rawMax * abs(conversion.scale) + abs(conversion.offset) <= LIMIT;
  if (conversion.kind === 'linear' && conversion.scaleInteger !== null)
    return rawMax * abs(conversion.scaleInteger) <= LIMIT;
  return true; // a double conversion, or one rounding of the raw value itself
}
