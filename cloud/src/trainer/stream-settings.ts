import { CardanError, type SignalSet, type Statistic } from '@cardan/shared';
import { meansOfAll, type AskedFeature } from './feature-choice.ts';
import { HYPER_PARAMETERS, type HyperParameters } from './hyper-parameters.ts';
import { networkIn, type NetworkSpec } from './network-spec.ts';

/** What a training that streams from the log can be told beside its hyper-parameters. */
export interface StreamSettings {
  /** Passes over the span. 0 chooses: as many as show the network `rowsShown` rows, at least one. */
  epochs: number;
  /** Part of the vehicles (or, with one or two, of the time) that is held back for the threshold. */
  heldBackPart: number;
  /** Rows that wait to be mixed. */
  shuffleRows: number;
  /** Rows of the sample by which features are standardised and scores are calibrated. */
  sampleRows: number;
  /** Units of the hidden layers, for example `14,7,7,14`; empty chooses by the number of inputs. */
  hidden: readonly number[];
  /** What the network is given; empty for the mean of every signal that moves. */
  inputs: readonly AskedInput[];
  /** Layers to be trained by TensorFlow.js instead of the dense autoencoder; they see the window row by row. */
  network?: NetworkSpec;
}

/** An input by the name of its signal. */
export interface AskedInput {
  signal: string;
  statistic: Statistic;
  /** Of a ratio: the signal that it is over. */
  over?: string;
}

export const STREAM_SETTINGS: Readonly<StreamSettings> = {
  epochs: 0,
  heldBackPart: 0.2,
  shuffleRows: 65_536,
  sampleRows: 120_000,
  hidden: [],
  inputs: [],
};

/** Marks the lineage of a model that was trained as a stream. */
const METHOD = 'stream';

/**
 * The inputs by their columns; undefined for the means of all signals. `leftOut` is none of them: nothing learns from a
 * label. Throws CONFIG_INVALID for a signal that is not there, or is that one.
 */
export function askedInputs(
  { inputs }: StreamSettings,
  { id, signals }: SignalSet,
  leftOut?: string,
): AskedFeature[] | undefined {
  if (inputs.length === 0) {
    if (!signals.some(({ name }) => name === leftOut)) return undefined;
    return meansOfAll(signals.length).filter(({ signal }) => signals[signal]!.name !== leftOut);
  }
  if (inputs.some(({ signal, over }) => leftOut !== undefined && (signal === leftOut || over === leftOut)))
    throw new CardanError(
      'CONFIG_INVALID',
      `inputs: "${leftOut}" is the label that the model is judged by, so it is not trained on. Leave it out of inputs or of labels.`,
    );
  const column = (name: string) => {
    const found = signals.findIndex((signal) => signal.name === name);
    if (found >= 0) return found;
    throw new CardanError(
      'CONFIG_INVALID',
      `inputs: the signal set ${id} has no "${name}". It has ${signals.map((signal) => signal.name).join(', ')}.`,
    );
  };
  return inputs.map(({ signal, statistic, over }) => ({
    signal: column(signal),
    statistic,
    ...(over === undefined ? {} : { over: column(over) }),
  }));
}

/** As it goes into a lineage, so that `streamSettingsIn` gives the same. */
export function lineageOf(settings: StreamSettings): Record<string, number | string> {
  const { hidden, inputs, epochs, heldBackPart, shuffleRows, sampleRows } = settings;
  return {
    method: METHOD,
    // The engine itself tells of its network.
    ...{ epochs, heldBackPart, shuffleRows, sampleRows },
    ...(hidden.length === 0 ? {} : { hidden: hidden.join(',') }),
    ...(inputs.length === 0 ? {} : { inputs: JSON.stringify(inputs) }),
  };
}

/** The settings in a lineage; undefined when the model was not trained as a stream. */
export function streamSettingsIn(
  hyperParameters: Readonly<Record<string, number | string>>,
): StreamSettings | undefined {
  if (hyperParameters.method !== METHOD) return undefined;
  const number = (name: keyof StreamSettings) => Number(hyperParameters[name]);
  const { hidden, inputs } = hyperParameters;
  const network = networkIn({ hyperParameters });
  return {
    epochs: number('epochs'),
    heldBackPart: number('heldBackPart'),
    shuffleRows: number('shuffleRows'),
    sampleRows: number('sampleRows'),
    hidden: hidden === undefined ? [] : String(hidden).split(',').map(Number),
    inputs: inputs === undefined ? [] : (JSON.parse(String(inputs)) as AskedInput[]),
    ...(network === undefined ? {} : { network }),
  };
}

/** Hyper-parameters for a stream: more rows come, so a step may be smaller and a batch larger. */
export const STREAM_HYPER_PARAMETERS: Readonly<HyperParameters> = {
  ...HYPER_PARAMETERS,
  batchRows: 100,
  rowsShown: 1_000_000,
  maskChance: 0.05,
  noise: 0.05,
};
