/**
 * What learns from rows one by one, in bounded memory, and can be stopped, saved and merged at any row. All learners
 * pass one list of checks: test/learner/learner-contract.ts.
 */
export interface OnlineLearner<State> {
  /** Values of a row. */
  readonly width: number;
  /**
   * Learns the row that begins at `at`, and says what it was until now: its cluster (k-means, −1 while there are no
   * centers yet), its anomaly score from 0 to 1 (half-space trees), or 1 for an outlier and 0 for none (DenStream).
   */
  learn(values: Float64Array, at?: number): number;
  /** Plain JSON. Loaded again it goes on with the same bits. */
  state(): State;
  /** Adds what another one with the same options learned from other rows. Throws RangeError for other options. */
  merge(other: this): void;
}

/** Throws RangeError when there is no whole row at this place. */
export function checkRow(values: Float64Array, at: number, width: number): void {
  if (at < 0 || at + width > values.length)
    throw new RangeError(`There are ${values.length - at} values at ${at}; a row has ${width}.`);
}

/** Throws RangeError for options that are not whole numbers from 1 on. */
export function checkWhole(options: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(options))
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${name} is ${value}; it is a whole number from 1 on.`);
}

/** Throws RangeError when two learners have not learned under the same options. */
export function checkSameOptions(a: object, b: object): void {
  if (JSON.stringify(a) !== JSON.stringify(b))
    throw new RangeError('Only learners with the same options merge.');
}
