import type { SeededRandom } from './seeded-random.ts';

/** What a denoising autoencoder is shown in place of the rows that it is to give back. */
export class Corruption {
  private readonly groups: readonly number[];
  private readonly maskChance: number;
  private readonly noise: number;
  /** Per group, whether it is hidden in the row at hand. */
  private readonly hidden: Uint8Array;

  /** `groups` names the signal of each column: signals are hidden as a whole. */
  constructor(groups: readonly number[], { maskChance, noise }: { maskChance: number; noise: number }) {
    this.groups = groups;
    this.maskChance = maskChance;
    this.noise = noise;
    this.hidden = new Uint8Array(Math.max(...groups) + 1);
  }

  /** `targets` → `inputs`, row-major. */
  apply(targets: Float32Array, inputs: Float32Array, rows: number, random: SeededRandom): void {
    const { groups, hidden, maskChance, noise } = this;
    for (let row = 0; row < rows; row++) {
      for (let group = 0; group < hidden.length; group++)
        hidden[group] = random.uniform() < maskChance ? 1 : 0;
      for (let i = 0, at = row * groups.length; i < groups.length; i++, at++)
        inputs[at] = hidden[groups[i]!] === 1 ? 0 : targets[at]! + noise * random.normal();
    }
  }
}
