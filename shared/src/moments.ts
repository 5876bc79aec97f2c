/** Number, mean and variance of some values, as an event carries them. All 0 where there were none. */
export interface MomentsData {
  n: number;
  mean: number;
  /** Of the population: the mean squared distance from the mean. */
  variance: number;
}

/**
 * Mean and variance of values that come one by one, and of several such sets together. A sum of squares would
 * lose all digits where the mean is large beside the spread; this does not.
 *
 * One by one: Welford, "Note on a method for calculating corrected sums of squares and products",
 * Technometrics 4(3), 1962. Together: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
 * computing sample variances", COMPSTAT 1982.
 */
export class Moments {
  private n = 0;
  private mean = 0;
  /** Sum of the squared distances from the mean. */
  private squares = 0;

  push(value: number): void {
    this.n++;
    const off = value - this.mean;
    this.mean += off / this.n;
    this.squares += off * (value - this.mean);
  }

  /** Adds another set to this one. */
  add({ n, mean, variance }: MomentsData): void {
    if (n === 0) return;
    const total = this.n + n;
    const off = mean - this.mean;
    this.squares += variance * n + (off * off * this.n * n) / total;
    this.mean += (off * n) / total;
    this.n = total;
  }

  get data(): MomentsData {
    const { n, mean, squares } = this;
    return { n, mean, variance: n === 0 ? 0 : squares / n };
  }
}
