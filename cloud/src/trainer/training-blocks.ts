import { FeatureExtractor, type FeatureSpec } from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { LogRows, type RowQuery, type Span, type VehicleRows } from './log-rows.ts';
import { orderedRecords } from './ordered-records.ts';
import { ShuffleBuffer } from './shuffle.ts';

/** Vehicles whose windows are kept: some 2 kB each. The one that was silent for longest begins anew when it speaks. */
const WINDOWS_MAX = 20_000;

export interface BlockOptions {
  query: RowQuery;
  alarms: ReadonlyMap<string, readonly Span[]>;
  /** The part of some rows that is to be trained on; undefined for none. */
  part: (rows: VehicleRows) => VehicleRows | undefined;
  /** Columns of a row. */
  signals: number;
  features: FeatureSpec;
  batchRows: number;
  /** Rows that wait to be mixed, see `ShuffleBuffer`. */
  shuffleRows: number;
  seed: number;
  /** Told after every few hundred records how many of the span have been read. */
  onRecords?: (records: number) => void;
}

/** Rows of features, row-major, as a network takes them. */
export interface Block {
  /** Valid until the next block is asked for. */
  values: Float32Array;
  rows: number;
}

/**
 * One pass over a span of the log as a training wants it: records → rows without copies → windows per vehicle → features,
 * standardised → mixed → blocks of `batchRows`, the last one shorter. The same options give the same blocks. Memory is
 * bounded: by the rows that wait and the windows, whatever the span.
 */
export async function* trainingBlocks(
  log: EventLog,
  options: BlockOptions,
): AsyncGenerator<Block, void, undefined> {
  const { query, part, signals, features, batchRows, seed } = options;
  const width = features.inputs.length;
  const rows = new LogRows(query, options.alarms);
  const windows = new Windows(features);
  const waiting = new ShuffleBuffer({ rows: options.shuffleRows, width, seed });
  const values = new Float32Array(batchRows * width);
  let filled = 0;
  let read = 0;
  for await (const records of orderedRecords(log, 'telemetry', query.offsets)) {
    for (const record of records)
      for (const piece of rows.of(record)) {
        const taken = part(piece);
        if (taken === undefined) continue;
        const { times } = taken;
        const extractor = windows.of(taken.vehicle);
        for (let row = 0; row < times.length; row++) {
          if (!extractor.push(times[row]!, taken.values, row * signals)) continue;
          if (!waiting.exchange(extractor.clipped, values, filled * width)) continue;
          if (++filled < batchRows) continue;
          yield { values, rows: filled };
          filled = 0;
        }
      }
    read += records.length;
    options.onRecords?.(read);
  }
  while (waiting.drain(values, filled * width)) {
    if (++filled < batchRows) continue;
    yield { values, rows: filled };
    filled = 0;
  }
  if (filled > 0) yield { values, rows: filled };
}

/** Per vehicle its window, as its own agent has it. */
class Windows {
  private readonly features: FeatureSpec;
  private readonly byVehicle = new Map<string, FeatureExtractor>();

  constructor(features: FeatureSpec) {
    this.features = features;
  }

  of(vehicle: string): FeatureExtractor {
    let extractor = this.byVehicle.get(vehicle);
    if (extractor === undefined) extractor = new FeatureExtractor(this.features);
    else this.byVehicle.delete(vehicle);
    // A Map keeps the order of insertion: the first one was silent for longest.
    this.byVehicle.set(vehicle, extractor);
    if (this.byVehicle.size > WINDOWS_MAX) this.byVehicle.delete(this.byVehicle.keys().next().value!);
    return extractor;
  }
}
