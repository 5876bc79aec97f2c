import type { ModelManifest } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { quantileEdges } from '../learner/psi.ts';
import { isHeldBack } from '../trainer/held-back.ts';
import { telemetryOf } from '../telemetry-record.ts';
import { binsOf, countRow, TRIP_LENGTH_MAX_MS } from './trips.ts';

/** How the values of the training were distributed. */
export interface Reference {
  /** Per signal the ends of its bins. */
  edges: number[][];
  /** Pieces of trips, with their counts. */
  pieces: { vehicle: string; counts: Uint32Array }[];
}

const BINS = 10;
/** Values that are looked at: a second of reading, and 16 MB. */
const VALUES_MAX = 4_000_000;
/** Rows that are kept of one piece; a trip of half an hour has 1,800. */
const PIECE_ROWS_MAX = 200;
/** A training is read in so many slices when it is too large to be read as a whole. */
const SLICES = 20;
const SLICE_RECORDS = 200;

/**
 * Reads again what the model was trained on: all of it, or evenly spaced slices of a large log. Rows around alarms are
 * few and may be in. Undefined when the log does not hold it (any more).
 */
export async function readReference(
  log: EventLog,
  { lineage, signalSet }: ModelManifest,
): Promise<Reference | undefined> {
  const signals = signalSet.signals.length;
  const rowsMax = Math.floor(VALUES_MAX / signals);
  const pieces = new Map<string, { vehicle: string; rows: Float32Array[]; seen: number }>();
  let kept = 0;
  const [begin, end] = [Date.parse(lineage.span.from), Date.parse(lineage.span.to)];
  for (const { partition, earliest, latest } of await log.offsets('telemetry')) {
    const range = lineage.offsets[partition];
    if (range === undefined) continue;
    for (const [from, to] of slices(Math.max(range.from, earliest), Math.min(range.to, latest)))
      for await (const { records } of log.read('telemetry', {
        from: { [partition]: from },
        to: { [partition]: to },
        partitions: [partition],
      }))
        for (const { key, value } of records) {
          const batch = key === null || value === null ? undefined : telemetryOf(value, () => undefined);
          if (key === null || batch?.signalSet !== signalSet.id || batch.campaign !== undefined) continue;
          if (lineage.heldBack !== undefined && isHeldBack(key, lineage.heldBack)) continue;
          for (let i = 0; i < batch.times.length && kept < rowsMax; i++) {
            const time = batch.times[i]!;
            if (time < begin || time > end) continue;
            const name = `${key} ${Math.floor(time / TRIP_LENGTH_MAX_MS)}`;
            let piece = pieces.get(name);
            if (piece === undefined) pieces.set(name, (piece = { vehicle: key, rows: [], seen: 0 }));
            // Every third of the rows, every ninth when these are too many, …: neighbours say the same.
            if (piece.seen++ % stride(piece.rows.length) !== 0) continue;
            piece.rows.push(batch.values.slice(i * signals, (i + 1) * signals));
            kept++;
          }
        }
  }
  if (kept === 0) return undefined;
  const edges = Array.from({ length: signals }, (_, signal) => {
    const values = new Float64Array(kept);
    let n = 0;
    for (const { rows } of pieces.values())
      for (const row of rows) if (!Number.isNaN(row[signal]!)) values[n++] = row[signal]!;
    return quantileEdges(values.subarray(0, n), BINS).filter((edge) => Number.isFinite(edge));
  });
  const size = edges.reduce((sum, ends) => sum + binsOf(ends), 0);
  return {
    edges,
    pieces: [...pieces.values()].map(({ vehicle, rows }) => {
      const counts = new Uint32Array(size);
      for (const row of rows) countRow(counts, edges, row, 0);
      return { vehicle, counts };
    }),
  };
}

function stride(rows: number): number {
  return 3 * 3 ** Math.floor(rows / PIECE_ROWS_MAX);
}

/** Ranges of offsets, evenly spaced. */
function slices(from: number, to: number): [number, number][] {
  if (to - from <= SLICES * SLICE_RECORDS) return to > from ? [[from, to]] : [];
  const step = (to - from) / SLICES;
  return Array.from({ length: SLICES }, (_, i) => {
    const begin = from + Math.floor(i * step);
    return [begin, Math.min(to, begin + SLICE_RECORDS)];
  });
}
