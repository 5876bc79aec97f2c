/** One figure of a bench, as one JSON line on standard output. */
export interface Figure {
  bench: string;
  value: number;
  unit: string;
  cpu_us_per_item?: number;
  /** What was measured beside it, and under which circumstances. */
  [further: string]: string | number | undefined;
}

/** Prints a figure with the version of Node.js; numbers keep three digits that count, or all before the point. */
export function printFigure(figure: Figure): void {
  const rounded = Object.entries(figure).map(([name, value]) => [
    name,
    typeof value === 'number' ? round(value) : value,
  ]);
  const line = { ...(Object.fromEntries(rounded) as Figure), node: process.version };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function round(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

/** The middle one by `of`; of an even number the lower one. */
export function median<T>(rounds: readonly T[], of: (round: T) => number): T {
  return rounds.toSorted((a, b) => of(a) - of(b))[(rounds.length - 1) >> 1]!;
}
