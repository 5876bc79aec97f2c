import { isEvent, recordToEvent, type RolloutEventData } from '@cardan/shared';
import type { LogRecord } from '@cardan/shared/event-log';
import { Membership } from './reach.ts';
import { apply, type RolloutEvent, type RolloutState } from './state.ts';

/** A rollout and what is worked out of its plan once. */
export interface Rollout {
  readonly id: string;
  state: RolloutState;
  readonly membership: Membership;
}

const TYPES: readonly (keyof RolloutEventData)[] = [
  'io.cardan.rollout.created',
  'io.cardan.rollout.approved',
  'io.cardan.rollout.started',
  'io.cardan.rollout.stage-begun',
  'io.cardan.rollout.widened',
  'io.cardan.rollout.gate-passed',
  'io.cardan.rollout.gate-failed',
  'io.cardan.rollout.paused',
  'io.cardan.rollout.resumed',
  'io.cardan.rollout.retried',
  'io.cardan.rollout.stopped',
  'io.cardan.rollout.rolled-back',
  'io.cardan.rollout.done',
];

/** The event behind a record of the topic `rollouts`; undefined for one of another type. Throws EVENT_MALFORMED. */
export function rolloutEvent(record: Pick<LogRecord, 'value' | 'headers'>): RolloutEvent | undefined {
  const event = recordToEvent(record);
  const type = TYPES.find((type) => isEvent(event, type));
  if (type === undefined) return undefined;
  const time = Date.parse(event.time);
  if (Number.isNaN(time)) throw new TypeError('no time');
  return { type, time, data: event.data } as RolloutEvent;
}

/** What the topic `rollouts` says. */
export class RolloutProjection {
  /** Records that could not be read, and were passed over. */
  malformed = 0;
  /** The highest generation of any change. */
  generation = 0;
  /** By id, in the order in which they were made. */
  readonly rollouts = new Map<string, Rollout>();

  /** Takes in a record; says whether anything changed by it. */
  take(record: LogRecord): boolean {
    try {
      const event = rolloutEvent(record);
      if (event === undefined) return false;
      const { rollout: id } = event.data;
      const there = this.rollouts.get(id);
      const state = apply(there?.state, event);
      if (state === undefined || state === there?.state) return false;
      if ('generation' in event.data) this.generation = Math.max(this.generation, event.data.generation);
      if (there === undefined) this.rollouts.set(id, { id, state, membership: new Membership(state.spec) });
      else there.state = state;
      return true;
    } catch {
      this.malformed++;
      return false;
    }
  }
}
