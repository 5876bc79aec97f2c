import type { Fault, FaultKind } from './faults.ts';

/**
 * What only a simulated fleet says, on topics of its own: the ground truth never travels with the telemetry,
 * and no service reads it. It is for scoring, and for people who play with the fleet.
 */
export const SIM_TOPICS = {
  /** `InjectRequest` → the fleet. */
  inject: 'cardan-sim/v1/inject',
  /** The fleet → `Truth`, when a fault begins. */
  truth: 'cardan-sim/v1/truth',
  /** The fleet → `Replay`, when a recording has brought enough rows for a model of its own, and at its end. */
  replay: 'cardan-sim/v1/replay',
  /** Anything → the fleet: stop driving, send what waits, and say what was sampled. */
  finish: 'cardan-sim/v1/finish',
  /** The fleet → `Sampled[]`, once everything is acknowledged. */
  sampled: 'cardan-sim/v1/sampled',
} as const;

export interface InjectRequest {
  /** Default: a healthy car, drawn by lot. */
  vehicle?: string;
  /** Default: drawn by lot. */
  kind?: FaultKind;
  /** 0 to 1. */
  severity?: number;
  /** Simulated seconds from onset to full severity. */
  growthS?: number;
}

export interface Truth {
  vehicle: string;
  fault: Fault;
}

export interface Replay {
  vehicle: string;
  signalSet: string;
  rows: number;
}

/** What a car has sampled in this run: rows with the sequence numbers `first` to `first + rows - 1`. */
export interface Sampled {
  vehicle: string;
  epoch: number;
  first: number;
  rows: number;
  /** Rows that the outbox had to drop. */
  dropped: number;
  /** A recording has no ground truth. */
  simulated: boolean;
  /** Simulated time at the end, milliseconds since 1970. */
  endTime: number;
}
