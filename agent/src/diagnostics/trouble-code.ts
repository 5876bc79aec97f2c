/**
 * The name of a two-byte trouble code by SAE J2012: two bits choose powertrain, chassis, body or network, the other
 * fourteen are digits, the first one 0 to 3, the others hexadecimal. 0x0301 is P0301.
 */
export function troubleCode(high: number, low: number): string {
  const digits = ((high & 0x3f) << 8) | low;
  return 'PCBU'[high >> 6]! + digits.toString(16).toUpperCase().padStart(4, '0');
}

/**
 * The two bytes of a name like P0301.
 *
 * @returns undefined when it is no such name
 */
export function troubleCodeBytes(name: string): [high: number, low: number] | undefined {
  if (!/^[PCBU][0-3][0-9A-F]{3}$/.test(name)) return undefined;
  const value = ('PCBU'.indexOf(name[0]!) << 14) | parseInt(name.slice(1), 16);
  return [value >> 8, value & 0xff];
}
