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
/** Buckets of one size that fit, a power of two. */
const RING_MAX = 256;
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
  private readonly ring: number;
  private readonly counts = new Int32Array(LEVELS);
  private readonly heads = new Int32Array(LEVELS);
  private readonly sums: Float64Array;
  private readonly squares: Float64Array;
  private levels = 1;
  /** Of what is in buckets. */
  private n = 0;
  private total = 0;
  /** Sum of the squared distances from the window's mean. */
  private spread = 0;
  private readonly pending: Float64Array;
  private waiting = 0;

  /** Throws RangeError. */
  constructor(options: Partial<AdwinOptions> = {}) {
    this.options = { ...ADWIN_DEFAULTS, ...options };
    const { delta, clock, bucketsMax, sideMin, grace } = this.options;
    if (!(delta > 0 && delta < 1)) throw new RangeError(`delta is ${delta}; it lies between 0 and 1.`);
    const whole = { clock, bucketsMax, sideMin, grace };
    for (const [name, value] of Object.entries(whole))
      if (!Number.isInteger(value) || value < 1)
        throw new RangeError(`${name} is ${value}; it is a whole number from 1 on.`);
    if (bucketsMax < 2 || bucketsMax >= RING_MAX)
      throw new RangeError(`bucketsMax is ${bucketsMax}; it lies between 2 and ${RING_MAX - 1}.`);
    this.ring = 2 ** Math.ceil(Math.log2(bucketsMax + 1));
    this.sums = new Float64Array(LEVELS * this.ring);
    this.squares = new Float64Array(LEVELS * this.ring);
    this.pending = new Float64Array(clock);
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
      adwin.sums.set(sums, level * adwin.ring);
      adwin.squares.set(squares, level * adwin.ring);
      adwin.n += sums.length * 2 ** level;
    }
    adwin.levels = Math.max(1, levels.length);
    adwin.total = state.total;
    adwin.spread = state.squares;
    adwin.pending.set(pending);
    adwin.waiting = pending.length;
    return adwin;
  }

  /** Whether the mean has changed, as seen with this value. What is not finite is passed over. */
  update(value: number): boolean {
    // Also false for NaN and infinities: their difference with themselves is NaN.
    if (value - value !== 0) return false;
    this.pending[this.waiting++] = value;
    if (this.waiting < this.pending.length) return false;
    this.take();
    return this.n > this.options.grace && this.look();
  }

  /** Values in the window. */
  get width(): number {
    return this.n + this.waiting;
  }

  /** Of the window; NaN without values. */
  get mean(): number {
    let sum = this.total;
    for (let i = 0; i < this.waiting; i++) sum += this.pending[i]!;
    return this.width === 0 ? Number.NaN : sum / this.width;
  }

  state(): AdwinState {
    const levels = Array.from({ length: this.levels }, (_, level) => {
      const places = Array.from({ length: this.counts[level]! }, (_, k) => this.place(level, k));
      return {
        sums: places.map((at) => this.sums[at]!),
        squares: places.map((at) => this.squares[at]!),
      };
    });
    return {
      options: this.options,
      levels,
      total: this.total,
      squares: this.spread,
      pending: [...this.pending.subarray(0, this.waiting)],
    };
  }

  private place(level: number, k: number): number {
    return level * this.ring + ((this.heads[level]! + k) & (this.ring - 1));
  }

  /** Puts the waiting values into buckets. */
  private take(): void {
    const { pending, waiting, sums, squares, counts, heads, ring } = this;
    const mask = ring - 1;
    const { bucketsMax } = this.options;
    let sum = 0;
    for (let i = 0; i < waiting; i++) sum += pending[i]!;
    const mean = sum / waiting;
    let spread = 0;
    for (let i = 0; i < waiting; i++) {
      const value = pending[i]!;
      const off = value - mean;
      spread += off * off;
      let at = (heads[0]! + counts[0]!) & mask;
      sums[at] = value;
      squares[at] = 0;
      counts[0]!++;
      // Two of the oldest of a size become one of the next. Both have `size` values: no division is needed.
      let half = 0.5;
      for (let level = 0; counts[level]! > bucketsMax; level++, half /= 2) {
        const base = level * ring;
        const head = heads[level]!;
        const a = base + head;
        const b = base + ((head + 1) & mask);
        heads[level] = (head + 2) & mask;
        counts[level]! -= 2;
        const next = level + 1;
        if (next === LEVELS) {
          this.n -= 2 ** next;
          this.recount();
          break;
        }
        if (next === this.levels) this.levels++;
        const difference = sums[a]! - sums[b]!;
        at = next * ring + ((heads[next]! + counts[next]!) & mask);
        sums[at] = sums[a]! + sums[b]!;
        squares[at] = squares[a]! + squares[b]! + difference * difference * half;
        counts[next]!++;
      }
    }
    const off = this.n === 0 ? 0 : mean - this.total / this.n;
    this.spread += spread + (off * off * this.n * waiting) / (this.n + waiting);
    this.total += sum;
    this.n += waiting;
    this.waiting = 0;
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

  private mustCut(): boolean {
    const { sums, counts, heads, ring, n, total } = this;
    const { delta, sideMin } = this.options;
    const mask = ring - 1;
    const variance = Math.max(0, this.spread / n);
    const logarithm = Math.log((2 * Math.log(n)) / delta);
    const quick = QUICK * 2 * variance * logarithm * n;
    let [n0, u0] = [0, 0];
    for (let level = this.levels - 1; level >= 0; level--) {
      const size = 2 ** level;
      const base = level * ring;
      const head = heads[level]!;
      // Behind the newest bucket of all there is no other side.
      const last = counts[level]! - (level === 0 ? 1 : 0);
      for (let k = 0; k < last; k++) {
        u0 += sums[base + ((head + k) & mask)]!;
        n0 += size;
        const n1 = n - n0;
        const off = u0 * n - total * n0;
        if (off * off <= quick * n0 * n1 || n0 < sideMin || n1 < sideMin) continue;
        const difference = Math.abs(u0 / n0 - (total - u0) / n1);
        const parts = 1 / (n0 - sideMin + 1) + 1 / (n1 - sideMin + 1);
        const bound = Math.sqrt(2 * parts * variance * logarithm) + (2 / 3) * logarithm * parts;
        if (difference > bound) return true;
      }
    }
    return false;
  }

  private dropOldest(): void {
    const level = this.levels - 1;
    this.heads[level] = (this.heads[level]! + 1) & (this.ring - 1);
    this.counts[level]!--;
    this.n -= 2 ** level;
    while (this.levels > 1 && this.counts[this.levels - 1] === 0) this.levels--;
    this.recount();
  }

  /** Sum and spread of the window anew from its buckets, so that no error of rounding stays after values have gone. */
  private recount(): void {
    let [n, total, spread] = [0, 0, 0];
    for (let level = this.levels - 1; level >= 0; level--) {
      const size = 2 ** level;
      for (let k = 0; k < this.counts[level]!; k++) {
        const at = this.place(level, k);
        const off = n === 0 ? 0 : this.sums[at]! / size - total / n;
        spread += this.squares[at]! + (off * off * n * size) / (n + size);
        total += this.sums[at]!;
        n += size;
      }
    }
    this.total = total;
    this.spread = spread;
  }
}
