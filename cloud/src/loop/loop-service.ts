import { join } from 'node:path';
import {
  CardanError,
  checkSelfTest,
  cloudEvent,
  ensureDataDir,
  ensureLogTopics,
  eventToRecord,
  loadAnyModel,
  messageOf,
  recordToEvent,
  type EventData,
  type LoopEventData,
  type Model,
  type ModelRef,
  type TrainingRequested,
} from '@cardan/shared';
import type { Batch, EventLog, Offsets } from '@cardan/shared/event-log';
import type { RegistryClient } from '../registry-client.ts';
import { Tail } from '../registry/tail.ts';
import { offsetRanges } from '../trainer/log-span.ts';
import { readRepairs, REPAIRS_TOPIC, type Repair } from '../trainer/repairs.ts';
import { decide, LOOP_POLICY, type Decision, type LoopPolicy, type SetFacts } from './decide.ts';
import { scoreDrift, sensorFaults, type ScoreDrift } from './drift.ts';
import { judgeCandidate } from './judge.ts';
import { EVIDENCE_TOPICS, LoopFile } from './loop-file.ts';
import { faultName, LoopState, type Champion, type Proposal } from './loop-state.ts';
import { readReference } from './reference.ts';
import { SignalDrift } from './signal-drift.ts';

const SOURCE = '/services/loop';
/** Trips end after minutes; to look more often finds nothing more. */
const PERIOD_MS = 10_000;
/** Steps of one look: proposed, trained, judged and rolled out are four. */
const STEPS_MAX = 10;
/** Vehicles that are enough to draw those that are held back. */
const VEHICLES_MAX = 1000;
/** A candidate that nothing has drifted for is judged on the newest week. */
const JUDGE_MS = 7 * 24 * 3_600_000;

export interface LoopOptions {
  log: EventLog;
  registry: RegistryClient;
  /** Gets the file `loop.db`. */
  dir: string;
  policy?: Partial<LoopPolicy> | undefined;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  /** How often it looks, milliseconds; default 10 s. null: only when `look` is called. */
  periodMs?: number | null;
  onProblem: (error: CardanError) => void;
}

/**
 * Closes the loop: sees that the fleet has drifted, that the model is old or that much has come since, has a new one
 * trained, judges it against the champion on vehicles that were not in the training, and gives it to a rollout, which
 * begins in the shadow. Every step is an event in `models` with its evidence; what was decided is the fold of these.
 *
 * One service at a time: two on one log would both look. What the log then holds is still one history (`LoopState`).
 */
export class LoopService {
  private readonly options: LoopOptions;
  private readonly policy: LoopPolicy;
  private readonly clock: () => number;
  private readonly file: LoopFile;
  private readonly state = new LoopState();
  /** By signal set: how the training of its champion was distributed. */
  private readonly signals = new Map<string, { model: string; drift: SignalDrift | undefined }>();
  private readonly models = new Map<string, Model>();
  private tails: Tail[] = [];
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> = Promise.resolve();
  private opening: Promise<void> = Promise.resolve();
  private closed = false;

  private constructor(options: LoopOptions, file: LoopFile) {
    this.options = options;
    this.policy = { ...LOOP_POLICY, ...options.policy };
    this.clock = options.clock ?? Date.now;
    this.file = file;
  }

  /** Resolves at once; what is in the log is taken in meanwhile. Throws DATA_DIR_NOT_WRITABLE. */
  static async open(options: LoopOptions): Promise<LoopService> {
    await ensureLogTopics(options.log);
    const path = join(ensureDataDir(options.dir), 'loop.db');
    const service = new LoopService(options, await LoopFile.open({ path, log: options.log }));
    service.opening = service.follow().catch((error: unknown) => service.report(error));
    const { periodMs = PERIOD_MS } = options;
    if (periodMs !== null) service.timer = setInterval(() => void service.look(), periodMs).unref();
    return service;
  }

  /** Looks once, and takes the steps that are due. One look at a time; resolves when it is over. */
  look(): Promise<void> {
    this.looking = this.looking
      .then(async () => {
        await this.opening;
        if (!this.closed) await this.lookOnce();
      })
      .catch((error: unknown) => this.report(error));
    return this.looking;
  }

  /** Stops looking. The log stays open. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    await this.opening;
    await this.looking;
    for (const tail of this.tails) await tail.close();
    this.file.close();
  }

  private report(error: unknown): void {
    if (this.closed) return;
    this.options.onProblem(
      error instanceof CardanError
        ? error
        : new CardanError('SERVICE_FAILED', `The loop failed: ${messageOf(error)}`, { cause: error }),
    );
  }

  private async follow(): Promise<void> {
    const { log, onProblem } = this.options;
    const tail = async (topic: string, apply: (batch: Batch) => void, from?: Offsets) => {
      const settle = async () => undefined;
      const given = { log, topic, apply, settle, onProblem };
      this.tails.push(await Tail.start(from === undefined ? given : { ...given, from }));
    };
    await tail('models', ({ records }) => {
      for (const record of records) {
        try {
          this.state.take(recordToEvent(record));
        } catch {
          this.file.malformed++;
        }
      }
    });
    // Before the telemetry is read, so that a replay counts its values as they were counted.
    for (const [signalSet, champion] of this.state.champions) await this.refer(signalSet, champion);
    for (const topic of EVIDENCE_TOPICS)
      await tail(topic, (batch) => this.file.apply(batch), this.file.position(topic));
  }

  private async lookOnce(): Promise<void> {
    for (const tail of this.tails) await tail.caughtUp();
    for (const [signalSet, champion] of this.state.champions) {
      await this.refer(signalSet, champion);
      await this.tellDrift(signalSet, champion);
    }
    for (let step = 0; step < STEPS_MAX && !this.closed; step++) {
      const decision = decide(this.state, await this.facts(), this.policy, this.clock());
      if (decision === undefined) return;
      await this.take(decision);
    }
  }

  private async tellDrift(signalSet: string, { manifest }: Champion): Promise<void> {
    const model = { name: manifest.name, version: manifest.version };
    const trips = this.file.scoreTrips(signalSet, model);
    const ofSignals = this.signals
      .get(signalSet)
      ?.drift?.look(this.file.signalTrips(signalSet), manifest.signalSet.signals);
    const scores = scoreDrift(trips);
    for (const [cause, found] of [
      ['scores', scores],
      ['signals', ofSignals],
    ] as const) {
      const drift = `drift ${model.name} ${model.version} ${cause}`;
      if (found !== undefined && !this.state.told.has(drift))
        await this.emit('io.cardan.loop.drift-detected', drift, model.name, {
          drift,
          signalSet,
          model,
          cause,
          ...driftData(found),
        });
    }
    // Where many have changed it is no fault of one.
    if (scores !== undefined) return;
    for (const { vehicle, since, trips: count, findings } of sensorFaults(trips)) {
      const name = faultName({ vehicle, model });
      if (!this.state.told.has(name))
        await this.emit('io.cardan.loop.sensor-fault-suspected', name, model.name, {
          vehicle,
          signalSet,
          model,
          since: new Date(since).toISOString(),
          trips: count,
          findings,
        });
    }
  }

  /** Has the values counted by how the champion's training was distributed. */
  private async refer(signalSet: string, { manifest }: Champion): Promise<void> {
    const model = `${manifest.name} ${manifest.version}`;
    if (this.signals.get(signalSet)?.model === model) return;
    const reference = await readReference(this.options.log, manifest);
    if (reference !== undefined) this.file.countIn(signalSet, reference.edges);
    this.signals.set(signalSet, {
      model,
      drift: reference === undefined ? undefined : new SignalDrift(reference),
    });
  }

  private async facts(): Promise<SetFacts[]> {
    const ends = await this.options.log.resolve('telemetry', 'latest');
    return [...this.state.champions].map(([signalSet, { manifest }]) => {
      let [then, since] = [0, 0];
      for (const [partition, { from, to }] of Object.entries(manifest.lineage.offsets)) {
        then += to - from;
        since += Math.max(0, (ends[Number(partition)] ?? to) - to);
      }
      return {
        signalSet,
        vehicles: this.file.vehicles(signalSet, VEHICLES_MAX),
        newest: this.file.newest(signalSet),
        growth: then === 0 ? 0 : since / then,
      };
    });
  }

  private async take(decision: Decision): Promise<void> {
    const { proposal } = decision;
    const id = proposal.proposal;
    const key = proposal.champion.name;
    switch (decision.kind) {
      case 'propose':
        return this.emit('io.cardan.loop.retraining-proposed', `proposed ${id}`, key, decision.proposal);
      case 'train': {
        const { signalSet, reason, times, heldBack } = proposal;
        const request: TrainingRequested = {
          training: id,
          signalSet,
          reason: `loop: ${reason}`,
          actor: SOURCE,
          ...(times.from === null && times.to === null ? {} : { times }),
          heldBack,
          trial: true,
        };
        return this.emit('io.cardan.training.requested', `requested ${id}`, key, request);
      }
      case 'judge':
        return this.judge(decision.proposal);
      case 'roll-out':
        return this.rollOut(decision.proposal);
    }
  }

  private async judge(proposal: Proposal): Promise<void> {
    const { log } = this.options;
    const { proposal: id, heldBack, times, signalSet } = proposal;
    const candidate = proposal.candidate!;
    // What cars run now: it may have changed since the proposal.
    const { name, version } = this.state.champion(signalSet)!.manifest;
    const champion = { name, version };
    const from = times.from === null ? (this.file.newest(signalSet) ?? 0) - JUDGE_MS : Date.parse(times.from);
    const begin = await log.resolve('telemetry', new Date(Math.max(0, from)));
    const offsets = offsetRanges(begin, await log.resolve('telemetry', 'latest'));
    const judgement = await judgeCandidate(log, {
      champion: await this.load(champion),
      candidate: await this.load(candidate),
      heldBack,
      offsets,
      from,
      repairs: await this.repairs(),
    });
    await this.emit('io.cardan.loop.candidate-judged', `judged ${id}`, name, {
      proposal: id,
      champion,
      candidate,
      ...judgement,
    });
  }

  private async rollOut(proposal: Proposal): Promise<void> {
    const { registry } = this.options;
    const candidate = proposal.candidate!;
    await registry.setAlias(candidate.name, 'candidate', candidate.version);
    // After a crash the same one again is the one that is there.
    const { rollout } = await registry.createRollout({ id: proposal.proposal, model: candidate });
    await this.emit('io.cardan.loop.rollout-begun', `rollout ${proposal.proposal}`, candidate.name, {
      proposal: proposal.proposal,
      candidate,
      rollout,
    });
  }

  private async load(ref: ModelRef): Promise<Model> {
    const key = `${ref.name} ${ref.version}`;
    let model = this.models.get(key);
    if (model === undefined) {
      const { manifest, manifestSha256 } = this.state.version(ref)!;
      model = await loadAnyModel(await this.options.registry.download(manifest, manifestSha256));
      checkSelfTest(model);
      // Two at a time are all that is compared.
      if (this.models.size > 1) this.models.clear();
      this.models.set(key, model);
    }
    return model;
  }

  /** What workshops found, where somebody has brought it in. */
  private async repairs(): Promise<ReadonlyMap<string, readonly Repair[]>> {
    const { log } = this.options;
    if (!(await log.topics()).some(({ topic }) => topic === REPAIRS_TOPIC)) return new Map();
    const [from, to] = [
      await log.resolve(REPAIRS_TOPIC, 'earliest'),
      await log.resolve(REPAIRS_TOPIC, 'latest'),
    ];
    return (await readRepairs(log, { from, to })).vehicles;
  }

  /** The same id again is the same event: who reads passes the second one over. */
  private async emit<K extends keyof LoopEventData | 'io.cardan.training.requested'>(
    type: K,
    id: string,
    key: string,
    data: EventData[K],
  ): Promise<void> {
    const event = cloudEvent(type, { source: SOURCE, id, time: this.clock() }, data);
    await this.options.log.append('models', [eventToRecord(key, event)]);
    await this.tails[0]!.caughtUp();
  }
}

function driftData({ onset, vehicles, drifting, trips, rows, findings }: ScoreDrift) {
  return { onset: new Date(onset).toISOString(), vehicles, drifting, trips, rows, findings };
}
