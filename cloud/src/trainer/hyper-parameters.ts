/** What a training can be told. All of it goes into the lineage. */
export interface HyperParameters {
  /** Rows whose mean is one feature. */
  windowRows: number;
  /** Feature rows over which residuals, and features for the score of a shift, are averaged; 0 chooses by the rows there are. */
  smoothingRows: number;
  /** What the score of a shift counts, in scores of residuals; 0: there is none. */
  shiftWeight: number;
  /** The network is given features within so many spreads. */
  clip: number;
  /** Hidden units per output of a leave-one-out network; 1: a linear one; 0 chooses by the number of inputs. */
  units: number;
  /** Of an autoencoder: units of the outer hidden layers and of the one between them; 0 chooses by the number of inputs. */
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
  /** Alarm threshold by the highest score of held-back rows; 0 chooses by the number of vehicles. */
  thresholdFactor: number;
  /**
   * A signal is stuck when it stands still so many times as long as it ever did on held-back rows; signals that do for long
   * are not looked at. 0: none is.
   */
  standstillFactor: number;
  raiseAfterRows: number;
  /** An alarm ends below this part of the threshold. */
  clearPart: number;
  clearAfterRows: number;
}

export const HYPER_PARAMETERS: Readonly<HyperParameters> = {
  windowRows: 5,
  smoothingRows: 0,
  shiftWeight: 0.7,
  clip: 5,
  units: 0,
  outerUnits: 0,
  middleUnits: 0,
  rowsShown: 100_000,
  batchRows: 50,
  learningRate: 0.006,
  patience: 12,
  maskChance: 0,
  noise: 0.1,
  parts: 4,
  thresholdFactor: 0,
  standstillFactor: 3,
  raiseAfterRows: 5,
  clearPart: 0.8,
  clearAfterRows: 30,
};
