import { QuantileSketch, type QuantileSketchData } from '@cardan/shared';
import { binOf } from '../learner/psi.ts';

/** A gap in time longer than this ends a trip: shorter ones are traffic lights, tunnels and lost frames. */
export const TRIP_GAP_MS = 5 * 60_000;
/** So does this length, so that a vehicle which never stops gives evidence, too. */
export const TRIP_LENGTH_MAX_MS = 30 * 60_000;
/** Shorter ones say too little to count as one. */
export const TRIP_ROWS_MIN = 60;

/** Where a trip is: times of its first and last row, milliseconds since 1970. */
interface Extent {
  first: number;
  last: number;
  rows: number;
}

/** Scores of a trip that may go on. */
export interface OpenScores extends Extent {
  signalSet: string;
  model: string;
  version: string;
  threshold: number;
  over: number;
  sketch: QuantileSketchData;
}

/** What is kept of a trip's scores. */
export interface ScoreTrip extends Extent {
  vehicle: string;
  /** 95 % of the scores are below this, in thresholds. */
  level: number;
  /** Part of the rows over the threshold. */
  alarmed: number;
}

/** Values of a trip that may go on: per signal how many fell into each bin of the reference. */
export interface OpenSignals extends Extent {
  signalSet: string;
  counts: Uint32Array | null;
}

export interface SignalTrip extends Extent {
  vehicle: string;
  counts: Uint32Array;
}

/** Whether a row at this time belongs to another trip. */
export function endsTrip({ first, last }: Pick<Extent, 'first' | 'last'>, time: number): boolean {
  return time - last > TRIP_GAP_MS || time - first > TRIP_LENGTH_MAX_MS;
}

/** Takes in the scores of one trip; which rows these are is for the caller to say. */
export class TripScores {
  readonly open: OpenScores;
  private readonly sketch = new QuantileSketch();

  constructor(open: OpenScores) {
    this.open = open;
    this.sketch.add(open.sketch);
  }

  push(time: number, score: number): void {
    const { open } = this;
    open.last = time;
    // Windows that fill have no score, and say nothing.
    if (Number.isNaN(score)) return;
    open.rows++;
    if (score > open.threshold) open.over++;
    this.sketch.push(score);
  }

  get data(): OpenScores {
    return { ...this.open, sketch: this.sketch.data };
  }

  /** undefined when it was too short to count. */
  finish(vehicle: string): ScoreTrip | undefined {
    const { first, last, rows, over, threshold } = this.open;
    if (rows < TRIP_ROWS_MIN) return undefined;
    const level = this.sketch.quantile(0.95) / threshold;
    return { vehicle, first, last, rows, level, alarmed: over / rows };
  }
}

/** Bins of one signal: those between the edges, and one for values that were not seen. */
export function binsOf(edges: readonly number[]): number {
  return edges.length + 2;
}

/** Counts a row of values into the bins of all signals. */
export function countRow(
  counts: Uint32Array,
  edges: readonly (readonly number[])[],
  values: Float32Array,
  at: number,
): void {
  let base = 0;
  for (let signal = 0; signal < edges.length; signal++) {
    const ends = edges[signal]!;
    const value = values[at + signal]!;
    counts[base + (Number.isNaN(value) ? ends.length + 1 : binOf(value, ends))]!++;
    base += binsOf(ends);
  }
}
