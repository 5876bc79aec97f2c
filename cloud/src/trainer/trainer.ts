import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import {
  CardanError,
  cloudEvent,
  eventToRecord,
  isEvent,
  ensureLogTopics,
  messageOf,
  parseSignalSet,
  recordToEvent,
  serializeManifest,
  type EventData,
  type EventType,
  type FileRef,
  type ModelManifest,
  type SignalSet,
  type TrainingRequested,
} from '@cardan/shared';
import type { EventLog, Offsets } from '@cardan/shared/event-log';
import { CLOUD_DEFAULTS, CLOUD_VERSION } from '../config.ts';
import type { ModelFiles, RegistryClient } from '../registry-client.ts';
import { telemetryOf } from '../telemetry-record.ts';
import { fit, type FitOptions } from './fit.ts';
import { offsetRanges, readTrainingData, type TrainingDataQuery } from './training-data.ts';

export interface TrainerOptions {
  log: EventLog;
  registry: RegistryClient;
  /** Train again by itself as the log grows; otherwise, after the first model, on request only. */
  retrain: boolean;
  seed?: number;
  rowsPerVehicleMin?: number;
  rowsMax?: number;
  hyperParameters?: FitOptions['hyperParameters'];
  now?: () => number;
  onProblem?: (error: CardanError) => void;
}

/** What the trainer knows of one signal set: how many rows have come, and how many the last training had. */
interface SetProgress {
  rows: number;
  vehicles: Set<string>;
  rowsAtLastTraining: number;
  trained: boolean;
  requested: boolean;
}

/**
 * A consumer of the log that turns telemetry into models. It counts rows as they come, and when there are
 * enough, or somebody asks, pins the end offsets, reads the span, fits, and publishes with the lineage.
 * Requests, progress and results are events in `models`; a request that was not finished is taken up again.
 */
export class Trainer {
  private readonly options: TrainerOptions;
  private readonly now: () => number;
  private readonly onProblem: (error: CardanError) => void;
  private readonly stopping = new AbortController();
  private readonly sets = new Map<string, SetProgress>();
  private readonly newest = new Map<string, ModelManifest>();
  /** Requests in order; a finished one is removed. */
  private readonly requests = new Map<string, TrainingRequested>();
  private wake: () => void = () => undefined;
  private readonly running: Promise<unknown>[] = [];

  /** Catches up with `models`, then follows the log until `close`. */
  static async start(options: TrainerOptions): Promise<Trainer> {
    await ensureLogTopics(options.log);
    const trainer = new Trainer(options);
    const end = await options.log.resolve('models', 'latest');
    for await (const { records } of options.log.read('models', { from: 'earliest', to: end }))
      trainer.takeEvents(records);
    trainer.run(() => trainer.followModels(end));
    trainer.run(() => trainer.countRows());
    trainer.run(() => trainer.work());
    return trainer;
  }

  private constructor(options: TrainerOptions) {
    this.options = options;
    this.now = options.now ?? Date.now;
    this.onProblem = options.onProblem ?? (() => undefined);
  }

  /** Stops; a training that runs is given up, and taken up again at the next start. */
  async close(): Promise<void> {
    this.stopping.abort();
    this.wake();
    await Promise.allSettled(this.running);
  }

  private run(task: () => Promise<void>): void {
    this.running.push(
      task().catch((error: unknown) => {
        if (this.stopping.signal.aborted) return;
        this.onProblem(
          error instanceof CardanError
            ? error
            : new CardanError('SERVICE_FAILED', `The trainer failed: ${messageOf(error)}`, { cause: error }),
        );
      }),
    );
  }

  private async followModels(from: Offsets): Promise<void> {
    for await (const { records } of this.options.log.read('models', { from, signal: this.stopping.signal })) {
      this.takeEvents(records);
      this.wake();
    }
  }

  private takeEvents(
    records: readonly { value: Buffer | null; headers: Readonly<Record<string, string>> }[],
  ): void {
    for (const record of records) {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.training.requested')) {
        this.requests.set(event.data.training, event.data);
      } else if (
        isEvent(event, 'io.cardan.training.completed') ||
        isEvent(event, 'io.cardan.training.failed')
      ) {
        this.requests.delete(event.data.training);
      } else if (isEvent(event, 'io.cardan.model.published')) {
        const { manifest } = event.data;
        const known = this.newest.get(manifest.name);
        if (known === undefined || Number(manifest.version) > Number(known.version))
          this.newest.set(manifest.name, manifest);
        const progress = this.progress(manifest.signalSet.id);
        progress.trained = true;
      }
    }
  }

  private progress(signalSet: string): SetProgress {
    let progress = this.sets.get(signalSet);
    if (progress === undefined) {
      progress = { rows: 0, vehicles: new Set(), rowsAtLastTraining: 0, trained: false, requested: false };
      this.sets.set(signalSet, progress);
    }
    return progress;
  }

  /** Follows `telemetry` from the beginning: how much is there is the sum of what the log holds. */
  private async countRows(): Promise<void> {
    const { log } = this.options;
    for await (const { records } of log.read('telemetry', {
      from: 'earliest',
      signal: this.stopping.signal,
    })) {
      for (const { key, value } of records) {
        if (key === null || value === null) continue;
        const batch = telemetryOf(value, this.onProblem);
        if (batch === undefined) continue;
        const progress = this.progress(batch.signalSet);
        progress.rows += batch.times.length;
        progress.vehicles.add(key);
        if (!progress.requested && this.enough(progress)) await this.request(batch.signalSet, progress);
      }
    }
  }

  private enough({ rows, vehicles, rowsAtLastTraining, trained }: SetProgress): boolean {
    const { rowsPerVehicleMin = CLOUD_DEFAULTS.trainer.rowsPerVehicleMin, retrain } = this.options;
    if (trained && !retrain) return false;
    return (
      rows >= Math.max(rowsPerVehicleMin * vehicles.size, rowsAtLastTraining * CLOUD_DEFAULTS.trainer.growth)
    );
  }

  private async request(signalSet: string, progress: SetProgress): Promise<void> {
    progress.requested = true;
    await this.emit('io.cardan.training.requested', 'trainer', {
      training: randomUUID(),
      signalSet,
      reason: progress.trained
        ? `${progress.rows} rows, ${CLOUD_DEFAULTS.trainer.growth} times as many as before`
        : `${progress.rows} rows of ${progress.vehicles.size} vehicles are enough for a first model`,
    });
  }

  /** Works off the requests, one at a time. */
  private async work(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const [request] = this.requests.values();
      if (request === undefined) {
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
        continue;
      }
      const sets = request.signalSet === null ? [...this.sets.keys()] : [request.signalSet];
      for (const set of sets) await this.train(request, set);
      this.requests.delete(request.training);
    }
  }

  private async train(request: TrainingRequested, signalSetId: string): Promise<void> {
    const { training } = request;
    const name = modelName(signalSetId);
    const progress = this.progress(signalSetId);
    const started = performance.now();
    try {
      const signalSet = await this.findSignalSet(signalSetId);
      const { files, manifest } = await this.makeModel(training, request.reason, signalSet);
      await this.publish(files, name);
      await this.emit('io.cardan.training.completed', name, {
        training,
        model: name,
        version: manifest.version,
        rows: manifest.lineage.rows,
        threshold: manifest.alarm.threshold,
        seconds: (performance.now() - started) / 1000,
      });
      progress.trained = true;
    } catch (error) {
      if (this.stopping.signal.aborted) throw error;
      const code = error instanceof CardanError ? error.code : 'SERVICE_FAILED';
      await this.emit('io.cardan.training.failed', name, {
        training,
        model: name,
        code,
        message: messageOf(error),
      });
      this.onProblem(
        error instanceof CardanError
          ? error
          : new CardanError('SERVICE_FAILED', `Training ${name} failed: ${messageOf(error)}`, {
              cause: error,
            }),
      );
    } finally {
      // Also after a failure: the next automatic try comes when there are more rows, not at once.
      progress.rowsAtLastTraining = progress.rows;
      progress.requested = false;
    }
  }

  private async makeModel(
    training: string,
    reason: string,
    signalSet: SignalSet,
  ): Promise<{ files: ModelFiles; manifest: ModelManifest }> {
    const {
      log,
      seed = CLOUD_DEFAULTS.trainer.seed,
      rowsMax = CLOUD_DEFAULTS.trainer.rowsMax,
    } = this.options;
    const name = modelName(signalSet.id);
    const query: TrainingDataQuery = {
      signalSet: signalSet.id,
      offsets: offsetRanges(
        await log.resolve('telemetry', 'earliest'),
        await log.resolve('telemetry', 'latest'),
      ),
      eventOffsets: offsetRanges(
        await log.resolve('vehicle-events', 'earliest'),
        await log.resolve('vehicle-events', 'latest'),
      ),
      rowsMax,
    };
    const parent = this.newest.get(name);
    return trainModel(log, {
      query,
      signalSet,
      name,
      version: String(Number(parent?.version ?? 0) + 1),
      parent: parent === undefined ? null : { name, version: parent.version },
      createdAt: new Date(this.now()).toISOString(),
      seed,
      ...(this.options.hyperParameters === undefined
        ? {}
        : { hyperParameters: this.options.hyperParameters }),
      signal: this.stopping.signal,
      onData: (rows, vehicles, epochs) =>
        this.emit('io.cardan.training.started', name, {
          training,
          model: name,
          signalSet: signalSet.id,
          reason,
          rows,
          vehicles,
          epochs,
        }),
      onEpoch: (epoch) => this.emit('io.cardan.training.progress', name, { training, ...epoch }),
    });
  }

  private async findSignalSet(id: string): Promise<SignalSet> {
    for await (const { records } of this.options.log.read('signal-sets', { from: 'earliest', to: 'latest' }))
      for (const record of records) if (record.key === id) return parseSignalSet(recordToEvent(record).data);
    throw new CardanError('SIGNAL_SET_UNKNOWN', `No vehicle has said yet which signals the set ${id} has.`);
  }

  /** The registry may be restarting: try for about a minute. */
  private async publish(files: ModelFiles, name: string): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await this.options.registry.publish(files, name);
        return;
      } catch (error) {
        if (!(error instanceof CardanError) || error.code !== 'HTTP_UNREACHABLE' || tries === 6) throw error;
        this.onProblem(error);
        await wait(1000 * 2 ** tries, undefined, { signal: this.stopping.signal });
      }
    }
  }

  private async emit<K extends EventType>(type: K, key: string, data: EventData[K]): Promise<void> {
    const event = cloudEvent(type, { source: '/services/trainer', id: randomUUID(), time: this.now() }, data);
    await this.options.log.append('models', [eventToRecord(key, event)]);
  }
}

/** One model name per signal set: cars with the same signals share a model. */
export function modelName(signalSetId: string): string {
  return `anomaly-${signalSetId}`;
}

export interface TrainModelOptions {
  query: TrainingDataQuery;
  signalSet: SignalSet;
  name: string;
  version: string;
  parent: ModelManifest['lineage']['parent'];
  createdAt: string;
  seed: number;
  hyperParameters?: FitOptions['hyperParameters'];
  signal?: AbortSignal;
  onData?: (rows: number, vehicles: number, epochs: number) => Promise<void>;
  onEpoch?: FitOptions['onEpoch'];
}

/**
 * Reads the span that the query names from the log, fits, and puts the files together. The log is immutable
 * and the fit is seeded, so the same options give the same bytes.
 */
export async function trainModel(
  log: EventLog,
  options: TrainModelOptions,
): Promise<{ files: ModelFiles; manifest: ModelManifest }> {
  const { query, signalSet, seed } = options;
  const data = await readTrainingData(log, query);
  if (data.rows === 0)
    throw new CardanError(
      'TRAINING_DATA_INSUFFICIENT',
      `The log has no usable rows of signal set ${signalSet.id} (${data.rowsExcluded} are left out as alarms). Let the fleet drive first.`,
    );
  const result = await fit({
    signalSet,
    vehicles: data.vehicles,
    seed,
    ...(options.hyperParameters === undefined ? {} : { hyperParameters: options.hyperParameters }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.onEpoch === undefined ? {} : { onEpoch: options.onEpoch }),
    onData: (epochs) => options.onData?.(data.rows, data.vehicles.length, epochs),
  });
  const manifest: ModelManifest = {
    schema: 1,
    name: options.name,
    version: options.version,
    createdAt: options.createdAt,
    signalSet,
    engine: 'dense',
    features: result.features,
    score: result.score,
    alarm: result.alarm,
    files: { 'model.json': fileRef(result.modelJson), 'weights.bin': fileRef(result.weights) },
    lineage: {
      topic: 'telemetry',
      offsets: query.offsets,
      eventOffsets: query.eventOffsets,
      span: { from: new Date(data.span.from).toISOString(), to: new Date(data.span.to).toISOString() },
      rows: data.rows,
      vehicles: data.vehicles.length,
      rowsExcluded: data.rowsExcluded,
      duplicatesDropped: data.duplicatesDropped,
      seed,
      hyperParameters: { ...result.hyperParameters, rowsMax: query.rowsMax },
      codeVersion: CLOUD_VERSION,
      parent: options.parent,
    },
    metrics: result.metrics,
  };
  return {
    files: { manifest: serializeManifest(manifest), model: result.modelJson, weights: result.weights },
    manifest,
  };
}

function fileRef(bytes: Buffer): FileRef {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), length: bytes.length };
}
