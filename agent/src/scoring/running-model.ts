import { messageOf, Scorer, type Model, type ModelRef, type VehicleModelStopped } from '@cardan/shared';
import { LatencyBudget } from './latency-budget.ts';

/** A model that has been loaded, and the name of its bytes. */
export interface LoadedModel {
  ref: ModelRef;
  /** Content address, see `ModelStore`. */
  address: string;
  model: Model;
}

/** Why a model was stopped. */
export type StopReason = Pick<VehicleModelStopped, 'code' | 'message'>;

/** Thrown by `RunningModel.push`; the model must not get another row. */
export class ModelStoppedError extends Error {
  readonly reason: StopReason;

  constructor(reason: StopReason, cause?: unknown) {
    super(reason.message, { cause });
    this.reason = reason;
  }
}

export interface RunningOptions {
  /** Most that a row may take, in microseconds; see `LatencyBudget` for how it is judged. */
  budgetUs: number;
  /** Microseconds since some moment, monotonic. */
  clockUs: () => number;
}

/** One model that scores rows, under watch. */
export class RunningModel {
  readonly loaded: LoadedModel;
  /** Whether it has given a score: what can be gone back to. */
  hasScored = false;
  /** What the last row took, in microseconds. */
  lastUs = 0;
  private readonly scorer: Scorer;
  private readonly budget: LatencyBudget;
  private readonly options: RunningOptions;

  constructor(loaded: LoadedModel, options: RunningOptions) {
    this.loaded = loaded;
    this.options = options;
    this.scorer = new Scorer(loaded.model);
    this.budget = new LatencyBudget(options.budgetUs);
  }

  /** Scores a row, NaN while the windows fill. Throws ModelStoppedError when the model has shown itself unfit. */
  push(time: number, values: Float32Array): number {
    const { budgetUs, clockUs } = this.options;
    const { name, version } = this.loaded.ref;
    const begun = clockUs();
    let score: number;
    try {
      score = this.scorer.push(time, values);
    } catch (cause) {
      throw new ModelStoppedError(
        { code: 'MODEL_THREW', message: `Model ${name} ${version} failed: ${messageOf(cause)}.` },
        cause,
      );
    }
    this.lastUs = clockUs() - begun;
    if (this.scorer.ready && !Number.isFinite(score))
      throw new ModelStoppedError({
        code: 'MODEL_NOT_FINITE',
        message: `Model ${name} ${version} gave a score that is no finite number.`,
      });
    if (!this.budget.push(this.lastUs))
      throw new ModelStoppedError({
        code: 'MODEL_TOO_SLOW',
        message: `Model ${name} ${version} takes more than the ${budgetUs} µs that a row may, the last one ${Math.round(this.lastUs)} µs.`,
      });
    this.hasScored ||= this.scorer.ready;
    return score;
  }

  /** See `Scorer.contributions`. */
  contributions(): Float32Array {
    return this.scorer.contributions();
  }
}
