import {
  CardanError,
  DenseExecutor,
  loadTfjsNetwork,
  readDense,
  type FeatureInput,
  type LayersModelFiles,
  type Lineage,
  type Network,
} from '@cardan/shared';
import type { NetworkEngine } from './network-engine.ts';
import { topologyIn, topologyOf, type InputShape } from './network-topology.ts';
import type { TfjsBackend } from './tfjs-backends.ts';

/** A network to be trained instead of the dense autoencoder. It sees its window row by row. */
export interface NetworkSpec {
  /** A list of layers (see `topologyOf`), or the text of a topology file (see `topologyIn`). */
  layers: readonly unknown[] | string;
  /** Where TensorFlow.js trains it; default the best that is here. */
  backend?: TfjsBackend;
}

/** Most inputs of a manifest. */
const INPUTS_MAX = 2000;

/** Per row of the window, from the oldest to the newest, the value of each chosen signal. Throws MODEL_INVALID. */
export function windowInputs(chosen: readonly FeatureInput[], windowRows: number): FeatureInput[] {
  const inputs = chosen.length * windowRows;
  if (inputs > INPUTS_MAX)
    throw new CardanError(
      'MODEL_INVALID',
      `Not a usable network: ${windowRows} rows of ${chosen.length} signals are ${inputs} inputs, more than ${INPUTS_MAX}. Take fewer rows (windowRows).`,
    );
  return Array.from({ length: windowRows }, (_, row) =>
    chosen.map(({ signal, center, scale }): FeatureInput => ({
      signal,
      statistic: 'value',
      lag: windowRows - 1 - row,
      center,
      scale,
    })),
  ).flat();
}

/** Throws MODEL_INVALID, TFJS_UNAVAILABLE. */
export async function engineOf({ layers, backend }: NetworkSpec, shape: InputShape): Promise<NetworkEngine> {
  const topology = typeof layers === 'string' ? topologyIn(layers) : topologyOf(layers, shape);
  // Loading TensorFlow.js takes a second, which most trainings can do without.
  const { openTfjsEngine } = await import('./tfjs-engine.ts');
  const engine = await openTfjsEngine({ topology, ...(backend === undefined ? {} : { backend }) });
  const network = typeof layers === 'string' ? layers : JSON.stringify(layers);
  return { ...engine, hyperParameters: { network, ...engine.hyperParameters } };
}

/** The network that a lineage tells of, as `engineOf` writes it; undefined for the dense autoencoder. */
export function networkIn({ hyperParameters }: Pick<Lineage, 'hyperParameters'>): NetworkSpec | undefined {
  const { network, tfjsBackend } = hyperParameters;
  if (typeof network !== 'string' || typeof tfjsBackend !== 'string') return undefined;
  return {
    layers: network.startsWith('[') ? (JSON.parse(network) as unknown[]) : network,
    backend: tfjsBackend as TfjsBackend,
  };
}

/** What runs files that the engine has saved. */
export async function networkOf(
  { name }: Pick<NetworkEngine, 'name'>,
  { modelJson, weights }: LayersModelFiles,
): Promise<Network> {
  if (name === 'dense') return new DenseExecutor(readDense(modelJson, weights));
  return loadTfjsNetwork(modelJson, weights);
}
