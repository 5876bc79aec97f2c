import type { SignalFinding, SignalSet } from '@cardan/shared';

/** A signal that is seen in a smaller part of the rows counts as missing. */
const SEEN_PART_MIN = 0.5;
/** A vehicle's signal that does not move for so many of its rows is stuck, when it moves in other vehicles. */
const STUCK_ROWS = 3600;
/** Values so many spreads from the middle are outliers; a signal that has more than this part of them is ridden by them. */
const OUTLIER_SPREADS = 10;
const OUTLIER_PART = 0.001;
/** Vehicles that are watched for stuck signals at once. The one that was silent for longest makes room. */
const VEHICLES_MAX = 20_000;

/** Looks at each value of a span once: what is missing, never moves, is stuck in one vehicle, or jumps. */
export class SignalSurvey {
  rows = 0;
  private readonly set: SignalSet;
  private readonly seen: Float64Array;
  private readonly min: Float64Array;
  private readonly max: Float64Array;
  private readonly stuckVehicles: Float64Array;
  private readonly vehicles = new Map<string, { last: Float32Array; same: Uint32Array }>();

  constructor(set: SignalSet) {
    const { length } = set.signals;
    this.set = set;
    this.seen = new Float64Array(length);
    this.min = new Float64Array(length).fill(Infinity);
    this.max = new Float64Array(length).fill(-Infinity);
    this.stuckVehicles = new Float64Array(length);
  }

  /** Rows of one vehicle, row-major. */
  add(vehicle: string, values: Float32Array): void {
    const { seen, min, max, stuckVehicles } = this;
    const { length } = seen;
    const { last, same } = this.watched(vehicle);
    this.rows += values.length / length;
    for (let at = 0, i = 0; at < values.length; at++, i = i + 1 === length ? 0 : i + 1) {
      const value = values[at]!;
      if (value === last[i]) {
        seen[i]!++;
        const rows = ++same[i]!;
        if (rows === STUCK_ROWS) stuckVehicles[i]!++;
        continue;
      }
      if (value - value !== 0) continue; // not finite
      seen[i]!++;
      last[i] = value;
      if (same[i]! < STUCK_ROWS) same[i] = 0;
      if (value < min[i]!) min[i] = value;
      if (value > max[i]!) max[i] = value;
    }
  }

  /** `sample`: rows of the span, row-major, by which outliers are found. */
  findings(sample: readonly Float32Array[]): SignalFinding[] {
    const { seen, min, max, stuckVehicles, rows } = this;
    const findings: SignalFinding[] = [];
    this.set.signals.forEach(({ name }, i) => {
      const found = (kind: SignalFinding['kind'], value: number) =>
        findings.push({ signal: name, kind, value });
      const part = rows === 0 ? 0 : seen[i]! / rows;
      if (part < SEEN_PART_MIN) found('missing', 1 - part);
      if (seen[i]! > 0 && min[i] === max[i]) found('constant', min[i]!);
      else if (stuckVehicles[i]! > 0) found('stuck', stuckVehicles[i]!);
      const outliers = outlierPart(sample, i, seen.length);
      if (outliers > OUTLIER_PART) found('outliers', outliers);
    });
    return findings;
  }

  private watched(vehicle: string): { last: Float32Array; same: Uint32Array } {
    let watched = this.vehicles.get(vehicle);
    if (watched === undefined) {
      const { length } = this.seen;
      watched = { last: new Float32Array(length).fill(Number.NaN), same: new Uint32Array(length) };
    } else this.vehicles.delete(vehicle);
    // A Map keeps the order of insertion: the first one was silent for longest.
    this.vehicles.set(vehicle, watched);
    if (this.vehicles.size > VEHICLES_MAX) this.vehicles.delete(this.vehicles.keys().next().value!);
    return watched;
  }
}

/** By median and quartiles, which outliers do not move. */
function outlierPart(sample: readonly Float32Array[], signal: number, signals: number): number {
  const column: number[] = [];
  for (const values of sample)
    for (let at = signal; at < values.length; at += signals) {
      const value = values[at]!;
      if (Number.isFinite(value)) column.push(value);
    }
  if (column.length === 0) return 0;
  const sorted = Float64Array.from(column).sort();
  const at = (part: number) => sorted[Math.floor(part * (sorted.length - 1))]!;
  // Of a normal distribution the quartiles lie 1.349 standard deviations apart, the outer tenths 2.563.
  const spread = Math.max((at(0.75) - at(0.25)) / 1.349, (at(0.9) - at(0.1)) / 2.563);
  if (spread === 0) return 0;
  const [middle, far] = [at(0.5), OUTLIER_SPREADS * spread];
  return column.filter((value) => Math.abs(value - middle) > far).length / column.length;
}
