import { initialLayers } from './initial-layers.ts';
import { DenseTraining } from './dense-training.ts';
import type { NetworkEngine } from './network-engine.ts';

/** Trains autoencoders of dense layers: tanh in the hidden ones, linear at the end. */
export function denseEngine(inputs: number, hidden: readonly number[]): NetworkEngine {
  const sizes = [inputs, ...hidden, inputs];
  return {
    name: 'dense',
    multiplyAdds: sizes.slice(1).reduce((sum, units, i) => sum + sizes[i]! * units, 0),
    hyperParameters: {},
    begin: (random) => Promise.resolve(new DenseTraining(initialLayers(sizes, random))),
  };
}
