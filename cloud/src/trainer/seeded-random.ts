/**
 * Random numbers of a training: mulberry32 (Tommy Ettinger, public domain), 32 bits of state. Only integer
 * arithmetic, sums and products, so a seed gives the same model on every machine.
 */
export class SeededRandom {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0;
  }

  /** 0 ≤ number < 1. */
  uniform(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Mean 0, variance 1, near enough to normal for noise: four uniforms, without logarithm or cosine. */
  normal(): number {
    const sum = this.uniform() + this.uniform() + this.uniform() + this.uniform();
    return (sum - 2) * Math.sqrt(3);
  }

  /** Fisher and Yates' shuffle, in place. */
  shuffle(values: Uint32Array): void {
    for (let i = values.length - 1; i > 0; i--) {
      const j = Math.floor(this.uniform() * (i + 1));
      const value = values[i]!;
      values[i] = values[j]!;
      values[j] = value;
    }
  }
}
