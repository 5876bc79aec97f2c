import {
  Alarm,
  CardanError,
  type ModelRef,
  type VehicleModelStopped,
  type VehicleShadow,
} from '@cardan/shared';
import { Probation } from './probation.ts';
import { RecentRows } from './recent-rows.ts';
import {
  ModelStoppedError,
  RunningModel,
  type LoadedModel,
  type RunningOptions,
  type StopReason,
} from './running-model.ts';
import { ShadowStatistics } from './shadow-statistics.ts';

export type ModelRole = VehicleModelStopped['role'];

/** The alarm of the active model began or ended with the last row. */
export interface AlarmChange {
  state: 'raised' | 'cleared';
  model: ModelRef;
  score: number;
  threshold: number;
  /** What each signal adds to the score, see `Scorer.contributions`. */
  contributions: Float32Array;
}

export interface StoppedModel extends VehicleModelStopped {
  /** Its content address, and that of the model which is active now; null when none is. */
  address: string;
  activeAddress: string | null;
}

export interface OnBoardScoringOptions extends RunningOptions {
  /** How much time of rows one event of the shadow's statistics covers, milliseconds. */
  shadowPeriodMs: number;
  /** `time` is that of the row, milliseconds since 1970. */
  onAlarm: (change: AlarmChange, time: number) => void;
  /** Statistics of the shadow for a period that ended with the row at `time`. */
  onShadow: (statistics: VehicleShadow, time: number) => void;
  /** How long a model must score without trouble before it is good, by the time of its rows, milliseconds. */
  goodAfterMs: number;
  /** A model, active or shadow, has scored for a minute. */
  onCalm: (address: string) => void;
  /** A model, active or shadow, has proved itself: it is one to go back to. */
  onGood: (address: string) => void;
  /** A model was stopped; what is active now is so already. */
  onStopped: (stopped: StoppedModel) => void;
}

interface Shadow {
  running: RunningModel;
  statistics: ShadowStatistics;
  probation: Probation;
}

/**
 * The models of one car: the active one scores and raises alarms; a shadow gets the same rows, silently; the last
 * good one, which was active before and had scored without trouble, waits to take over.
 *
 * Each model is under watch (`RunningModel`). One that throws, gives a score that is not finite, or is too slow is
 * stopped for good. In place of a stopped active model the last good one scores that same row and goes on, with the
 * rows before replayed and the alarm as it stood.
 */
export class OnBoardScoring {
  /** Since the start. */
  readonly counts = { stopped: 0, shadowRows: 0, shadowAlarms: 0 };
  private readonly options: OnBoardScoringOptions;
  private readonly recent = new RecentRows();
  private active: RunningModel | undefined;
  private lastGood: RunningModel | undefined;
  private probation: Probation | undefined;
  private alarm: Alarm | undefined;
  private alarmStands = false;
  private shadow: Shadow | undefined;
  private shadowScore = Number.NaN;
  /** Time of the newest row. */
  private lastTime = 0;

  constructor(options: OnBoardScoringOptions) {
    this.options = options;
  }

  /** The model that scored the last row, if any. */
  get activeModel(): ModelRef | null {
    return this.active?.loaded.ref ?? null;
  }

  get shadowModel(): ModelRef | null {
    return this.shadow?.running.loaded.ref ?? null;
  }

  get alarmActive(): boolean {
    return this.alarmStands;
  }

  /** The shadow's score of the last row; NaN without one. */
  get lastShadowScore(): number {
    return this.shadowScore;
  }

  /** Scores a row with all models. Returns the score of the active one, undefined without one. */
  push(time: number, values: Float32Array): number | undefined {
    const score = this.scoreActive(time, values);
    this.scoreShadow(time, values, score ?? Number.NaN);
    this.lastTime = time;
    this.recent.push(time, values);
    const { active, alarm } = this;
    if (active === undefined || alarm === undefined || score === undefined) return undefined;
    this.prove(active, this.probation, time);
    const state = alarm.push(score);
    this.alarmStands = alarm.active;
    if (state !== null) {
      const { ref, model } = active.loaded;
      const { threshold } = model.manifest.alarm;
      const contributions = active.contributions();
      this.options.onAlarm({ state, model: ref, score, threshold, contributions }, time);
    }
    return score;
  }

  /**
   * Makes a model the active one from the next row on, scoring at once. When it fails on the rows before, it is
   * stopped, the one until now stays, and the reason is thrown.
   */
  activate(loaded: LoadedModel): void {
    const running = this.begin(loaded, 'active');
    const before = this.active;
    // Its statistics so far are in pairs with the model that was active.
    this.endPeriod();
    if (before !== undefined && before.loaded.address !== loaded.address)
      if (before.hasScored || !(this.lastGood?.hasScored ?? false)) this.lastGood = before;
    if (this.lastGood?.loaded.address === loaded.address) this.lastGood = undefined;
    this.setActive(running);
  }

  /** Lets a model score silently; in place of another shadow. Throws as `activate`. */
  shadowWith(loaded: LoadedModel): void {
    this.endShadow();
    if (this.active?.loaded.address === loaded.address) return;
    const running = this.begin(loaded, 'shadow');
    const statistics = new ShadowStatistics(loaded, this.options.shadowPeriodMs, this.alarmStands);
    this.shadow = { running, statistics, probation: this.newProbation(loaded) };
  }

  /** Ends the shadow, if there is one, and gives out its statistics. */
  endShadow(): void {
    this.endPeriod();
    this.shadow = undefined;
    this.shadowScore = Number.NaN;
  }

  private scoreActive(time: number, values: Float32Array): number | undefined {
    // At most twice: there is one last good model.
    while (this.active !== undefined) {
      try {
        return this.active.push(time, values);
      } catch (error) {
        if (!(error instanceof ModelStoppedError)) throw error;
        this.fallBack(this.active, error.reason);
      }
    }
    return undefined;
  }

  /** Gives up the active model for the last good one; for none if there is none, or it does not run either. */
  private fallBack(bad: RunningModel, reason: StopReason): void {
    const { lastGood } = this;
    this.endPeriod();
    this.lastGood = undefined;
    this.setActive(undefined);
    try {
      if (lastGood !== undefined) this.setActive(this.begin(lastGood.loaded, 'active'));
    } catch (error) {
      // It has said so itself.
      if (!(error instanceof CardanError)) throw error;
    }
    this.stopped(bad.loaded, 'active', reason);
  }

  private scoreShadow(time: number, values: Float32Array, activeScore: number): void {
    const { shadow } = this;
    if (shadow === undefined) return;
    const { running, statistics } = shadow;
    if (statistics.due(time)) this.endPeriod();
    try {
      this.shadowScore = running.push(time, values);
    } catch (error) {
      if (!(error instanceof ModelStoppedError)) throw error;
      this.endShadow();
      this.stopped(running.loaded, 'shadow', error.reason);
      return;
    }
    const { alarmed } = statistics.push(time, this.shadowScore, activeScore, running.lastUs);
    this.counts.shadowRows++;
    if (alarmed) this.counts.shadowAlarms++;
    this.prove(running, shadow.probation, time);
  }

  /** A row was scored without trouble. */
  private prove(running: RunningModel, probation: Probation | undefined, time: number): void {
    if (!running.hasScored) return;
    const step = probation?.push(time);
    if (step === 'calm') this.options.onCalm(running.loaded.address);
    if (step === 'good') this.options.onGood(running.loaded.address);
  }

  private newProbation({ model }: LoadedModel): Probation {
    return new Probation(this.options.goodAfterMs, model.manifest.features.gapMs);
  }

  /** A model that has seen the rows until now. Throws when it failed on them. */
  private begin(loaded: LoadedModel, role: ModelRole): RunningModel {
    const running = new RunningModel(loaded, this.options);
    try {
      for (const { time, values } of this.recent) running.push(time, values);
    } catch (error) {
      if (!(error instanceof ModelStoppedError)) throw error;
      this.stopped(loaded, role, error.reason);
      throw new CardanError(error.reason.code, error.reason.message, { cause: error });
    }
    return running;
  }

  private setActive(running: RunningModel | undefined): void {
    // Beside itself it would tell nothing.
    if (this.shadow !== undefined && this.shadow.running.loaded.address === running?.loaded.address)
      this.endShadow();
    this.active = running;
    this.probation = running && this.newProbation(running.loaded);
    this.alarm = running && new Alarm(running.loaded.model.manifest.alarm, this.alarmStands);
  }

  private endPeriod(): void {
    const statistics = this.shadow?.statistics.take(this.activeModel);
    if (statistics !== undefined) this.options.onShadow(statistics, this.lastTime);
  }

  private stopped({ ref, address }: LoadedModel, role: ModelRole, reason: StopReason): void {
    this.counts.stopped++;
    // A shadow may be the model that was active before.
    if (this.lastGood?.loaded.address === address) this.lastGood = undefined;
    const activeAddress = this.active?.loaded.address ?? null;
    this.options.onStopped({ model: ref, role, ...reason, address, activeAddress });
  }
}
