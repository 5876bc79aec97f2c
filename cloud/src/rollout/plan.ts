import {
  CardanError,
  type ModelRef,
  type RolloutCreated,
  type RolloutGates,
  type RolloutSchedule,
  type RolloutStage,
  type RolloutSubject,
} from '@cardan/shared';
import { parseFilter } from './filter.ts';

/** What somebody asks for; all that is left out is as in `DEFAULT_STAGES` and `DEFAULT_GATES`. */
export interface RolloutRequest {
  id?: string | undefined;
  /** One of these two. */
  model?: ModelRef | undefined;
  /** The document of a campaign. */
  campaign?: unknown;
  filter?: string | undefined;
  weight?: number | undefined;
  approval?: boolean | undefined;
  onFail?: 'pause' | 'rollback' | undefined;
  schedule?: Partial<RolloutSchedule> | undefined;
  stages?: StageRequest[] | undefined;
}

export interface StageRequest {
  name: string;
  kind?: RolloutStage['kind'] | undefined;
  percent?: number | undefined;
  filter?: string | undefined;
  rate?: { perMinute: number; doublingMinutes?: number | null | undefined } | null | undefined;
  minimum?: Partial<RolloutStage['minimum']> | undefined;
  gates?: Partial<RolloutGates> | undefined;
}

/** As many as a person can follow; a plan of more is a loop in somebody's script. */
export const STAGES_MAX = 20;

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const CLOCK = /^([01]\d|2[0-3]):[0-5]\d$/;

/** See docs/rollouts.md for why each. */
export const DEFAULT_GATES: RolloutGates = {
  alarmIncrease: { perHour: 0.2, relative: 0.5 },
  alarmedShare: 0.2,
  scoreShift: 0.5,
  latencyP99Us: 5000,
  failedShare: 0.05,
  silentShare: 0.2,
  silentMinutes: 60,
};

const MINIMUM = { vehicles: 10, vehicleHours: 24 };

export const DEFAULT_STAGES: readonly StageRequest[] = [
  // The other half is what its silence is compared with.
  { name: 'shadow', kind: 'shadow', percent: 50 },
  { name: 'canary', percent: 5 },
  { name: 'quarter', percent: 25 },
  { name: 'all' },
];

/** Reads and completes a request. Throws ROLLOUT_INVALID with the place, or FILTER_INVALID. */
export function rolloutOf(
  request: RolloutRequest,
  subject: RolloutSubject,
  { id, by }: { id: string; by: string },
): RolloutCreated {
  if (!ID.test(id)) throw invalid(`id is "${id}"; it must match ${ID.source}`);
  const { filter = '', weight = 0, approval = false, onFail = 'rollback' } = request;
  parseFilter(filter);
  if (!Number.isSafeInteger(weight)) throw invalid('weight is no whole number');
  const asked =
    request.stages ?? DEFAULT_STAGES.filter(({ kind }) => subject.kind === 'model' || kind !== 'shadow');
  if (asked.length === 0 || asked.length > STAGES_MAX)
    throw invalid(`there are ${asked.length} stages; 1 to ${STAGES_MAX} are expected`);
  const stages = asked.map((stage, i) => stageOf(stage, subject, `stages[${i}]`));
  stages.forEach(({ kind, name }, i) => {
    if (kind === 'shadow' && i > 0)
      throw invalid(`stages[${i}] is a shadow; only the first stage can be one, as cars run one shadow`);
    if (kind === 'shadow' && subject.kind === 'campaign')
      throw invalid('stages[0] is a shadow; a campaign has none, as it changes nothing in the car');
    if (stages.findIndex((other) => other.name === name) !== i)
      throw invalid(`stages[${i}] has the name of another one, "${name}"`);
  });
  if (stages.every(({ kind }) => kind === 'shadow'))
    throw invalid('there is no stage in which the model becomes the active one');
  return {
    rollout: id,
    subject,
    filter,
    weight,
    approval,
    onFail,
    schedule: scheduleOf(request.schedule ?? {}),
    stages,
    by,
  };
}

/** Whether it is for all vehicles in the end: then a model becomes the champion of its signal set. */
export function reachesAll({ filter, stages }: RolloutCreated): boolean {
  return (
    filter.trim() === '' &&
    stages.some((stage) => stage.kind === 'group' && stage.percent === 100 && stage.filter.trim() === '')
  );
}

/** Since when the window is open (milliseconds since 1970); undefined while it is not. Without one, for ever. */
export function openSince({ window }: RolloutSchedule, now: number): number | undefined {
  if (window === null) return Number.NEGATIVE_INFINITY;
  const [from, to] = [minutesOf(window.from), minutesOf(window.to)];
  const midnight = Math.floor(now / DAY_MS) * DAY_MS;
  // It may have begun yesterday.
  for (const day of [midnight, midnight - DAY_MS]) {
    const begin = day + from * 60_000;
    const end = day + to * 60_000 + (to <= from ? DAY_MS : 0);
    if (now >= begin && now < end && window.days.includes(new Date(day).getUTCDay())) return begin;
  }
  return undefined;
}

const DAY_MS = 86_400_000;

function minutesOf(clock: string): number {
  const [hours, minutes] = clock.split(':').map(Number);
  return hours! * 60 + minutes!;
}

function scheduleOf({ notBefore = null, window = null }: Partial<RolloutSchedule>): RolloutSchedule {
  if (notBefore !== null && Number.isNaN(Date.parse(notBefore)))
    throw invalid(`schedule.notBefore is "${notBefore}"; a time as 2026-01-31T08:00:00Z is expected`);
  if (window !== null) {
    for (const end of ['from', 'to'] as const)
      if (!CLOCK.test(window[end]))
        throw invalid(`schedule.window.${end} is "${window[end]}"; HH:MM is expected`);
    if (
      window.days.length === 0 ||
      !window.days.every((day) => Number.isInteger(day) && day >= 0 && day <= 6)
    )
      throw invalid('schedule.window.days must name days from 0 (Sunday) to 6');
  }
  return { notBefore, window };
}

function stageOf(asked: StageRequest, subject: RolloutSubject, at: string): RolloutStage {
  const { name, kind = 'group', percent = 100, filter = '', rate = null } = asked;
  if (!ID.test(name)) throw invalid(`${at}.name is "${name}"; it must match ${ID.source}`);
  if (!(percent > 0 && percent <= 100))
    throw invalid(`${at}.percent is ${percent}; above 0 to 100 is expected`);
  parseFilter(filter);
  const minimum = { ...MINIMUM, ...asked.minimum };
  if (!Number.isSafeInteger(minimum.vehicles) || minimum.vehicles < 1)
    throw invalid(`${at}.minimum.vehicles must be a whole number from 1 on`);
  if (!(minimum.vehicleHours >= 0)) throw invalid(`${at}.minimum.vehicleHours must be 0 or more`);
  if (rate !== null && !(rate.perMinute > 0)) throw invalid(`${at}.rate.perMinute must be more than 0`);
  if (rate !== null && !((rate.doublingMinutes ?? 1) > 0))
    throw invalid(`${at}.rate.doublingMinutes must be more than 0`);
  const gates = { ...DEFAULT_GATES, ...asked.gates };
  if (subject.kind === 'campaign') gates.alarmIncrease = gates.alarmedShare = null;
  if (kind === 'group') gates.scoreShift = gates.latencyP99Us = null;
  return {
    name,
    kind,
    percent,
    filter,
    rate: rate === null ? null : { perMinute: rate.perMinute, doublingMinutes: rate.doublingMinutes ?? null },
    minimum,
    gates,
  };
}

function invalid(why: string): CardanError {
  return new CardanError('ROLLOUT_INVALID', `Not a usable rollout: ${why}.`);
}
