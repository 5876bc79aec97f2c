import { Alarm, Scorer, type Model, type Network } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { rateInterval } from '../rollout/intervals.ts';
import { scaledAlarm } from './judge-by-repairs.ts';
import { LogRows, readAlarms, type RowQuery, type VehicleRows } from './log-rows.ts';
import { orderedRecords } from './ordered-records.ts';
import type { RowSplit } from './row-split.ts';
import type { Turns } from './turns.ts';

/** Rows of one vehicle that are held back from training. */
export interface HeldBackRows extends VehicleRows {
  /** The network that has not seen them, where that is another than the model's own. */
  network?: Network;
}

/** A threshold by how often held-back vehicles would alarm with it. */
export interface FalseAlarmBound {
  /** By which the threshold that was there before is multiplied. */
  factor: number;
  /** For the manifest. */
  metrics: FalseAlarmMetrics;
}

export interface FalseAlarmMetrics {
  /** Vehicle-hours of held-back rows with a score, and the false alarms in them. */
  false_alarm_hours: number;
  false_alarms: number;
  /** So many of them in 100 vehicle-hours there are at most, with 95 % confidence; without a single hour nobody knows. */
  false_alarms_per_100_hours_upper?: number;
  threshold_without_bound: number;
}

const HOUR_MS = 3_600_000;
const HOURS = 100;
/** Thresholds that are tried, by the one that is there: from half of it to eight times, 16 per doubling. */
const STEPS_PER_DOUBLING = 16;
const FACTORS = Array.from(
  { length: 4 * STEPS_PER_DOUBLING + 1 },
  (_, i) => 2 ** (i / STEPS_PER_DOUBLING - 1),
);
const AS_IT_IS = STEPS_PER_DOUBLING;
/** Both tails of an interval are outside of it: its upper end is passed in 5 % only. */
const CONFIDENCE_OF_INTERVAL = 0.9;

/**
 * The lowest threshold from which on held-back vehicles have at most so many false alarms in 100 vehicle-hours, and not by
 * luck: the exact upper limit of the rate counts, with 95 % confidence (see `rateInterval`), not the alarms that happened to
 * be. All thresholds above it keep the bound, too: far below, one long alarm would count as one.
 *
 * Where there are too few hours for any threshold to show this, it is the one that was there before, or a higher one, if the
 * alarms that were seen with that are more than allowed. `boundIsShown` tells the one from the other.
 *
 * An alarm is no false one, and time does not count, where `expected` says that something was at fault with the vehicle.
 */
export async function boundFalseAlarms(
  model: Model,
  heldBack: AsyncIterable<HeldBackRows> | Iterable<HeldBackRows>,
  per100Hours: number,
  turns: Turns,
  expected: (vehicle: string, time: number) => boolean = () => false,
): Promise<FalseAlarmBound> {
  const counts = await countAlarms(model, heldBack, turns, expected);
  const upper = (i: number) =>
    rateInterval(counts.alarms[i]!, counts.hours / HOURS, CONFIDENCE_OF_INTERVAL).high;
  const seen = (i: number) => (counts.hours === 0 ? 0 : (HOURS * counts.alarms[i]!) / counts.hours);
  let chosen = lowest(0, (i) => upper(i) <= per100Hours);
  chosen ??= lowest(AS_IT_IS, (i) => seen(i) <= per100Hours);
  chosen ??= FACTORS.length - 1;
  const high = upper(chosen);
  return {
    factor: FACTORS[chosen]!,
    metrics: {
      false_alarm_hours: counts.hours,
      false_alarms: counts.alarms[chosen]!,
      ...(Number.isFinite(high) ? { false_alarms_per_100_hours_upper: high } : {}),
      threshold_without_bound: model.manifest.alarm.threshold,
    },
  };
}

/** Whether the held-back hours show that a bound is kept. */
export function boundIsShown(per100Hours: number, metrics: Readonly<Record<string, number>>): boolean {
  return (metrics.false_alarms_per_100_hours_upper ?? Infinity) <= per100Hours;
}

/** What was found, for people; undefined where no bound was asked for. */
export function boundText(
  per100Hours: number | string | undefined,
  metrics: Readonly<Record<string, number>>,
): string | undefined {
  if (typeof per100Hours !== 'number') return undefined;
  const { false_alarm_hours: hours = 0, false_alarms: alarms = 0 } = metrics;
  const asked = `at most ${short(per100Hours)} false alarm${per100Hours === 1 ? '' : 's'} in 100 vehicle-hours`;
  const found = `${alarms} in ${short(hours)} held-back vehicle-hours`;
  const upper = metrics.false_alarms_per_100_hours_upper ?? Infinity;
  if (boundIsShown(per100Hours, metrics))
    return `${asked}: ${found}, which is at most ${short(upper)} in 100, with 95 % confidence`;
  const needed = rateInterval(0, 1, CONFIDENCE_OF_INTERVAL).high * (HOURS / per100Hours);
  const most = upper < Infinity ? ` may be as many as ${short(upper)} in 100` : ' say nothing';
  return (
    `${asked} is NOT shown: ${found}${most}, with 95 % confidence. ` +
    (hours < needed
      ? `It takes at least ${short(Math.ceil(needed))} held-back vehicle-hours without an alarm to show it`
      : 'No threshold up to eight times the usual one shows it')
  );
}

/** The rows of a span of the log that a training as a stream has held back. */
export async function* heldBackRows(
  log: EventLog,
  query: RowQuery,
  split: RowSplit,
  signal?: AbortSignal,
): AsyncGenerator<HeldBackRows, void, undefined> {
  const rows = new LogRows(query, await readAlarms(log, query.eventOffsets));
  for await (const records of orderedRecords(log, 'telemetry', query.offsets, signal))
    for (const record of records) {
      if (record.key === null || !split.holdsBack(record.key)) continue;
      for (const piece of rows.of(record)) {
        const heldBack = split.heldBackPart(piece);
        if (heldBack !== undefined) yield heldBack;
      }
    }
}

/** The lowest of the factors from `least` on for which, as for all above it, something holds. */
function lowest(least: number, holds: (i: number) => boolean): number | undefined {
  let found: number | undefined;
  for (let i = FACTORS.length - 1; i >= least && holds(i); i--) found = i;
  return found;
}

async function countAlarms(
  model: Model,
  heldBack: AsyncIterable<HeldBackRows> | Iterable<HeldBackRows>,
  turns: Turns,
  expected: (vehicle: string, time: number) => boolean,
): Promise<{ hours: number; alarms: number[] }> {
  const { alarm, features, signalSet } = model.manifest;
  const specs = FACTORS.map((factor) => scaledAlarm(alarm, factor));
  const alarms = FACTORS.map(() => 0);
  const vehicles = new Map<string, Watched>();
  let milliseconds = 0;
  for await (const { vehicle, network, times, values } of heldBack) {
    let watched = vehicles.get(vehicle);
    if (watched === undefined || watched.network !== network) {
      const scorer = new Scorer(network === undefined ? model : { ...model, network });
      watched = { network, scorer, alarms: specs.map((spec) => new Alarm(spec)), last: Infinity };
      vehicles.set(vehicle, watched);
    }
    for (let row = 0; row < times.length; row++) {
      const time = times[row]!;
      const score = watched.scorer.push(time, values, row * signalSet.signals.length);
      const step = time - watched.last;
      watched.last = time;
      const counts = !expected(vehicle, time);
      if (counts && !Number.isNaN(score) && step > 0 && step <= features.gapMs) milliseconds += step;
      for (let i = 0; i < specs.length; i++)
        if (watched.alarms[i]!.push(score) === 'raised' && counts) alarms[i]!++;
      if (row % 64 === 0 && turns.due) await turns.give();
    }
  }
  return { hours: milliseconds / HOUR_MS, alarms };
}

/** One held-back vehicle, as its own agent would see it. */
interface Watched {
  network: Network | undefined;
  scorer: Scorer;
  /** One per factor. */
  alarms: Alarm[];
  /** Time of the last row. */
  last: number;
}

function short(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en');
}
