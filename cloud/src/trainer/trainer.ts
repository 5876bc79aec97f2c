import { randomUUID } from 'node:crypto';
import {
  CardanError,
  ensureLogTopics,
  isEvent,
  messageOf,
  type CloudEvent,
  type TrainingRequested,
} from '@cardan/shared';
import type { Offsets } from '@cardan/shared/event-log';
import { CLOUD_DEFAULTS } from '../config.ts';
import { telemetryOf } from '../telemetry-record.ts';
import {
  beginOf,
  endOf,
  offsetRanges,
  rowsWithin,
  timesOf,
  type LogSpan,
  type TimeRange,
} from './log-span.ts';
import { Pace } from './pace.ts';
import { catchUp, modelEvents, Training, type TrainingOptions } from './training.ts';

export interface TrainerOptions extends TrainingOptions {
  /** Train again by itself as the log grows; otherwise, after the first model, on request only. */
  retrain: boolean;
  /** What it learns from; default all of `telemetry`, and what comes. Its `to` is for `trainOnce`. */
  span?: LogSpan;
  /** Under which its lag is shown, and to which requests are addressed. */
  group?: string;
  /** Read no faster than this. */
  rowsPerSecond?: number;
  rowsPerVehicleMin?: number;
}

/** What the trainer knows of one signal set: how many rows have come, and how many the last training had. */
interface SetProgress {
  rows: number;
  vehicles: Set<string>;
  rowsAtLastTraining: number;
  trained: boolean;
  requested: boolean;
}

/** How often it notes how far it has read; its lag is that much out of date. */
const COMMIT_MS = 1000;

/**
 * A consumer of the log that turns telemetry into models. It counts rows as they come, and when there are
 * enough, or somebody asks, trains on the span up to then. Requests, progress and results are events in `models`; a
 * request that was not finished is taken up again.
 *
 * It pulls: one that is slow falls behind and keeps nobody waiting. How far, its group's lag says.
 */
export class Trainer {
  private readonly options: TrainerOptions;
  private readonly span: LogSpan;
  private readonly group: string;
  private readonly training: Training;
  private readonly onProblem: (error: CardanError) => void;
  private readonly stopping = new AbortController();
  private readonly pace: Pace;
  private readonly sets = new Map<string, SetProgress>();
  /** Requests in order; a finished one is removed. */
  private readonly requests = new Map<string, TrainingRequested>();
  private begin: Offsets = {};
  /** How far rows have been counted, and how far the log knows it. */
  private next: Record<number, number> = {};
  private noted = '';
  private noting: ReturnType<typeof setInterval> | undefined;
  private wake: () => void = () => undefined;
  private readonly running: Promise<unknown>[] = [];

  /** Catches up with `models`, then follows the log until `close`. */
  static async start(options: TrainerOptions): Promise<Trainer> {
    const { log } = options;
    await ensureLogTopics(log);
    const trainer = new Trainer(options);
    trainer.begin = await beginOf(log, trainer.span);
    trainer.next = { ...trainer.begin };
    const end = await catchUp(log, (event) => trainer.take(event), trainer.onProblem);
    await trainer.note();
    trainer.run(() => trainer.followModels(end));
    trainer.run(() => trainer.countRows());
    trainer.run(() => trainer.work());
    trainer.noting = setInterval(() => {
      trainer.note().catch((error: unknown) => trainer.report(error));
    }, COMMIT_MS);
    return trainer;
  }

  private constructor(options: TrainerOptions) {
    this.options = options;
    this.span = options.span ?? { from: 'earliest' };
    this.group = options.group ?? CLOUD_DEFAULTS.trainer.group;
    this.training = new Training(options);
    this.onProblem = options.onProblem ?? (() => undefined);
    this.pace = new Pace(options.rowsPerSecond, this.stopping.signal);
  }

  /** Stops; a training that runs is given up, and taken up again at the next start. */
  async close(): Promise<void> {
    this.stopping.abort();
    clearInterval(this.noting);
    this.wake();
    await Promise.allSettled(this.running);
    await this.note().catch((error: unknown) => this.report(error));
  }

  private run(task: () => Promise<void>): void {
    this.running.push(
      task().catch((error: unknown) => {
        if (!this.stopping.signal.aborted) this.report(error);
      }),
    );
  }

  private report(error: unknown): void {
    this.onProblem(
      error instanceof CardanError
        ? error
        : new CardanError('SERVICE_FAILED', `The trainer failed: ${messageOf(error)}`, { cause: error }),
    );
  }

  private async followModels(from: Offsets): Promise<void> {
    const { signal } = this.stopping;
    for await (const { records } of this.options.log.read('models', { from, signal })) {
      for (const event of modelEvents(records, this.onProblem)) this.take(event);
      this.wake();
    }
  }

  private take(event: CloudEvent): void {
    if (isEvent(event, 'io.cardan.training.requested')) {
      if ((event.data.group ?? CLOUD_DEFAULTS.trainer.group) === this.group)
        this.requests.set(event.data.training, event.data);
    } else if (
      isEvent(event, 'io.cardan.training.completed') ||
      isEvent(event, 'io.cardan.training.failed')
    ) {
      this.requests.delete(event.data.training);
    } else if (isEvent(event, 'io.cardan.model.published')) {
      const { manifest } = event.data;
      this.training.published(manifest);
      this.progress(manifest.signalSet.id).trained = true;
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

  /** Follows `telemetry` from the beginning of the span: how much is there is the sum of what the log holds. */
  private async countRows(): Promise<void> {
    const { log } = this.options;
    const { signal } = this.stopping;
    const times = timesOf(this.span);
    const { recordsMax } = this.pace;
    const partitions = Object.keys(this.begin).map(Number);
    for await (const { partition, records } of log.read('telemetry', {
      from: this.begin,
      partitions,
      recordsMax,
      signal,
    })) {
      let taken = 0;
      for (const { key, value } of records) {
        if (key === null || value === null) continue;
        const batch = telemetryOf(value, this.onProblem);
        if (batch === undefined) continue;
        taken += batch.times.length;
        // What a campaign asked for is trained on when somebody asks; by itself the fleet's regular rows are.
        if (batch.campaign !== undefined) continue;
        const rows = rowsWithin(batch.times, times);
        if (rows === 0) continue;
        const progress = this.progress(batch.signalSet);
        progress.rows += rows;
        progress.vehicles.add(key);
        if (!progress.requested && this.enough(progress)) await this.request(batch.signalSet, progress);
      }
      this.next[partition] = records.at(-1)!.offset + 1;
      await this.pace.took(taken);
    }
  }

  /** Notes how far it has read, so that its lag can be seen. */
  private async note(): Promise<void> {
    const offsets = { ...this.next };
    const text = JSON.stringify(offsets);
    if (text === this.noted || text === '{}') return;
    await this.options.log.commit(this.group, 'telemetry', offsets);
    this.noted = text;
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
    await this.training.emit('io.cardan.training.requested', 'trainer', {
      training: randomUUID(),
      signalSet,
      reason: progress.trained
        ? `${progress.rows} rows, ${CLOUD_DEFAULTS.trainer.growth} times as many as before`
        : `${progress.rows} rows of ${progress.vehicles.size} vehicles are enough for a first model`,
      ...(this.group === CLOUD_DEFAULTS.trainer.group ? {} : { group: this.group }),
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

  private async train(request: TrainingRequested, signalSet: string): Promise<void> {
    const { training, reason, heldBack, trial } = request;
    const { signal } = this.stopping;
    const progress = this.progress(signalSet);
    const pace = new Pace(this.options.rowsPerSecond, signal);
    try {
      const times = both(timesOf(this.span), request.times);
      const begin =
        request.times?.from == null
          ? this.begin
          : later(
              this.begin,
              await beginOf(this.options.log, { ...this.span, from: new Date(request.times.from) }),
            );
      const offsets = offsetRanges(begin, await endOf(this.options.log, this.span));
      const task = { training, signalSet, reason, offsets, times, heldBack, trial };
      await this.training.run(task, signal, pace);
      progress.trained = true;
    } catch (error) {
      if (signal.aborted) throw error;
      this.report(error);
    } finally {
      // Also after a failure: the next automatic try comes when there are more rows, not at once.
      progress.rowsAtLastTraining = progress.rows;
      progress.requested = false;
    }
  }
}

/** The times that are within the trainer's span and within what was asked for. */
function both(span: TimeRange | undefined, asked: TrainingRequested['times']): TimeRange | undefined {
  if (asked === undefined) return span;
  const time = (text: string | null) => (text === null ? null : Date.parse(text));
  const from = Math.max(span?.from ?? -Infinity, time(asked.from) ?? -Infinity);
  const to = Math.min(span?.to ?? Infinity, time(asked.to) ?? Infinity);
  return { from: Number.isFinite(from) ? from : null, to: Number.isFinite(to) ? to : null };
}

/** Per partition the place that is further on. */
function later(a: Offsets, b: Offsets): Offsets {
  return Object.fromEntries(
    Object.entries(a).map(([partition, offset]) => [partition, Math.max(offset, b[Number(partition)] ?? 0)]),
  );
}
