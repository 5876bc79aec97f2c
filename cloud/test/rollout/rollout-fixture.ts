import type { RolloutSubject } from '@cardan/shared';
import { rolloutOf, type RolloutRequest } from '../../src/rollout/plan.ts';
import type { Moment } from '../../src/rollout/state.ts';

export const NOON = Date.UTC(2026, 5, 1, 12); // a Monday
export const MODEL: RolloutSubject = {
  kind: 'model',
  model: { name: 'anomaly', version: '2' },
  signalSet: '0123456789abcdef',
};
export const CHAMPION = { name: 'anomaly', version: '1' };

export function plan(request: RolloutRequest = {}, subject = MODEL) {
  return rolloutOf(request, subject, { id: 'r1', by: 'test' });
}

export function moment(change: Partial<Moment> = {}): Moment {
  return { now: NOON, generation: 1, evidenceFrom: {}, champion: CHAMPION, newIn: () => 100, ...change };
}
