/** State of a `Random`: four 32-bit words. */
export type RandomState = [a: number, b: number, c: number, counter: number];

/**
 * sfc32 by Chris Doty-Humphrey ("Small Fast Counting", PractRand 0.95, public domain): 128 bits of state, passes all of
 * PractRand. Its state is plain numbers, so that a simulation can be stored and go on bit by bit.
 *
 * Only integer arithmetic, products and sums: every engine gives the same bits.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter: number;

  /** A stream of its own for every pair of seed and name. */
  constructor(seed: number, name = '') {
    this.a = Math.floor(seed / 2 ** 32) | 0;
    this.b = seed | 0;
    this.c = fnv1a(name) | 0;
    this.counter = 1;
    // As in PractRand: rounds until a difference in one bit of the seed has reached all of the state.
    for (let round = 0; round < 15; round++) this.uint32();
  }

  /** Goes on where the generator with this state was. */
  static restore(state: Readonly<RandomState>): Random {
    const random = new Random(0);
    [random.a, random.b, random.c, random.counter] = state;
    return random;
  }

  get state(): RandomState {
    return [this.a, this.b, this.c, this.counter];
  }

  /** 0 ≤ integer < 2³². */
  uint32(): number {
    const result = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  /** 0 ≤ number < 1. */
  uniform(): number {
    return this.uint32() / 2 ** 32;
  }

  /** min ≤ number < max. */
  between(min: number, max: number): number {
    return min + (max - min) * this.uniform();
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.uint32() < probability * 2 ** 32;
  }

  /**
   * Nearly normal, mean 0 and deviation 1: the sum of four uniform numbers (Irwin-Hall). Two draws and no
   * logarithm, and never beyond ±3.47, so that noise cannot throw a signal out of its range.
   */
  normal(): number {
    const one = this.uint32();
    const two = this.uint32();
    const sum = (one & 0xffff) + (one >>> 16) + (two & 0xffff) + (two >>> 16);
    return (sum - 2 * 0xffff) * NORMAL_SCALE;
  }
}

/** √3 takes the variance of four uniform numbers, 4/12, to 1. */
const NORMAL_SCALE = Math.sqrt(3) / 0xffff;

/** FNV-1a, 32 bits (Fowler, Noll, Vo), over the UTF-16 code units. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
