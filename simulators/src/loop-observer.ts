import {
  isEvent,
  recordToEvent,
  type CloudEvent,
  type ModelManifest,
  type ModelRef,
  type SignalSet,
  type TrainingProgress,
  type VehicleAnomaly,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import type { Truth } from './sim-topics.ts';

/** A model as the fleet saw it. */
export interface ObservedModel {
  manifest: ModelManifest;
  /** Clock (performance.now) when it was published; undefined when that was in an earlier run. */
  publishedAt: number | undefined;
  /** Vehicles that have reported it as active, at any time. */
  installed: Set<string>;
  /** Clock when the last vehicle of the fleet had it. */
  installedAt: number | undefined;
}

export interface ObservedFault extends Truth {
  /** Simulated milliseconds from onset to the alarm in the car; undefined until then. */
  delayMs: number | undefined;
  blamed: string | undefined;
}

/** What happens, as it is told to whoever shows it. */
export type LoopNews =
  | { kind: 'rows'; rows: number }
  | { kind: 'training'; model: string; rows: number; vehicles: number; reason: string }
  | { kind: 'epoch'; progress: TrainingProgress }
  | { kind: 'trained'; model: ModelRef; seconds: number; rows: number }
  | { kind: 'failed'; model: string; message: string }
  | { kind: 'published'; model: ObservedModel }
  | { kind: 'installed'; model: ObservedModel; vehicles: number }
  | { kind: 'fault'; fault: ObservedFault }
  | { kind: 'detected'; fault: ObservedFault }
  | { kind: 'alarm'; vehicle: string; anomaly: VehicleAnomaly };

/** Follows the log as any other consumer would, and knows how far the loop has come. */
export class LoopObserver {
  readonly models: ObservedModel[] = [];
  readonly faults: ObservedFault[] = [];
  readonly trainingSeconds: number[] = [];
  /** Alarms on vehicles without a fault; simulated cars only. */
  falseAlarms = 0;
  private readonly log: EventLog;
  private readonly fleet: ReadonlySet<string>;
  private readonly onNews: (news: LoopNews) => void;
  private readonly signal: AbortSignal;
  /** Per vehicle: simulated time at which its first model was active. */
  private readonly firstModelAt = new Map<string, number>();
  private waiters: (() => void)[] = [];
  /** Whether the record at hand is of this run. */
  private live = true;

  /** `fleet` are the simulated vehicles: a recording has no ground truth. */
  constructor(
    log: EventLog,
    fleet: ReadonlySet<string>,
    signal: AbortSignal,
    tell: (news: LoopNews) => void,
  ) {
    this.log = log;
    this.fleet = fleet;
    this.signal = signal;
    this.onNews = tell;
  }

  /** Follows until the signal aborts. */
  async run(): Promise<void> {
    await Promise.all([this.follow('models'), this.follow('vehicle-events')]);
  }

  /** The simulator says which fault begins. */
  injected(truth: Truth): void {
    const fault: ObservedFault = { ...truth, delayMs: undefined, blamed: undefined };
    this.live = true;
    this.faults.push(fault);
    this.tell({ kind: 'fault', fault });
    this.changed();
  }

  /** Resolves to true when the condition holds, to false at the deadline (performance.now) or on abort. */
  async until(condition: () => boolean, deadline: number): Promise<boolean> {
    while (!condition()) {
      if (this.signal.aborted || performance.now() >= deadline) return false;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(500, Math.max(1, deadline - performance.now())));
        this.waiters.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    return true;
  }

  /** Hours that vehicles drove with a model and without a fault, until the given simulated time. */
  healthyHours(endTime: number): number {
    let ms = 0;
    for (const vehicle of this.fleet) {
      const from = this.firstModelAt.get(vehicle);
      if (from === undefined) continue;
      const onset = this.faults.find((fault) => fault.vehicle === vehicle)?.fault.onset ?? endTime;
      ms += Math.max(0, Math.min(onset, endTime) - from);
    }
    return ms / 3_600_000;
  }

  private async follow(topic: 'models' | 'vehicle-events'): Promise<void> {
    // What an earlier run has left in the log counts, but is no news.
    const begin = await this.log.resolve(topic, 'latest');
    for await (const { partition, records } of this.log.read(topic, {
      from: 'earliest',
      signal: this.signal,
    })) {
      for (const record of records) {
        this.live = record.offset >= (begin[partition] ?? 0);
        this.take(record.key ?? '', recordToEvent(record));
      }
      this.changed();
    }
  }

  private tell(news: LoopNews): void {
    if (this.live) this.onNews(news);
  }

  private changed(): void {
    const { waiters } = this;
    this.waiters = [];
    for (const wake of waiters) wake();
  }

  private take(key: string, event: CloudEvent): void {
    if (isEvent(event, 'io.cardan.training.started')) {
      const { model, rows, vehicles, reason } = event.data;
      this.tell({ kind: 'training', model, rows, vehicles, reason });
    } else if (isEvent(event, 'io.cardan.training.progress')) {
      this.tell({ kind: 'epoch', progress: event.data });
    } else if (isEvent(event, 'io.cardan.training.completed')) {
      const { model, version, seconds, rows } = event.data;
      if (this.live) this.trainingSeconds.push(seconds);
      this.tell({ kind: 'trained', model: { name: model, version }, seconds, rows });
    } else if (isEvent(event, 'io.cardan.training.failed')) {
      this.tell({
        kind: 'failed',
        model: event.data.model,
        message: `${event.data.code}: ${event.data.message}`,
      });
    } else if (isEvent(event, 'io.cardan.model.published')) {
      const model: ObservedModel = {
        manifest: event.data.manifest,
        publishedAt: this.live ? performance.now() : undefined,
        installed: new Set(),
        installedAt: undefined,
      };
      this.models.push(model);
      this.tell({ kind: 'published', model });
    } else if (isEvent(event, 'io.cardan.vehicle.reported')) {
      this.installed(key, event.data.active, Date.parse(event.data.time));
    } else if (isEvent(event, 'io.cardan.vehicle.anomaly')) {
      this.anomaly(key, event.data, Date.parse(event.time));
    }
  }

  private installed(vehicle: string, active: ModelRef | null, time: number): void {
    if (active === null) return;
    if (!this.firstModelAt.has(vehicle)) this.firstModelAt.set(vehicle, time);
    const model = this.models.find(
      ({ manifest }) => manifest.name === active.name && manifest.version === active.version,
    );
    if (model === undefined || model.installed.has(vehicle)) return;
    model.installed.add(vehicle);
    model.installedAt = performance.now();
    this.tell({ kind: 'installed', model, vehicles: model.installed.size });
  }

  private anomaly(vehicle: string, anomaly: VehicleAnomaly, time: number): void {
    if (anomaly.state !== 'raised') return;
    this.tell({ kind: 'alarm', vehicle, anomaly });
    if (!this.fleet.has(vehicle)) return;
    const fault = this.faults.find(
      (candidate) => candidate.vehicle === vehicle && time >= candidate.fault.onset,
    );
    if (fault === undefined) this.falseAlarms++;
    else if (fault.delayMs === undefined) {
      fault.delayMs = time - fault.fault.onset;
      fault.blamed = anomaly.signals[0]?.name;
      this.tell({ kind: 'detected', fault });
    }
  }
}

/** Models of one signal set, oldest first. */
export function modelsFor(models: readonly ObservedModel[], signals: SignalSet): ObservedModel[] {
  return models.filter(({ manifest }) => manifest.signalSet.id === signals.id);
}
