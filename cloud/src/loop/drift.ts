import type { LoopFinding } from '@cardan/shared';
import { Adwin } from '../learner/adwin.ts';
import { binomialTail } from './binomial.ts';
import type { ScoreTrip } from './trips.ts';

/** Evidence is taken per trip: seconds of one trip are nearly the same again, and a test that counts them always fires. */

/** Trips of a model before anything is said of it. */
export const TRIPS_BEFORE = 24;
/** Fewer vehicles are no fleet: of these each could be a fault of its own. */
export const VEHICLES_MIN = 5;
/** Of the vehicles at least this part, and so many, must have changed. */
export const DRIFTING_PART = 0.2;
export const DRIFTING_MIN = 3;
/** A vehicle counts as changed when its trips lie over what 95 % of the trips before stayed under; so by chance one in 20 is. */
const CHANCE = 0.05;
/** So many changed vehicles would be by chance once in a thousand looks at another fleet. */
const SURPRISE = 1e-3;
/** Trips in succession that speak for a fault of one vehicle. */
const FAULT_TRIPS = 3;
/** Spreads over the middle of all trips before; with the one above it is far out. */
const FAULT_SPREADS = 5;
const FAULT_FACTOR = 1.3;

export interface ScoreDrift {
  /** Begin of the first trip after the change, milliseconds since 1970. */
  onset: number;
  vehicles: number;
  drifting: number;
  trips: number;
  rows: number;
  findings: LoopFinding[];
}

export interface SensorFault {
  vehicle: string;
  since: number;
  trips: number;
  findings: LoopFinding[];
}

/**
 * Whether the fleet scores higher than before: ADWIN on the series of all trips, once on their level (95 % quantile of the
 * score, in thresholds) and once on the part of their rows over the threshold, says when; then the vehicles are counted.
 * One that has changed is a fault of its own, many are drift. The same trips give the same answer.
 */
export function scoreDrift(trips: readonly ScoreTrip[]): ScoreDrift | undefined {
  const series = [
    // What is over the threshold says no more: one wild trip must not move the mean of a fleet.
    { what: 'level', values: trips.map(({ level }) => Math.min(level, 1)) },
    { what: 'alarmed part', values: trips.map(({ alarmed }) => alarmed) },
  ];
  const found = series.flatMap(({ what, values }) => {
    const change = rise(values);
    return change === undefined ? [] : [{ what, ...change }];
  });
  for (const { what, at, before, after } of found.sort((a, b) => a.at - b.at)) {
    const changed = count(trips, at);
    if (changed === undefined) continue;
    const { vehicles, drifting, tail, limit } = changed;
    const since = trips.slice(at);
    return {
      onset: Math.min(...since.map(({ first }) => first)),
      vehicles,
      drifting,
      trips: since.length,
      rows: since.reduce((sum, { rows }) => sum + rows, 0),
      findings: [
        {
          what: `${what} of trips`,
          value: round(after),
          bound: round(before),
          why: `ADWIN: the mean over ${since.length} trips is ${round(after)}, over the ${at} before ${round(before)}`,
        },
        {
          what: 'vehicles that changed',
          value: round(drifting / vehicles),
          bound: DRIFTING_PART,
          why: `${drifting} of ${vehicles} vehicles lie over ${round(limit)} thresholds; by chance one in 20 does, and so many with probability ${tail.toPrecision(2)}`,
        },
      ],
    };
  }
  return undefined;
}

/** Vehicles whose last trips all lie far out, while few others do. */
export function sensorFaults(trips: readonly ScoreTrip[]): SensorFault[] {
  if (trips.length < TRIPS_BEFORE + FAULT_TRIPS) return [];
  const of = byVehicle(trips);
  if (of.size < VEHICLES_MIN) return [];
  const levels = trips.slice(0, TRIPS_BEFORE).map(({ level }) => level);
  const middle = quantile(levels, 0.5);
  const spread =
    1.4826 *
    quantile(
      levels.map((level) => Math.abs(level - middle)),
      0.5,
    );
  const limit = Math.max(middle + FAULT_SPREADS * spread, FAULT_FACTOR * quantile(levels, 0.95));
  const isOut = ({ level }: ScoreTrip) => level > limit;
  return [...of].flatMap(([vehicle, all]) => {
    const last = all.slice(-FAULT_TRIPS);
    if (last.length < FAULT_TRIPS || !last.every(isOut)) return [];
    let begin = all.length - FAULT_TRIPS;
    while (begin > 0 && isOut(all[begin - 1]!)) begin--;
    const since = all[begin]!.first;
    // The others must have had the time to show the same.
    const others = [...of].filter(
      ([other, theirs]) =>
        other !== vehicle && theirs.filter(({ last }) => last > since).length >= FAULT_TRIPS - 1,
    );
    const out = others.filter(([, theirs]) => isOut(theirs.at(-1)!)).length;
    if (others.length < VEHICLES_MIN - 1 || out >= DRIFTING_PART * others.length) return [];
    const value = round(Math.min(...last.map(({ level }) => level)));
    return [
      {
        vehicle,
        since,
        trips: all.length - begin,
        findings: [
          {
            what: 'level of trips',
            value,
            bound: round(limit),
            why: `its last ${all.length - begin} trips all lie over ${round(limit)} thresholds, with ${value} and more`,
          },
          {
            what: 'other vehicles',
            value: out,
            bound: round(DRIFTING_PART * others.length),
            why: `of ${others.length} others that drove since then ${out} do`,
          },
        ],
      },
    ];
  });
}

/**
 * Whether the mean of a series has risen, by ADWIN, and where: its cuts only say that there was a change, so the place is the
 * one that least squares give (Bai, Least squares estimation of a shift in linear processes, 1994), of those with a rise.
 */
function rise(values: readonly number[]): { at: number; before: number; after: number } | undefined {
  const adwin = new Adwin({ clock: 1 });
  let isChanged = false;
  values.forEach((value, i) => {
    if (adwin.update(value) && i >= TRIPS_BEFORE) isChanged = true;
  });
  if (!isChanged) return undefined;
  const total = values.reduce((sum, value) => sum + value, 0);
  let [found, most, sum]: [ReturnType<typeof rise>, number, number] = [undefined, 0, 0];
  for (let at = 1; at < values.length; at++) {
    sum += values[at - 1]!;
    const [before, after] = [sum / at, (total - sum) / (values.length - at)];
    const gain = at * (values.length - at) * (after - before) ** 2;
    if (after > before && gain > most) [found, most] = [{ at, before, after }, gain];
  }
  return found;
}

/** Vehicles that changed at this trip, when they are many. */
function count(trips: readonly ScoreTrip[], at: number) {
  const earlier = trips.slice(0, at);
  const limit = quantile(
    earlier.map(({ level }) => level),
    0.95,
  );
  const own = byVehicle(earlier);
  const since = byVehicle(trips.slice(at));
  const drifting = [...since].filter(([vehicle, theirs]) => {
    const level = quantile(
      theirs.map((trip) => trip.level),
      0.5,
    );
    // One that was high before has not changed.
    const before = (own.get(vehicle) ?? []).map((trip) => trip.level);
    return level > limit && (before.length === 0 || level > quantile(before, 0.95));
  }).length;
  const vehicles = since.size;
  const tail = binomialTail(drifting, vehicles, CHANCE);
  const isMany =
    vehicles >= VEHICLES_MIN &&
    drifting >= Math.max(DRIFTING_MIN, DRIFTING_PART * vehicles) &&
    tail < SURPRISE;
  return isMany ? { vehicles, drifting, tail, limit } : undefined;
}

function byVehicle(trips: readonly ScoreTrip[]): Map<string, ScoreTrip[]> {
  const of = new Map<string, ScoreTrip[]>();
  for (const trip of trips) {
    const theirs = of.get(trip.vehicle);
    if (theirs === undefined) of.set(trip.vehicle, [trip]);
    else theirs.push(trip);
  }
  return of;
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
}

export function round(value: number): number {
  return Number(value.toPrecision(3));
}
