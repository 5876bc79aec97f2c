import { Alarm, Scorer, SequenceDeduplicator, type Model } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { readOptions, type OffsetRanges, type TimeRange } from './log-span.ts';
import type { Repair } from './repairs.ts';

/** An alarm foretells a repair when it was raised at most this long before it. */
export const FORETELL_HOURS = 7 * 24;
const HOUR_MS = 3_600_000;
/** Alarms remembered per vehicle; a model that raises more is no good, and the figures say so. */
const ALARMS_MAX = 10_000;

/** How a model would have done, by what workshops found. Figures for the manifest's metrics. */
export interface RepairJudgement {
  /** Repairs of vehicles that drove within the time before them. */
  repairs: number;
  /** Those of them with an alarm in that time. */
  repairs_foretold: number;
  /** From the first such alarm to the repair, hours; the median. 0 when none was foretold. */
  repair_lead_hours: number;
  /** Alarms that the model raises on these rows, and those of them that no repair followed in time. */
  alarms: number;
  alarms_without_repair: number;
}

/**
 * Scores a span of the log with a model, as cars would have with it, and compares the alarms with what was repaired.
 * Labels judge a model; nothing is trained on them. Memory: one window per vehicle, and the times of its alarms.
 */
export async function judgeByRepairs(
  log: EventLog,
  model: Model,
  offsets: OffsetRanges,
  times: TimeRange | undefined,
  repairs: ReadonlyMap<string, readonly Repair[]>,
): Promise<RepairJudgement> {
  const duplicates = new SequenceDeduplicator();
  const vehicles = new Map<string, Judged>();
  for await (const { records } of log.read('telemetry', readOptions(offsets)))
    for (const { key, value } of records) {
      const batch = key === null || value === null ? undefined : telemetryOf(value, () => undefined);
      if (key === null || batch?.signalSet !== model.manifest.signalSet.id) continue;
      const vehicle = vehicles.get(key) ?? new Judged(model, repairs.get(key) ?? []);
      vehicles.set(key, vehicle);
      const signals = batch.values.length / batch.times.length;
      for (const [from, to] of duplicates.fresh(key, batch.epoch, batch.firstSequence, batch.times.length))
        for (let row = from; row < to; row++) {
          const time = batch.times[row]!;
          if (time >= (times?.from ?? -Infinity) && time < (times?.to ?? Infinity))
            vehicle.push(time, batch.values, row * signals);
        }
    }
  const judgement = {
    repairs: 0,
    repairs_foretold: 0,
    repair_lead_hours: 0,
    alarms: 0,
    alarms_without_repair: 0,
  };
  const leads: number[] = [];
  for (const vehicle of vehicles.values()) {
    judgement.alarms += vehicle.alarms.length;
    judgement.alarms_without_repair += vehicle.alarms.filter(
      (time) => !vehicle.repairs.some((repair) => foretells(time, repair)),
    ).length;
    vehicle.repairs.forEach((repair, i) => {
      if (!vehicle.drove.has(i)) return;
      judgement.repairs++;
      const first = vehicle.alarms.find((time) => foretells(time, repair));
      if (first !== undefined) leads.push((repair.time - first) / HOUR_MS);
    });
  }
  leads.sort((a, b) => a - b);
  judgement.repairs_foretold = leads.length;
  judgement.repair_lead_hours = leads.length === 0 ? 0 : leads[leads.length >> 1]!;
  return judgement;
}

function foretells(alarm: number, { time }: Repair): boolean {
  return alarm <= time && alarm >= time - FORETELL_HOURS * HOUR_MS;
}

/** One vehicle, as its own agent would see it. */
class Judged {
  readonly repairs: readonly Repair[];
  /** When alarms were raised, in order. */
  readonly alarms: number[] = [];
  /** Indexes of repairs before which it drove. */
  readonly drove = new Set<number>();
  private readonly scorer: Scorer;
  private readonly alarm: Alarm;

  constructor(model: Model, repairs: readonly Repair[]) {
    this.repairs = repairs;
    this.scorer = new Scorer(model);
    this.alarm = new Alarm(model.manifest.alarm);
  }

  push(time: number, values: Float32Array, offset: number): void {
    const { repairs, drove, alarms } = this;
    for (let i = 0; i < repairs.length; i++) if (foretells(time, repairs[i]!)) drove.add(i);
    if (this.alarm.push(this.scorer.push(time, values, offset)) === 'raised' && alarms.length < ALARMS_MAX)
      alarms.push(time);
  }
}
