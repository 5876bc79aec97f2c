import { decodeTelemetry, SequenceDeduplicator } from '@cardan/shared';
import type { EventLog, Position } from '@cardan/shared/event-log';
import type { Sampled } from './sim-topics.ts';

export interface RowAccount {
  /** Rows that the cars sampled. */
  sent: number;
  /** Of these, how many a fresh reader finds in the log. */
  in_log: number;
  /** sent − in_log. */
  lost: number;
  /** Copies that the reader dropped: redelivery is allowed, and harmless. */
  duplicates_dropped: number;
}

/** Compares what the simulator knows to have been sampled with what the log holds from a position on, row by row. */
export async function accountRows(
  log: EventLog,
  sampled: readonly Sampled[],
  from: Position = 'earliest',
): Promise<RowAccount> {
  const known = new Map(sampled.map((car) => [`${car.vehicle} ${car.epoch}`, { ...car, found: 0 }]));
  const duplicates = new SequenceDeduplicator();
  for await (const { records } of log.read('telemetry', { from, to: 'latest' })) {
    for (const { key, value } of records) {
      if (key === null || value === null) continue;
      const batch = decodeTelemetry(value);
      const fresh = duplicates.fresh(key, batch.epoch, batch.firstSequence, batch.times.length);
      const car = known.get(`${key} ${batch.epoch}`);
      if (car === undefined) continue;
      for (const [from, to] of fresh) {
        const first = Math.max(batch.firstSequence + from, car.first);
        const end = Math.min(batch.firstSequence + to, car.first + car.rows);
        car.found += Math.max(0, end - first);
      }
    }
  }
  const sent = sampled.reduce((sum, { rows }) => sum + rows, 0);
  const found = [...known.values()].reduce((sum, car) => sum + car.found, 0);
  return { sent, in_log: found, lost: sent - found, duplicates_dropped: duplicates.dropped };
}
