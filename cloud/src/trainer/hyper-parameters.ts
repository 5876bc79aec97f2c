/** What a training can be told. All of it goes into the lineage. */
export interface HyperParameters {
  /** Rows whose mean is one feature. */
  windowRows: number;
  /** Feature rows over which residuals are averaged. */
  smoothingRows: number;
  /** Feature rows over which the features themselves are averaged, for the score of a shift; 0: no such score. */
  shiftRows: number;
  /** The network is given features within so many spreads. */
  clip: number;
  /** Units of the outer hidden layers and of the one between them; 0 chooses by the number of inputs. */
  outerUnits: number;
  middleUnits: number;
  /** Rows that the network is shown in all, each as often as that takes. */
  rowsShown: number;
  batchRows: number;
  learningRate: number;
  /** Epochs without a better loss on held-back rows after which training stops. */
  patience: number;
  /** Chance that a signal is hidden in a row, and the noise on the others (standard deviations). */
  maskChance: number;
  noise: number;
  /** Parts of the vehicles, or of the time of each, that are held back in turn, for the threshold. */
  parts: number;
  /** Alarm threshold by the highest score of held-back rows, with very many vehicles. See `fit`. */
  thresholdFactor: number;
  raiseAfterRows: number;
  /** An alarm ends below this part of the threshold. */
  clearPart: number;
  clearAfterRows: number;
}

export const HYPER_PARAMETERS: Readonly<HyperParameters> = {
  windowRows: 5,
  smoothingRows: 30,
  shiftRows: 30,
  clip: 5,
  outerUnits: 0,
  middleUnits: 0,
  rowsShown: 100_000,
  batchRows: 50,
  learningRate: 0.006,
  patience: 12,
  maskChance: 0.05,
  noise: 0.05,
  parts: 4,
  thresholdFactor: 1.25,
  raiseAfterRows: 5,
  clearPart: 0.8,
  clearAfterRows: 30,
};
