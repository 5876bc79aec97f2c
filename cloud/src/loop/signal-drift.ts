import type { LoopFinding } from '@cardan/shared';
import { populationStability } from '../learner/psi.ts';
import { SeededRandom } from '../trainer/seeded-random.ts';
import { round, VEHICLES_MIN, type ScoreDrift } from './drift.ts';
import type { Reference } from './reference.ts';
import { binsOf, type SignalTrip } from './trips.ts';

/** Trips that are pooled, at least. */
export const POOL_TRIPS_MIN = 8;
/** And at most: the newest ones. */
const POOL_TRIPS_MAX = 32;
/** An index over this is a large change, by the rule of thumb of credit scoring (see `PSI_DEFAULTS`). */
const PSI_MIN = 0.25;
/** Each trip counts as so many values, however long it was. */
const TRIP_WEIGHT = 100;
/** Pools of the training's own trips that are drawn to see what chance gives. */
const DRAWS = 200;
/** The part of the vehicles, those that differ most, without which it must still be so. */
const TRIMMED_PART = 0.2;
/** Findings in an event: the signals that moved most. */
const FINDINGS_MAX = 5;

/**
 * Whether signals are distributed otherwise than in the training: the population stability index of the newest trips
 * together, per signal. Trips of few vehicles differ by chance alone, so the bound is 0.25 or the largest index that pools
 * of as many trips of the training itself have, whichever is larger. And it must hold without the fifth of the vehicles
 * that differ most: what few cars do is no drift.
 */
export class SignalDrift {
  private readonly reference: Reference;
  /** Per signal: where its bins are. */
  private readonly places: [from: number, to: number][] = [];
  private readonly whole: Float64Array[];
  /** By number of vehicles in a pool. */
  private readonly limits = new Map<number, number[]>();

  constructor(reference: Reference) {
    this.reference = reference;
    let at = 0;
    for (const edges of reference.edges) this.places.push([at, (at += binsOf(edges))]);
    this.whole = this.places.map((_, signal) => this.pool(reference.pieces, signal));
  }

  look(trips: readonly SignalTrip[], signals: readonly { name: string }[]): ScoreDrift | undefined {
    const pool = trips.slice(-POOL_TRIPS_MAX);
    const vehicles = new Set(pool.map(({ vehicle }) => vehicle));
    if (pool.length < POOL_TRIPS_MIN || vehicles.size < VEHICLES_MIN) return undefined;
    const limits = this.limitsOf(vehicles.size);
    const findings: (LoopFinding & { drifting: number })[] = [];
    signals.forEach(({ name }, signal) => {
      const bound = limits[signal]!;
      if (this.index(pool, signal) <= bound) return;
      const own = [...vehicles]
        .map((vehicle) => ({
          vehicle,
          index: this.index(
            pool.filter((trip) => trip.vehicle === vehicle),
            signal,
          ),
        }))
        .sort((a, b) => b.index - a.index);
      const left = own.slice(Math.ceil(TRIMMED_PART * own.length)).map(({ vehicle }) => vehicle);
      const index = this.index(
        pool.filter(({ vehicle }) => left.includes(vehicle)),
        signal,
      );
      if (index <= this.limitsOf(left.length)[signal]!) return;
      findings.push({
        what: name,
        value: round(index),
        bound: round(bound),
        why: `its population stability index over ${pool.length} trips is ${round(index)} without the vehicles that differ most; by chance it stays under ${round(bound)}`,
        drifting: own.filter((one) => one.index > bound).length,
      });
    });
    if (findings.length === 0) return undefined;
    findings.sort((a, b) => b.value / b.bound - a.value / a.bound);
    return {
      onset: Math.min(...pool.map(({ first }) => first)),
      vehicles: vehicles.size,
      drifting: Math.max(...findings.map(({ drifting }) => drifting)),
      trips: pool.length,
      rows: pool.reduce((sum, { rows }) => sum + rows, 0),
      findings: findings
        .slice(0, FINDINGS_MAX)
        .map(({ what, value, bound, why }) => ({ what, value, bound, why })),
    };
  }

  private index(trips: readonly { counts: Uint32Array }[], signal: number): number {
    return populationStability(this.whole[signal]!, this.pool(trips, signal));
  }

  /** Parts of the bins, each trip with the same weight; in all as many values as trips times `TRIP_WEIGHT`. */
  private pool(trips: readonly { counts: Uint32Array }[], signal: number): Float64Array {
    const [from, to] = this.places[signal]!;
    const sum = new Float64Array(to - from);
    for (const { counts } of trips) {
      let rows = 0;
      for (let i = from; i < to; i++) rows += counts[i]!;
      if (rows > 0) for (let i = from; i < to; i++) sum[i - from]! += (TRIP_WEIGHT * counts[i]!) / rows;
    }
    return sum;
  }

  /** What chance gives: the largest index of pools of one trip each of so many vehicles of the training. */
  private limitsOf(vehicles: number): number[] {
    const known = this.limits.get(vehicles);
    if (known !== undefined) return known;
    const { pieces } = this.reference;
    const random = new SeededRandom(vehicles);
    const limits = this.places.map(() => PSI_MIN);
    const names = [...new Set(pieces.map(({ vehicle }) => vehicle))];
    for (let draw = 0; draw < DRAWS; draw++) {
      const pool = Array.from({ length: vehicles }, () => {
        const name = names[Math.floor(random.uniform() * names.length)]!;
        const theirs = pieces.filter(({ vehicle }) => vehicle === name);
        return theirs[Math.floor(random.uniform() * theirs.length)]!;
      });
      this.places.forEach((_, signal) => {
        limits[signal] = Math.max(limits[signal]!, this.index(pool, signal));
      });
    }
    this.limits.set(vehicles, limits);
    return limits;
  }
}
