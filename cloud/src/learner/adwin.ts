export interface AdwinOptions {
  /** Chance of a false alarm that is accepted at one look, 0 … 1. */
  delta: number;
  /** Values from one look to the next. */
  clock: number;
  /** Most buckets of one size, 2 or more: the more, the finer the places where the window may be cut. */
  bucketsMax: number;
  /** Fewest values on either side of a cut. */
  sideMin: number;
  /** No look before the window has more values than this. */
  grace: number;
}

/** Those of River. */
export const ADWIN_DEFAULTS: AdwinOptions = { delta: 0.002, clock: 32, bucketsMax: 5, sideMin: 5, grace: 10 };

/** Plain JSON. */
export interface AdwinState {
  options: AdwinOptions;
  /** Per size, the smallest first: sums and squared distances of the buckets, the oldest first. */
  levels: { sums: number[]; squares: number[] }[];
  total: number;
  squares: number;
  /** Values since the last look. */
  pending: number[];
}

/** 2^40 values in one bucket: 35,000 years at 1 Hz. What is older than the largest buckets is forgotten. */
const LEVELS = 41;
/** Buckets of one size: a look takes time in their number. */
const BUCKETS_MAX = 255;
/** The quick look may only pass over a cut that the exact one surely refuses, whatever was rounded. */
const QUICK = 1 - 1e-9;

/**
 * Tells when the mean of a stream has changed, and keeps a window of what came since: as long as the mean stays, as
 * short as it must be after a change. No window length has to be chosen.
 *
 * Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SIAM Data Mining 2007: ADWIN2, the
 * window in buckets of 1, 2, 4 … values, with the bound of its section 4.1 (Bernstein). After a change the older part
 * goes bucket by bucket and the newer stays, as in the paper. River's wrapper drops the newer part too; its
 * detector without the wrapper decides and cuts exactly as this one.
 *
 * Values wait until the next look and go into the buckets together. At a look most cuts are refused without a root or
 * a division: with n0 + n1 = W values of sum U, of which n0 have the sum u0,
 *   |u0 / n0 − u1 / n1| = |u0 W − U n0| / (n0 n1), and the bound is at least √(2 σ² δ' W / (n0 n1)).
 */
export class Adwin {
  readonly options: AdwinOptions;
  /** Per size, the smallest first: buckets, the oldest first. Those of one value are in `recent`. */
  private readonly counts = new Int32Array(LEVELS);
  private readonly sums: Float64Array;
  private readonly squares: Float64Array;
  private levels = 1;
  /** Of what is in buckets. */
  private n = 0;
  private total = 0;
  /** Sum of the squared distances from the window's mean. */
  private spread = 0;
  /** The buckets of one value, then what waits for the next look. */
  private readonly recent: Float64Array;
  private filled = 0;
  private full: number;
  /**
   * What the last look at all cuts up to the newest of a size has shown, per size from `knownFrom` on: see `mustCut`.
   * Sizes below change at every look.
   */
  private readonly known: {
    valid: boolean;
    n: number;
    sum: number;
    mean: number;
    worst: number;
    reach: number;
  }[];
  private readonly knownFrom: number;
  /** What moves up to the next size, by turns. */
  private readonly moving: { sums: Float64Array; squares: Float64Array }[];

  /** Throws RangeError. */
  constructor(options: Partial<AdwinOptions> = {}) {
    this.options = { ...ADWIN_DEFAULTS, ...options };
    const { delta, clock, bucketsMax, sideMin, grace } = this.options;
    if (!(delta > 0 && delta < 1)) throw new RangeError(`delta is ${delta}; it lies between 0 and 1.`);
    const whole = { clock, bucketsMax, sideMin, grace };
    for (const [name, value] of Object.entries(whole))
      if (!Number.isInteger(value) || value < 1)
        throw new RangeError(`${name} is ${value}; it is a whole number from 1 on.`);
    if (bucketsMax < 2 || bucketsMax > BUCKETS_MAX)
      throw new RangeError(`bucketsMax is ${bucketsMax}; it lies between 2 and ${BUCKETS_MAX}.`);
    this.sums = new Float64Array(LEVELS * bucketsMax);
    this.squares = new Float64Array(LEVELS * bucketsMax);
    this.recent = new Float64Array(bucketsMax + clock);
    this.full = clock;
    this.knownFrom = Math.ceil(Math.log2(2 * clock));
    this.known = Array.from({ length: LEVELS }, () => ({
      ...{ valid: false, n: 0, sum: 0, mean: 0, worst: 0, reach: 0 },
    }));
    this.moving = [0, 1].map(() => ({
      sums: new Float64Array(bucketsMax + clock),
      squares: new Float64Array(bucketsMax + clock),
    }));
  }

  /** Goes on from a state. Throws RangeError when it is not one. */
  static from(state: AdwinState): Adwin {
    const adwin = new Adwin(state.options);
    const { bucketsMax, clock } = adwin.options;
    const { levels, pending } = state;
    const sound =
      levels.length <= LEVELS &&
      levels.every(({ sums, squares }) => sums.length === squares.length && sums.length <= bucketsMax) &&
      pending.length < clock;
    if (!sound) throw new RangeError('This is not the state of an ADWIN with these options.');
    for (const [level, { sums, squares }] of levels.entries()) {
      adwin.counts[level] = sums.length;
      adwin.n += sums.length * 2 ** level;
      if (level === 0) adwin.recent.set(sums);
      else adwin.sums.set(sums, level * bucketsMax);
      adwin.squares.set(squares, level * bucketsMax);
    }
    adwin.levels = Math.max(1, levels.length);
    adwin.total = state.total;
    adwin.spread = state.squares;
    adwin.recent.set(pending, adwin.counts[0]);
    adwin.filled = adwin.counts[0]! + pending.length;
    adwin.full = adwin.counts[0]! + clock;
    return adwin;
  }

  /** Whether the mean has changed, as seen with this value. What is not finite is passed over. */
  update(value: number): boolean {
    // Also false for NaN and infinities: their difference with themselves is NaN.
    if (value - value !== 0) return false;
    this.recent[this.filled++] = value;
    if (this.filled < this.full) return false;
    this.take();
    return this.n > this.options.grace && this.look();
  }

  /**
   * The same for one column of a block of rows, which has `width` columns; how many times the mean has changed. Quicker
   * than value by value.
   */
  updateColumn(rows: Float32Array | Float64Array, width: number, column: number): number {
    const { recent, options } = this;
    let changes = 0;
    let { filled, full } = this;
    for (let at = column; at < rows.length; at += width) {
      const value = rows[at]!;
      if (value - value !== 0) continue;
      recent[filled++] = value;
      if (filled < full) continue;
      this.filled = filled;
      this.take();
      if (this.n > options.grace && this.look()) changes++;
      ({ filled, full } = this);
    }
    this.filled = filled;
    return changes;
  }

  /** Values in the window. */
  get width(): number {
    return this.n + this.filled - this.counts[0]!;
  }

  /** Of the window; NaN without values. */
  get mean(): number {
    let sum = this.total;
    for (let i = this.counts[0]!; i < this.filled; i++) sum += this.recent[i]!;
    return this.width === 0 ? Number.NaN : sum / this.width;
  }

  state(): AdwinState {
    const { bucketsMax } = this.options;
    const levels = Array.from({ length: this.levels }, (_, level) => {
      const at = level * bucketsMax;
      const count = this.counts[level]!;
      const sums = level === 0 ? this.recent.subarray(0, count) : this.sums.subarray(at, at + count);
      return { sums: [...sums], squares: [...this.squares.subarray(at, at + count)] };
    });
    return {
      options: this.options,
      levels,
      total: this.total,
      squares: this.spread,
      pending: [...this.recent.subarray(this.counts[0], this.filled)],
    };
  }

  /** Puts the waiting values into buckets. */
  private take(): void {
    const { recent, filled, counts } = this;
    const { bucketsMax, clock } = this.options;
    const first = counts[0]!;
    const middle = this.n === 0 ? recent[first]! : this.total / this.n;
    let [sum, square] = [0, 0];
    for (let i = first; i < filled; i++) {
      const off = recent[i]! - middle;
      sum += off;
      square += off * off;
    }
    const waiting = filled - first;
    const off = sum / waiting;
    this.spread += square - sum * off + (off * off * this.n * waiting) / (this.n + waiting);
    this.total += sum + middle * waiting;
    this.n += waiting;
    const left = this.moveUp(filled, bucketsMax);
    counts[0] = left;
    this.filled = left;
    this.full = left + clock;
  }

  /** Two of the oldest of a size become one of the next, while there are too many. How many single values are left. */
  private moveUp(filled: number, bucketsMax: number): number {
    const { recent, counts, known, sums: allSums, squares: allSquares } = this;
    if (filled <= bucketsMax) return filled;
    let pairs = (filled - bucketsMax + 1) >> 1;
    let sums = this.moving[0]!.sums;
    let squares = this.moving[0]!.squares;
    let otherSums = this.moving[1]!.sums;
    let otherSquares = this.moving[1]!.squares;
    let there = counts[1]!;
    for (let to = there, i = 0; i < 2 * pairs; i += 2, to++) {
      const a = recent[i]!;
      const b = recent[i + 1]!;
      sums[to] = a + b;
      squares[to] = (a - b) * (a - b) * 0.5;
    }
    const left = filled - 2 * pairs;
    for (let i = 0, from = 2 * pairs; i < left; i++, from++) recent[i] = recent[from]!;
    // Both buckets of a pair have the same number of values, so no division is needed: times half of 1 / number.
    for (let level = 1, half = 0.25; pairs > 0; level++, half /= 2) {
      if (level === this.levels) this.levels++;
      const base = level * bucketsMax;
      for (let i = 0; i < there; i++) {
        sums[i] = allSums[base + i]!;
        squares[i] = allSquares[base + i]!;
      }
      const count = there + pairs;
      known[level]!.valid = false;
      pairs = count <= bucketsMax ? 0 : (count - bucketsMax + 1) >> 1;
      const last = level === LEVELS - 1;
      there = last ? 0 : counts[level + 1]!;
      for (let to = there, i = 0; i < 2 * pairs; i += 2, to++) {
        const a = sums[i]!;
        const b = sums[i + 1]!;
        otherSums[to] = a + b;
        otherSquares[to] = squares[i]! + squares[i + 1]! + (a - b) * (a - b) * half;
      }
      counts[level] = count - 2 * pairs;
      for (let i = 2 * pairs, to = base; i < count; i++, to++) {
        allSums[to] = sums[i]!;
        allSquares[to] = squares[i]!;
      }
      if (last && pairs > 0) {
        for (const before of known) before.valid = false;
        this.recount();
        break;
      }
      const [turnSums, turnSquares] = [sums, squares];
      sums = otherSums;
      squares = otherSquares;
      otherSums = turnSums;
      otherSquares = turnSquares;
    }
    return left;
  }

  /** Cuts the oldest bucket off as long as there is a place where the means of both sides differ too much. */
  private look(): boolean {
    let changed = false;
    while (this.mustCut()) {
      changed = true;
      this.dropOldest();
    }
    return changed;
  }

  /**
   * Whether there is such a place. Most are not looked at: with m the window's mean, a cut is surely refused while
   *   |u0 − n0 m| ≤ σ √(2 δ' n0 n1 / n).
   * n1 / n and δ' only grow as values come, and the left side grows at most by n0 |m − m'| when the mean was m' at an
   * earlier look. So when then all cuts up to n0 = N were refused with `worst` in place of σ, they still are while
   *   worst + |m − m'| / reach ≤ σ, where reach = √(2 δ' (n − N) / (n N)) as it was then.
   */
  private mustCut(): boolean {
    const { counts, n, total, known, knownFrom } = this;
    const { delta, sideMin, bucketsMax } = this.options;
    const variance = Math.max(0, this.spread / n);
    const deviation = QUICK * Math.sqrt(variance);
    const mean = total / n;
    const logarithm = Math.log((2 * Math.log(n)) / delta);
    const quick = QUICK * 2 * variance * logarithm * n;
    let n0 = 0;
    let u0 = 0;
    let worst = 0;
    let level = this.levels - 1;
    for (let from = knownFrom; from <= level; from++) {
      const before = known[from]!;
      if (!before.valid) continue;
      const now = before.worst + Math.abs(mean - before.mean) / before.reach;
      if (!(now < deviation)) continue;
      n0 = before.n;
      u0 = before.sum;
      worst = now;
      level = from - 1;
      break;
    }
    for (let size = 2 ** level; level >= 0; level--, size /= 2) {
      const sums = level === 0 ? this.recent : this.sums;
      const begin = level * bucketsMax;
      // Behind the newest bucket of all there is no other side.
      const end = begin + counts[level]! - (level === 0 ? 1 : 0);
      let most = 0;
      for (let at = begin; at < end; at++) {
        u0 += sums[at]!;
        n0 += size;
        const n1 = n - n0;
        const off = u0 * n - total * n0;
        const square = off * off;
        const sides = n0 * n1;
        if (level >= knownFrom) most = Math.max(most, square / sides);
        if (square <= quick * sides || n0 < sideMin || n1 < sideMin) continue;
        const difference = Math.abs(u0 / n0 - (total - u0) / n1);
        const parts = 1 / (n0 - sideMin + 1) + 1 / (n1 - sideMin + 1);
        const bound = Math.sqrt(2 * parts * variance * logarithm) + (2 / 3) * logarithm * parts;
        if (difference > bound) return true;
      }
      if (level < knownFrom) continue;
      worst = Math.max(worst, Math.sqrt(most / (2 * logarithm * n)));
      const now = known[level]!;
      now.valid = true;
      now.n = n0;
      now.sum = u0;
      now.mean = mean;
      now.worst = worst;
      now.reach = Math.sqrt((2 * logarithm * (n - n0)) / (n * n0));
    }
    return false;
  }

  private dropOldest(): void {
    const { counts, recent, sums, squares } = this;
    const level = this.levels - 1;
    const count = --counts[level]!;
    const base = level * this.options.bucketsMax;
    if (level === 0) {
      recent.copyWithin(0, 1, this.filled);
      this.filled--;
      this.full--;
    } else {
      sums.copyWithin(base, base + 1, base + 1 + count);
      squares.copyWithin(base, base + 1, base + 1 + count);
    }
    while (this.levels > 1 && counts[this.levels - 1] === 0) this.levels--;
    for (const known of this.known) known.valid = false;
    this.recount();
  }

  /** Sum and spread of the window anew from its buckets, so that no error of rounding stays after values have gone. */
  private recount(): void {
    const { bucketsMax } = this.options;
    let [n, total, spread] = [0, 0, 0];
    for (let level = this.levels - 1; level >= 0; level--) {
      const size = 2 ** level;
      const sums = level === 0 ? this.recent : this.sums;
      const base = level * bucketsMax;
      for (let at = base; at < base + this.counts[level]!; at++) {
        const off = n === 0 ? 0 : sums[at]! / size - total / n;
        spread += (level === 0 ? 0 : this.squares[at]!) + (off * off * n * size) / (n + size);
        total += sums[at]!;
        n += size;
      }
    }
    this.n = n;
    this.total = total;
    this.spread = spread;
  }
}
