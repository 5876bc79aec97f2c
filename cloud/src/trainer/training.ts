import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import {
  CardanError,
  cloudEvent,
  eventToRecord,
  loadAnyModel,
  messageOf,
  parseSignalSet,
  recordToEvent,
  selfTestOf,
  serializeManifest,
  type CloudEvent,
  type EventData,
  type EventType,
  type FileRef,
  type HeldBack,
  type ModelManifest,
  type SignalSet,
} from '@cardan/shared';
import type { EventLog, LogRecord, Offsets } from '@cardan/shared/event-log';
import { CLOUD_DEFAULTS, CLOUD_VERSION } from '../config.ts';
import type { ModelFiles, RegistryClient } from '../registry-client.ts';
import { boundFalseAlarms, heldBackRows } from './false-alarms.ts';
import { readFailures, type FlagSource } from './failure-flags.ts';
import { fit, type FitOptions } from './fit.ts';
import {
  f1Of,
  foretells,
  judgeByRepairs,
  judgeTrivialByRepairs,
  scaledAlarm,
  thresholdByRepairs,
  type Label,
} from './judge-by-repairs.ts';
import { offsetRanges, readOptions, type OffsetRanges, type TimeRange } from './log-span.ts';
import type { Pace } from './pace.ts';
import { readRepairs, REPAIRS_TOPIC } from './repairs.ts';
import { streamedFit, type StreamedFit, type StreamedFitOptions } from './streamed-fit.ts';
import { readTrainingData, type TrainingDataQuery } from './training-data.ts';
import { Turns } from './turns.ts';

export interface TrainingOptions {
  log: EventLog;
  registry: Pick<RegistryClient, 'publish'>;
  /** Whether trainings are events in `models`; default true. */
  events?: boolean;
  /** Train as a stream over the whole span, instead of on the newest rows in memory. */
  stream?: StreamOptions;
  /** Judge each model by the repairs in the log; and, when asked, choose its threshold by them. */
  repairs?: boolean;
  thresholdFromRepairs?: boolean;
  /** Judge by a failure flag in the log instead of repairs. */
  failureFlag?: FlagSource | undefined;
  /** Choose the threshold by this bound, on held-back rows. */
  falseAlarmsPer100Hours?: number | undefined;
  seed?: number;
  rowsMax?: number;
  hyperParameters?: FitOptions['hyperParameters'];
  now?: () => number;
  onProblem?: (error: CardanError) => void;
}

/** What a training is to learn from: pinned ranges of `telemetry`, and the times of the rows. */
export interface TrainingTask {
  training: string;
  signalSet: string;
  reason: string;
  offsets: OffsetRanges;
  times: TimeRange | undefined;
  /** Of `vehicle-events`; default all that are there now. */
  eventOffsets?: OffsetRanges | undefined;
  /** Vehicles that are left out. */
  heldBack?: HeldBack | undefined;
  /** Publish it as a trial, for somebody to judge. */
  trial?: boolean | undefined;
}

/** More versions than anybody publishes while one model is trained. */
const VERSIONS_TRIED = 100;

/**
 * One training after the other: reads the span from the log, fits, and publishes with the lineage. Its progress and
 * its end are events in `models`.
 */
export class Training {
  private readonly options: TrainingOptions;
  private readonly now: () => number;
  private readonly onProblem: (error: CardanError) => void;
  private readonly newest = new Map<string, ModelManifest>();

  constructor(options: TrainingOptions) {
    this.options = options;
    this.now = options.now ?? Date.now;
    this.onProblem = options.onProblem ?? (() => undefined);
  }

  /** To be called with every model that was published: the next version goes on from it. */
  published(manifest: ModelManifest): void {
    const { name, version } = manifest;
    // An import may give its version a name, from which nobody can count on.
    if (Number(version) > Number(this.newest.get(name)?.version ?? 0)) this.newest.set(name, manifest);
  }

  /**
   * Trains and publishes, under the next number when somebody else has taken the version meanwhile. A failure is an
   * event, too, and is thrown: TRAINING_DATA_INSUFFICIENT, SIGNAL_SET_UNKNOWN, what the log and the registry throw.
   * `pace` holds back the reading.
   */
  async run(task: TrainingTask, signal: AbortSignal, pace?: Pace): Promise<ModelManifest> {
    const { training } = task;
    const name = modelName(task.signalSet);
    const started = performance.now();
    try {
      const signalSet = await this.findSignalSet(task.signalSet);
      const made = await this.makeModel(task, signalSet, signal, pace);
      const manifest = await this.publish(made, task.trial ?? false, signal);
      await this.emit('io.cardan.training.completed', name, {
        training,
        model: name,
        version: manifest.version,
        rows: manifest.lineage.rows,
        threshold: manifest.alarm.threshold,
        seconds: (performance.now() - started) / 1000,
      });
      return manifest;
    } catch (error) {
      if (signal.aborted) throw error;
      const failure =
        error instanceof CardanError
          ? error
          : new CardanError('SERVICE_FAILED', `Training ${name} failed: ${messageOf(error)}`, {
              cause: error,
            });
      const { code, message } = failure;
      await this.emit('io.cardan.training.failed', name, { training, model: name, code, message });
      throw failure;
    }
  }

  /** Appends an event of the trainer to `models`. */
  async emit<K extends EventType>(type: K, key: string, data: EventData[K]): Promise<void> {
    if (this.options.events === false) return;
    const event = cloudEvent(type, { source: '/services/trainer', id: randomUUID(), time: this.now() }, data);
    await this.options.log.append('models', [eventToRecord(key, event)]);
  }

  private async makeModel(
    { training, reason, offsets, eventOffsets, times, heldBack }: TrainingTask,
    signalSet: SignalSet,
    signal: AbortSignal,
    pace?: Pace,
  ): Promise<{ files: ModelFiles; manifest: ModelManifest }> {
    const {
      log,
      seed = CLOUD_DEFAULTS.trainer.seed,
      rowsMax = CLOUD_DEFAULTS.trainer.rowsMax,
      hyperParameters,
      stream,
    } = this.options;
    const name = modelName(signalSet.id);
    const query: TrainingDataQuery = {
      signalSet: signalSet.id,
      offsets,
      eventOffsets: eventOffsets ?? (await allEvents(log)),
      ...(times === undefined ? {} : { times }),
      ...(heldBack === undefined ? {} : { heldBack }),
      rowsMax,
    };
    const { repairs, thresholdFromRepairs = false, failureFlag, falseAlarmsPer100Hours } = this.options;
    const judged = failureFlag !== undefined || repairs || thresholdFromRepairs;
    const labels = judged ? await this.labelOffsets() : undefined;
    const parent = this.newest.get(name);
    return trainModel(log, {
      query,
      signalSet,
      name,
      version: String(Number(parent?.version ?? 0) + 1),
      parent: parent === undefined ? null : { name, version: parent.version },
      createdAt: new Date(this.now()).toISOString(),
      seed,
      ...(hyperParameters === undefined ? {} : { hyperParameters }),
      ...(labels === undefined ? {} : { labels }),
      thresholdFromRepairs,
      failureFlag,
      falseAlarmsPer100Hours,
      ...(stream === undefined ? {} : { stream }),
      signal,
      ...(pace === undefined ? {} : { pace }),
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

  /** Throws TOPIC_UNKNOWN, saying what to do. */
  private async labelOffsets(): Promise<OffsetRanges> {
    const { log, failureFlag } = this.options;
    const topic = failureFlag?.topic ?? REPAIRS_TOPIC;
    try {
      return offsetRanges(await log.resolve(topic, 'earliest'), await log.resolve(topic, 'latest'));
    } catch (error) {
      if (!(error instanceof CardanError) || error.code !== 'TOPIC_UNKNOWN') throw error;
      throw new CardanError(
        'TOPIC_UNKNOWN',
        `The log has no topic "${topic}" to judge models by. ` +
          (failureFlag === undefined
            ? 'Bring repairs in (docs/legacy-systems.md), or leave --repairs and --threshold-from out.'
            : 'Name another in the labels of model.yaml, or leave them out.'),
        { cause: error },
      );
    }
  }

  private async findSignalSet(id: string): Promise<SignalSet> {
    for await (const { records } of this.options.log.read('signal-sets', { from: 'earliest', to: 'latest' }))
      for (const record of records) if (record.key === id) return parseSignalSet(recordToEvent(record).data);
    throw new CardanError('SIGNAL_SET_UNKNOWN', `No vehicle has said yet which signals the set ${id} has.`);
  }

  /**
   * Resolves to the manifest as it was published. Versions are not reserved while a training runs: when an import or
   * another trainer took this one meanwhile, the model gets the next that is free, and only its manifest changes.
   */
  private async publish(
    { files, manifest }: { files: ModelFiles; manifest: ModelManifest },
    trial: boolean,
    signal: AbortSignal,
  ): Promise<ModelManifest> {
    const { name } = manifest;
    for (let taken = 0; ; taken++) {
      const version = String(Number(manifest.version) + taken);
      const numbered = taken === 0 ? manifest : { ...manifest, version };
      try {
        const bytes = taken === 0 ? files.manifest : serializeManifest(numbered);
        await this.send({ ...files, manifest: bytes }, name, trial, signal);
        return numbered;
      } catch (error) {
        if (!(error instanceof CardanError) || error.code !== 'MODEL_EXISTS' || taken === VERSIONS_TRIED)
          throw error;
        const next = Number(version) + 1;
        this.onProblem(
          new CardanError(
            'MODEL_EXISTS',
            `Somebody else published version ${version} of ${name} during the training; this one is to be version ${next}.`,
            { cause: error },
          ),
        );
      }
    }
  }

  /** The registry may be restarting: try for about a minute. */
  private async send(files: ModelFiles, name: string, trial: boolean, signal: AbortSignal): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await this.options.registry.publish(files, name, { trial });
        return;
      } catch (error) {
        if (!(error instanceof CardanError) || error.code !== 'HTTP_UNREACHABLE' || tries === 6) throw error;
        this.onProblem(error);
        await wait(1000 * 2 ** tries, undefined, { signal });
      }
    }
  }
}

/** The events in records of `models`. Others may write there, too: what is no event is reported and passed over. */
export function modelEvents(
  records: readonly LogRecord[],
  onProblem: (error: CardanError) => void,
): CloudEvent[] {
  const events: CloudEvent[] = [];
  for (const record of records)
    try {
      events.push(recordToEvent(record));
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      onProblem(error);
    }
  return events;
}

/** Tells a training of all models that were published so far; resolves to where `models` was read to. */
export async function catchUp(
  log: EventLog,
  onEvent: (event: CloudEvent) => void,
  onProblem: (error: CardanError) => void,
): Promise<Offsets> {
  const end = await log.resolve('models', 'latest');
  for await (const { records } of log.read('models', { from: 'earliest', to: end }))
    for (const event of modelEvents(records, onProblem)) onEvent(event);
  return end;
}

/** All of `vehicle-events` that is there now. */
export async function allEvents(log: EventLog): Promise<OffsetRanges> {
  const [topic, from, to] = ['vehicle-events', 'earliest', 'latest'] as const;
  return offsetRanges(await log.resolve(topic, from), await log.resolve(topic, to));
}

/** One model name per signal set: cars with the same signals share a model. */
export function modelName(signalSetId: string): string {
  return `anomaly-${signalSetId}`;
}

/** A training as a stream, and who is told of it. */
export type StreamOptions = Pick<
  StreamedFitOptions,
  'settings' | 'resume' | 'onFindings' | 'onProgress' | 'onPosition'
>;

export interface TrainModelOptions {
  query: TrainingDataQuery;
  signalSet: SignalSet;
  name: string;
  version: string;
  parent: ModelManifest['lineage']['parent'];
  createdAt: string;
  seed: number;
  hyperParameters?: FitOptions['hyperParameters'];
  /** Train as a stream over the whole span; `query.rowsMax` then counts for nothing. */
  stream?: StreamOptions;
  /** Where in `repairs`, or in the topic of the failure flag, the labels are that the model is judged by. */
  labels?: OffsetRanges;
  failureFlag?: FlagSource | undefined;
  /** Whether the labels choose the threshold, too. */
  thresholdFromRepairs?: boolean;
  /** Or a bound of false alarms on held-back rows does; where there are labels, alarms that they explain are no false ones. */
  falseAlarmsPer100Hours?: number | undefined;
  signal?: AbortSignal;
  pace?: Pace;
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
  const {
    data,
    split,
    fit: result,
  } = await (options.stream === undefined
    ? fitInMemory(log, options)
    : streamedFit(log, { ...options, ...options.stream, leftOut: options.failureFlag?.flag }));
  const { falseAlarmsPer100Hours } = options;
  const bound = falseAlarmsPer100Hours === undefined ? {} : { falseAlarmsPer100Hours };
  const manifest: ModelManifest = {
    schema: 1,
    name: options.name,
    version: options.version,
    createdAt: options.createdAt,
    signalSet,
    engine: result.engine,
    features: result.features,
    score: result.score,
    alarm: result.alarm,
    files: { 'model.json': fileRef(result.modelJson), 'weights.bin': fileRef(result.weights) },
    lineage: {
      topic: 'telemetry',
      offsets: query.offsets,
      eventOffsets: query.eventOffsets,
      span: { from: isoTime(data.span.from), to: isoTime(data.span.to) },
      ...(query.times === undefined
        ? {}
        : { times: { from: isoTimeOrNull(query.times.from), to: isoTimeOrNull(query.times.to) } }),
      ...(query.heldBack === undefined ? {} : { heldBack: query.heldBack }),
      rows: data.rows,
      vehicles: data.vehicles,
      rowsExcluded: data.rowsExcluded,
      duplicatesDropped: data.duplicatesDropped,
      ...(data.findings === undefined ? {} : { findings: data.findings }),
      ...(options.labels === undefined
        ? {}
        : { labels: { topic: REPAIRS_TOPIC, ...options.failureFlag, offsets: options.labels } }),
      seed,
      hyperParameters: { ...result.hyperParameters, ...bound, rowsMax: query.rowsMax },
      codeVersion: CLOUD_VERSION,
      parent: options.parent,
    },
    metrics: result.metrics,
  };
  const files = { model: result.modelJson, weights: result.weights };
  const model = await loadAnyModel({ manifest: serializeManifest(manifest), ...files });
  manifest.selfTest = selfTestOf(model, seed);
  const repairs =
    options.labels === undefined ? undefined : await readLabels(log, options.labels, options.failureFlag);
  if (falseAlarmsPer100Hours !== undefined) {
    const { factor, metrics } = await boundFalseAlarms(
      model,
      result.heldBack ?? heldBackRows(log, query, split!, options.signal),
      falseAlarmsPer100Hours,
      new Turns(options.signal),
      (vehicle, time) => repairs?.get(vehicle)?.some((repair) => foretells(time, repair)) ?? false,
    );
    manifest.alarm = scaledAlarm(manifest.alarm, factor);
    manifest.metrics = { ...manifest.metrics, ...metrics };
    // What follows is to judge it as it will be.
    model.manifest.alarm = manifest.alarm;
  }
  if (repairs !== undefined) {
    const { offsets, times } = query;
    if (options.thresholdFromRepairs) {
      const { factor, f1, judgement } = await thresholdByRepairs(log, model, { offsets, times, repairs });
      const before = manifest.alarm.threshold;
      manifest.alarm = scaledAlarm(manifest.alarm, factor);
      manifest.lineage.labels!.threshold = true;
      const chosen = { threshold_f1: f1, threshold_without_labels: before };
      manifest.metrics = { ...manifest.metrics, ...judgement, ...chosen };
    } else {
      const judged = await judgeByRepairs(log, model, offsets, times, repairs);
      manifest.metrics = { ...manifest.metrics, ...judged, repairs_f1: f1Of(judged) };
    }
    const beside = await judgeTrivialByRepairs(log, model, result.trivial, { offsets, times, repairs });
    manifest.metrics = { ...manifest.metrics, ...beside };
  }
  model.network?.close?.();
  return { files: { manifest: serializeManifest(manifest), ...files }, manifest };
}

/** Per vehicle, from repairs or from a flag. */
async function readLabels(
  log: EventLog,
  ranges: OffsetRanges,
  flag: FlagSource | undefined,
): Promise<ReadonlyMap<string, readonly Label[]>> {
  if (flag !== undefined) return readFailures(log, flag, ranges);
  return (await readRepairs(log, readOptions(ranges))).vehicles;
}

/** On the newest rows of each vehicle. */
async function fitInMemory(
  log: EventLog,
  options: TrainModelOptions,
): Promise<Pick<StreamedFit, 'data' | 'fit'> & { split: undefined }> {
  const { query, signalSet, seed } = options;
  const data = await readTrainingData(log, query, options.pace);
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
  return { data: { ...data, vehicles: data.vehicles.length }, split: undefined, fit: result };
}

function fileRef(bytes: Buffer): FileRef {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), length: bytes.length };
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

function isoTimeOrNull(ms: number | null): string | null {
  return ms === null ? null : isoTime(ms);
}
