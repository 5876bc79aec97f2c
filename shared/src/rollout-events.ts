import type { ModelRef } from './model/manifest.ts';

/**
 * What happens to a rollout, in the topic `rollouts`, key = rollout id. The state of a rollout is the fold of these and
 * of nothing else; the event's time is when it was decided.
 */
export interface RolloutEventData {
  'io.cardan.rollout.created': RolloutCreated;
  'io.cardan.rollout.approved': RolloutSaid;
  'io.cardan.rollout.started': RolloutSaid;
  'io.cardan.rollout.stage-begun': RolloutStageBegun;
  'io.cardan.rollout.widened': RolloutWidened;
  'io.cardan.rollout.gate-passed': RolloutJudged;
  'io.cardan.rollout.gate-failed': RolloutJudged;
  'io.cardan.rollout.paused': RolloutSaid;
  'io.cardan.rollout.resumed': RolloutResumed;
  'io.cardan.rollout.retried': RolloutMoved;
  'io.cardan.rollout.stopped': RolloutMoved;
  'io.cardan.rollout.rolled-back': RolloutMoved;
  'io.cardan.rollout.done': RolloutMoved;
}

/** A model that all vehicles of its signal set should run in the end, or a campaign that they should collect. */
export type RolloutSubject =
  | { kind: 'model'; model: ModelRef; signalSet: string }
  /** The document goes to the cars when the rollout starts, and not before. */
  | { kind: 'campaign'; campaign: { id: string; version: string }; document: unknown };

export interface RolloutCreated {
  rollout: string;
  subject: RolloutSubject;
  /** RSQL over the attributes of vehicles; empty: all. */
  filter: string;
  /** Of several rollouts that reach one vehicle, the one with the highest weight has it; then the one made first. */
  weight: number;
  /** Whether somebody must approve it before it starts. */
  approval: boolean;
  /** What a gate that fails does. */
  onFail: 'pause' | 'rollback';
  schedule: RolloutSchedule;
  stages: RolloutStage[];
  by: string;
}

export interface RolloutSchedule {
  /** It does not start before (RFC 3339); null: as soon as it can. */
  notBefore: string | null;
  /** Only then are more vehicles reached; null: always. Gates that fail act at any time. */
  window: RolloutWindow | null;
}

/** A daily span in UTC; `to` before `from` goes over midnight. */
export interface RolloutWindow {
  /** `HH:MM`. */
  from: string;
  to: string;
  /** 0 is Sunday; the day on which the span begins. */
  days: number[];
}

export interface RolloutStage {
  name: string;
  /** `shadow`: the model scores silently beside the active one. `group`: it is the active one. */
  kind: 'shadow' | 'group';
  /** Of all vehicles that fit both filters; of a group, with those of the groups before it. */
  percent: number;
  /** RSQL; who does not fit is not in this stage. Empty: all. */
  filter: string;
  /** null: all at once. */
  rate: RolloutRate | null;
  /** Less evidence than this passes no gate. Of a stage with fewer vehicles, all of them are enough. */
  minimum: { vehicles: number; vehicleHours: number };
  gates: RolloutGates;
}

export interface RolloutRate {
  /** Vehicles a minute at the beginning of the stage. */
  perMinute: number;
  /** The rate doubles after each of these; null: it stays. */
  doublingMinutes: number | null;
}

/** Bounds; null: not judged. */
export interface RolloutGates {
  /** Alarms a vehicle-hour more than the champion, at most: the larger of the two. */
  alarmIncrease: { perHour: number; relative: number } | null;
  /** Part of the scores that may be over the model's own threshold (shadow), or of cars whose alarm stands (groups). */
  alarmedShare: number | null;
  /** Mean of candidate's minus champion's score, either way, in thresholds of the candidate (shadow only). */
  scoreShift: number | null;
  /** 99 % of the rows must take less, microseconds (shadow only). */
  latencyP99Us: number | null;
  /** Part of the vehicles in which the subject may have been stopped or could not be installed. */
  failedShare: number | null;
  /** Part of the vehicles that may be silent, more than of those that the rollout has not reached. */
  silentShare: number | null;
  /** A car that has said nothing for so long is silent. */
  silentMinutes: number;
}

export interface RolloutSaid {
  rollout: string;
  by: string;
  reason: string;
}

/** Evidence is counted from these offsets of `vehicle-events` on. */
type EvidenceFrom = Record<number, number>;

export interface RolloutStageBegun {
  rollout: string;
  /** Which of the stages, from 0. */
  stage: number;
  /** Part (0 … 1) of the stage's vehicles that is reached at once; the rest follows by `widened`. */
  part: number;
  generation: number;
  /** What the subject is compared with; null for campaigns. */
  champion: ModelRef | null;
  evidenceFrom: EvidenceFrom;
}

export interface RolloutWidened {
  rollout: string;
  part: number;
  generation: number;
}

export interface RolloutResumed extends RolloutSaid {
  evidenceFrom: EvidenceFrom;
}

/** What a vehicle should have changes by it. */
export interface RolloutMoved extends RolloutSaid {
  generation: number;
}

/** One gate, judged once. */
export interface GateFinding {
  gate: 'evidence' | 'alarms' | 'alarmed' | 'score' | 'latency' | 'failures' | 'silence';
  verdict: 'pass' | 'fail' | 'wait';
  /** Acts at once, without a second look. */
  hard: boolean;
  /** What was seen, in the unit of its bound; null where there is nothing to be seen yet. */
  value: number | null;
  /** Confidence interval, where there is one. */
  low: number | null;
  high: number | null;
  bound: number | null;
  /** In words, with the numbers that it comes from. */
  why: string;
}

export interface RolloutJudged {
  rollout: string;
  stage: number;
  findings: GateFinding[];
  /** What the findings come from. */
  evidence: StageEvidence;
}

/** Sums of what cars have reported during a stage. */
export interface StageEvidence {
  /** In the stage and reached; of these, those that have the subject by their own report. */
  reached: number;
  vehicles: number;
  vehicleHours: number;
  /** Alarms of the subject, and of the champion over the same rows (shadow) or in other cars (groups). */
  alarms: number;
  championAlarms: number;
  championVehicles: number;
  championVehicleHours: number;
  /** Records of `vehicle-events` that were counted. */
  records: number;
}
