/** Rows that are looked at. At one row a second half a minute: soon enough, and many for a median. */
const ROWS = 31;

/**
 * Whether a model keeps its time budget, judged by the median of the last 31 rows: it is over the budget when
 * more than half of these rows were. A pause of the garbage collector, a disk that blocks or a moment of load
 * makes a few rows slow; a model that is too slow makes all of them slow. Sixteen slow rows are enough, so one
 * that is slow from its first row on does not get further.
 */
export class LatencyBudget {
  private readonly budgetUs: number;
  private readonly over = new Uint8Array(ROWS);
  private next = 0;
  private slowRows = 0;

  constructor(budgetUs: number) {
    this.budgetUs = budgetUs;
  }

  /** Takes what one row took, in microseconds. Returns whether the model is within its budget. */
  push(us: number): boolean {
    const slow = us > this.budgetUs ? 1 : 0;
    this.slowRows += slow - this.over[this.next]!;
    this.over[this.next] = slow;
    this.next = this.next + 1 === ROWS ? 0 : this.next + 1;
    return this.slowRows <= ROWS >> 1;
  }
}
