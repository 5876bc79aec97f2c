import { statSync } from 'node:fs';
import { join } from 'node:path';
import {
  CardanError,
  cloudEvent,
  enginesHere,
  ensureDataDir,
  type CampaignReport,
  type EventData,
  type EventType,
  type ModelRef,
  type SignalSet,
  type VehicleModelStopped,
  type VehicleReported,
} from '@cardan/shared';
import { Campaigns, type Campaign, type CampaignStatus } from './campaign/index.ts';
import type { CanFrame, CanSource } from './can/can-frame.ts';
import { AGENT_DEFAULTS, AGENT_VERSION } from './config.ts';
import { compileDecoder, type Dbc, type Decoder, type MessageDecoder } from './dbc/index.ts';
import { Outbox, type Dropped, type OutboxOptions, type RowContext } from './outbox.ts';
import { Sampler } from './sampler.ts';
import { loadOnBoard } from './scoring/load-on-board.ts';
import { OnBoardScoring, type AlarmChange, type OnBoardScoringOptions } from './scoring/on-board-scoring.ts';
import { Uplink, type UplinkOptions } from './uplink.ts';
import { campaignReports } from './updater/campaign-reports.ts';
import type { HttpGet } from './updater/http-get.ts';
import { parseDesired } from './updater/desired.ts';
import { Updater } from './updater/updater.ts';
import type { SignalMap } from './vss.ts';

export interface AgentOptions {
  vehicle: string;
  /** Outbox, models and metadata live here. */
  dataDir: string;
  dbc: Dbc;
  map: SignalMap;
  mqttUrl: string;
  connection?: UplinkOptions['connection'];
  /**
   * Where models come from, and the root of trust; without it the car never changes its model. `get`: how to ask the
   * registry, where the car must say who it is.
   */
  updates?: { registryUrl: string; rootPath: string; get?: HttpGet };
  rowPeriodMs?: number;
  uplink?: Partial<
    Pick<
      UplinkOptions,
      | 'batchRows'
      | 'batchMs'
      | 'backlogBatchRows'
      | 'ackTimeoutMs'
      | 'batchBytes'
      | 'backlogRowsPerSecond'
      | 'dayBytesMax'
      | 'compression'
      | 'clock'
    >
  >;
  /** Bounds of the outbox, how it is written, and its clock. */
  outbox?: Partial<Omit<OutboxOptions, 'path' | 'onProblem'>>;
  /** What this vehicle says of itself, for campaigns that choose vehicles by attributes. */
  attributes?: Readonly<Record<string, string>>;
  /** Campaigns that run from the start, whatever the cloud wants. */
  campaigns?: readonly Campaign[];
  /** Budget and clock of the models, and how often a shadow's statistics go up. */
  scoring?: Partial<Pick<OnBoardScoringOptions, 'budgetUs' | 'clockUs' | 'shadowPeriodMs' | 'goodAfterMs'>>;
  /** Time that events are stamped with, milliseconds since 1970; the simulator passes simulated time. */
  now?: () => number;
  /** Told of each row that has been sampled and put into the outbox. */
  onRow?: (time: number) => void;
  onProblem?: (error: CardanError) => void;
}

/**
 * The agent of one vehicle: CAN frames → signals → rows → scores → outbox → MQTT, and models back.
 * Everything from a frame to the outbox is synchronous; only the network waits.
 */
export class Agent {
  readonly vehicle: string;
  readonly signals: SignalSet;
  private readonly options: AgentOptions;
  private readonly decoder: Decoder;
  /** Per message: pairs of slot in the decoder and column of the row. */
  private readonly wanted = new Map<MessageDecoder, Int32Array>();
  private readonly sampler: Sampler;
  private readonly outbox: Outbox;
  private readonly campaigns: Campaigns;
  private readonly uplink: Uplink;
  private readonly updater: Updater | undefined;
  private readonly now: () => number;
  private readonly onProblem: (error: CardanError) => void;
  private readonly unscored: RowContext;
  private readonly reportTimer: NodeJS.Timeout;
  private readonly scoring: OnBoardScoring;
  /** Of the rows of each model that has scored them. */
  private context: RowContext;
  private source: CanSource | undefined;
  private alarmId = '';
  private campaignTrouble: readonly CampaignReport[] = [];
  private sampled = 0;
  private score = Number.NaN;
  private readonly frames = { received: 0, unknown: 0, malformed: 0 };
  private update: Pick<VehicleReported, 'observedGeneration' | 'phase' | 'error'> = {
    observedGeneration: 0,
    phase: 'idle',
    error: null,
  };

  /** Opens the outbox, loads the last good model, and begins to connect; does not wait for the network. */
  static async start(options: AgentOptions): Promise<Agent> {
    ensureDataDir(options.dataDir);
    const agent = new Agent(options);
    await agent.updater?.start();
    return agent;
  }

  private constructor(options: AgentOptions) {
    this.options = options;
    this.vehicle = options.vehicle;
    this.signals = options.map.set;
    this.now = options.now ?? Date.now;
    this.onProblem = options.onProblem ?? (() => undefined);
    this.decoder = compileDecoder(options.dbc);
    this.wantSignals();
    this.sampler = new Sampler({
      signals: this.signals.signals.length,
      periodMs: options.rowPeriodMs ?? AGENT_DEFAULTS.rowPeriodMs,
      staleMs: Math.max(AGENT_DEFAULTS.staleMs, 2 * (options.rowPeriodMs ?? 0)),
      onRow: (time, values) => this.row(time, values),
    });
    this.unscored = { signalSet: this.signals.id, modelName: '', modelVersion: '' };
    this.context = this.unscored;
    this.scoring = this.onBoardScoring();
    this.outbox = new Outbox({
      ...AGENT_DEFAULTS.outbox,
      path: join(options.dataDir, 'outbox.db'),
      ...options.outbox,
      onProblem: this.onProblem,
    });
    this.campaigns = new Campaigns({
      vehicle: {
        id: this.vehicle,
        ...(options.attributes === undefined ? {} : { attributes: options.attributes }),
      },
      decoder: this.decoder,
      map: options.map,
      outbox: this.outbox,
      staleMs: AGENT_DEFAULTS.staleMs,
      now: this.now,
      onProblem: this.onProblem,
    });
    this.campaigns.setOwn(options.campaigns ?? []);
    this.emit('io.cardan.signal-set', this.signals);
    this.emit('io.cardan.vehicle.boot', { agent: AGENT_VERSION, signalSet: this.signals.id });
    if (options.updates !== undefined)
      this.updater = new Updater({
        dir: join(options.dataDir, 'updates'),
        rootPath: options.updates.rootPath,
        baseUrl: options.updates.registryUrl,
        ...(options.updates.get === undefined ? {} : { get: options.updates.get }),
        vehicle: this.vehicle,
        signalSet: this.signals.id,
        onInstalled: async (files) => this.scoring.activate(await loadOnBoard(files, this.signals.id)),
        onCandidate: async (files) =>
          files === null
            ? this.scoring.endShadow()
            : this.scoring.shadowWith(await loadOnBoard(files, this.signals.id)),
        onModelStopped: (stopped) => this.modelStopped(stopped),
        abilities: {
          engines: enginesHere(),
          operationsMax: this.budgetUs * AGENT_DEFAULTS.scoring.operationsPerUs,
        },
        onReport: (update) => {
          this.update = update;
          this.report();
        },
        onCampaigns: (campaigns) => this.setCampaigns(campaigns),
        onCampaignTrouble: (trouble) => {
          this.campaignTrouble = trouble;
          this.report();
        },
      });
    this.uplink = new Uplink({
      ...AGENT_DEFAULTS.uplink,
      ...options.uplink,
      url: options.mqttUrl,
      ...(options.connection === undefined ? {} : { connection: options.connection }),
      vehicle: this.vehicle,
      outbox: this.outbox,
      onDesired: (payload) => this.desired(payload),
      onProblem: this.onProblem,
    });
    this.report();
    this.reportTimer = setInterval(() => this.report(), AGENT_DEFAULTS.reportMs).unref();
  }

  /** The outbox's epoch: with the sequence numbers it names this car's rows for good. */
  get epoch(): number {
    return this.outbox.epoch;
  }

  get activeModel(): ModelRef | null {
    return this.scoring.activeModel;
  }

  /** The model that scores silently beside it. */
  get shadowModel(): ModelRef | null {
    return this.scoring.shadowModel;
  }

  /** The shadow's score of the newest row; NaN without one. */
  get lastShadowScore(): number {
    return this.scoring.lastShadowScore;
  }

  /** Since boot: models that were stopped, rows of shadows, and alarms that these would have raised. */
  get scoringCounts(): Readonly<OnBoardScoring['counts']> {
    return this.scoring.counts;
  }

  /** Rows that the log has not acknowledged yet. */
  get pendingRows(): number {
    return this.outbox.pendingRows;
  }

  /** Sequence number that the next row will get. */
  get nextSequence(): number {
    return this.outbox.nextSequence;
  }

  /** Losses since the outbox was created. */
  get dropped(): { rows: number; events: number } {
    return this.outbox.dropped;
  }

  /** The same by campaign. */
  get droppedBy(): Record<string, Dropped> {
    return this.outbox.droppedBy;
  }

  /** The computer's clock has been set, by this much: what this boot has recorded gets its right time. */
  clockCorrected(offsetMs: number): void {
    this.outbox.clockCorrected(offsetMs);
  }

  /** Rows since boot. */
  get rowsSampled(): number {
    return this.sampled;
  }

  /** Score of the newest row; NaN while no model scores. */
  get lastScore(): number {
    return this.score;
  }

  get alarmActive(): boolean {
    return this.scoring.alarmActive;
  }

  /** Whether the broker is there now. */
  get connected(): boolean {
    return this.uplink.connectedNow;
  }

  /** What the outbox takes on disk, its journal included. */
  get outboxFileBytes(): number {
    const path = join(this.options.dataDir, 'outbox.db');
    return ['', '-wal'].reduce(
      (sum, end) => sum + (statSync(path + end, { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
  }

  /** Frames since boot. */
  get frameCounts(): Readonly<VehicleReported['agent']['frames']> {
    return this.frames;
  }

  /** The campaigns that the cloud wants now. Throws CAMPAIGN_INVALID, and then goes on with those before. */
  setCampaigns(campaigns: readonly Campaign[]): void {
    this.campaigns.setFromCloud(campaigns);
  }

  /** What each campaign of this car has done since the start. */
  get campaignStatus(): CampaignStatus[] {
    return this.campaigns.status();
  }

  /** Takes one frame. The data is not kept, so the caller may reuse its buffer. */
  accept(frame: CanFrame): void {
    this.frames.received++;
    this.sampler.advance(frame.time);
    const message = this.decoder.find(frame.id, frame.extended);
    if (message === undefined) {
      this.frames.unknown++;
      this.campaigns.take(frame, message);
      return;
    }
    const wanted = this.wanted.get(message);
    if (wanted === undefined && !this.campaigns.active) return;
    message.decode(frame.data);
    this.campaigns.take(frame, message);
    if (wanted === undefined) return;
    const { values, present } = this.decoder;
    for (let i = 0; i < wanted.length; i += 2) {
      const slot = wanted[i]!;
      if (present[slot] === 1) this.sampler.set(wanted[i + 1]!, values[slot]!, frame.time);
    }
  }

  /** Takes all frames of a source, until it ends or the signal aborts. */
  async play(source: CanSource, signal: AbortSignal): Promise<void> {
    const before = this.frames.malformed;
    this.source = source;
    for await (const frames of source.frames(signal)) {
      for (const frame of frames) this.accept(frame);
      this.frames.malformed = before + source.malformed;
    }
    this.frames.malformed = before + source.malformed;
    this.report();
  }

  /** Writes rows that are still in memory into the outbox now; it happens by itself once a turn of the event loop. */
  flush(): void {
    this.campaigns.flush();
    this.outbox.flush();
  }

  /** Sends what waits, and resolves when the log has all of it. */
  drain(): Promise<void> {
    this.campaigns.flush();
    return this.uplink.drain();
  }

  /** Stops cleanly. What is not acknowledged stays in the outbox for the next start. */
  async stop(): Promise<void> {
    clearInterval(this.reportTimer);
    await this.updater?.stop();
    this.scoring.endShadow();
    this.campaigns.flush();
    this.outbox.flush();
    await this.uplink.close();
    this.outbox.close();
  }

  private wantSignals(): void {
    const columns = new Map<string, number>();
    this.options.map.columns.forEach(({ message, dbcSignal }, column) => {
      columns.set(`${message} ${dbcSignal}`, column);
    });
    for (const message of this.decoder.messages) {
      const pairs: number[] = [];
      message.message.signals.forEach((signal, i) => {
        const column = columns.get(`${message.message.name} ${signal.name}`);
        if (column !== undefined) pairs.push(message.first + i, column);
      });
      if (pairs.length > 0) this.wanted.set(message, Int32Array.from(pairs));
    }
  }

  private row(time: number, values: Float32Array): void {
    const score = this.scoring.push(time, values);
    this.sampled++;
    this.score = score ?? Number.NaN;
    this.outbox.addRow(time, values, score, this.contextOf(score === undefined ? null : this.activeModel));
    this.options.onRow?.(time);
  }

  private contextOf(ref: ModelRef | null): RowContext {
    if (ref === null) return this.unscored;
    const { modelName, modelVersion } = this.context;
    if (modelName !== ref.name || modelVersion !== ref.version)
      this.context = { signalSet: this.signals.id, modelName: ref.name, modelVersion: ref.version };
    return this.context;
  }

  private onBoardScoring(): OnBoardScoring {
    const { shadowPeriodMs, goodAfterMs } = AGENT_DEFAULTS.scoring;
    return new OnBoardScoring({
      shadowPeriodMs,
      goodAfterMs,
      clockUs: () => 1000 * performance.now(),
      ...this.options.scoring,
      budgetUs: this.budgetUs,
      onAlarm: (change, time) => this.anomaly(change, time),
      onShadow: (statistics, time) => this.emit('io.cardan.vehicle.shadow', statistics, time),
      onCalm: (address) => this.updater?.modelIsCalm(address),
      onGood: (address) => this.updater?.modelIsGood(address),
      onStopped: ({ address, activeAddress, ...stopped }) => {
        this.modelStopped(stopped);
        this.updater?.modelStopped(address, stopped, activeAddress);
      },
    });
  }

  /** Most that a model may take for one row. */
  private get budgetUs(): number {
    const { rowPeriodMs = AGENT_DEFAULTS.rowPeriodMs, scoring } = this.options;
    return scoring?.budgetUs ?? Math.min(AGENT_DEFAULTS.scoring.budgetUs, (1000 * rowPeriodMs) / 20);
  }

  private modelStopped(stopped: VehicleModelStopped): void {
    this.emit('io.cardan.vehicle.model-stopped', stopped);
    this.onProblem(new CardanError(stopped.code, stopped.message));
  }

  private anomaly({ state, model, score, threshold, contributions }: AlarmChange, time: number): void {
    if (state === 'raised') this.alarmId = `${this.vehicle}-${time}`;
    const signals = this.signals.signals
      .map(({ name }, i) => ({ name, part: contributions[i] ?? 0 }))
      .sort((a, b) => b.part - a.part)
      .slice(0, 5);
    this.emit(
      'io.cardan.vehicle.anomaly',
      { state, alarm: this.alarmId, model, score, threshold, signals },
      time,
    );
  }

  private desired(payload: Buffer): void {
    if (payload.length === 0) return; // the retained message was deleted
    try {
      this.updater?.hint(parseDesired(payload));
    } catch (error) {
      if (!(error instanceof CardanError)) throw error;
      this.onProblem(error);
    }
  }

  private report(): void {
    this.uplink.report({
      ...this.update,
      time: new Date(this.now()).toISOString(),
      active: this.activeModel,
      candidate: this.shadowModel,
      ...campaignReports(this.campaignStatus, this.campaignTrouble),
      signalSet: this.signals.id,
      agent: {
        version: AGENT_VERSION,
        outboxRows: this.outbox.pendingRows,
        dropped: this.outbox.dropped,
        droppedBy: this.outbox.droppedBy,
        ...this.figures(),
        frames: { ...this.frames },
        ...(this.source?.counters === undefined ? {} : { buses: this.source.counters }),
      },
    });
  }

  /** A few of the figures that its metrics have, for who cannot reach these. */
  private figures(): Pick<
    VehicleReported['agent'],
    'rows' | 'cpuSeconds' | 'memoryBytes' | 'outboxFileBytes' | 'score' | 'alarmActive'
  > {
    const { user, system } = process.cpuUsage();
    const score = this.lastScore;
    return {
      rows: this.rowsSampled,
      cpuSeconds: (user + system) / 1e6,
      memoryBytes: process.memoryUsage.rss(),
      outboxFileBytes: this.outboxFileBytes,
      score: Number.isFinite(score) ? score : null,
      alarmActive: this.alarmActive,
    };
  }

  /** Puts an event of this vehicle into the outbox. */
  emit<K extends EventType>(type: K, data: EventData[K], time = this.now()): void {
    this.outbox.addEvent(({ epoch, sequence }) =>
      cloudEvent(type, { source: `/vehicles/${this.vehicle}`, id: `${epoch}-${sequence}`, time }, data),
    );
  }
}
