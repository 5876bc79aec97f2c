/** Parts of the values at either end that count as the value where they begin: a few spikes do not make the scale. */
const TAIL = 0.02;
/** Standardised values beyond count as this much. */
const CLIP = 10;
/** Below this part of the middle's size a deviation is rounding. */
const ROUNDING = 1e-6;

/** Middle and spread of each column, and how much the column counts. Plain JSON. */
export interface Scale {
  middle: number[];
  /** 0 for a column that does not change or was never seen. */
  spread: number[];
  /** 0 … 1. */
  weight: number[];
}

/**
 * Middle and spread of rows, column by column: mean and deviation after the ends have been cut to where they begin
 * (Winsor). NaN is left out. `groups` says which vehicle each row is of: a column counts by the part of its spread that
 * is within vehicles. So what tells cars apart (a tyre that is pumped harder, another load) makes no driving states,
 * what a driver changes does.
 */
export function robustScale(rows: Float64Array, width: number, groups: readonly string[]): Scale {
  const scale: Scale = { middle: [], spread: [], weight: [] };
  for (let column = 0; column < width; column++) {
    const values: number[] = [];
    const of: string[] = [];
    for (const [row, group] of groups.entries()) {
      const value = rows[row * width + column]!;
      if (!Number.isFinite(value)) continue;
      values.push(value);
      of.push(group);
    }
    const cut = winsorised(values);
    const middle = meanOf(cut);
    const spread = Math.sqrt(meanOf(cut.map((value) => (value - middle) ** 2)));
    const changes = spread > ROUNDING * Math.abs(middle) && spread > 0;
    scale.middle.push(values.length === 0 ? 0 : middle);
    scale.spread.push(changes ? spread : 0);
    scale.weight.push(changes ? within(cut, of) / (spread * spread) : 0);
  }
  return scale;
}

/** A row in units of the scale, each column times the root of its weight, so that squared distances are weighted. */
export function standardise(row: Float64Array, { middle, spread, weight }: Scale): Float64Array {
  return row.map((value, i) => {
    if (spread[i] === 0) return 0;
    const standard = (value - middle[i]!) / spread[i]!;
    return Math.max(-CLIP, Math.min(CLIP, standard)) * Math.sqrt(weight[i]!);
  });
}

/** The other way. A column that does not count has no value of its own; its middle stands for it. */
export function restore(standard: Float64Array, { middle, spread, weight }: Scale): Float64Array {
  return standard.map((value, i) =>
    spread[i] === 0 || weight[i] === 0
      ? middle[i]!
      : (value / Math.sqrt(weight[i]!)) * spread[i]! + middle[i]!,
  );
}

function winsorised(values: readonly number[]): number[] {
  const sorted = Float64Array.from(values).sort();
  const tail = Math.floor(TAIL * sorted.length);
  const [low, high] = [sorted[tail]!, sorted[sorted.length - 1 - tail]!];
  return values.map((value) => Math.max(low, Math.min(high, value)));
}

function meanOf(values: readonly number[]): number {
  let mean = 0;
  for (const [i, value] of values.entries()) mean += (value - mean) / (i + 1);
  return mean;
}

/** Mean squared distance from the mean of the value's own group. */
function within(values: readonly number[], groups: readonly string[]): number {
  const members = new Map<string, number[]>();
  for (const [i, value] of values.entries()) {
    const there = members.get(groups[i]!);
    if (there === undefined) members.set(groups[i]!, [value]);
    else there.push(value);
  }
  let sum = 0;
  for (const own of members.values()) {
    const mean = meanOf(own);
    for (const value of own) sum += (value - mean) ** 2;
  }
  return sum / values.length;
}
