import type { CloudEvent } from '@cardan/shared';
import { PRIORITY_ALARM, PRIORITY_DEFAULT } from './row.ts';

export type MakeEvent = (identity: { epoch: number; sequence: number }) => CloudEvent;

/** An event that is not in a file yet. */
export interface NewEvent {
  /** Makes the same event each time but for its identity. */
  make: MakeEvent;
  /** 0 while the file could not be opened, so that nobody knows which number comes next. */
  sequence: number;
  priority: number;
  /** Losses are counted by it; the empty name for none. */
  campaign: string;
  /** When it was taken, by the monotonic clock. */
  monotonic: number;
  /** Its time as it was made becomes the right one, when the clock has been set since. */
  rightTime: (time: number) => number;
}

/** An event as it goes up. */
export interface ReadyEvent {
  sequence: number;
  json: string;
  priority: number;
}

/** The event with its identity and its right time. */
export function readyEvent({ make, sequence, priority, rightTime }: NewEvent, epoch: number): ReadyEvent {
  const event = make({ epoch, sequence });
  const named = { ...event, outboxepoch: String(epoch), sequence: String(sequence) };
  return { sequence, json: JSON.stringify(withTime(named, rightTime)), priority };
}

/** Of an event that was given none: alarms have the highest, all else the middle one. */
export function defaultPriority({ type }: CloudEvent): number {
  return type === 'io.cardan.vehicle.anomaly' ? PRIORITY_ALARM : PRIORITY_DEFAULT;
}

/** The same event at another time. */
export function withTime(event: CloudEvent, change: (time: number) => number): CloudEvent {
  const before = Date.parse(event.time);
  const after = Math.max(0, change(before));
  return after === before || Number.isNaN(after) ? event : { ...event, time: new Date(after).toISOString() };
}

/** In the order in which they go up: events in theirs, then alarms, the newest first. */
export function inOrder(events: readonly ReadyEvent[]): ReadyEvent[] {
  const isAlarm = ({ priority }: ReadyEvent) => priority >= PRIORITY_ALARM;
  return [
    ...events.filter((event) => !isAlarm(event)).sort((a, b) => a.sequence - b.sequence),
    ...events.filter(isAlarm).sort((a, b) => b.sequence - a.sequence),
  ];
}
