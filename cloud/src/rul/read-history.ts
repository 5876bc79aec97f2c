import {
  CardanError,
  decodeScores,
  isEvent,
  recordToEvent,
  SequenceDeduplicator,
  type TelemetryBatch,
} from '@cardan/shared';
import type { EventLog, Position } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { TimeSlots } from './time-slots.ts';

export interface HistoryQuery {
  log: EventLog;
  vehicle: string;
  from: Position;
  /** undefined: the score, in thresholds of its model. */
  signal?: string | undefined;
  onProblem: (error: CardanError) => void;
}

/**
 * The history of a vehicle's score or of one of its signals, read from the log up to its end as it is now.
 * Throws SIGNAL_SET_UNKNOWN when no set of columns in the log has the signal.
 */
export async function readHistoryOf(query: HistoryQuery): Promise<TimeSlots> {
  return query.signal === undefined ? scoreHistory(query) : signalHistory(query, query.signal);
}

async function scoreHistory({ log, vehicle, from, onProblem }: HistoryQuery): Promise<TimeSlots> {
  const slots = new TimeSlots();
  for await (const { records } of log.read('predictions', { from, to: 'latest' }))
    for (const { key, value } of records) {
      if (key !== vehicle || value === null) continue;
      try {
        const { times, scores, threshold } = decodeScores(value);
        scores.forEach((score, row) => slots.add(times[row]!, score / threshold));
      } catch (error) {
        if (!(error instanceof CardanError)) throw error;
        onProblem(error);
      }
    }
  return slots;
}

async function signalHistory(
  { log, vehicle, from, onProblem }: HistoryQuery,
  signal: string,
): Promise<TimeSlots> {
  const columns = await columnsOf(log, signal);
  const slots = new TimeSlots();
  const duplicates = new SequenceDeduplicator();
  for await (const { records } of log.read('telemetry', { from, to: 'latest' }))
    for (const { key, value } of records) {
      if (key !== vehicle || value === null) continue;
      const batch = telemetryOf(value, onProblem);
      const column = batch && columns.get(batch.signalSet);
      if (batch === undefined || column === undefined) continue;
      take(batch, column, key, duplicates, slots);
    }
  return slots;
}

function take(
  { epoch, firstSequence, times, values }: TelemetryBatch,
  column: number,
  vehicle: string,
  duplicates: SequenceDeduplicator,
  slots: TimeSlots,
): void {
  const signals = values.length / times.length;
  for (const [from, to] of duplicates.fresh(vehicle, epoch, firstSequence, times.length))
    for (let row = from; row < to; row++) slots.add(times[row]!, values[row * signals + column]!);
}

/** The place of a signal in each set of columns that has it. */
async function columnsOf(log: EventLog, signal: string): Promise<Map<string, number>> {
  const columns = new Map<string, number>();
  for await (const { records } of log.read('signal-sets', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = record.value === null ? undefined : recordToEvent(record);
      if (event === undefined || !isEvent(event, 'io.cardan.signal-set')) continue;
      const column = event.data.signals.findIndex(({ name }) => name === signal);
      if (column >= 0) columns.set(event.data.id, column);
    }
  if (columns.size === 0)
    throw new CardanError('SIGNAL_SET_UNKNOWN', `No vehicle in this log has a signal "${signal}".`);
  return columns;
}
