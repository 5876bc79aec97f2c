import type { Branch, Signal } from './dbc.ts';

/** Eight bytes to turn the bits of floats into numbers and back. */
const scratch = new ArrayBuffer(8);
export const SCRATCH_WORDS = new Uint32Array(scratch);
export const SCRATCH_FLOAT32 = new Float32Array(scratch, 0, 1);
export const SCRATCH_FLOAT64 = new Float64Array(scratch);

/** Which of the two words is the lower half of the float64: the machine's byte order. */
SCRATCH_FLOAT64[0] = 1; // 0x3ff00000_00000000
export const SCRATCH_HIGH = SCRATCH_WORDS[0] === 0 ? 1 : 0;
export const SCRATCH_LOW = 1 - SCRATCH_HIGH;

/** A number as source code, in its shortest form that is exact; -0 stays -0. */
export function literal(value: number): string {
  return Object.is(value, -0) ? '-0' : value < 0 ? `(${value})` : String(value);
}

/** Condition that a variable is in one of the ranges. */
export function inRanges(variable: string, ranges: Branch['ranges']): string {
  return ranges
    .map(([first, last]) =>
      first === last ? `${variable} === ${first}` : `(${variable} >= ${first} && ${variable} <= ${last})`,
    )
    .join(' || ');
}

/** The signals that a selector selects, as indices, those of the same ranges together. */
export function groupByRanges(signals: Signal[], selector: number): [Branch['ranges'], number[]][] {
  const groups = new Map<string, [Branch['ranges'], number[]]>();
  signals.forEach(({ branch }, i) => {
    if (branch?.selector !== selector) return;
    const key = branch.ranges.join(' ');
    const group = groups.get(key);
    if (group) group[1].push(i);
    else groups.set(key, [branch.ranges, [i]]);
  });
  return [...groups.values()];
}
