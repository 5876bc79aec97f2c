import {
  CardanError,
  type ModelRef,
  type RolloutCreated,
  type RolloutEventData,
  type RolloutJudged,
  type RolloutRate,
} from '@cardan/shared';
import { openSince } from './plan.ts';
import type { Move, Reach } from './reach.ts';

/** An event of a rollout; `time` is when it was decided, milliseconds since 1970. */
export type RolloutEvent = {
  [K in keyof RolloutEventData]: { type: K; time: number; data: RolloutEventData[K] };
}[keyof RolloutEventData];

/**
 *   created ──approve──▶ approved ──start──▶ running ⇄ paused
 *      └── without an approval step ──────────▲ │       │
 *                                    done ◀─────┤       │      stop: stopped (from everywhere but the ends)
 *                             rolled-back ◀─────┴───────┘      done ──rollback──▶ rolled-back
 */
export type RolloutStatus =
  'created' | 'approved' | 'running' | 'paused' | 'done' | 'stopped' | 'rolled-back';

export interface RolloutState {
  spec: RolloutCreated;
  status: RolloutStatus;
  createdAt: number;
  /** −1 before the first stage. */
  stage: number;
  part: number;
  stageBegunAt: number;
  /** Since when the part has been as large as it is. */
  widenedAt: number;
  champion: ModelRef | null;
  evidenceFrom: Readonly<Record<number, number>>;
  /** Of the champion, in the stages that have passed: in the last one no car may have it any more. */
  baseline: { alarms: number; vehicleHours: number };
  /** Oldest first. At most one per hundredth of each stage, and one per retry. */
  moves: readonly Move[];
  /** Why it stands where it stands. */
  reason: string;
}

/** Steps in which a stage widens: what a car gets told is looked up in the list of these. */
const PART_STEP = 0.01;
const MINUTE_MS = 60_000;

export function isOver({ status }: RolloutState): boolean {
  return status === 'done' || status === 'stopped' || status === 'rolled-back';
}

export function reachOf(state: RolloutState): Reach {
  return state.moves.at(-1)?.reach ?? null;
}

/**
 * The state after an event; the same state when the event does not fit, for example a second start after a crash. So
 * what is in the log cannot bring a rollout anywhere that `decide` would not.
 */
export function apply(state: RolloutState | undefined, event: RolloutEvent): RolloutState | undefined {
  const { time } = event;
  if (event.type === 'io.cardan.rollout.created') return state ?? begin(event.data, time);
  if (state?.spec.rollout !== event.data.rollout) return state;
  const { status } = state;
  const [running, live] = [status === 'running', status === 'running' || status === 'paused'];
  const move = (generation: number, reach: Reach, retry = false): Partial<RolloutState> => ({
    moves: [...state.moves, { generation, reach, retry }],
  });
  const to = (fits: boolean, change: Partial<RolloutState>): RolloutState =>
    fits ? { ...state, ...change } : state;
  switch (event.type) {
    case 'io.cardan.rollout.approved':
      return to(status === 'created', { status: 'approved', reason: event.data.reason });
    case 'io.cardan.rollout.started':
      return to(mayStart(state), { status: 'running', reason: event.data.reason });
    case 'io.cardan.rollout.stage-begun': {
      const { stage, part, generation, champion, evidenceFrom } = event.data;
      return to(
        running && stage === state.stage + 1 && stage < state.spec.stages.length && part > 0 && part <= 1,
        {
          stage,
          part,
          champion,
          evidenceFrom,
          stageBegunAt: time,
          widenedAt: time,
          ...move(generation, { stage, part }),
        },
      );
    }
    case 'io.cardan.rollout.widened': {
      const { part, generation } = event.data;
      return to(running && state.stage >= 0 && part > state.part && part <= 1, {
        part,
        widenedAt: time,
        ...move(generation, { stage: state.stage, part }),
      });
    }
    case 'io.cardan.rollout.gate-passed': {
      const { stage, evidence } = event.data;
      const { alarms, vehicleHours } = state.baseline;
      return to(running && stage === state.stage, {
        baseline: {
          alarms: alarms + evidence.championAlarms,
          vehicleHours: vehicleHours + evidence.championVehicleHours,
        },
      });
    }
    case 'io.cardan.rollout.gate-failed':
      return state;
    case 'io.cardan.rollout.paused':
      return to(running, { status: 'paused', reason: event.data.reason });
    case 'io.cardan.rollout.resumed': {
      const { reason, evidenceFrom } = event.data;
      return to(status === 'paused', { status: 'running', reason, evidenceFrom, widenedAt: time });
    }
    case 'io.cardan.rollout.retried':
      return to(live && state.stage >= 0, move(event.data.generation, reachOf(state), true));
    case 'io.cardan.rollout.stopped':
      return to(!isOver(state), {
        status: 'stopped',
        reason: event.data.reason,
        ...move(event.data.generation, null),
      });
    case 'io.cardan.rollout.rolled-back':
      return to(live || status === 'done', {
        status: 'rolled-back',
        reason: event.data.reason,
        ...move(event.data.generation, null),
      });
    case 'io.cardan.rollout.done':
      return to(running && state.stage === state.spec.stages.length - 1 && state.part === 1, {
        status: 'done',
        reason: event.data.reason,
      });
  }
}

/** Where a decision is taken. */
export interface Moment {
  now: number;
  /** Of the next change; larger than every one before. */
  generation: number;
  /** End of `vehicle-events`: what comes from here on is evidence for what begins now. */
  evidenceFrom: Record<number, number>;
  /** What vehicles have that the rollout has not reached. */
  champion: ModelRef | null;
  /** Vehicles that a stage would bring in. */
  newIn: (stage: number) => number;
}

export type RolloutCommand =
  | { type: 'approve' | 'pause' | 'resume' | 'stop' | 'rollback' | 'retry'; by: string; reason: string }
  /** Looks whether it is time for the next step. */
  | { type: 'evaluate'; verdict: 'pass' | 'fail' | 'wait'; judged: RolloutJudged | undefined };

const SERVICE = 'rollout service';

/** What is to happen, as events that are not in the log yet. Throws ROLLOUT_STATE for what a person cannot do now. */
export function decide(state: RolloutState, command: RolloutCommand, moment: Moment): RolloutEvent[] {
  const { rollout } = state.spec;
  const { now, generation, evidenceFrom } = moment;
  if (command.type === 'evaluate') return evaluate(state, command, moment);
  const { by, reason } = command;
  const { status } = state;
  const said = { rollout, by, reason };
  const must = (fits: boolean, when: string): void => {
    if (!fits)
      throw new CardanError(
        'ROLLOUT_STATE',
        `The rollout ${rollout} is ${status}; ${command.type} is for one that is ${when}.`,
      );
  };
  switch (command.type) {
    case 'approve':
      must(status === 'created' && state.spec.approval, 'waiting for its approval');
      return [{ type: 'io.cardan.rollout.approved', time: now, data: said }];
    case 'pause':
      must(status === 'running', 'running');
      return [{ type: 'io.cardan.rollout.paused', time: now, data: said }];
    case 'resume':
      must(status === 'paused', 'paused');
      return [{ type: 'io.cardan.rollout.resumed', time: now, data: { ...said, evidenceFrom } }];
    case 'retry':
      must((status === 'running' || status === 'paused') && state.stage >= 0, 'running or paused');
      return [{ type: 'io.cardan.rollout.retried', time: now, data: { ...said, generation } }];
    case 'stop':
      must(!isOver(state), 'not over');
      return [{ type: 'io.cardan.rollout.stopped', time: now, data: { ...said, generation } }];
    case 'rollback':
      must(status === 'running' || status === 'paused' || status === 'done', 'running, paused or done');
      return [{ type: 'io.cardan.rollout.rolled-back', time: now, data: { ...said, generation } }];
  }
}

function evaluate(
  state: RolloutState,
  { verdict, judged }: Extract<RolloutCommand, { type: 'evaluate' }>,
  moment: Moment,
): RolloutEvent[] {
  const { spec, status } = state;
  const { rollout, onFail } = spec;
  const { now: time, generation } = moment;
  const said = { rollout, by: SERVICE };
  if (verdict === 'fail' && judged !== undefined && (status === 'running' || status === 'paused')) {
    const reason = `gate of stage ${spec.stages[state.stage]!.name}: ${judged.findings
      .filter((finding) => finding.verdict === 'fail')
      .map(({ why }) => why)
      .join('; ')}`;
    const failed: RolloutEvent = { type: 'io.cardan.rollout.gate-failed', time, data: judged };
    if (onFail === 'rollback')
      return [failed, { type: 'io.cardan.rollout.rolled-back', time, data: { ...said, reason, generation } }];
    // One that is paused already has said so.
    return status === 'paused'
      ? []
      : [failed, { type: 'io.cardan.rollout.paused', time, data: { ...said, reason } }];
  }
  const open = openSince(spec.schedule, time);
  if (open === undefined) return [];
  if (mayStart(state)) {
    if (spec.schedule.notBefore !== null && time < Date.parse(spec.schedule.notBefore)) return [];
    return [
      { type: 'io.cardan.rollout.started', time, data: { ...said, reason: 'it is time' } },
      stageBegun(state, 0, moment),
    ];
  }
  if (status !== 'running') return [];
  // A crash may have come between the two events of a start.
  if (state.stage < 0) return [stageBegun(state, 0, moment)];
  if (state.part < 1) return widened(state, open, moment);
  if (verdict !== 'pass' || judged === undefined) return [];
  const passed: RolloutEvent = { type: 'io.cardan.rollout.gate-passed', time, data: judged };
  const next = state.stage + 1;
  if (next < spec.stages.length) return [passed, stageBegun(state, next, moment)];
  return [
    passed,
    {
      type: 'io.cardan.rollout.done',
      time,
      data: { ...said, reason: 'every gate has passed', generation },
    },
  ];
}

function begin(spec: RolloutCreated, time: number): RolloutState {
  return {
    spec,
    status: 'created',
    createdAt: time,
    stage: -1,
    part: 0,
    stageBegunAt: time,
    widenedAt: time,
    champion: null,
    evidenceFrom: {},
    baseline: { alarms: 0, vehicleHours: 0 },
    moves: [],
    reason: '',
  };
}

function mayStart({ status, spec }: RolloutState): boolean {
  return status === 'approved' || (status === 'created' && !spec.approval);
}

function stageBegun({ spec }: RolloutState, stage: number, moment: Moment): RolloutEvent {
  const { now: time, generation, champion, evidenceFrom } = moment;
  const { rate } = spec.stages[stage]!;
  // The first minute's vehicles at once; of a stage that brings in none, all.
  const part = rate === null ? 1 : Math.min(1, rate.perMinute / Math.max(moment.newIn(stage), 1));
  return {
    type: 'io.cardan.rollout.stage-begun',
    time,
    data: { rollout: spec.rollout, stage, part, generation, champion, evidenceFrom },
  };
}

/** What the time since the last step has earned, where that is a step worth telling. */
function widened(state: RolloutState, openSince: number, { now, generation, newIn }: Moment): RolloutEvent[] {
  const { spec, stage, part } = state;
  const { rate } = spec.stages[stage]!;
  const vehicles = Math.max(newIn(stage), 1);
  // Time outside of the window does not count.
  const minutes = (now - Math.max(state.widenedAt, openSince)) / MINUTE_MS;
  const wider = rate === null ? 1 : Math.min(1, part + arrivals(rate, part * vehicles, minutes) / vehicles);
  if (wider <= part || (wider - part < PART_STEP && wider < 1)) return [];
  return [
    {
      type: 'io.cardan.rollout.widened',
      time: now,
      data: { rollout: spec.rollout, part: wider, generation },
    },
  ];
}

/**
 * Vehicles that the rate lets in within some minutes, after those that it has let in before. An exponential rate goes by
 * their number, not by the clock, so that it has not run away after a pause or a night; and it doubles at most once from
 * one step to the next.
 */
function arrivals({ perMinute, doublingMinutes }: RolloutRate, before: number, minutes: number): number {
  if (doublingMinutes === null) return perMinute * minutes;
  // n(t) = ∫ perMinute · 2^(t / doubling) dt, so that n' = perMinute + n · ln 2 / doubling.
  const growth = Math.LN2 / doublingMinutes;
  const rate = perMinute + before * growth;
  const doubling = Math.min(minutes, doublingMinutes);
  return (rate / growth) * (2 ** (doubling / doublingMinutes) - 1) + 2 * rate * (minutes - doubling);
}
