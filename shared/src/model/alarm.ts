import type { AlarmSpec } from './manifest.ts';

/**
 * Scores → alarms, with hysteresis, so that one event is one alarm: `raiseAfterRows` scores in succession
 * over the threshold raise it, `clearAfterRows` in succession below the lower `clearBelow` clear it.
 */
export class Alarm {
  private readonly spec: AlarmSpec;
  private raised: boolean;
  /** Scores in succession that speak for the other state. */
  private rows = 0;

  /** `active`: state to begin in, for example of the model before. */
  constructor(spec: AlarmSpec, active = false) {
    this.spec = spec;
    this.raised = active;
  }

  get active(): boolean {
    return this.raised;
  }

  /** Takes the next score; says when the state changes. NaN (no score yet) changes nothing. */
  push(score: number): 'raised' | 'cleared' | null {
    if (Number.isNaN(score)) return null;
    const { threshold, raiseAfterRows, clearBelow, clearAfterRows } = this.spec;
    this.rows = (this.raised ? score < clearBelow : score > threshold) ? this.rows + 1 : 0;
    if (this.rows < (this.raised ? clearAfterRows : raiseAfterRows)) return null;
    this.raised = !this.raised;
    this.rows = 0;
    return this.raised ? 'raised' : 'cleared';
  }
}
