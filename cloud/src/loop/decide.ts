import type { LoopDriftDetected, LoopFinding, LoopRetrainingProposed } from '@cardan/shared';
import { partFor } from '../trainer/held-back.ts';
import { VEHICLES_MIN } from './drift.ts';
import { same, type LoopState, type Proposal } from './loop-state.ts';

/**
 * `off`: looks, and tells of drift. `ask`: proposes; a person approves the training, and then the rollout. `auto`: goes on
 * by itself until the candidate is in the shadow.
 */
export const LOOP_MODES = ['off', 'ask', 'auto'] as const;
export type LoopMode = (typeof LOOP_MODES)[number];

export interface LoopPolicy {
  mode: LoopMode;
  /** Hours from the end of one proposal, and from the last training, to the next. */
  coolDownHours: number;
  /** Trainings in 24 hours, those that failed among them. */
  perDay: number;
  /** Train again when the champion is so old. */
  afterDays: number;
  /** Train again when so many times what the champion was trained on has come since. */
  growth: number;
}

export const LOOP_POLICY: LoopPolicy = { mode: 'off', coolDownHours: 6, perDay: 4, afterDays: 30, growth: 4 };

/** What is known of a signal set beside the events. */
export interface SetFacts {
  signalSet: string;
  /** Some of its vehicles; enough to know that a part of them is not empty. */
  vehicles: readonly string[];
  /** Time of its newest row, milliseconds since 1970; null without one. */
  newest: number | null;
  /** Records of `telemetry` that have come since the champion was trained, in times of what it was trained on. */
  growth: number;
}

export type Decision =
  | { kind: 'propose'; proposal: LoopRetrainingProposed }
  | { kind: 'train' | 'judge' | 'roll-out'; proposal: Proposal };

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** The same vehicles are held back each time, so that no model has ever seen them. */
const HELD_BACK_SEED = 1;
const HELD_BACK_PART = 0.2;
/** One vehicle is no judgement. */
export const HELD_BACK_MIN = 2;
/**
 * What came of a drift is given so long before the same champion is looked at again: a rollout takes days, and who said no
 * is not asked again at once.
 */
const SETTLES_MS = 7 * DAY_MS;
/** With so many rows per vehicle since the onset the change itself is enough to learn from. */
const ROWS_PER_VEHICLE_MIN = 600;

/**
 * The next step, or undefined when there is nothing to do now. Of events, facts and time alone: the same give the same.
 *
 * It cannot run away: one proposal at a time; none until the cool-down is over; no training over the day's budget, also
 * when somebody approves it. All of that is counted from the log, so a restart forgets nothing.
 */
export function decide(
  state: LoopState,
  facts: readonly SetFacts[],
  policy: LoopPolicy,
  now: number,
): Decision | undefined {
  if (policy.mode === 'off') return undefined;
  const { open } = state;
  if (open !== undefined) return goOn(state, open, policy, now);
  const trainingsInDay = inDay(state, now);
  if (trainingsInDay >= policy.perDay || underWay(state, now).length > 0 || coolsDown(state, policy, now))
    return undefined;
  for (const trigger of ['drift', 'rows', 'time'] as const)
    for (const set of facts) {
      const because = reasonFor(trigger, state, set, policy, now);
      if (because === undefined) continue;
      const { manifest } = state.champion(set.signalSet)!;
      const { name, version } = manifest;
      const part = partFor(set.vehicles, HELD_BACK_SEED, HELD_BACK_PART, HELD_BACK_MIN);
      const proposal: LoopRetrainingProposed = {
        proposal: `loop-${set.signalSet}-${(state.made.get(set.signalSet) ?? 0) + 1}`,
        signalSet: set.signalSet,
        champion: { name, version },
        trigger,
        reason: because.reason,
        approval: policy.mode === 'ask',
        times: because.times,
        heldBack: { seed: HELD_BACK_SEED, part },
        findings: because.findings,
        budget: { trainingsInDay, perDay: policy.perDay, coolDownHours: policy.coolDownHours },
      };
      return { kind: 'propose', proposal };
    }
  return undefined;
}

function goOn(state: LoopState, open: Proposal, policy: LoopPolicy, now: number): Decision | undefined {
  if (open.status === 'approved') {
    // Somebody may have approved it days later.
    const others = underWay(state, now).filter((training) => training !== open.proposal);
    return inDay(state, now) >= policy.perDay || others.length > 0
      ? undefined
      : { kind: 'train', proposal: open };
  }
  if (open.status === 'trained') return { kind: 'judge', proposal: open };
  if (open.status === 'judged' && open.rolloutApproved) return { kind: 'roll-out', proposal: open };
  return undefined;
}

/** Trainings of anybody. One that has not ended after a day was for a trainer that is not there any more. */
function underWay(state: LoopState, now: number): string[] {
  return [...state.underWay].filter(([, time]) => time > now - DAY_MS).map(([training]) => training);
}

/** Trainings that the loop asked for in the last 24 hours. */
export function inDay({ trainings }: LoopState, now: number): number {
  return trainings.filter((time) => time > now - DAY_MS).length;
}

function coolsDown(state: LoopState, { coolDownHours }: LoopPolicy, now: number): boolean {
  const ended = [...state.proposals.values()].map(({ changedAt }) => changedAt);
  const last = Math.max(...ended, state.trainings.at(-1) ?? -Infinity);
  return now - last < coolDownHours * HOUR_MS;
}

interface Because {
  reason: string;
  times: LoopRetrainingProposed['times'];
  findings: LoopFinding[];
}

function reasonFor(
  trigger: LoopRetrainingProposed['trigger'],
  state: LoopState,
  set: SetFacts,
  policy: LoopPolicy,
  now: number,
): Because | undefined {
  const champion = state.champion(set.signalSet);
  // The first model is the trainer's; and of fewer vehicles none could be held back.
  if (champion === undefined || set.vehicles.length < VEHICLES_MIN || set.newest === null) return undefined;
  const isSettling = [...state.proposals.values()].some(
    (proposal) =>
      (proposal.status === 'rolling out' || proposal.status === 'rejected') &&
      same(champion.manifest, proposal.champion) &&
      now - proposal.changedAt < SETTLES_MS,
  );
  if (isSettling) return undefined;
  const all = { from: null, to: null };
  if (trigger === 'drift') {
    const drift = state.drifts.get(set.signalSet)?.data;
    if (drift === undefined || !same(champion.manifest, drift.model)) return undefined;
    return {
      reason: `${drift.cause} have drifted since ${drift.onset}: ${drift.drifting} of ${drift.vehicles} vehicles`,
      times: { from: from(drift, set, champion.manifest.lineage.span), to: null },
      findings: drift.findings,
    };
  }
  if (trigger === 'rows') {
    if (set.growth < policy.growth) return undefined;
    const why = `${set.growth.toFixed(1)} times what it was trained on has come since`;
    const value = Number(set.growth.toFixed(2));
    return {
      reason: `enough new rows: ${why}`,
      times: all,
      findings: [{ what: 'new rows', value, bound: policy.growth, why }],
    };
  }
  const days = (now - Date.parse(champion.manifest.createdAt)) / DAY_MS;
  if (days < policy.afterDays) return undefined;
  const why = `it was trained ${Math.floor(days)} days ago`;
  return {
    reason: why,
    times: all,
    findings: [{ what: 'age, days', value: Math.floor(days), bound: policy.afterDays, why }],
  };
}

/** Where the rows begin that a model after a drift learns from: with it, or, while these are few, as far back as the champion saw. */
function from(
  { onset, vehicles }: LoopDriftDetected,
  { newest }: SetFacts,
  span: { from: string; to: string },
): string {
  const begin = Date.parse(onset);
  const seconds = (newest! - begin) / 1000;
  // A row a second; those of trips that go on are not counted yet, so time is what is known.
  if (seconds >= ROWS_PER_VEHICLE_MIN * 2 && vehicles >= VEHICLES_MIN) return onset;
  const recent = newest! - (Date.parse(span.to) - Date.parse(span.from));
  return new Date(Math.min(begin, recent)).toISOString();
}
