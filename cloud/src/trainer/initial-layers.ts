import type { DenseLayer } from '@cardan/shared';
import type { SeededRandom } from './seeded-random.ts';

/** Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010). */
export function initialLayers(sizes: readonly number[], random: SeededRandom): DenseLayer[] {
  return sizes.slice(1).map((units, i) => {
    const inputs = sizes[i]!;
    const limit = Math.sqrt(6 / (inputs + units));
    return {
      name: `dense_${i + 1}`,
      inputs,
      units,
      activation: i === sizes.length - 2 ? 'linear' : 'tanh',
      kernel: Float32Array.from({ length: inputs * units }, () => limit * (2 * random.uniform() - 1)),
      bias: new Float32Array(units),
    };
  });
}
