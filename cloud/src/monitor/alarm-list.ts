import type { ModelRef } from '@cardan/shared';
import type { Alarm } from './messages.ts';

/** Alarms kept; the oldest go. */
export const ALARMS_MAX = 500;

export interface AlarmChange {
  vehicle: string;
  alarm: string;
  state: 'raised' | 'cleared';
  /** Data time. */
  time: number;
  model: ModelRef;
  score: number;
  threshold: number;
  signals: { name: string; part: number }[];
}

/** The fleet's alarms in the order in which they became known. Taking the same event twice changes nothing. */
export class AlarmList {
  private readonly alarms = new Map<string, { alarm: Alarm; revision: number }>();

  /** Takes in an event; returns the alarm, and whether it was not known before. */
  take(change: AlarmChange, revision: number): { alarm: Alarm; isNew: boolean } {
    const key = `${change.vehicle} ${change.alarm}`;
    const known = this.alarms.get(key);
    if (known !== undefined) {
      known.revision = revision;
      if (change.state === 'cleared') known.alarm.clearedAt ??= change.time;
      else if (known.alarm.raisedAt === null) {
        // Cars send the newest first: its end was known before its beginning.
        const { time, model, score, threshold, signals } = change;
        Object.assign(known.alarm, { raisedAt: time, model, score, threshold, signals });
      }
      return { alarm: known.alarm, isNew: false };
    }
    const { vehicle, state, time, model, score, threshold, signals } = change;
    const alarm: Alarm = {
      key,
      vehicle,
      raisedAt: state === 'raised' ? time : null,
      clearedAt: state === 'cleared' ? time : null,
      ...{ model, score, threshold, signals },
    };
    this.alarms.set(key, { alarm, revision });
    if (this.alarms.size > ALARMS_MAX) this.alarms.delete(this.alarms.keys().next().value ?? '');
    return { alarm, isNew: true };
  }

  /** Ends an alarm that its car can no longer end: it has booted since. */
  end(alarm: Alarm, time: number, revision: number): void {
    alarm.clearedAt ??= time;
    const known = this.alarms.get(alarm.key);
    if (known !== undefined) known.revision = revision;
  }

  /** Those that changed after a revision. */
  since(revision: number): Alarm[] {
    return [...this.alarms.values()].flatMap((entry) => (entry.revision > revision ? [entry.alarm] : []));
  }
}
