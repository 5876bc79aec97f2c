import { isHeldBack, partFor } from './held-back.ts';
import type { VehicleRows } from './log-rows.ts';

/** Two vehicles differ more than either says of itself: they are split by time. */
const VEHICLES_MIN = 3;
/** With fewer held back nobody can tell which of them is the odd one (see `calibrate`); but never more than half. */
const HELD_BACK_MIN = 8;

/**
 * Which rows of a span are trained on, and which are held back for the threshold: by vehicle, drawn by a seeded hash of
 * its id; with one or two vehicles (or where the draw leaves one side empty) by time, the last part of it. Never by row:
 * neighbours are nearly the same, so a row whose neighbours are in training is as good as known.
 */
export class RowSplit {
  /** Whose rows are held back. */
  readonly vehiclesHeldBack: number;
  private readonly heldBack: ReadonlySet<string>;
  /** Rows from here on are held back, milliseconds since 1970. */
  private readonly until: number;

  /** `sample`: rows of all times; `part` 0 … 1. */
  constructor(
    vehicles: readonly string[],
    sample: readonly VehicleRows[],
    { seed, part }: { seed: number; part: number },
  ) {
    const least = Math.max(1, Math.min(HELD_BACK_MIN, vehicles.length >> 1));
    const drawn = { seed, part: partFor(vehicles, seed, part, least) };
    const heldBack = vehicles.filter((vehicle) => isHeldBack(vehicle, drawn));
    if (vehicles.length >= VEHICLES_MIN && heldBack.length < vehicles.length) {
      this.heldBack = new Set(heldBack);
      this.until = Infinity;
      this.vehiclesHeldBack = heldBack.length;
    } else {
      this.heldBack = new Set();
      this.until = timeAt(sample, 1 - part);
      this.vehiclesHeldBack = vehicles.length;
    }
  }

  /** Whether any rows of a vehicle are. */
  trainsOn(vehicle: string): boolean {
    return !this.heldBack.has(vehicle);
  }

  /** Of rows whose times never go back: the part to train on, as a view. */
  training(rows: VehicleRows): VehicleRows | undefined {
    const { vehicle, times, values } = rows;
    if (this.until === Infinity) return this.heldBack.has(vehicle) ? undefined : rows;
    let end = times.length;
    while (end > 0 && times[end - 1]! >= this.until) end--;
    if (end === 0) return undefined;
    const signals = values.length / times.length;
    return { vehicle, times: times.subarray(0, end), values: values.subarray(0, end * signals) };
  }

  /** Whether any rows of a vehicle are held back. */
  holdsBack(vehicle: string): boolean {
    return this.until !== Infinity || this.heldBack.has(vehicle);
  }

  /** Of rows whose times never go back: the part that is held back, as a view. */
  heldBackPart(rows: VehicleRows): VehicleRows | undefined {
    const { vehicle, times, values } = rows;
    if (this.until === Infinity) return this.heldBack.has(vehicle) ? rows : undefined;
    let begin = 0;
    while (begin < times.length && times[begin]! < this.until) begin++;
    if (begin === times.length) return undefined;
    const signals = values.length / times.length;
    return { vehicle, times: times.subarray(begin), values: values.subarray(begin * signals) };
  }

  /** Of rows in any order of time: both parts, as copies where it is by time. */
  both(rows: readonly VehicleRows[]): { training: VehicleRows[]; heldBack: VehicleRows[] } {
    if (this.until === Infinity)
      return {
        training: rows.filter(({ vehicle }) => !this.heldBack.has(vehicle)),
        heldBack: rows.filter(({ vehicle }) => this.heldBack.has(vehicle)),
      };
    const where = (wanted: (time: number) => boolean) =>
      rows.map((one) => only(one, wanted)).filter(({ times }) => times.length > 0);
    return {
      training: where((time) => time < this.until),
      heldBack: where((time) => time >= this.until),
    };
  }
}

function only({ vehicle, times, values }: VehicleRows, wanted: (time: number) => boolean): VehicleRows {
  const signals = times.length === 0 ? 0 : values.length / times.length;
  const rows = [...times.keys()].filter((row) => wanted(times[row]!));
  const taken = new Float32Array(rows.length * signals);
  rows.forEach((row, i) => taken.set(values.subarray(row * signals, (row + 1) * signals), i * signals));
  return { vehicle, times: Float64Array.from(rows, (row) => times[row]!), values: taken };
}

/** The time before which this part of the rows lies. */
function timeAt(sample: readonly VehicleRows[], part: number): number {
  const rows = sample.reduce((sum, { times }) => sum + times.length, 0);
  const all = new Float64Array(rows);
  let at = 0;
  for (const { times } of sample) {
    all.set(times, at);
    at += times.length;
  }
  all.sort();
  return all[Math.floor(part * rows)] ?? Infinity;
}
