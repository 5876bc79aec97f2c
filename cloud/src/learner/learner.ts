import { setTimeout as delay } from 'node:timers/promises';
import {
  CardanError,
  cloudEvent,
  ensureLogTopics,
  eventToRecord,
  messageOf,
  type SequenceDeduplicator,
} from '@cardan/shared';
import type { Batch, EventLog, LogRecord } from '@cardan/shared/event-log';
import { telemetryOf } from '../telemetry-record.ts';
import { DrivingStates, type DrivingStatesOptions } from './driving-states.ts';
import { clusterFleet } from './fleet-clusters.ts';
import { LearnerFile } from './learner-file.ts';

/** After a failure of the log or the file. */
const RETRY_MS = 1000;
/** The fleet is looked at when so many windows are new, or one per vehicle where there are more. */
const LOOK_WINDOWS = 20;

export interface LearnerOptions {
  log: EventLog;
  /** Where it keeps what it has learned. */
  path: string;
  /** Under which its lag is shown. */
  group?: string;
  /** Most records that one transaction covers; default 1000. */
  recordsMax?: number;
  states?: Partial<DrivingStatesOptions>;
  onProblem?: (error: CardanError) => void;
}

/** What a batch of records has changed. */
interface Changes {
  states: Map<string, DrivingStates>;
  seen: Map<string, SequenceDeduplicator>;
}

/**
 * Learns from the telemetry as it comes: driving states of the fleet, and which vehicles drive alike. It says so in the
 * topic `clusters`.
 *
 * Each partition is learned by itself, from its own records in their order, and the fleet is what they make together: so
 * what is learned does not depend on how the partitions happen to mix. States and offsets are saved in one transaction
 * per batch (`LearnerFile`), and after a start it reads from the offsets in the file: a record has its effect once. What
 * it says goes through an outbox in the same file; after a crash a record may come twice, with the same id.
 */
export class Learner {
  private readonly options: LearnerOptions;
  private readonly stopping = new AbortController();
  private file: LearnerFile;
  private readonly onProblem: (error: CardanError) => void;
  private learners = new Map<string, Map<number, DrivingStates>>();
  private running: Promise<void> = Promise.resolve();
  private waiting: { offsets: Readonly<Record<number, number>>; done: () => void }[] = [];

  /** Follows the log until `close`. Throws DATA_DIR_NOT_WRITABLE. */
  static async start(options: LearnerOptions): Promise<Learner> {
    await ensureLogTopics(options.log);
    const learner = new Learner(options, await LearnerFile.open(options.path, options.log));
    learner.running = learner.follow();
    return learner;
  }

  private constructor(options: LearnerOptions, file: LearnerFile) {
    this.options = options;
    this.file = file;
    this.onProblem = options.onProblem ?? (() => undefined);
  }

  /** Finishes the batch in hand. */
  async close(): Promise<void> {
    this.stopping.abort();
    await this.running;
    this.file.close();
  }

  /** Resolves when everything that is in the log now has been learned and saved. */
  async caughtUp(): Promise<void> {
    const offsets = await this.options.log.resolve('telemetry', 'latest');
    await new Promise<void>((done) => {
      this.waiting.push({ offsets, done });
      this.tell();
    });
  }

  private async follow(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      try {
        await this.learn();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CardanError && error.code === 'LOG_CLOSED') return;
        this.onProblem(
          error instanceof CardanError
            ? error
            : new CardanError('SERVICE_FAILED', `The learner failed: ${messageOf(error)}`, { cause: error }),
        );
        await delay(RETRY_MS, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  private async learn(): Promise<void> {
    const { log, group = 'learner', recordsMax } = this.options;
    // What is in memory may be ahead of the file after a failure.
    this.learners = new Map();
    for (const { signalSet, partition, states } of this.file.learners())
      this.partitionsOf(signalSet).set(partition, states);
    await this.sayAll();
    const from = { ...(await log.resolve('telemetry', 'earliest')), ...this.file.position };
    const bound = recordsMax === undefined ? {} : { recordsMax };
    for await (const batch of log.read('telemetry', { from, signal: this.stopping.signal, ...bound })) {
      this.take(batch);
      await this.sayAll();
      await log.commit(group, 'telemetry', { [batch.partition]: batch.records.at(-1)!.offset + 1 });
      this.tell();
    }
  }

  /** All in one transaction. When it fails, memory is read from the file again. */
  private take({ partition, records }: Batch): void {
    const changes: Changes = { states: new Map(), seen: new Map() };
    this.file.checkpoint(partition, records.at(-1)!, () => {
      for (const record of records) this.takeRecord(partition, record, changes);
      for (const [vehicle, seen] of changes.seen) this.file.saveSeen(partition, vehicle, seen);
      for (const [signalSet, states] of changes.states) this.file.saveLearner(signalSet, partition, states);
    });
    for (const states of changes.states.values()) states.touched.clear();
  }

  private takeRecord(
    partition: number,
    { key, value, timestamp }: LogRecord,
    { states, seen }: Changes,
  ): void {
    if (key === null || value === null) return;
    const batch = telemetryOf(value, this.onProblem);
    if (batch === undefined || batch.times.length === 0) return;
    const { signalSet, epoch, firstSequence, campaign, times, values } = batch;
    let known = seen.get(key);
    if (known === undefined) seen.set(key, (known = this.file.seen(partition, key)));
    // A campaign's rows have other columns and another pace.
    if (campaign !== undefined) {
      known.skip(key, epoch, firstSequence, times.length);
      return;
    }
    const width = values.length / times.length;
    const partitions = this.partitionsOf(signalSet);
    let learner = partitions.get(partition);
    if (learner === undefined)
      partitions.set(partition, (learner = new DrivingStates(width, this.options.states)));
    if (learner.width !== width) {
      this.onProblem(
        new CardanError(
          'SIGNAL_SET_MISMATCH',
          `Rows of ${key} have ${width} signals, others of set ${signalSet} have ${learner.width}. They are left out.`,
        ),
      );
      return;
    }
    states.set(signalSet, learner);
    let windows = 0;
    for (const [from, to] of known.fresh(key, epoch, firstSequence, times.length))
      windows += learner.learn(key, times, values, from, to).length;
    if (windows > 0) this.look(signalSet, windows, timestamp);
  }

  /** What the partitions have learned together, and who has changed its cluster, once enough windows are new. */
  private look(signalSet: string, windows: number, time: number): void {
    const partitions = this.partitionsOf(signalSet);
    const { looks: before, fresh: freshBefore, clusters: known } = this.file.fleet(signalSet);
    const fresh = freshBefore + windows;
    let vehicles = 0;
    for (const states of partitions.values()) vehicles += states.vehicles.size;
    if (fresh < Math.max(LOOK_WINDOWS, vehicles)) {
      this.file.saveFleet(signalSet, { looks: before, fresh, clusters: known });
      return;
    }
    const assignedBefore = this.file.assigned(signalSet);
    const ordered = [...partitions].sort(([a], [b]) => a - b).map(([, states]) => states);
    const fleet = clusterFleet(ordered, known, assignedBefore);
    if (fleet === undefined) return;
    const looks = before + 1;
    const { states, clusters, assigned } = fleet;
    this.file.saveFleet(signalSet, { looks, fresh: 0, clusters: { states, clusters } });
    const source = '/services/learner';
    const learned = cloudEvent(
      'io.cardan.clusters.learned',
      { source, id: `${signalSet}-${looks}`, time },
      { signalSet, states, clusters },
    );
    this.file.say(eventToRecord(signalSet, learned));
    for (const [vehicle, { cluster, shares }] of assigned) {
      const old = assignedBefore.get(vehicle) ?? null;
      if (old === cluster) continue;
      this.file.saveAssigned(signalSet, vehicle, cluster);
      const event = cloudEvent(
        'io.cardan.vehicle.cluster-assigned',
        { source, id: `${signalSet}-${looks}-${vehicle}`, time },
        { signalSet, cluster, before: old, shares },
      );
      this.file.say(eventToRecord(vehicle, event));
    }
  }

  private async sayAll(): Promise<void> {
    const { records, last } = this.file.unsaid();
    if (records.length === 0) return;
    await this.options.log.append('clusters', records);
    this.file.said(last);
  }

  private partitionsOf(signalSet: string): Map<number, DrivingStates> {
    let partitions = this.learners.get(signalSet);
    if (partitions === undefined) {
      partitions = new Map<number, DrivingStates>();
      this.learners.set(signalSet, partitions);
    }
    return partitions;
  }

  private tell(): void {
    const { position } = this.file;
    const isDone = (offsets: Readonly<Record<number, number>>) =>
      Object.entries(offsets).every(
        ([partition, end]) => end === 0 || (position[Number(partition)] ?? 0) >= end,
      );
    for (const { offsets, done } of this.waiting) if (isDone(offsets)) done();
    this.waiting = this.waiting.filter(({ offsets }) => !isDone(offsets));
  }
}
