import { type Model, type ScoreBatch, Scorer, type TelemetryBatch } from '@cardan/shared';
import { RowRing } from './row-ring.ts';
import { TopContributions } from './top-contributions.ts';

interface Running {
  model: Model;
  scorer: Scorer;
  top: TopContributions;
}

/**
 * Scores the rows of one vehicle, and changes from model to model without a gap: a new model is given the rows that are
 * kept. Where these do not fill its windows, the one before goes on scoring until the rows that come have.
 */
export class VehicleScoring {
  private kept: RowRing | undefined;
  private active: Running | undefined;
  /** A newer model whose windows are not full yet. */
  private coming: Running | undefined;

  /** Rows that are kept of it. */
  get rows(): number {
    return this.kept?.rows ?? 0;
  }

  /** Takes rows that are not to be scored (again), so that the windows are those that come after them. */
  skip({ times, values }: TelemetryBatch, from: number, to: number): void {
    const signals = values.length / times.length;
    const ring = this.ringFor(signals);
    for (let row = from; row < to; row++) {
      const time = times[row]!;
      this.active?.scorer.push(time, values, row * signals);
      this.coming?.scorer.push(time, values, row * signals);
      ring.push(time, values, row * signals);
    }
    this.changeOver();
  }

  /**
   * Scores the rows `from` up to `to` (exclusive) of a batch with `model`, the newest one for its columns; undefined:
   * there is none. Gives one `ScoreBatch`, or two where the model changes in between; none without a model.
   */
  score(batch: TelemetryBatch, from: number, to: number, model: Model | undefined): ScoreBatch[] {
    const { times, values } = batch;
    const signals = values.length / times.length;
    const ring = this.ringFor(signals);
    this.use(model, ring);
    if (this.active === undefined) {
      for (let row = from; row < to; row++) ring.push(times[row]!, values, row * signals);
      return [];
    }
    const done: ScoreBatch[] = [];
    let begin = from;
    let scores = new Float32Array(to - from);
    for (let row = from; row < to; row++) {
      const time = times[row]!;
      const at = row * signals;
      let score = this.coming?.scorer.push(time, values, at);
      const before = this.active;
      if (score !== undefined && this.changeOver()) {
        // The row that filled the new model's windows is the first one that it scores.
        if (row > begin) done.push(scoreBatch(batch, begin, row, scores.subarray(0, row - begin), before));
        begin = row;
        scores = new Float32Array(to - row);
      } else score = this.active.scorer.push(time, values, at);
      scores[row - begin] = score;
      this.active.top.note(row - begin, score, this.active.scorer);
      ring.push(time, values, at);
    }
    done.push(scoreBatch(batch, begin, to, scores, this.active));
    return done;
  }

  private ringFor(signals: number): RowRing {
    // Other columns: what was kept is of no use to any model of these.
    if (this.kept?.signals !== signals) {
      this.kept = new RowRing(signals);
      this.active = this.coming = undefined;
    }
    return this.kept;
  }

  private use(model: Model | undefined, ring: RowRing): void {
    if (model === undefined || model === this.active?.model || model === this.coming?.model) return;
    const { features, score, signalSet } = model.manifest;
    if (signalSet.signals.length !== ring.signals) return;
    const scorer = new Scorer(model);
    ring.replay(features.windowRows + score.smoothingRows - 1, (time, values, offset) =>
      scorer.push(time, values, offset),
    );
    this.coming = { model, scorer, top: new TopContributions(model) };
    this.changeOver();
  }

  /** Whether the coming model has become the active one: its windows are full, or nobody else's are either. */
  private changeOver(): boolean {
    const { coming, active } = this;
    if (coming === undefined || (active?.scorer.ready === true && !coming.scorer.ready)) return false;
    this.active = coming;
    this.coming = undefined;
    return true;
  }
}

function scoreBatch(
  batch: TelemetryBatch,
  from: number,
  to: number,
  scores: Float32Array,
  { model, top }: Running,
): ScoreBatch {
  const { name, version, alarm } = model.manifest;
  const contributions = top.take();
  return {
    epoch: batch.epoch,
    firstSequence: batch.firstSequence + from,
    times: batch.times.subarray(from, to),
    scores,
    modelName: name,
    modelVersion: version,
    threshold: alarm.threshold,
    signalSet: batch.signalSet,
    ...(contributions === undefined ? {} : { contributions }),
  };
}
