import {
  CardanError,
  encodeScores,
  isEvent,
  loadModel,
  ensureLogTopics,
  messageOf,
  recordToEvent,
  Scorer,
  SCORE_ROWS_MAX,
  SequenceDeduplicator,
  type Model,
  type ModelPublished,
} from '@cardan/shared';
import type { EventLog, LogRecord, NewRecord, Offsets } from '@cardan/shared/event-log';
import type { RegistryClient } from '../registry-client.ts';
import { telemetryOf } from '../telemetry-record.ts';

export interface PredictorOptions {
  log: EventLog;
  registry: RegistryClient;
  /** Consumer group; predictors with the same one share the partitions. */
  group?: string;
  onProblem?: (error: CardanError) => void;
}

/** The last rows of a vehicle, so that a new model scores from its first row on; as in the car. */
interface VehicleState {
  recent: { time: number; values: Float32Array }[];
  model: Model | undefined;
  scorer: Scorer | undefined;
}

/**
 * Scores the fleet's telemetry in the cloud, with the newest model of each signal set, and writes
 * `predictions`. The engine and the window are the car's own, so the same model gives the same scores.
 */
export class Predictor {
  private readonly options: PredictorOptions;
  private readonly stopping = new AbortController();
  private readonly models = new Map<string, Model>();
  private readonly vehicles = new Map<string, VehicleState>();
  private readonly duplicates = new SequenceDeduplicator();
  private readonly running: Promise<unknown>[] = [];
  private readonly onProblem: (error: CardanError) => void;

  /** Loads the newest models, then follows the log until `close`. */
  static async start(options: PredictorOptions): Promise<Predictor> {
    await ensureLogTopics(options.log);
    const predictor = new Predictor(options);
    const end = await options.log.resolve('models', 'latest');
    const newest = new Map<string, ModelPublished>();
    for await (const { records } of options.log.read('models', { from: 'earliest', to: end }))
      for (const published of publishedIn(records)) newest.set(published.manifest.signalSet.id, published);
    for (const published of newest.values()) await predictor.load(published);
    predictor.run(() => predictor.followModels(end));
    predictor.run(() => predictor.score());
    return predictor;
  }

  private constructor(options: PredictorOptions) {
    this.options = options;
    this.onProblem = options.onProblem ?? (() => undefined);
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

  private async followModels(from: Offsets): Promise<void> {
    for await (const { records } of this.options.log.read('models', { from, signal: this.stopping.signal }))
      for (const published of publishedIn(records)) await this.load(published);
  }

  /** A model that cannot be had or is unfit is reported; the one before goes on. */
  private async load({ manifest, manifestSha256 }: ModelPublished): Promise<void> {
    try {
      this.models.set(
        manifest.signalSet.id,
        loadModel(await this.options.registry.download(manifest, manifestSha256)),
      );
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      this.onProblem(error);
    }
  }

  private async score(): Promise<void> {
    const { log, group = 'predictor' } = this.options;
    for await (const { records } of log.subscribe(group, ['telemetry'], { signal: this.stopping.signal })) {
      const predictions: NewRecord[] = [];
      for (const record of records) {
        const prediction = this.predict(record);
        if (prediction !== undefined) predictions.push(prediction);
      }
      // The batch is committed after this: a crash scores it again, it never goes unscored.
      if (predictions.length > 0) await log.append('predictions', predictions);
    }
  }

  private predict({ key, value, timestamp }: LogRecord): NewRecord | undefined {
    if (key === null || value === null) return undefined;
    const batch = telemetryOf(value, this.onProblem);
    if (batch === undefined) return undefined;
    const rows = batch.times.length;
    // A campaign's rows have other columns and another pace: models are of the regular rows.
    if (batch.campaign !== undefined) {
      this.duplicates.skip(key, batch.epoch, batch.firstSequence, rows);
      return undefined;
    }
    const signals = batch.values.length / rows;
    const model = this.models.get(batch.signalSet);
    const state = this.vehicleState(key, model);
    const scores = new Float32Array(rows).fill(Number.NaN);
    for (const [from, to] of this.duplicates.fresh(key, batch.epoch, batch.firstSequence, rows)) {
      for (let row = from; row < to; row++) {
        const time = batch.times[row]!;
        const values = batch.values.subarray(row * signals, (row + 1) * signals);
        if (state.scorer !== undefined) scores[row] = state.scorer.push(time, values);
        if (state.recent.length >= SCORE_ROWS_MAX) state.recent.shift();
        state.recent.push({ time, values: values.slice() });
      }
    }
    if (model === undefined) return undefined;
    const { name, version, alarm } = model.manifest;
    return {
      key,
      timestamp,
      value: encodeScores({
        epoch: batch.epoch,
        firstSequence: batch.firstSequence,
        times: batch.times,
        scores,
        modelName: name,
        modelVersion: version,
        threshold: alarm.threshold,
      }),
      headers: { 'content-type': 'application/protobuf' },
    };
  }

  private vehicleState(vehicle: string, model: Model | undefined): VehicleState {
    let state = this.vehicles.get(vehicle);
    if (state === undefined) {
      state = { recent: [], model: undefined, scorer: undefined };
      this.vehicles.set(vehicle, state);
    }
    if (model !== undefined && state.model !== model) {
      const scorer = new Scorer(model);
      for (const { time, values } of state.recent)
        if (values.length === model.manifest.signalSet.signals.length) scorer.push(time, values);
      state.model = model;
      state.scorer = scorer;
    }
    return state;
  }
}

function publishedIn(records: readonly LogRecord[]): ModelPublished[] {
  return records.flatMap((record) => {
    const event = recordToEvent(record);
    return isEvent(event, 'io.cardan.model.published') ? [event.data] : [];
  });
}
