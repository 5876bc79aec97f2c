import {
  campaignInvalid,
  signalSet,
  type Campaign,
  type ConditionCollection,
  type Signal,
  type SignalSet,
} from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import { Sampler } from '../sampler.ts';
import { Condition, type SignalSource } from './condition.ts';
import { MemoryBudget } from './memory-budget.ts';
import { RingBuffer } from './ring-buffer.ts';

/** Most campaigns at once: each costs something with every sample. */
export const CAMPAIGNS_MAX = 64;
/** Frames of several buses may come a little out of order; further back than this a clock was set. */
const BACK_MS = 2000;

export interface CollectorOptions {
  /** The car's signals, in the order of the columns that `set` takes. */
  signals: readonly Signal[];
  /** Finds a column by any of its names (VSS, DBC, `Message.Signal`); undefined: the car has no such signal. */
  column: (name: string) => number | undefined;
  /** A value counts as seen for this long. */
  staleMs: number;
  /** Bytes for the rings and windows of all campaigns. */
  memoryBytes: number;
  /** The wall clock, for start and expiry; milliseconds since 1970. All else goes by the time of the frames. */
  now: () => number;
  /** A row to be stored; the array is reused after the call. */
  onRow: (campaign: Campaign, time: number, values: Float32Array) => void;
  /** A raw frame to be stored; its data belongs to the caller. */
  onFrame?: (campaign: Campaign, frame: CanFrame) => void;
  /** A condition has triggered. Called before the rows around it. */
  onTrigger?: (campaign: Campaign, trigger: Trigger) => void;
}

export interface Trigger {
  /** Of the frame with which the condition held, milliseconds since 1970. */
  time: number;
  /** It came within the rows after an earlier one, and prolongs them. */
  prolongs: boolean;
}

/** What a campaign has done since the collector began; kept when a new version of it comes. */
export interface CampaignCounts {
  rows: number;
  frames: number;
  triggers: number;
  /** Triggers that came within the minimum interval after another. */
  triggersTooSoon: number;
  /** Raw frames over the limit per second. */
  framesOverLimit: number;
  /** Rows before a trigger that the ring had no room for. */
  rowsOverwritten: number;
  /** Samples that a window of the condition had no room for. */
  samplesCrowdedOut: number;
}

export interface CampaignStatus {
  campaign: Campaign;
  phase: 'waiting' | 'active' | 'expired';
  /** The columns of its rows. */
  signalSet: SignalSet;
  /** Names in the document that this car does not have: their columns are NaN, and comparisons with them are false. */
  unknownSignals: string[];
  counts: CampaignCounts;
}

/**
 * Runs several campaigns over the same samples. Everything is synchronous, and the same frames give the same rows at
 * any speed; nothing wakes up while the bus is asleep.
 *
 * For each frame of the bus: `set` each value that it carries, then `sample` once, then `frame` with the raw frame.
 */
export class Collector {
  private readonly options: CollectorOptions;
  private readonly budget: MemoryBudget;
  private readonly latest: Float64Array;
  private readonly seenAt: Float64Array;
  private readonly source: SignalSource;
  private runs: Run[] = [];
  /** Per column: the runs that use it. */
  private byColumn: Run[][];
  /** Per id (extended ones behind bit 29): the runs that want the raw frame. */
  private byFrame = new Map<number, Run[]>();
  private time = Number.NEGATIVE_INFINITY;

  constructor(options: CollectorOptions) {
    this.options = options;
    this.budget = new MemoryBudget(options.memoryBytes);
    const columns = options.signals.length;
    this.latest = new Float64Array(columns);
    this.seenAt = new Float64Array(columns).fill(Number.NEGATIVE_INFINITY);
    this.byColumn = Array.from({ length: columns }, () => []);
    this.source = {
      column: (name) => options.column(name) ?? -1,
      read: (column) =>
        this.time - this.seenAt[column]! <= options.staleMs ? this.latest[column]! : Number.NaN,
    };
  }

  /**
   * Lets these campaigns run from the next frame on, and no others. One whose document is the same as before goes on
   * with all its state; a new version of it begins anew, with the counts of the old one.
   *
   * @throws CardanError CAMPAIGN_INVALID when an id comes twice or there are too many; then all stays as it was
   */
  replace(campaigns: readonly Campaign[]): void {
    if (campaigns.length > CAMPAIGNS_MAX)
      throw campaignInvalid(
        `there are ${campaigns.length} of them; at most ${CAMPAIGNS_MAX} can run at once`,
      );
    const ids = new Set<string>();
    for (const { id } of campaigns) {
      if (ids.has(id)) throw campaignInvalid(`the id ${id} is there twice`);
      ids.add(id);
    }
    const before = new Map(this.runs.map((run) => [run.campaign.id, run]));
    const kept = new Set<Run>();
    const fresh: (Run | Campaign)[] = campaigns.map((campaign) => {
      const run = before.get(campaign.id);
      if (run?.document !== documentOf(campaign)) return campaign;
      kept.add(run);
      return run;
    });
    // The memory of those that go is free for those that come.
    for (const run of this.runs) if (!kept.has(run)) run.release();
    this.runs = fresh.map((one) =>
      one instanceof Run
        ? one
        : new Run(one, this.options, this.source, this.budget, before.get(one.id)?.counts),
    );
    this.index();
  }

  /** A signal's new value, in a frame of this time. */
  set(column: number, value: number, time: number): void {
    const now = this.advance(time);
    this.latest[column] = value;
    this.seenAt[column] = now;
    for (const run of this.byColumn[column]!) run.set(column, value, now);
  }

  /** After the last value of a frame, and also for a frame without any: time goes on, conditions are looked at. */
  sample(time: number): void {
    const now = this.advance(time);
    const clock = this.options.now();
    for (const run of this.runs) run.sample(now, clock);
  }

  /** A raw frame. */
  frame(frame: CanFrame): void {
    const runs = this.byFrame.get(frameKey(frame));
    if (runs === undefined) return;
    const now = this.advance(frame.time);
    const clock = this.options.now();
    for (const run of runs) run.frame(frame, now, clock);
  }

  status(): CampaignStatus[] {
    const clock = this.options.now();
    return this.runs.map((run) => run.status(clock));
  }

  /** Bytes that rings and windows may still take. */
  get memoryFree(): number {
    return this.budget.free;
  }

  /** The time of the samples: that of the frames, but never a little less than before. */
  private advance(time: number): number {
    if (time >= this.time) this.time = time;
    else if (time < this.time - BACK_MS) {
      // A clock was set, or a recording begins again. What is remembered lies in the future now.
      this.time = time;
      this.seenAt.fill(Number.NEGATIVE_INFINITY);
      for (const run of this.runs) run.restart();
    }
    return this.time;
  }

  private index(): void {
    this.byColumn = this.byColumn.map((_, column) => this.runs.filter((run) => run.uses(column)));
    this.byFrame = new Map();
    for (const run of this.runs)
      for (const key of new Set((run.campaign.rawFrames?.ids ?? []).map(frameKey)))
        this.byFrame.set(key, [...(this.byFrame.get(key) ?? []), run]);
  }
}

/** One campaign at work. */
class Run {
  readonly campaign: Campaign;
  readonly document: string;
  readonly counts: CampaignCounts;
  private readonly options: CollectorOptions;
  private readonly source: SignalSource;
  /** Column of the car for each column of the row; −1 for a signal that it does not have. */
  private readonly columns: Int32Array;
  /** Column of the row for each column of the car that is collected. */
  private readonly targets = new Map<number, number[]>();
  private readonly rowSet: SignalSet;
  private readonly unknownSignals: string[];
  private readonly work: TimeWork | ConditionWork;
  /** A signal of this campaign was in the frame. */
  private touched = false;
  /** Not started yet, or expired: it keeps nothing. */
  private idle = false;
  private second = Number.NEGATIVE_INFINITY;
  private framesInSecond = 0;

  constructor(
    campaign: Campaign,
    options: CollectorOptions,
    source: SignalSource,
    budget: MemoryBudget,
    counts: CampaignCounts | undefined,
  ) {
    this.campaign = campaign;
    this.document = documentOf(campaign);
    this.options = options;
    this.source = source;
    this.counts = counts ?? {
      rows: 0,
      frames: 0,
      triggers: 0,
      triggersTooSoon: 0,
      framesOverLimit: 0,
      rowsOverwritten: 0,
      samplesCrowdedOut: 0,
    };
    this.columns = Int32Array.from(campaign.signals, ({ name }) => source.column(name));
    this.columns.forEach((column, target) => {
      if (column >= 0) this.targets.set(column, [...(this.targets.get(column) ?? []), target]);
    });
    this.rowSet = signalSet(
      campaign.signals.map(({ as }, i) => ({
        name: as,
        unit: options.signals[this.columns[i]!]?.unit ?? '',
      })),
    );
    const { collection } = campaign;
    const emit = (time: number, row: Float32Array) => {
      this.counts.rows++;
      options.onRow(campaign, time, row);
    };
    this.work =
      collection.type === 'time'
        ? new TimeWork(campaign.signals.length, collection.periodMs, options.staleMs, emit)
        : new ConditionWork(campaign, collection, options, source, budget, this.counts, emit);
    const unknown = new Set(campaign.signals.filter((_, i) => this.columns[i]! < 0).map(({ name }) => name));
    if (this.work instanceof ConditionWork) for (const name of this.work.condition.unknown) unknown.add(name);
    this.unknownSignals = [...unknown];
  }

  uses(column: number): boolean {
    return this.targets.has(column) || this.work.reads(column);
  }

  set(column: number, value: number, time: number): void {
    this.touched = true;
    if (this.idle) return;
    this.work.set(this.targets.get(column), column, value, time);
  }

  sample(time: number, clock: number): void {
    if (this.phase(clock) === 'active') {
      this.idle = false;
      this.work.sample(time, this.touched, this.columns, this.source);
    } else if (!this.idle) {
      this.idle = true;
      this.work.restart();
      this.work.release();
    }
    this.touched = false;
  }

  frame(frame: CanFrame, time: number, clock: number): void {
    const { rawFrames } = this.campaign;
    if (rawFrames === undefined || this.phase(clock) !== 'active' || !this.work.wantsFrames(time)) return;
    const second = Math.floor(time / 1000);
    if (second !== this.second) {
      this.second = second;
      this.framesInSecond = 0;
    }
    if (this.framesInSecond >= rawFrames.maxPerSecond) {
      this.counts.framesOverLimit++;
      return;
    }
    this.framesInSecond++;
    this.counts.frames++;
    this.options.onFrame?.(this.campaign, frame);
  }

  restart(): void {
    this.second = Number.NEGATIVE_INFINITY;
    this.work.restart();
  }

  release(): void {
    this.work.release();
  }

  status(clock: number): CampaignStatus {
    return {
      campaign: this.campaign,
      phase: this.phase(clock),
      signalSet: this.rowSet,
      unknownSignals: [...this.unknownSignals],
      counts: { ...this.counts },
    };
  }

  private phase(clock: number): CampaignStatus['phase'] {
    if (clock < this.campaign.start) return 'waiting';
    return clock < this.campaign.expiry ? 'active' : 'expired';
  }
}

type Emit = (time: number, row: Float32Array) => void;

/** A row every period. */
class TimeWork {
  private readonly fresh: () => Sampler;
  private sampler: Sampler;
  private pending: { target: number; value: number; time: number }[] = [];

  constructor(signals: number, periodMs: number, staleMs: number, emit: Emit) {
    this.fresh = () =>
      new Sampler({ signals, periodMs, staleMs: Math.max(staleMs, 2 * periodMs), onRow: emit });
    this.sampler = this.fresh();
  }

  reads(): boolean {
    return false;
  }

  set(targets: readonly number[] | undefined, _column: number, value: number, time: number): void {
    for (const target of targets ?? []) this.pending.push({ target, value, time });
  }

  /** Time first, with every frame: a row that has become due holds what was seen before it. */
  sample(time: number): void {
    this.sampler.advance(time);
    for (const { target, value, time: at } of this.pending) this.sampler.set(target, value, at);
    this.pending.length = 0;
  }

  wantsFrames(): boolean {
    return true;
  }

  restart(): void {
    this.sampler = this.fresh();
    this.pending.length = 0;
  }

  release(): void {}
}

/** Rows around the moments at which a condition holds. */
class ConditionWork {
  readonly condition: Condition;
  private readonly campaign: Campaign;
  private readonly collection: ConditionCollection;
  private readonly options: CollectorOptions;
  private readonly counts: CampaignCounts;
  private readonly emit: Emit;
  private readonly reading: ReadonlySet<number>;
  private readonly ring: RingBuffer | undefined;
  private readonly row: Float32Array;
  private held = false;
  private triggeredAt = Number.NEGATIVE_INFINITY;
  private crowdedOut = 0;
  private overwritten = 0;

  constructor(
    campaign: Campaign,
    collection: ConditionCollection,
    options: CollectorOptions,
    source: SignalSource,
    budget: MemoryBudget,
    counts: CampaignCounts,
    emit: Emit,
  ) {
    this.campaign = campaign;
    this.collection = collection;
    this.options = options;
    this.counts = counts;
    this.emit = emit;
    this.condition = new Condition(collection.when, source, budget);
    this.reading = new Set(this.condition.columns);
    this.row = new Float32Array(campaign.signals.length);
    if (collection.beforeMs > 0)
      this.ring = new RingBuffer({
        width: this.row.length,
        keepMs: collection.beforeMs,
        // One campaign takes at most half of what there is, so that a second one has a chance.
        bytesMax: options.memoryBytes / 2,
        budget,
      });
  }

  reads(column: number): boolean {
    return this.reading.has(column);
  }

  set(_targets: readonly number[] | undefined, column: number, value: number, time: number): void {
    this.condition.observe(column, time, value);
  }

  sample(time: number, touched: boolean, columns: Int32Array, source: SignalSource): void {
    if (!touched) return;
    const { collection, ring } = this;
    const holds = this.condition.evaluate(time);
    const wanted = holds && (collection.trigger === 'always' || !this.held);
    this.held = holds;
    const collecting = time <= this.triggeredAt + collection.afterMs;
    const soon = time - this.triggeredAt < collection.minIntervalMs;
    const triggers = wanted && !soon;
    // With `always` the interval thins out what holds on; an edge that it swallows is worth a count.
    if (wanted && soon && collection.trigger === 'rising-edge') this.counts.triggersTooSoon++;
    if (triggers) {
      this.triggeredAt = time;
      this.counts.triggers++;
      this.options.onTrigger?.(this.campaign, { time, prolongs: collecting });
      ring?.drain(time, this.emit);
    }
    if (triggers || collecting) this.emit(time, this.read(columns, source));
    else ring?.push(time, this.read(columns, source));
    this.count();
  }

  wantsFrames(time: number): boolean {
    return time <= this.triggeredAt + this.collection.afterMs;
  }

  restart(): void {
    this.held = false;
    this.triggeredAt = Number.NEGATIVE_INFINITY;
    this.ring?.clear();
    this.condition.reset();
  }

  release(): void {
    this.ring?.release();
    this.condition.release();
  }

  private read(columns: Int32Array, source: SignalSource): Float32Array {
    const { row } = this;
    for (let i = 0; i < row.length; i++) row[i] = columns[i]! < 0 ? Number.NaN : source.read(columns[i]!);
    return row;
  }

  /** Adds what ring and windows have lost since the last time; the campaign's counts outlive them. */
  private count(): void {
    const { crowdedOut } = this.condition;
    const overwritten = this.ring?.overwritten ?? 0;
    this.counts.samplesCrowdedOut += crowdedOut - this.crowdedOut;
    this.counts.rowsOverwritten += overwritten - this.overwritten;
    this.crowdedOut = crowdedOut;
    this.overwritten = overwritten;
  }
}

/** The same document gives the same text. The syntax tree follows from the condition's own text. */
function documentOf(campaign: Campaign): string {
  const { collection } = campaign;
  return JSON.stringify({
    ...campaign,
    collection: collection.type === 'condition' ? { ...collection, when: collection.when.text } : collection,
  });
}

function frameKey({ id, extended }: { id: number; extended: boolean }): number {
  return extended ? id + 2 ** 29 : id;
}
