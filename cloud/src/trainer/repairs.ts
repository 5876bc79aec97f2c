import type { EventLog, Offsets } from '@cardan/shared/event-log';
import { BadRepairLine, parseRepairLine, type Repair } from './repair-line.ts';

export type { Repair } from './repair-line.ts';

/**
 * The topic of repairs: one record per line of a workshop's table (docs/legacy-systems.md). The lines come from outside,
 * by Kafka Connect for example, so they have no key, and the same one may come twice.
 */
export const REPAIRS_TOPIC = 'repairs';

export interface RepairsQuery {
  /** Inclusive and exclusive, per partition, as `EventLog.resolve` gives them. They can go into a lineage. */
  from: Offsets;
  to: Offsets;
  /** Most repairs that are kept, the last ones in the log. Default half a million: they take 400 MB while being read. */
  repairsMax?: number;
}

/** A line that is no repair. */
export interface BadLine {
  partition: number;
  offset: number;
  /** What is wrong with it, and how it should be. */
  reason: string;
}

export interface Repairs {
  /** By vehicle, sorted by name; the repairs of each sorted by time. */
  vehicles: ReadonlyMap<string, readonly Repair[]>;
  /** All of them. */
  repairs: number;
  /** Left out: repairs that were there already, and those over `repairsMax`. */
  duplicatesDropped: number;
  overMax: number;
  badLines: number;
  /** The first ones of them. */
  firstBadLines: readonly BadLine[];
}

const REPAIRS_MAX = 500_000;
/** Who looks at these has seen by then what is wrong with the file. */
const BAD_LINES_SHOWN = 100;

/**
 * Reads the repairs of all vehicles between two pinned positions of the log. The same query gives the same repairs in
 * the same order, whenever it is asked. A repair that comes again, in whatever spelling, is dropped: Connect reads a
 * file again from where it last noted its place.
 *
 * Errors: TOPIC_UNKNOWN (nobody has brought repairs in yet), OFFSET_OUT_OF_RANGE.
 */
export async function readRepairs(log: EventLog, query: RepairsQuery): Promise<Repairs> {
  const { from, to, repairsMax = REPAIRS_MAX } = query;
  const found = new Map<string, Repair>();
  const firstBadLines: BadLine[] = [];
  let badLines = 0;
  let duplicatesDropped = 0;
  let overMax = 0;
  const partitions = Object.keys(to).map(Number);
  for await (const { partition, records } of log.read(REPAIRS_TOPIC, { from, to, partitions })) {
    for (const { offset, value } of records) {
      if (value === null) continue;
      let repair: Repair | undefined;
      try {
        repair = parseRepairLine(value);
      } catch (error) {
        if (!(error instanceof BadRepairLine)) throw error;
        badLines++;
        if (firstBadLines.length < BAD_LINES_SHOWN)
          firstBadLines.push({ partition, offset, reason: error.message });
      }
      if (repair === undefined) continue;
      const identity = JSON.stringify(Object.values(repair));
      if (found.has(identity)) {
        duplicatesDropped++;
        continue;
      }
      found.set(identity, repair);
      if (found.size <= repairsMax) continue;
      const [oldest] = found.keys();
      found.delete(oldest!);
      overMax++;
    }
  }
  return {
    vehicles: byVehicle(found),
    repairs: found.size,
    duplicatesDropped,
    overMax,
    badLines,
    firstBadLines,
  };
}

/** Of two repairs at one time the order is that of their identities: partitions are not read in a fixed order. */
function byVehicle(found: ReadonlyMap<string, Repair>): Map<string, Repair[]> {
  const sorted = [...found].sort(
    ([a, { time: timeA }], [b, { time: timeB }]) => timeA - timeB || (a < b ? -1 : 1),
  );
  const vehicles = new Map<string, Repair[]>();
  for (const [, repair] of sorted) {
    const of = vehicles.get(repair.vehicle);
    if (of === undefined) vehicles.set(repair.vehicle, [repair]);
    else of.push(repair);
  }
  return new Map([...vehicles].sort(([a], [b]) => (a < b ? -1 : 1)));
}
