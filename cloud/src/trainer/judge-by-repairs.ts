import {
  Alarm,
  CardanError,
  FeatureExtractor,
  Scorer,
  SequenceDeduplicator,
  type AlarmSpec,
  type Model,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { readOptions, type OffsetRanges, type TimeRange } from './log-span.ts';
import type { TrivialFit } from './trivial-detectors.ts';

/** An alarm foretells a repair when it was raised at most this long before it. */
export const FORETELL_HOURS = 7 * 24;
const HOUR_MS = 3_600_000;
/** Alarms remembered per vehicle; a model that raises more is no good, and the figures say so. */
const ALARMS_MAX = 10_000;

/** When something was at fault with a vehicle: a repair, or a failure that was flagged until a later time. */
export interface Label {
  /** Milliseconds since 1970. */
  time: number;
  until?: number;
}

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
  repairs: ReadonlyMap<string, readonly Label[]>,
): Promise<RepairJudgement> {
  const { id } = model.manifest.signalSet;
  const [judgements] = await judgeThresholds(log, id, raterOf(model), { offsets, times, repairs }, [1]);
  return judgements![0]!;
}

/** Thresholds that are tried, by the one that was found without labels: from half of it to four times. */
const FACTORS = Array.from({ length: 25 }, (_, i) => 2 ** ((i - 8) / 8));

/**
 * The threshold, by the one of the model, with the best F1 on what was repaired: a repair that an alarm foretold is a
 * hit, one without an alarm a miss, an alarm that no repair followed a false one. Of equals the highest, which alarms
 * least. Throws TRAINING_DATA_INSUFFICIENT without a repair to choose by.
 */
export async function thresholdByRepairs(
  log: EventLog,
  model: Model,
  labelled: LabelledSpan,
): Promise<{ factor: number; f1: number; judgement: RepairJudgement }> {
  const { id } = model.manifest.signalSet;
  const [judgements] = (await judgeThresholds(log, id, raterOf(model), labelled, FACTORS)) as [
    RepairJudgement[],
  ];
  if (judgements[0]!.repairs === 0)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      `No vehicle drove within the ${FORETELL_HOURS} hours before one of its repairs in this span, so that there is nothing to choose a threshold by. Take another span, or leave --threshold-from out.`,
    );
  let best = { factor: FACTORS[0]!, f1: -1, judgement: judgements[0]! };
  for (const [i, judgement] of judgements.entries()) {
    const f1 = f1Of(judgement);
    if (f1 >= best.f1) best = { factor: FACTORS[i]!, f1, judgement };
  }
  return best;
}

/** Where labels and rows are. */
export interface LabelledSpan {
  offsets: OffsetRanges;
  times: TimeRange | undefined;
  repairs: ReadonlyMap<string, readonly Label[]>;
}

/**
 * How the detectors without a network would have done on the same rows, with the same alarm rule, each at the limit that suits
 * it best among 25: from half to four times the one that it has by itself. F1 as in `thresholdByRepairs`.
 */
export async function judgeTrivialByRepairs(
  log: EventLog,
  { manifest }: Pick<Model, 'manifest'>,
  { detectors, features }: TrivialFit,
  labelled: LabelledSpan,
): Promise<Record<string, number>> {
  const rater: Rater = {
    alarms: detectors.names.map((name) =>
      scaledAlarm(manifest.alarm, detectors.limits[name] / manifest.alarm.threshold),
    ),
    begin: () => {
      const extractor = new FeatureExtractor(features);
      return (time, values, offset) => {
        if (!extractor.push(time, values, offset)) return detectors.names.map(() => Number.NaN);
        const scores = detectors.scores(extractor.clipped);
        return detectors.names.map((name) => scores[name]);
      };
    },
  };
  const judgements = await judgeThresholds(log, manifest.signalSet.id, rater, labelled, FACTORS);
  return Object.fromEntries(
    detectors.names.map((name, i) => [`${name}_repairs_f1`, Math.max(...judgements[i]!.map(f1Of))]),
  );
}

/** Alarms and repairs as one figure: 1 when every repair was foretold, and nothing else was. */
export function f1Of({
  repairs,
  repairs_foretold: hits,
  alarms_without_repair: falseAlarms,
}: RepairJudgement): number {
  return hits === 0 ? 0 : (2 * hits) / (2 * hits + falseAlarms + (repairs - hits));
}

/** What scores the rows of a vehicle, in one way or several, and when each of these is an alarm. */
interface Rater {
  alarms: readonly AlarmSpec[];
  /** For one more vehicle: what takes its rows in their order. */
  begin(): (time: number, values: Float32Array, offset: number) => readonly number[];
}

function raterOf(model: Model): Rater {
  return {
    alarms: [model.manifest.alarm],
    begin: () => {
      const scorer = new Scorer(model);
      return (time, values, offset) => [scorer.push(time, values, offset)];
    },
  };
}

/** Per way of scoring one judgement per factor by which its threshold is multiplied, all in one pass over the span. */
async function judgeThresholds(
  log: EventLog,
  signalSet: string,
  rater: Rater,
  { offsets, times, repairs }: LabelledSpan,
  factors: readonly number[],
): Promise<RepairJudgement[][]> {
  const duplicates = new SequenceDeduplicator();
  const vehicles = new Map<string, Judged>();
  const alarms = rater.alarms.flatMap((alarm) => factors.map((factor) => scaledAlarm(alarm, factor)));
  for await (const { records } of log.read('telemetry', readOptions(offsets)))
    for (const { key, value } of records) {
      const batch = key === null || value === null ? undefined : telemetryOf(value, () => undefined);
      if (key === null || batch?.signalSet !== signalSet) continue;
      const vehicle = vehicles.get(key) ?? new Judged(rater.begin(), repairs.get(key) ?? [], alarms);
      vehicles.set(key, vehicle);
      const signals = batch.values.length / batch.times.length;
      for (const [from, to] of duplicates.fresh(key, batch.epoch, batch.firstSequence, batch.times.length))
        for (let row = from; row < to; row++) {
          const time = batch.times[row]!;
          if (time >= (times?.from ?? -Infinity) && time < (times?.to ?? Infinity))
            vehicle.push(time, batch.values, row * signals);
        }
    }
  return rater.alarms.map((_, way) =>
    factors.map((_, i) => judgementOf([...vehicles.values()], way * factors.length + i)),
  );
}

/** What the alarms at one of the thresholds say. */
function judgementOf(vehicles: readonly Judged[], threshold: number): RepairJudgement {
  const judgement = {
    repairs: 0,
    repairs_foretold: 0,
    repair_lead_hours: 0,
    alarms: 0,
    alarms_without_repair: 0,
  };
  const leads: number[] = [];
  for (const vehicle of vehicles) {
    const alarms = vehicle.alarms[threshold]!;
    judgement.alarms += alarms.length;
    judgement.alarms_without_repair += alarms.filter(
      (time) => !vehicle.repairs.some((repair) => foretells(time, repair)),
    ).length;
    vehicle.repairs.forEach((repair, i) => {
      if (!vehicle.drove.has(i)) return;
      judgement.repairs++;
      const first = alarms.find((time) => foretells(time, repair));
      if (first !== undefined) leads.push((repair.time - first) / HOUR_MS);
    });
  }
  leads.sort((a, b) => a - b);
  judgement.repairs_foretold = leads.length;
  judgement.repair_lead_hours = leads.length === 0 ? 0 : leads[leads.length >> 1]!;
  return judgement;
}

/** Whether an alarm at this time is one of a repair that came later, or of a failure that came later or was there. */
export function foretells(alarm: number, { time, until = time }: Label): boolean {
  return alarm <= until && alarm >= time - FORETELL_HOURS * HOUR_MS;
}

/** One vehicle, as its own agent would see it. */
class Judged {
  readonly repairs: readonly Label[];
  /** When alarms were raised, in order, per way of scoring and threshold. */
  readonly alarms: number[][];
  /** Indexes of repairs before which it drove. */
  readonly drove = new Set<number>();
  private readonly score: ReturnType<Rater['begin']>;
  private readonly watching: Alarm[];

  constructor(score: ReturnType<Rater['begin']>, repairs: readonly Label[], alarms: readonly AlarmSpec[]) {
    this.repairs = repairs;
    this.score = score;
    this.alarms = alarms.map(() => []);
    this.watching = alarms.map((alarm) => new Alarm(alarm));
  }

  push(time: number, values: Float32Array, offset: number): void {
    const { repairs, drove, alarms, watching } = this;
    for (let i = 0; i < repairs.length; i++) if (foretells(time, repairs[i]!)) drove.add(i);
    const scores = this.score(time, values, offset);
    const thresholds = watching.length / scores.length;
    for (let i = 0; i < watching.length; i++) {
      const score = scores[Math.floor(i / thresholds)]!;
      if (watching[i]!.push(score) === 'raised' && alarms[i]!.length < ALARMS_MAX) alarms[i]!.push(time);
    }
  }
}

/** The same alarm at another threshold. */
export function scaledAlarm(alarm: AlarmSpec, factor: number): AlarmSpec {
  return { ...alarm, threshold: factor * alarm.threshold, clearBelow: factor * alarm.clearBelow };
}
