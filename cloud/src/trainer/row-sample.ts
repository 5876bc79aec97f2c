import { createHash } from 'node:crypto';
import type { VehicleRows } from './training-data.ts';

/** What is taken or left as a whole: long enough for all windows of a score. */
const STRETCH_MS = 10 * 60_000;
/** Room for the first rows of a stretch. */
const ROWS_AT_FIRST = 16;

interface Stretch {
  vehicle: string;
  index: number;
  priority: number;
  rows: number;
  times: Float64Array;
  values: Float32Array;
}

/**
 * A bounded sample of the rows of a span, however long: stretches of ten minutes, as many as fit, each as likely as any
 * other. Which ones follows from a seed, the vehicle and the time alone, not from the order in which they come.
 * When all rows fit, all are in.
 *
 * Bottom-k sampling: every stretch has a random priority that is a hash of what it is, and the lowest stay (Cohen and
 * Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).
 */
export class RowSample {
  private readonly rowsMax: number;
  private readonly signals: number;
  private readonly seed: number;
  private readonly stretches = new Map<string, Stretch>();
  /** Stretches from this priority on are out for good. */
  private limit = Infinity;
  private rows = 0;

  constructor(options: { rowsMax: number; signals: number; seed: number }) {
    this.rowsMax = options.rowsMax;
    this.signals = options.signals;
    this.seed = options.seed;
  }

  /** Takes copies of the rows that are in the sample so far. */
  add({ vehicle, times, values }: VehicleRows): void {
    for (let from = 0; from < times.length;) {
      const index = Math.floor(times[from]! / STRETCH_MS);
      const end = (index + 1) * STRETCH_MS;
      let to = from + 1;
      while (to < times.length && times[to]! < end && times[to]! >= end - STRETCH_MS) to++;
      this.addTo(vehicle, index, times.subarray(from, to), values, from);
      from = to;
    }
  }

  /** Per vehicle, by name, its rows in the order of the stretches. */
  finish(): VehicleRows[] {
    this.trim();
    const byVehicle = new Map<string, Stretch[]>();
    for (const stretch of this.stretches.values()) {
      const those = byVehicle.get(stretch.vehicle);
      if (those === undefined) byVehicle.set(stretch.vehicle, [stretch]);
      else those.push(stretch);
    }
    return [...byVehicle]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([vehicle, stretches]) => {
        stretches.sort((a, b) => a.index - b.index);
        const rows = stretches.reduce((sum, stretch) => sum + stretch.rows, 0);
        const all = {
          vehicle,
          times: new Float64Array(rows),
          values: new Float32Array(rows * this.signals),
        };
        let at = 0;
        for (const stretch of stretches) {
          all.times.set(stretch.times.subarray(0, stretch.rows), at);
          all.values.set(stretch.values.subarray(0, stretch.rows * this.signals), at * this.signals);
          at += stretch.rows;
        }
        return all;
      });
  }

  private addTo(
    vehicle: string,
    index: number,
    times: Float64Array,
    values: Float32Array,
    from: number,
  ): void {
    const { signals, stretches } = this;
    const key = `${index}/${vehicle}`;
    let stretch = stretches.get(key);
    if (stretch === undefined) {
      const priority = priorityOf(`${this.seed}/${key}`);
      if (priority >= this.limit) return;
      stretch = {
        vehicle,
        index,
        priority,
        rows: 0,
        times: new Float64Array(ROWS_AT_FIRST),
        values: new Float32Array(ROWS_AT_FIRST * signals),
      };
      stretches.set(key, stretch);
    }
    const rows = stretch.rows + times.length;
    if (rows > stretch.times.length) {
      const grown = new Float64Array(Math.max(rows, 2 * stretch.times.length));
      grown.set(stretch.times);
      const grownValues = new Float32Array(grown.length * signals);
      grownValues.set(stretch.values);
      stretch.times = grown;
      stretch.values = grownValues;
    }
    stretch.times.set(times, stretch.rows);
    stretch.values.set(
      values.subarray(from * signals, (from + times.length) * signals),
      stretch.rows * signals,
    );
    stretch.rows = rows;
    this.rows += times.length;
    if (this.rows > 2 * this.rowsMax) this.trim();
  }

  /** Rows are only ever added to stretches, so one that does not fit now never will. */
  private trim(): void {
    if (this.rows <= this.rowsMax) return;
    const sorted = [...this.stretches].sort(([, a], [, b]) => a.priority - b.priority);
    let rows = 0;
    let full = false;
    for (const [key, stretch] of sorted) {
      full ||= rows > 0 && rows + stretch.rows > this.rowsMax;
      if (full) {
        this.limit = Math.min(this.limit, stretch.priority);
        this.stretches.delete(key);
      } else rows += stretch.rows;
    }
    this.rows = rows;
  }
}

/** 48 bits of a hash: of a million stretches hardly two have the same. */
function priorityOf(key: string): number {
  return createHash('sha256').update(key).digest().readUIntBE(0, 6);
}
