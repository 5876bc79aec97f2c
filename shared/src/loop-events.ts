import type { HeldBack, ModelRef } from './model/manifest.ts';

/**
 * What the closed loop sees and decides, in the topic `models`, key = model name. What stands of a proposal is the fold of
 * these and of the events of its training, and of nothing else.
 */
export interface LoopEventData {
  'io.cardan.loop.drift-detected': LoopDriftDetected;
  'io.cardan.loop.sensor-fault-suspected': LoopSensorFaultSuspected;
  'io.cardan.loop.retraining-proposed': LoopRetrainingProposed;
  'io.cardan.loop.approved': LoopApproved;
  'io.cardan.loop.rejected': LoopRejected;
  'io.cardan.loop.candidate-judged': LoopCandidateJudged;
  'io.cardan.loop.rollout-begun': LoopRolloutBegun;
}

/** One thing that was looked at, with its number and its bound. */
export interface LoopFinding {
  what: string;
  value: number;
  bound: number;
  /** In words, with the numbers that it comes from. */
  why: string;
}

/** Many vehicles have changed against what their model knows. Once per model, and per cause. */
export interface LoopDriftDetected {
  drift: string;
  signalSet: string;
  model: ModelRef;
  /** `scores`: trips score or alarm higher than before. `signals`: values are distributed otherwise than in training. */
  cause: 'scores' | 'signals';
  /** Time of the data from which on it is so (RFC 3339). */
  onset: string;
  /** Vehicles that were looked at since then; of these, those that have changed. */
  vehicles: number;
  drifting: number;
  /** Trips since the onset, and their rows. */
  trips: number;
  rows: number;
  findings: LoopFinding[];
}

/** One vehicle scores high trip after trip while the others do not. Once per vehicle and model. */
export interface LoopSensorFaultSuspected {
  vehicle: string;
  signalSet: string;
  model: ModelRef;
  /** Begin of the first of the trips (RFC 3339). */
  since: string;
  trips: number;
  findings: LoopFinding[];
}

export interface LoopRetrainingProposed {
  /** Also the id of the training, when it comes to that. */
  proposal: string;
  signalSet: string;
  champion: ModelRef;
  trigger: 'drift' | 'rows' | 'time';
  /** In words. */
  reason: string;
  /** Whether somebody must approve the training, and later the rollout. */
  approval: boolean;
  /** Data times that go in (RFC 3339); null: no bound. */
  times: { from: string | null; to: string | null };
  heldBack: HeldBack;
  /** What speaks for it. */
  findings: LoopFinding[];
  /** What the bounds left when it was made. */
  budget: { trainingsInDay: number; perDay: number; coolDownHours: number };
}

export interface LoopApproved {
  proposal: string;
  step: 'training' | 'rollout';
  by: string;
  reason: string;
}

/** It goes no further. A training that runs ends by itself, and nothing comes of it. */
export interface LoopRejected {
  proposal: string;
  by: string;
  reason: string;
}

/** The candidate against the champion, on rows of vehicles that were not in its training. */
export interface LoopCandidateJudged {
  proposal: string;
  champion: ModelRef;
  candidate: ModelRef;
  verdict: 'good' | 'worse' | 'not enough evidence';
  findings: LoopFinding[];
  evidence: LoopEvidence;
}

export interface LoopEvidence {
  /** Held-back vehicles, and the hours that they drove with a score of both models. */
  vehicles: number;
  vehicleHours: number;
  rows: number;
  /** `telemetry` that was read, per partition; `to` is exclusive. */
  offsets: Record<string, { from: number; to: number }>;
  champion: LoopFigures;
  candidate: LoopFigures;
  /** Repairs of these vehicles that were preceded by driving. */
  repairs: number;
}

export interface LoopFigures {
  /** Raised with no repair in the days after. */
  falseAlarms: number;
  /** Repairs that an alarm came before. */
  foretold: number;
  /** Part of the rows over the threshold. */
  overThreshold: number;
  /** 95 % of the scores are below this, in thresholds. */
  p95: number;
  /** Part of the planted changes (one signal moved by some spreads) that come over the threshold. */
  planted: number;
}

export interface LoopRolloutBegun {
  proposal: string;
  candidate: ModelRef;
  rollout: string;
}
