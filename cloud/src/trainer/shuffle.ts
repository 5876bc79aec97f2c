import { SeededRandom } from './seeded-random.ts';

/** Most bytes of the rows that wait; some tens of megabytes are all that a wide network may cost. */
const BYTES_MAX = 32 * 1024 * 1024;

/**
 * Mixes a stream of rows in bounded memory: a row that comes takes the place of a random one among those that wait, and
 * that one goes on. So neighbours in time, which are nearly the same, come apart. With as many places as there are rows
 * it is a whole shuffle.
 */
export class ShuffleBuffer {
  /** Rows that may wait. */
  readonly places: number;
  private readonly width: number;
  private readonly random: SeededRandom;
  private readonly waiting: Float32Array;
  private count = 0;

  constructor(options: { rows: number; width: number; seed: number }) {
    this.width = options.width;
    this.places = Math.max(1, Math.min(options.rows, Math.floor(BYTES_MAX / (4 * options.width))));
    this.random = new SeededRandom(options.seed);
    this.waiting = new Float32Array(this.places * options.width);
  }

  /** Takes a row; where the buffer is full, another one goes to `into[at…]`. Returns whether one did. */
  exchange(row: Float32Array, into: Float32Array, at: number): boolean {
    const { waiting, width } = this;
    if (this.count < this.places) {
      waiting.set(row, this.count++ * width);
      return false;
    }
    const place = Math.floor(this.random.uniform() * this.places) * width;
    for (let i = 0; i < width; i++) {
      into[at + i] = waiting[place + i]!;
      waiting[place + i] = row[i]!;
    }
    return true;
  }

  /** Puts one of those that wait to `into[at…]`. Returns whether there was one. */
  drain(into: Float32Array, at: number): boolean {
    if (this.count === 0) return false;
    const { waiting, width } = this;
    const place = Math.floor(this.random.uniform() * this.count) * width;
    const last = --this.count * width;
    for (let i = 0; i < width; i++) {
      into[at + i] = waiting[place + i]!;
      waiting[place + i] = waiting[last + i]!;
    }
    return true;
  }
}
