import type { ModelManifest } from '@cardan/shared';
import type { NetworkTraining } from './network-training.ts';
import type { SeededRandom } from './seeded-random.ts';

/** A kind of network that can be trained any number of times, side by side. */
export interface NetworkEngine {
  /** What runs the network in the end. */
  readonly name: ModelManifest['engine'];
  /** Of one row in the network, in the car. */
  readonly multiplyAdds: number;
  /** What of it goes into the lineage beside the seed, so that the model can be trained again. */
  readonly hyperParameters: Readonly<Record<string, number | string>>;
  /** Begins with weights drawn from `random`. */
  begin(random: SeededRandom): Promise<NetworkTraining>;
}
