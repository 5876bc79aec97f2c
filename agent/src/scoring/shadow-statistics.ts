import { Alarm, Moments, QuantileSketch, type ModelRef, type VehicleShadow } from '@cardan/shared';
import type { LoadedModel } from './running-model.ts';

/**
 * What a shadow model did since the last `take`. Its scores never leave the car, only these figures, so that a
 * candidate can be judged on all cars for a few hundred bytes a period.
 */
export class ShadowStatistics {
  private readonly ref: ModelRef;
  private readonly alarm: Alarm;
  private readonly periodMs: number;
  private period: Period;

  /** `alarmActive`: state of the active model's alarm, so that one that stands already is not counted as new. */
  constructor({ ref, model }: LoadedModel, periodMs: number, alarmActive: boolean) {
    this.ref = ref;
    this.alarm = new Alarm(model.manifest.alarm, alarmActive);
    this.periodMs = periodMs;
    this.period = new Period();
  }

  /** Takes what a row gave: `activeScore` is that of the active model, NaN without one; `us` is what it took. */
  push(time: number, score: number, activeScore: number, us: number): { alarmed: boolean } {
    const { period } = this;
    if (period.rows === 0) period.from = period.to = time;
    period.from = Math.min(period.from, time);
    period.to = Math.max(period.to, time);
    period.rows++;
    period.latency.push(us);
    if (Number.isNaN(score)) {
      period.nan++;
      return { alarmed: false };
    }
    period.score.push(score);
    period.sketch.push(score);
    if (!Number.isNaN(activeScore)) period.difference.push(score - activeScore);
    const alarmed = this.alarm.push(score) === 'raised';
    if (alarmed) period.alarms++;
    return { alarmed };
  }

  /**
   * Whether the period has lasted its time with a row at `time`. A time before the period's own, of a clock that
   * was set back, ends it too, so that a period never spans the jump.
   */
  due(time: number): boolean {
    const { rows, from } = this.period;
    return rows > 0 && (time - from >= this.periodMs || time < from);
  }

  /** The figures of the period, and begins the next; undefined when it had no rows. */
  take(active: ModelRef | null): VehicleShadow | undefined {
    const { from, to, rows, nan, score, sketch, difference, alarms, latency } = this.period;
    if (rows === 0) return undefined;
    this.period = new Period();
    return {
      model: this.ref,
      active,
      from: new Date(from).toISOString(),
      to: new Date(to).toISOString(),
      rows,
      nan,
      score: { ...score.data, sketch: sketch.data },
      difference: difference.data,
      alarms,
      latency: { p50: latency.quantile(0.5), p99: latency.quantile(0.99), sketch: latency.data },
    };
  }
}

class Period {
  from = 0;
  to = 0;
  rows = 0;
  nan = 0;
  alarms = 0;
  readonly score = new Moments();
  readonly sketch = new QuantileSketch();
  readonly difference = new Moments();
  readonly latency = new QuantileSketch();
}
