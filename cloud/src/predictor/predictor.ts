import {
  CardanError,
  encodeScores,
  ensureLogTopics,
  messageOf,
  SequenceDeduplicator,
  type ScoreBatch,
  type TelemetryBatch,
} from '@cardan/shared';
import type { Batch, EventLog, LogRecord, NewRecord } from '@cardan/shared/event-log';
import type { RegistryClient } from '../registry-client.ts';
import { telemetryOf } from '../telemetry-record.ts';
import { NewestModels } from './newest-models.ts';
import { readHistory } from './partition-history.ts';
import { VehicleScoring } from './vehicle-scoring.ts';

export interface PredictorOptions {
  log: EventLog;
  registry: RegistryClient;
  /** Consumer group; predictors with the same one share the partitions. */
  group?: string;
  onProblem?: (error: CardanError) => void;
}

/**
 * Vehicles of one partition whose windows are kept: with 18 signals some 20 kB each, 400 MB in all. One that comes back
 * after so many others begins with empty windows.
 */
const VEHICLES_MAX = 20_000;

/** What is known of a partition that this predictor has. */
interface Partition {
  /** Offset of the next record. One further on says that somebody else has had the partition in between. */
  next: number;
  vehicles: Map<string, VehicleScoring>;
  seen: SequenceDeduplicator;
  predicted: SequenceDeduplicator;
}

/**
 * Scores the fleet's telemetry in the cloud, with the newest model of each signal set, and writes `predictions`. The
 * engine and the window are the car's own, so the same model gives the same scores.
 *
 * - Every row that the log has gets a prediction as soon as there is a model for it, in the order of the log, once.
 * - A new model goes on where the one before ends; no row goes unscored in between (`VehicleScoring`).
 * - It keeps nothing but the last rows. After a restart, or when a partition comes to it from another predictor, it
 *   fills its windows again from the log (`readHistory`), and goes on with the same bits.
 */
export class Predictor {
  private readonly options: PredictorOptions;
  private readonly stopping = new AbortController();
  private readonly models: NewestModels;
  private readonly partitions = new Map<number, Partition>();
  private readonly running: Promise<unknown>[] = [];
  private readonly onProblem: (error: CardanError) => void;

  /** Loads the newest models, then follows the log until `close`. */
  static async start(options: PredictorOptions): Promise<Predictor> {
    await ensureLogTopics(options.log);
    const predictor = new Predictor(options);
    const end = await predictor.models.open();
    predictor.run(() => predictor.models.follow(end));
    predictor.run(() => predictor.score());
    return predictor;
  }

  private constructor(options: PredictorOptions) {
    const { log, registry, onProblem = () => undefined } = options;
    this.options = options;
    this.onProblem = onProblem;
    this.models = new NewestModels({ log, registry, onProblem, signal: this.stopping.signal });
  }

  /** Finishes the batch in hand and leaves the group. */
  async close(): Promise<void> {
    this.stopping.abort();
    await Promise.allSettled(this.running);
  }

  private run(task: () => Promise<void>): void {
    this.running.push(
      task().catch((error: unknown) => {
        if (this.stopping.signal.aborted) return;
        this.onProblem(
          error instanceof CardanError
            ? error
            : new CardanError('SERVICE_FAILED', `The predictor failed: ${messageOf(error)}`, {
                cause: error,
              }),
        );
      }),
    );
  }

  private async score(): Promise<void> {
    const { log, group = 'predictor' } = this.options;
    for await (const batch of log.subscribe(group, ['telemetry'], { signal: this.stopping.signal })) {
      const partition = await this.partition(batch);
      const predictions: NewRecord[] = [];
      for (const record of batch.records) this.predict(record, partition, predictions);
      // The batch is committed after this: a crash scores it again, it never goes unscored.
      if (predictions.length > 0) await log.append('predictions', predictions);
      partition.next = batch.records.at(-1)!.offset + 1;
    }
  }

  private async partition({ partition: number, records }: Batch): Promise<Partition> {
    const { log } = this.options;
    const begin = records[0]!.offset;
    const there = this.partitions.get(number);
    if (there?.next === begin) return there;
    const vehicles = new Map<string, VehicleScoring>();
    const fresh: Partition = {
      next: begin,
      vehicles,
      seen: new SequenceDeduplicator(),
      predicted: new SequenceDeduplicator(),
    };
    const { seen, predicted } = fresh;
    const vehicle = (id: string) => vehicleOf(vehicles, id);
    await readHistory({ log, partition: number, before: begin, seen, predicted, vehicle });
    this.partitions.set(number, fresh);
    return fresh;
  }

  private predict({ key, value, timestamp }: LogRecord, partition: Partition, into: NewRecord[]): void {
    if (key === null || value === null) return;
    const batch = telemetryOf(value, this.onProblem);
    if (batch === undefined) return;
    for (const scores of this.scoresOf(key, batch, partition))
      into.push({
        key,
        timestamp,
        value: encodeScores(scores),
        headers: { 'content-type': 'application/protobuf' },
      });
  }

  private scoresOf(
    key: string,
    batch: TelemetryBatch,
    { vehicles, seen, predicted }: Partition,
  ): ScoreBatch[] {
    const { epoch, firstSequence, campaign, times } = batch;
    // A campaign's rows have other columns and another pace: models are of the regular rows.
    if (campaign !== undefined) {
      seen.skip(key, epoch, firstSequence, times.length);
      return [];
    }
    const model = this.models.of(batch.signalSet);
    const vehicle = vehicleOf(vehicles, key);
    const all: ScoreBatch[] = [];
    for (const [from, to] of seen.fresh(key, epoch, firstSequence, times.length)) {
      // Without a model nothing is predicted, now or later.
      if (model === undefined) {
        vehicle.skip(batch, from, to);
        continue;
      }
      let at = from;
      for (const [begin, end] of predicted.fresh(key, epoch, firstSequence + from, to - from)) {
        vehicle.skip(batch, at, from + begin);
        all.push(...vehicle.score(batch, from + begin, from + end, model));
        at = from + end;
      }
      vehicle.skip(batch, at, to);
    }
    return all;
  }
}

/** The state of a vehicle; those that have been silent for longest give way. */
function vehicleOf(vehicles: Map<string, VehicleScoring>, id: string): VehicleScoring {
  const vehicle = vehicles.get(id) ?? new VehicleScoring();
  // A Map keeps the order of insertion: whoever speaks goes to the end.
  vehicles.delete(id);
  vehicles.set(id, vehicle);
  if (vehicles.size > VEHICLES_MAX) vehicles.delete(vehicles.keys().next().value ?? id);
  return vehicle;
}
