import type { Branch } from './dbc.ts';
import { networkBit } from './layout.ts';
import type { Selection, SignalLine } from './statements.ts';

type Ranges = Branch['ranges'];
type Warn = (line: number, message: string) => void;

/**
 * Which signals are in which frames, by cantools' rules (`dbc_loader.py`, `_load_signals`):
 *
 * - Simple multiplexing: exactly one signal has a marker that ends in `M`. Signals marked `m<n>` are there when it is
 *   n, or in a range that SG_MUL_VAL_ adds.
 * - Extended multiplexing: several do. Then SG_MUL_VAL_ alone counts; a marked signal without one is always there.
 *
 * Signals that no frame can have, and all but one of signals with one name in one frame, are left out with a warning.
 */
export function resolveBranches(
  all: SignalLine[],
  selections: Selection[],
  warn: Warn,
): { lines: SignalLine[]; branches: (Branch | null)[] } {
  const wanted = wantedBranches(all, selections, warn);
  const selectors = new Map<string, SignalLine>();
  for (const line of all) if (line.marker.endsWith('M')) selectors.set(line.name, line);

  /** Whether a chain of selectors leads to a signal that is always there. */
  const reachable = (line: SignalLine): boolean => {
    const seen = new Set<SignalLine>();
    for (let at: SignalLine | undefined = line; at && !seen.has(at);) {
      seen.add(at);
      const branch = wanted.get(at);
      if (!branch) return true;
      if (branch.ranges.length === 0) return false;
      at = selectors.get(branch.selector);
    }
    return false;
  };
  const lines = withoutCopies(all, wanted, warn).filter((line) => {
    if (reachable(line)) return true;
    warn(line.line, `no frame has ${line.name}, as its multiplexer is missing: left out`);
    return false;
  });
  const branches = lines.map((line) => {
    const branch = wanted.get(line);
    const selector = branch && selectors.get(branch.selector);
    return selector ? { selector: lines.indexOf(selector), ranges: branch.ranges } : null;
  });
  return { lines, branches };
}

interface Wanted {
  selector: string;
  ranges: Ranges;
}

function wantedBranches(lines: SignalLine[], selections: Selection[], warn: Warn): Map<SignalLine, Wanted> {
  const markedM = lines.filter((line) => line.marker.endsWith('M'));
  const only = markedM.length === 1 ? markedM[0] : undefined;
  const bySelector = new Map<string, Map<string, Ranges>>();
  for (const { selector, signal, ranges } of selections) {
    let signals = bySelector.get(selector);
    if (!signals) bySelector.set(selector, (signals = new Map<string, Ranges>()));
    signals.set(signal, ranges);
  }
  const selectorOf = new Map<string, string>();
  for (const [selector, signals] of bySelector)
    for (const signal of signals.keys()) selectorOf.set(signal, selector);

  const names = new Set(lines.map((line) => line.name));
  for (const { signal, line } of selections)
    if (!names.has(signal)) warn(line, `SG_MUL_VAL_ names ${signal}, which its message does not have`);

  const wanted = new Map<SignalLine, Wanted>();
  for (const line of lines) {
    if (line.marker === '' || line === only) continue;
    const selector = only ? only.name : selectorOf.get(line.name);
    if (selector === undefined) {
      if (line.marker !== 'M')
        warn(line.line, `no multiplexer is named for ${line.name}: taken as always there`);
      continue;
    }
    const ranges = [...(bySelector.get(selector)?.get(line.name) ?? [])];
    if (only) ranges.push([Number(line.marker.slice(1)), Number(line.marker.slice(1))]);
    wanted.set(line, { selector, ranges: merged(ranges) });
  }
  return wanted;
}

/** Ascending, without overlaps; a range that ends before it begins holds nothing. */
function merged(ranges: Ranges): Ranges {
  const result: Ranges = [];
  for (const [first, last] of ranges.filter(([a, b]) => a <= b).sort(([a], [b]) => a - b)) {
    const before = result.at(-1);
    if (before && first <= before[1] + 1) result[result.length - 1] = [before[0], Math.max(before[1], last)];
    else result.push([first, last]);
  }
  return result;
}

/**
 * Of signals with one name that can be in one frame, cantools gives the little-endian one that begins first, else the
 * big-endian one that begins last.
 */
function withoutCopies(lines: SignalLine[], wanted: Map<SignalLine, Wanted>, warn: Warn): SignalLine[] {
  const byName = new Map<string, SignalLine[]>();
  for (const line of lines) byName.set(line.name, [...(byName.get(line.name) ?? []), line]);
  const dropped = new Set<SignalLine>();
  for (const same of byName.values()) {
    const kept: SignalLine[] = [];
    for (const line of same.sort((a, b) => rank(a) - rank(b))) {
      const first = kept.find((other) => together(wanted.get(line), wanted.get(other)));
      if (!first) kept.push(line);
      else {
        dropped.add(line);
        warn(line.line, `${line.name} is also in line ${first.line}, which counts: this one is left out`);
      }
    }
  }
  return lines.filter((line) => !dropped.has(line));
}

function rank(line: SignalLine): number {
  return line.byteOrder === 'little' ? line.start - 1e9 : -networkBit(line.start);
}

function together(a: Wanted | undefined, b: Wanted | undefined): boolean {
  if (!a || !b) return !a && !b;
  if (a.selector !== b.selector) return false;
  return a.ranges.some(([first, last]) => b.ranges.some(([low, high]) => first <= high && low <= last));
}
