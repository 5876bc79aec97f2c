/** DBC files at random: every type, byte order, length, scaling and way of multiplexing, without overlaps. */

export type Random = () => number;

/** Mulberry32: small, seeded, good enough for tests. In [0, 1). */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface RandomFrame {
  id: number;
  extended: boolean;
  /** Hex. */
  data: string;
}

const SCALES =
  '1 1 1 1 2 3 -1 -7 0 10 +2 1.0 2.0 0.1 0.01 0.5 -0.25 0.3921568627 1e-3 1E3 3.5 1.1e-7 123456789012 1e20'.split(
    ' ',
  );
const OFFSETS = '0 0 0 0 1 -1 -40 -273.15 0.5 1e10 -0.0 32768 9007199254740993 1e-7 -1.5E2'.split(' ');

interface Placed {
  start: number;
  length: number;
  order: 0 | 1;
}

export function randomDbc(random: Random): { text: string; frames: RandomFrame[] } {
  const int = (below: number) => Math.floor(random() * below);
  const pick = <T>(list: readonly T[]): T => list[int(list.length)] as T;
  const lines = ['VERSION ""', 'NS_ :', '\tCM_', 'BS_:', 'BU_: A'];
  const types: string[] = [];
  const frames: RandomFrame[] = [];
  const ids = new Set<number>();

  for (let m = 0; m < 6; m++) {
    const extended = random() < 0.4;
    const id = int(extended ? 2 ** 29 : 2 ** 11);
    const key = extended ? id + 2 ** 31 : id;
    if (ids.has(key)) continue;
    ids.add(key);
    const length = pick([1, 2, 3, 5, 7, 8, 8, 8, 12, 24, 64]);
    lines.push('', `BO_ ${key} Message${m}: ${length} A`);

    /** Bits that are taken, as they are numbered in the file. */
    type Taken = Set<number>;
    const place = (taken: Taken, lengths: readonly number[]): Placed | undefined => {
      for (let attempt = 0; attempt < 20; attempt++) {
        const placed: Placed = {
          start: int(8 * length),
          length: pick(lengths),
          order: random() < 0.5 ? 0 : 1,
        };
        const bits = bitsOf(placed);
        if (bits.some((bit) => bit >= 8 * length || taken.has(bit))) continue;
        for (const bit of bits) taken.add(bit);
        return placed;
      }
      return undefined;
    };
    let count = 0;
    const add = (taken: Taken, marker: string): string | undefined => {
      const float = random() < 0.2;
      const selects = marker.endsWith('M');
      const lengths = selects
        ? [1, 2, 3]
        : float
          ? [16, 32, 64]
          : [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 24, 31, 32, 33, 40, 52, 53, 54, 63, 64];
      const placed = place(taken, lengths);
      if (!placed) return undefined;
      const name = `S${m}_${count++}`;
      const sign = random() < 0.5 && !selects ? '-' : '+';
      const [scale, offset] = selects ? ['1', '0'] : [pick(SCALES), pick(OFFSETS)];
      lines.push(
        ` SG_ ${name} ${marker}${marker && ' '}: ${placed.start}|${placed.length}@${placed.order}${sign} (${scale},${offset}) [0|0] "u" A`,
      );
      if (float && !selects) types.push(`SIG_VALTYPE_ ${key} ${name} : ${placed.length === 64 ? 2 : 1};`);
      return name;
    };

    const taken: Taken = new Set();
    const style = pick(['none', 'none', 'simple', 'extended']);
    if (style === 'none') for (let i = 0; i < 8; i++) add(taken, '');
    else {
      const root = add(taken, 'M');
      add(taken, '');
      for (let branch = 0; branch < 4; branch++) {
        const inBranch: Taken = new Set(taken);
        if (style === 'simple') for (let i = 0; i < 3; i++) add(inBranch, `m${branch}`);
        else {
          const range = `${branch * 2}-${branch * 2 + int(2)}`;
          const nested = add(inBranch, `m${branch * 2}M`);
          const plain = add(inBranch, `m${branch * 2}`);
          if (nested) types.push(`SG_MUL_VAL_ ${key} ${nested} ${root} ${range};`);
          if (plain) types.push(`SG_MUL_VAL_ ${key} ${plain} ${root} ${range};`);
          for (let leaf = 0; nested && leaf < 3; leaf++) {
            const inLeaf: Taken = new Set(inBranch);
            const name = add(inLeaf, `m${leaf}`);
            if (name)
              types.push(`SG_MUL_VAL_ ${key} ${name} ${nested} ${leaf}-${leaf}, ${leaf + 5}-${leaf + 5};`);
          }
        }
      }
    }
    for (let f = 0; f < 12; f++) {
      const bytes = f < 8 ? length : Math.max(0, length + int(6) - 4);
      const byte = pick([() => int(256), () => pick([0, 255, 127, 128]), () => int(4) * 85]);
      frames.push({ id, extended, data: Buffer.from(Array.from({ length: bytes }, byte)).toString('hex') });
    }
  }
  return { text: [...lines, '', ...types, ''].join('\n'), frames };
}

/** The bits of a signal as the file numbers them: 7…0, 15…8, … */
function bitsOf({ start, length, order }: Placed): number[] {
  if (order === 1) return Array.from({ length }, (_, i) => start + i);
  const bits: number[] = [];
  for (let bit = start, i = 0; i < length; i++) {
    bits.push(bit);
    bit = bit % 8 === 0 ? bit + 15 : bit - 1;
  }
  return bits;
}
