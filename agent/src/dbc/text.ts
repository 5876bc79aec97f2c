/** What the bytes 0x80 to 0x9F are in Windows code page 1252; 0 where it has none. */
const CP1252 = [
  0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0,
  0x017d, 0, 0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a,
  0x0153, 0, 0x017e, 0x0178,
];

/**
 * The text of a DBC file: UTF-8 where the bytes are valid UTF-8, else code page 1252, which most tools write.
 * Own table: Node's `windows-1252` decoder gives Latin-1 in some releases, and needs full ICU in others.
 */
export function dbcText(source: Buffer | string): string {
  if (typeof source === 'string') return source;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(source);
  } catch {
    return source
      .toString('latin1')
      .replace(/[\x80-\x9f]/g, (c) => String.fromCharCode(CP1252[c.charCodeAt(0) - 0x80] || 0xfffd));
  }
}
