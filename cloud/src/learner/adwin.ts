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
/** Half of 1 / values in a bucket, per size: so no division is needed where two are merged. */
const HALF = Float64Array.from({ length: LEVELS }, (_, level) => 0.5 ** (level + 1));
/** Buckets of one size: a look takes time in their number. */
const BUCKETS_MAX = 255;
/** The quick look may only pass over a cut that the exact one surely refuses, whatever was rounded. */
const QUICK = 1 - 1e-9;
/** Looks whose values may wait for their buckets, at the most: some kB of memory. */
const WAITING_LOOKS = 16;
/** Part of the bound that a cut between waiting values may use at its own look, so that there is room for later ones. */
const ROOM = 0.5;

/** What moves up to the next size, by turns. Of no detector: a thousand of them share it. */
const moving = [0, 1].map((): Buckets => ({ sums: new Float64Array(0), squares: new Float64Array(0) }));

interface Buckets {
  sums: Float64Array;
  /** Squared distances from the mean of the bucket. */
  squares: Float64Array;
}

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
 * Where a few sums say that no cut can be (`noCut`), the look is left out, and the values wait on. Buckets do not depend on
 * when values go into them, and the window's sum and spread grow at every look: so nothing else changes, to the bit.
 */
export class Adwin {
  readonly options: AdwinOptions;
  /** Per size, the smallest first: buckets, the oldest first. Those of one value are in `recent`. */
  private readonly counts = new Int32Array(LEVELS);
  private readonly buckets: Buckets;
  private levels = 1;
  /** Of all values up to the last look, in buckets or not. */
  private n = 0;
  private total = 0;
  /** Sum of the squared distances from the window's mean. */
  private spread = 0;
  /** The buckets of one value, then what waits for its bucket, then, from `begin` on, what came since the last look. */
  private readonly recent: Float64Array;
  private begin = 0;
  private filled = 0;
  private full: number;
  /**
   * Of the last look at buckets: values, mean, 2 δ' times a little less than 1, and the most of A² W / (n0 n1), where A is
   * u0 − n0 U / W; infinite: not known.
   */
  private looked = { n: 0, mean: 0, factor: 0, most: Infinity };
  /** √ of what T² / k may be at a look, where T is the sum of the distances of the newest k values from the mean before. */
  private room = 0;
  private readonly rootClock: number;
  /** Per look since then: the mean before it, and the sum behind it of all distances; from the mean of `looked`. */
  private looks = 0;
  private readonly means = new Float64Array(WAITING_LOOKS);
  private readonly sumsSince = new Float64Array(WAITING_LOOKS);
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
    this.buckets = {
      sums: new Float64Array(LEVELS * bucketsMax),
      squares: new Float64Array(LEVELS * bucketsMax),
    };
    const together = bucketsMax + clock * WAITING_LOOKS;
    this.recent = new Float64Array(together);
    this.full = clock;
    this.rootClock = Math.sqrt(clock);
    this.knownFrom = Math.ceil(Math.log2(2 * clock * WAITING_LOOKS));
    this.known = Array.from({ length: LEVELS }, () => ({
      ...{ valid: false, n: 0, sum: 0, mean: 0, worst: 0, reach: 0 },
    }));
    if (moving[0]!.sums.length < together)
      for (const turn of moving) {
        turn.sums = new Float64Array(together);
        turn.squares = new Float64Array(together);
      }
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
      else adwin.buckets.sums.set(sums, level * bucketsMax);
      adwin.buckets.squares.set(squares, level * bucketsMax);
    }
    adwin.levels = Math.max(1, levels.length);
    adwin.total = state.total;
    adwin.spread = state.squares;
    adwin.recent.set(pending, adwin.counts[0]);
    adwin.begin = adwin.counts[0]!;
    adwin.filled = adwin.begin + pending.length;
    adwin.full = adwin.begin + clock;
    return adwin;
  }

  /** Whether the mean has changed, as seen with this value. What is not finite is passed over. */
  update(value: number): boolean {
    // Also false for NaN and infinities: their difference with themselves is NaN.
    if (value - value !== 0) return false;
    this.recent[this.filled++] = value;
    return this.filled === this.full && this.take() === true;
  }

  /**
   * The same for one column of a block of rows, which has `width` columns; how many times the mean has changed. Quicker
   * than value by value.
   */
  updateColumn(rows: Float32Array | Float64Array, width: number, column: number): number {
    let changes = 0;
    for (let at = column; at < rows.length;) {
      const end = at + (this.full - this.filled) * width;
      const changed = end - width < rows.length ? this.take(rows, width, end - width) : undefined;
      if (changed === undefined) {
        for (const to = Math.min(end, rows.length); at < to; at += width) {
          const value = rows[at]!;
          if (value - value === 0) this.recent[this.filled++] = value;
        }
        if (this.filled === this.full && this.take() === true) changes++;
        continue;
      }
      at = end;
      if (changed) changes++;
    }
    return changes;
  }

  /** Values in the window. */
  get width(): number {
    return this.n + this.filled - this.begin;
  }

  /** Of the window; NaN without values. */
  get mean(): number {
    let sum = this.total;
    for (let i = this.begin; i < this.filled; i++) sum += this.recent[i]!;
    return this.width === 0 ? Number.NaN : sum / this.width;
  }

  state(): AdwinState {
    this.settle();
    const { bucketsMax } = this.options;
    const levels = Array.from({ length: this.levels }, (_, level) => {
      const at = level * bucketsMax;
      const count = this.counts[level]!;
      const sums = level === 0 ? this.recent.subarray(0, count) : this.buckets.sums.subarray(at, at + count);
      return { sums: [...sums], squares: [...this.buckets.squares.subarray(at, at + count)] };
    });
    return {
      options: this.options,
      levels,
      total: this.total,
      squares: this.spread,
      pending: [...this.recent.subarray(this.begin, this.filled)],
    };
  }

  /**
   * Takes what came since the last look, and looks where need be. Whether the mean has changed. The values that are missing
   * for a look are read from `rows`, the last of them at `at`, each `width` places behind the one before. undefined: one of
   * them is not finite, and nothing is done.
   */
  private take(rows: Float32Array | Float64Array = this.recent, width = 1, at = 0): boolean | undefined {
    const { recent, begin, filled, full, looked, looks, room } = this;
    const { clock, grace } = this.options;
    const first = begin < filled ? recent[begin]! : rows[at - (full - filled - 1) * width]!;
    const mean = this.n === 0 ? first : this.total / this.n;
    const roomSquared = room * room;
    let [sum, square, most] = [0, 0, 0];
    let narrow = true;
    let i = full - 1;
    // From the newest to the oldest.
    for (let from = at; i >= filled; i--, from -= width) {
      const value = rows[from]!;
      recent[i] = value;
      const off = value - mean;
      sum += off;
      square += off * off;
      most += roomSquared;
      if (sum * sum > most) narrow = false;
    }
    if (sum - sum !== 0) return undefined;
    for (; i >= begin; i--) {
      const off = recent[i]! - mean;
      sum += off;
      square += off * off;
      most += roomSquared;
      if (sum * sum > most) narrow = false;
    }
    const off = sum / clock;
    this.spread += square - sum * off + (off * off * this.n * clock) / (this.n + clock);
    this.total += sum + mean * clock;
    this.n += clock;
    this.begin = this.filled = full;
    this.full = full + clock;
    const shift = mean - looked.mean;
    this.means[looks] = shift;
    this.sumsSince[looks] = (looks === 0 ? 0 : this.sumsSince[looks - 1]!) + sum + shift * clock;
    this.looks++;
    if (narrow && this.looks < WAITING_LOOKS && this.noCut()) return false;
    this.settle();
    return this.n > grace && this.look();
  }

  /**
   * Whether a look would surely find no cut. With A = u0 − n0 U / W it refuses one where A² W / (n0 n1) ≤ 2 δ' σ². Below,
   * n values are in buckets, p wait, W = n + p, and S is the sum of the distances of what waits from the mean in the buckets.
   * By Cauchy and Schwarz, (a √k + b √p)² ≤ (a² + b²) (k + p):
   * - Of a cut between buckets, A² was at most `most` n0 k / n, where k = n1 was then. Now n1 = k + p, and A has changed by
   *   n0 S / W: so A² W / (n0 n1) is at most `most` W / n + S² / p.
   * - Of one between values of a look that is q values ago, let T be the sum of the distances from the mean of now, of those
   *   behind the cut up to that look, k of them, and S' that of the q: |T| ≤ √k (room + √clock |difference of both means|),
   *   and A² W / (n0 n1) is at most (T² / k + S'² / q) W / n.
   * δ' grows with W; that of before is less.
   */
  private noCut(): boolean {
    const { looked, looks, sumsSince, means, n, room, rootClock } = this;
    const { clock } = this.options;
    const bound = (looked.factor * this.spread) / n;
    const last = looks - 1;
    const sum = sumsSince[last]!;
    const grown = n / looked.n;
    if (!(looked.most * grown + (sum * sum) / (looks * clock) <= bound)) return false;
    const mean = sum / n;
    const most = bound / grown;
    for (let k = last, behind = 0; k >= 0; k--, behind += clock) {
      const within = room + rootClock * Math.abs(mean - means[k]!);
      const left = most - within * within;
      const off = sum - sumsSince[k]! - behind * mean;
      if (!(left >= 0 && off * off <= left * behind)) return false;
    }
    return true;
  }

  /** Puts what waits into buckets. */
  private settle(): void {
    const { recent, counts, begin, filled } = this;
    this.looks = 0;
    this.looked.most = Infinity;
    const left = this.moveUp(begin, this.options.bucketsMax);
    counts[0] = left;
    if (left < begin) recent.copyWithin(left, begin, filled);
    this.begin = left;
    this.filled = left + filled - begin;
    this.full = left + this.options.clock;
  }

  /** Two of the oldest of a size become one of the next, while there are too many. How many single values are left. */
  private moveUp(filled: number, bucketsMax: number): number {
    if (filled <= bucketsMax) return filled;
    const { recent, known } = this;
    const ones = pairsOf(filled, bucketsMax);
    const left = filled - 2 * ones;
    let from = moving[0]!;
    let into = moving[1]!;
    let level = 3;
    let made = this.moveEights(filled, bucketsMax);
    if (made === 0) {
      level = 1;
      made = ones;
      for (let i = 0; i < ones; i++) twoOf(recent, 2 * i, from, i);
    }
    for (let i = 0, at = filled - left; i < left; i++, at++) recent[i] = recent[at]!;
    this.counts[0] = left;
    for (; made > 0; level++) {
      if (level === this.levels) this.levels++;
      known[level]!.valid = false;
      made = this.moveLevel(level, from, made, into);
      if (level === LEVELS - 1 && made > 0) {
        for (const before of known) before.valid = false;
        this.recount();
        break;
      }
      const turn = from;
      from = into;
      into = turn;
    }
    return left;
  }

  /** Takes new buckets of a size, behind those that are there, and gives those of the next size. How many they are. */
  private moveLevel(level: number, from: Buckets, made: number, into: Buckets): number {
    const { counts } = this;
    const { bucketsMax } = this.options;
    const { sums, squares } = this.buckets;
    const { sums: fromSums, squares: fromSquares } = from;
    const { sums: intoSums, squares: intoSquares } = into;
    const base = level * bucketsMax;
    const there = counts[level]!;
    const pairs = pairsOf(there + made, bucketsMax);
    const left = there + made - 2 * pairs;
    counts[level] = left;
    const half = HALF[level]!;
    let done = 0;
    let at = base;
    for (const end = base + there - 1; at < end && done < pairs; at += 2, done++) {
      const a = sums[at]!;
      const b = sums[at + 1]!;
      intoSums[done] = a + b;
      intoSquares[done] = squares[at]! + squares[at + 1]! + (a - b) * (a - b) * half;
    }
    let next = 0;
    if (done < pairs && at < base + there) {
      const a = sums[at]!;
      const b = fromSums[0]!;
      intoSums[done] = a + b;
      intoSquares[done] = squares[at]! + fromSquares[0]! + (a - b) * (a - b) * half;
      next = 1;
      at++;
      done++;
    }
    for (; done < pairs; done++, next += 2) {
      const a = fromSums[next]!;
      const b = fromSums[next + 1]!;
      intoSums[done] = a + b;
      intoSquares[done] = fromSquares[next]! + fromSquares[next + 1]! + (a - b) * (a - b) * half;
    }
    let to = base;
    for (; at < base + there; at++, to++) {
      sums[to] = sums[at]!;
      squares[to] = squares[at]!;
    }
    for (; next < made; next++, to++) {
      sums[to] = fromSums[next]!;
      squares[to] = fromSquares[next]!;
    }
    return pairs;
  }

  /**
   * The same for sizes 1, 2 and 4, where there are many values: most become a bucket of 8 at once, in the order in which
   * one after the other would. Leaves those of 8 in `moving[0]` and says how many; 0: there are too few values, and nothing is
   * done.
   */
  private moveEights(filled: number, bucketsMax: number): number {
    if (this.levels < 4) return 0;
    const { recent, counts, buckets } = this;
    const twos = counts[1]! + pairsOf(filled, bucketsMax);
    const fours = counts[2]! + pairsOf(twos, bucketsMax);
    const eights = pairsOf(fours, bucketsMax);
    // What is in buckets goes first; where it is odd in number, with the oldest values.
    const oldTwos = counts[1]! + (counts[1]! & 1);
    const odd = (counts[2]! + oldTwos / 2) & 1;
    const oldFours = counts[2]! + oldTwos / 2 + odd;
    const direct = eights - oldFours / 2;
    if (direct < 1) return 0;
    const into = moving[0]!;
    const other = moving[1]!;
    let at = 0;
    copy(buckets, bucketsMax, other, 0, counts[1]!);
    if (oldTwos > counts[1]!) {
      twoOf(recent, at, other, counts[1]!);
      at += 2;
    }
    copy(buckets, 2 * bucketsMax, into, 0, counts[2]!);
    for (let i = 0, to = counts[2]!; i < oldTwos; i += 2, to++) merge(other, i, into, to, 1 / 4);
    if (odd === 1) {
      fourOf(recent, at, into, oldFours - 1);
      at += 4;
    }
    for (let i = 0; i < oldFours; i += 2) merge(into, i, other, i / 2, 1 / 8);
    copy(other, 0, into, 0, oldFours / 2);
    const { sums, squares } = into;
    for (let to = oldFours / 2; to < eights; to++, at += 8) {
      const a = recent[at]!;
      const b = recent[at + 1]!;
      const c = recent[at + 2]!;
      const d = recent[at + 3]!;
      const e = recent[at + 4]!;
      const f = recent[at + 5]!;
      const g = recent[at + 6]!;
      const h = recent[at + 7]!;
      const ab = a + b;
      const cd = c + d;
      const ef = e + f;
      const gh = g + h;
      const abcd = ab + cd;
      const efgh = ef + gh;
      sums[to] = abcd + efgh;
      squares[to] =
        (a - b) * (a - b) * 0.5 +
        (c - d) * (c - d) * 0.5 +
        (ab - cd) * (ab - cd) * 0.25 +
        ((e - f) * (e - f) * 0.5 + (g - h) * (g - h) * 0.5 + (ef - gh) * (ef - gh) * 0.25) +
        (abcd - efgh) * (abcd - efgh) * 0.125;
    }
    counts[2] = fours - 2 * eights;
    for (let i = 0; i < counts[2]; i++, at += 4) fourOf(recent, at, buckets, 2 * bucketsMax + i);
    counts[1] = twos - 2 * pairsOf(twos, bucketsMax);
    for (let i = 0; i < counts[1]; i++, at += 2) twoOf(recent, at, buckets, bucketsMax + i);
    return eights;
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
    // Of (u0 n − U n0)² / (n0 n1).
    let most = 0;
    let passed = 0;
    let level = this.levels - 1;
    for (let from = knownFrom; from <= level; from++) {
      const before = known[from]!;
      if (!before.valid) continue;
      const now = before.worst + Math.abs(mean - before.mean) / before.reach;
      if (!(now < deviation)) continue;
      n0 = before.n;
      u0 = before.sum;
      most = now * now * 2 * logarithm * n;
      passed = Math.min(most, quick);
      level = from - 1;
      break;
    }
    for (let size = 2 ** level; level >= 0; level--, size /= 2) {
      const sums = level === 0 ? this.recent : this.buckets.sums;
      const begin = level * bucketsMax;
      // Behind the newest bucket of all there is no other side.
      const end = begin + counts[level]! - (level === 0 ? 1 : 0);
      for (let at = begin; at < end; at++) {
        u0 += sums[at]!;
        n0 += size;
        const n1 = n - n0;
        const off = u0 * n - total * n0;
        const square = off * off;
        const sides = n0 * n1;
        if (square <= passed * sides) continue;
        most = Math.max(most, square / sides);
        passed = Math.min(most, quick);
        if (most <= quick || n0 < sideMin || n1 < sideMin) continue;
        const difference = Math.abs(u0 / n0 - (total - u0) / n1);
        const parts = 1 / (n0 - sideMin + 1) + 1 / (n1 - sideMin + 1);
        const bound = Math.sqrt(2 * parts * variance * logarithm) + (2 / 3) * logarithm * parts;
        if (difference > bound) return true;
      }
      if (level < knownFrom) continue;
      const now = known[level]!;
      now.valid = true;
      now.n = n0;
      now.sum = u0;
      now.mean = mean;
      now.worst = Math.sqrt(most / (2 * logarithm * n));
      now.reach = Math.sqrt((2 * logarithm * (n - n0)) / (n * n0));
    }
    this.looked.n = n;
    this.looked.mean = mean;
    this.looked.factor = QUICK * 2 * logarithm;
    this.looked.most = most / n;
    this.room = Math.sqrt(ROOM * 2 * logarithm * variance);
    return false;
  }

  private dropOldest(): void {
    const { counts, recent } = this;
    const { sums, squares } = this.buckets;
    const level = this.levels - 1;
    const count = --counts[level]!;
    const base = level * this.options.bucketsMax;
    if (level === 0) {
      recent.copyWithin(0, 1, this.filled);
      this.begin--;
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
      const sums = level === 0 ? this.recent : this.buckets.sums;
      const base = level * bucketsMax;
      for (let at = base; at < base + this.counts[level]!; at++) {
        const off = n === 0 ? 0 : sums[at]! / size - total / n;
        spread += (level === 0 ? 0 : this.buckets.squares[at]!) + (off * off * n * size) / (n + size);
        total += sums[at]!;
        n += size;
      }
    }
    this.n = n;
    this.total = total;
    this.spread = spread;
  }
}

/** How many pairs of so many buckets move up. */
function pairsOf(count: number, bucketsMax: number): number {
  return count <= bucketsMax ? 0 : (count - bucketsMax + 1) >> 1;
}

function copy(from: Buckets, begin: number, into: Buckets, to: number, count: number): void {
  for (let i = 0; i < count; i++) {
    into.sums[to + i] = from.sums[begin + i]!;
    into.squares[to + i] = from.squares[begin + i]!;
  }
}

/** Two neighbours become one; `half` is half of 1 / (values in one of them). */
function merge(from: Buckets, at: number, into: Buckets, to: number, half: number): void {
  const a = from.sums[at]!;
  const b = from.sums[at + 1]!;
  into.sums[to] = a + b;
  into.squares[to] = from.squares[at]! + from.squares[at + 1]! + (a - b) * (a - b) * half;
}

function twoOf(values: Float64Array, at: number, into: Buckets, to: number): void {
  const a = values[at]!;
  const b = values[at + 1]!;
  into.sums[to] = a + b;
  into.squares[to] = (a - b) * (a - b) * 0.5;
}

function fourOf(values: Float64Array, at: number, into: Buckets, to: number): void {
  const a = values[at]!;
  const b = values[at + 1]!;
  const c = values[at + 2]!;
  const d = values[at + 3]!;
  const ab = a + b;
  const cd = c + d;
  into.sums[to] = ab + cd;
  into.squares[to] = (a - b) * (a - b) * 0.5 + (c - d) * (c - d) * 0.5 + (ab - cd) * (ab - cd) * 0.25;
}
