/** Fewer rows prove nothing, however far apart they are. */
const ROWS_MIN = 30;
/** After this much of scoring, an end of the whole computer is no longer taken for the model's doing. */
const CALM_MS = 60_000;

/**
 * How long a model that began to score has done so without trouble, by the time of its rows: one minute (`calm`), then
 * long enough to be one to go back to (`good`). A silence counts as one gap at most, so that neither a night in the
 * garage nor a clock that is set proves a model.
 */
export class Probation {
  private readonly goodAfterMs: number;
  private readonly gapMs: number;
  private rows = 0;
  private scoredMs = 0;
  private lastTime = Number.NaN;
  private reached: 'none' | 'calm' | 'good' = 'none';

  /** `gapMs`: of the model's features. */
  constructor(goodAfterMs: number, gapMs: number) {
    this.goodAfterMs = goodAfterMs;
    this.gapMs = gapMs;
  }

  /** Takes the time of a row that was scored; tells once of each step. */
  push(time: number): 'calm' | 'good' | undefined {
    if (this.reached === 'good') return undefined;
    this.rows++;
    const passed = time - this.lastTime;
    if (passed > 0) this.scoredMs += Math.min(passed, this.gapMs);
    this.lastTime = time;
    if (this.scoredMs >= this.goodAfterMs && (this.rows >= ROWS_MIN || this.goodAfterMs === 0))
      return (this.reached = 'good');
    if (this.reached === 'none' && this.scoredMs >= CALM_MS) return (this.reached = 'calm');
    return undefined;
  }
}
