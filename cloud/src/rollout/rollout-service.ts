import { createHash, randomUUID } from 'node:crypto';
import {
  type CampaignRef,
  CardanError,
  cloudEvent,
  ensureLogTopics,
  eventToRecord,
  type GateFinding,
  type ModelRef,
  readCampaign,
  recordToEvent,
  type RolloutCreated,
  type RolloutJudged,
  type RolloutSubject,
  type VehicleDesired,
} from '@cardan/shared';
import type { EventLog, Offsets } from '@cardan/shared/event-log';
import type { DesiredSource } from '../fleet/desired-source.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { problemFrom } from '../registry/problem.ts';
import type { Registry, RolloutPolicy } from '../registry/registry.ts';
import { Tail } from '../registry/tail.ts';
import { Evidence, same } from './evidence.ts';
import type { VehicleAttributes } from './filter.ts';
import { type Census, judge, Verdict } from './gates.ts';
import { reachesAll, rolloutOf, type RolloutRequest } from './plan.ts';
import { generationOf } from './reach.ts';
import { type Rollout, rolloutEvent, RolloutProjection } from './rollout-projection.ts';
import { decide, isOver, type Moment, type RolloutCommand, type RolloutEvent, reachOf } from './state.ts';

const TOPIC = 'rollouts';
const EVIDENCE_TOPIC = 'vehicle-events';
const SOURCE = '/services/registry';
const PERIOD_MS = 30_000;

export interface RolloutServiceOptions {
  log: EventLog;
  registry: Registry;
  fleet: Pick<Fleet, 'pages' | 'vehicle'>;
  policy?: RolloutPolicy | undefined;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  /** How often gates are judged, milliseconds; default 30 s. null: only when `look` is called. */
  periodMs?: number | null | undefined;
  onProblem: (error: CardanError) => void;
}

/** A rollout as it stands now, with the last look at its gates. */
export interface RolloutView extends RolloutCreated {
  status: Rollout['state']['status'];
  createdAt: string;
  /** Index of the stage; −1 before the first. */
  stage: number;
  /** Part (0 … 1) of its vehicles that is reached. */
  part: number;
  champion: ModelRef | null;
  reason: string;
  /** Since the last look; null before the first. */
  now: { vehicles: Census; findings: GateFinding[] } | null;
}

export type PersonsCommand = Exclude<RolloutCommand, { type: 'evaluate' }>['type'];

/** What a look at a running stage has to remember until the next. */
interface Watch {
  /** Stage and offsets of which it is the evidence. */
  of: string;
  evidence: Evidence;
  position: Record<number, number>;
  verdict: Verdict;
}

/**
 * Brings models and campaigns to the fleet in stages, judges each stage on what the cars report, and says of every vehicle
 * what it should have. All of it is a projection of the topics `rollouts` and `vehicle-events`.
 *
 * One service looks at a time: two on one log would both decide. What the log then holds is still one history, as an event
 * that does not fit the state before it is passed over by all readers.
 */
export class RolloutService implements DesiredSource {
  private readonly options: RolloutServiceOptions;
  private readonly clock: () => number;
  private readonly projection = new RolloutProjection();
  private readonly watches = new Map<string, Watch>();
  private readonly looks = new Map<string, NonNullable<RolloutView['now']>>();
  private readonly listeners = new Set<() => void>();
  /** One object for all vehicles that should have the same, by what the registry alone would say. */
  private readonly desiredOf = new WeakMap<VehicleDesired, Map<string, VehicleDesired>>();
  /** Those that have a say in what vehicles should have; the first one wins. */
  private deciding: { models: Map<string, Rollout[]>; campaigns: Rollout[] } = {
    models: new Map(),
    campaigns: [],
  };
  private tail: Tail | undefined;
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> = Promise.resolve();
  private stopListening: () => void = () => {};
  private closed = false;

  private constructor(options: RolloutServiceOptions) {
    this.options = options;
    this.clock = options.clock ?? Date.now;
  }

  /** Resolves when the log has been replayed. */
  static async open(options: RolloutServiceOptions): Promise<RolloutService> {
    const { log, registry, periodMs = PERIOD_MS, onProblem } = options;
    const service = new RolloutService(options);
    const { projection } = service;
    await ensureLogTopics(log, [TOPIC, EVIDENCE_TOPIC]);
    let changed = false;
    service.tail = await Tail.start({
      log,
      topic: TOPIC,
      apply: (batch) => {
        for (const record of batch.records) if (projection.take(record)) changed = true;
      },
      settle: async () => {
        if (changed) service.changed();
        changed = false;
      },
      onProblem,
    });
    registry.attach({ generation: () => projection.generation, models: () => service.models() });
    service.stopListening = registry.onChange(() => service.changed());
    if (periodMs !== null) service.timer = setInterval(() => void service.look(), periodMs).unref();
    return service;
  }

  /** Records of the topic that could not be read. */
  get malformed(): number {
    return this.projection.malformed;
  }

  /** See `DesiredSource`. What no rollout has a say in is as the registry says. */
  desired(signalSet: string, vehicle: string): VehicleDesired {
    const base = this.options.registry.desired(signalSet, vehicle);
    const models = this.deciding.models.get(signalSet) ?? [];
    const { campaigns } = this.deciding;
    if (models.length === 0 && campaigns.length === 0) return base;
    const attributes = this.attributes(vehicle, signalSet, [...models, ...campaigns]);
    let { active, generation } = base;
    let candidate: ModelRef | undefined;
    let overridden = false;
    for (const { state, membership } of models) {
      const place = membership.place(vehicle, attributes);
      if (place === undefined || state.spec.subject.kind !== 'model') continue;
      generation = Math.max(generation, generationOf(state.moves, membership, place));
      const role = membership.role(place, reachOf(state));
      if (role === 'active' && !overridden) {
        overridden = true;
        active = state.spec.subject.model;
      } else if (role === 'candidate') candidate ??= state.spec.subject.model;
    }
    const held: CampaignRef[] = [];
    for (const { state, membership } of campaigns) {
      if (state.spec.subject.kind !== 'campaign') continue;
      const place = membership.place(vehicle, attributes);
      if (place !== undefined)
        generation = Math.max(generation, generationOf(state.moves, membership, place));
      if (place === undefined || membership.role(place, reachOf(state)) !== 'active')
        held.push(state.spec.subject.campaign);
    }
    return this.oneFor(base, { generation, active, candidate, held });
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Newest last. */
  list(): RolloutView[] {
    return [...this.projection.rollouts.values()].map((rollout) => this.view(rollout));
  }

  /** Throws ROLLOUT_UNKNOWN. */
  get(id: string): RolloutView {
    return this.view(this.rollout(id));
  }

  /** Everything that happened to it, oldest first, with the evidence. Throws ROLLOUT_UNKNOWN. */
  async history(id: string): Promise<RolloutEvent[]> {
    this.rollout(id);
    const events: RolloutEvent[] = [];
    for await (const { records } of this.options.log.read(TOPIC, { from: 'earliest', to: 'latest' }))
      for (const record of records) {
        if (record.key !== id) continue;
        const event = rolloutEvent(record);
        if (event !== undefined) events.push(event);
      }
    return events;
  }

  /**
   * Makes a rollout. It starts at once when it needs no approval and its time has come. The same id with the same subject
   * again changes nothing. Throws ROLLOUT_INVALID, FILTER_INVALID, ROLLOUT_EXISTS, MODEL_UNKNOWN, CAMPAIGN_INVALID.
   */
  async create(request: RolloutRequest, by: string): Promise<{ rollout: RolloutView; created: boolean }> {
    const subject = this.subjectOf(request);
    const id = request.id ?? idOf(subject);
    const spec = rolloutOf(request, subject, { id, by });
    const created = await this.options.registry.change(async () => {
      await this.tail?.caughtUp();
      const there = this.projection.rollouts.get(id);
      if (there !== undefined) {
        if (JSON.stringify(there.state.spec.subject) === JSON.stringify(subject)) return false;
        throw new CardanError('ROLLOUT_EXISTS', `There is another rollout ${id}. Take another id.`);
      }
      await this.append([{ type: 'io.cardan.rollout.created', time: this.clock(), data: spec }]);
      return true;
    });
    await this.look();
    return { rollout: this.get(id), created };
  }

  /** Throws ROLLOUT_UNKNOWN, ROLLOUT_STATE. */
  async command(id: string, type: PersonsCommand, by: string, reason = ''): Promise<RolloutView> {
    this.rollout(id);
    const moment = this.momentNow();
    const position = await this.end();
    await this.options.registry.change(async (generation) => {
      await this.tail?.caughtUp();
      const { state } = this.rollout(id);
      if (type === 'rollback' && state.status === 'done') this.checkHolds(state);
      await this.append(
        decide(state, { type, by, reason }, { ...moment, generation, evidenceFrom: position }),
      );
    });
    await this.look();
    return this.get(id);
  }

  /** Looks at every rollout once, and takes the steps that are due. One look at a time; resolves when it is over. */
  look(): Promise<void> {
    this.looking = this.looking
      .then(() => this.lookAtAll())
      .catch((error: unknown) => {
        if (!this.closed) this.options.onProblem(problemFrom(error));
      });
    return this.looking;
  }

  /** Stops looking. The log stays open. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    this.stopListening();
    await this.looking;
    await this.tail?.close();
  }

  private async lookAtAll(): Promise<void> {
    if (this.closed) return;
    await this.createStaged();
    for (const rollout of [...this.projection.rollouts.values()]) {
      if (this.closed) return;
      try {
        if (!isOver(rollout.state)) await this.lookAt(rollout);
        await this.settle(rollout);
      } catch (error) {
        // One in trouble must not keep the others from being judged.
        if (!this.closed) this.options.onProblem(problemFrom(error));
      }
      if (isOver(rollout.state)) {
        this.watches.delete(rollout.id);
        this.looks.delete(rollout.id);
      }
    }
  }

  private async lookAt(rollout: Rollout): Promise<void> {
    const { id, state } = rollout;
    const { census, newIn } = await this.census(rollout);
    let verdict: 'pass' | 'fail' | 'wait' = 'wait';
    let judged: RolloutJudged | undefined;
    if (state.stage >= 0) {
      const watch = await this.watch(rollout);
      const sums = watch.evidence.sums();
      const { baseline, spec, stage } = state;
      const compared = {
        ...sums,
        championAlarms: sums.championAlarms + baseline.alarms,
        championVehicleHours: sums.championVehicleHours + baseline.vehicleHours,
      };
      // What a stage has found is its own; what it is compared with may be older.
      const { kind } = spec.stages[stage]!;
      const findings = judge(spec.stages[stage]!, kind === 'group' ? compared : sums, census, stage === 0);
      verdict = watch.verdict.of(findings, sums.records);
      const { vehicles, vehicleHours, alarms, championAlarms, championVehicles } = sums;
      judged = {
        rollout: id,
        stage,
        findings,
        evidence: {
          reached: census.reached,
          vehicles,
          vehicleHours,
          alarms,
          championAlarms,
          championVehicles,
          championVehicleHours: sums.championVehicleHours,
          records: sums.records,
        },
      };
      this.looks.set(id, { vehicles: census, findings });
    }
    const command: RolloutCommand = { type: 'evaluate', verdict, judged };
    const moment = { ...this.momentNow(), champion: this.champion(rollout), newIn };
    const evidenceFrom = await this.end();
    // Mostly there is nothing to do, and then nobody has to wait for his turn.
    if (decide(state, command, { ...moment, generation: 1, evidenceFrom }).length === 0) return;
    await this.options.registry.change(async (generation) => {
      await this.tail?.caughtUp();
      // Somebody may have paused it meanwhile, or the stage may be another one.
      if (rollout.state !== state) return;
      await this.append(decide(state, command, { ...moment, generation, evidenceFrom }));
    });
  }

  /** Does outside of the topic what the state says; after a crash once more. */
  private async settle({ state }: Rollout): Promise<void> {
    const { registry } = this.options;
    const { spec, status } = state;
    const { subject } = spec;
    if (subject.kind === 'campaign') {
      const { id, version } = subject.campaign;
      const isLive = registry.campaigns.live(id)?.campaign.version === version;
      if ((status === 'running' || status === 'paused') && !isLive)
        await registry.campaigns.publish(subject.document);
      else if ((status === 'stopped' || status === 'rolled-back') && isLive)
        await registry.campaigns.withdraw(id);
      return;
    }
    const { signalSet, model } = subject;
    const { generation } = registry.desired(signalSet);
    if (status === 'done') {
      if (reachesAll(spec) && generation < lastGeneration(state))
        await registry.change((next) => registry.decideActive(signalSet, model, next));
    } else if (isOver(state) && state.stage >= 0 && generation < lastGeneration(state)) {
      // New metadata, a new generation, the old bytes.
      const { active } = registry.desired(signalSet);
      const back = same(active, model) ? state.champion : active;
      if (back !== null) await registry.change((next) => registry.decideActive(signalSet, back, next));
    }
  }

  /** With the policy `staged`: one rollout per signal set at a time, of its newest version. */
  private async createStaged(): Promise<void> {
    const { registry, policy } = this.options;
    if (policy !== 'staged') return;
    for (const { manifest } of registry.undecided()) {
      const { name, version, signalSet } = manifest;
      const subject: RolloutSubject = { kind: 'model', model: { name, version }, signalSet: signalSet.id };
      const others = [...this.projection.rollouts.values()].filter(({ state }) => {
        const there = state.spec.subject;
        if (there.kind !== 'model' || there.signalSet !== signalSet.id) return false;
        return !isOver(state) || same(there.model, subject.model);
      });
      if (others.length > 0 || registry.desired(signalSet.id).active === null) continue;
      const spec = rolloutOf({}, subject, { id: idOf(subject), by: 'policy staged' });
      await registry.change(() =>
        this.append([{ type: 'io.cardan.rollout.created', time: this.clock(), data: spec }]),
      );
    }
  }

  /** Reads what cars have reported since the last look. */
  private async watch(rollout: Rollout): Promise<Watch> {
    const { id, state, membership } = rollout;
    const { spec, stage, evidenceFrom, champion } = state;
    const of = JSON.stringify([stage, evidenceFrom]);
    let watch = this.watches.get(id);
    if (watch?.of !== of) {
      const { subject } = spec;
      const evidence = new Evidence({
        subject,
        champion,
        kind: spec.stages[stage]!.kind,
        threshold:
          subject.kind === 'model'
            ? this.options.registry.version(subject.model).manifest.alarm.threshold
            : undefined,
        isTarget: (vehicle) =>
          membership.place(vehicle, this.attributes(vehicle, undefined, [rollout])) !== undefined,
      });
      watch = { of, evidence, position: { ...evidenceFrom }, verdict: new Verdict() };
      this.watches.set(id, watch);
    }
    const { log } = this.options;
    for await (const batch of log.read(EVIDENCE_TOPIC, { from: watch.position, to: 'latest' })) {
      for (const record of batch.records) {
        try {
          watch.evidence.take(record.key ?? '', recordToEvent(record));
        } catch {
          // What is no event, or no sketch of this width, is no evidence.
        }
      }
      watch.position[batch.partition] = batch.records.at(-1)!.offset + 1;
    }
    return watch;
  }

  /** Counts the fleet for a stage; others are served in between. Vehicles that never said anything do not count. */
  private async census(rollout: Rollout): Promise<{ census: Census; newIn: (stage: number) => number }> {
    const { state, membership } = rollout;
    const { spec } = state;
    const { stages, subject } = spec;
    const census: Census = { target: 0, reached: 0, silent: 0, others: 0, othersSilent: 0 };
    const newOnes = new Array<number>(stages.length).fill(0);
    const reach = reachOf(state);
    const silentMs = 60_000 * (stages[Math.max(state.stage, 0)]?.gates.silentMinutes ?? 0);
    for await (const page of this.options.fleet.pages())
      for (const { id, signalSet, attributes, lastSeen } of page) {
        if (subject.kind === 'model' && signalSet !== subject.signalSet) continue;
        const place = membership.place(id, { ...attributes, id, signalSet: signalSet ?? '' });
        if (place === undefined || lastSeen === null) continue;
        const silent = this.clock() - Date.parse(lastSeen) > silentMs;
        census.target++;
        if (place.shadow) newOnes[0]!++;
        if (place.group < stages.length) newOnes[place.group]!++;
        if (membership.role(place, reach) !== undefined) {
          census.reached++;
          if (silent) census.silent++;
        } else {
          census.others++;
          if (silent) census.othersSilent++;
        }
      }
    return { census, newIn: (stage) => newOnes[stage]! };
  }

  private momentNow(): Moment {
    return { now: this.clock(), generation: 0, evidenceFrom: {}, champion: null, newIn: () => 0 };
  }

  private champion({ state }: Rollout): ModelRef | null {
    const { subject } = state.spec;
    return subject.kind === 'model' ? this.options.registry.desired(subject.signalSet).active : null;
  }

  private async end(): Promise<Record<number, number>> {
    const end: Offsets = await this.options.log.resolve(EVIDENCE_TOPIC, 'latest');
    return { ...end };
  }

  private async append(events: readonly RolloutEvent[]): Promise<void> {
    if (events.length === 0) return;
    const records = events.map(({ type, time, data }) =>
      eventToRecord(data.rollout, cloudEvent(type, { source: SOURCE, id: randomUUID(), time }, data)),
    );
    await this.options.log.append(TOPIC, records);
    await this.tail?.caughtUp();
  }

  /** Sorts out who has a say, and tells the listeners. */
  private changed(): void {
    const models = new Map<string, Rollout[]>();
    const campaigns: Rollout[] = [];
    for (const rollout of this.projection.rollouts.values()) {
      const { spec } = rollout.state;
      if (!this.hasSay(rollout)) continue;
      if (spec.subject.kind === 'campaign') campaigns.push(rollout);
      else models.set(spec.subject.signalSet, [...(models.get(spec.subject.signalSet) ?? []), rollout]);
    }
    // Those under way before those that are over; then by weight; then in the order in which they were made.
    for (const rollouts of models.values())
      rollouts.sort(
        (a, b) =>
          Number(isOver(a.state)) - Number(isOver(b.state)) || b.state.spec.weight - a.state.spec.weight,
      );
    this.deciding = { models, campaigns };
    for (const listener of this.listeners) listener();
  }

  private hasSay({ state }: Rollout): boolean {
    const { spec, moves } = state;
    if (spec.subject.kind === 'campaign') {
      const { id, version } = spec.subject.campaign;
      const isLive = this.options.registry.campaigns.live(id)?.campaign.version === version;
      return !isOver(state) || (state.status === 'done' && !reachesAll(spec) && isLive);
    }
    if (!isOver(state)) return moves.length > 0;
    const { generation, active } = this.options.registry.desired(spec.subject.signalSet);
    // Until the decision that follows it is made.
    if (moves.length > 0 && generation < lastGeneration(state)) return true;
    // For a part of the fleet it holds as long as the rest keeps what it was compared with.
    return state.status === 'done' && !reachesAll(spec) && same(active, state.champion);
  }

  /** Versions that cars may be told to run. */
  private models(): ModelRef[] {
    return [...this.projection.rollouts.values()].flatMap((rollout) => {
      const { spec, champion } = rollout.state;
      if (spec.subject.kind !== 'model' || !(this.hasSay(rollout) || !isOver(rollout.state))) return [];
      return champion === null ? [spec.subject.model] : [spec.subject.model, champion];
    });
  }

  private attributes(
    vehicle: string,
    signalSet: string | undefined,
    rollouts: readonly Rollout[],
  ): VehicleAttributes {
    const ownOnly = { id: vehicle, ...(signalSet === undefined ? {} : { signalSet }) };
    // Without filters nobody has to look it up.
    if (rollouts.every(({ membership }) => !membership.hasFilters)) return ownOnly;
    try {
      const known = this.options.fleet.vehicle(vehicle);
      return { ...known.attributes, ...ownOnly, signalSet: signalSet ?? known.signalSet ?? '' };
    } catch (error) {
      if (error instanceof CardanError && error.code === 'VEHICLE_UNKNOWN') return ownOnly;
      throw error;
    }
  }

  private oneFor(
    base: VehicleDesired,
    {
      generation,
      active,
      candidate,
      held,
    }: { generation: number; active: ModelRef | null; candidate: ModelRef | undefined; held: CampaignRef[] },
  ): VehicleDesired {
    const key = JSON.stringify([generation, active, candidate ?? null, held]);
    const known = this.desiredOf.get(base) ?? new Map<string, VehicleDesired>();
    this.desiredOf.set(base, known);
    let desired = known.get(key);
    if (desired === undefined) {
      desired = { ...base, generation, active };
      if (candidate !== undefined) desired.candidate = candidate;
      if (base.campaigns !== undefined && held.length > 0)
        desired.campaigns = base.campaigns.filter(
          ({ id, version }) => !held.some((other) => other.id === id && other.version === version),
        );
      known.set(key, desired);
    }
    return desired;
  }

  private rollout(id: string): Rollout {
    const rollout = this.projection.rollouts.get(id);
    if (rollout === undefined) throw new CardanError('ROLLOUT_UNKNOWN', `There is no rollout ${id}.`);
    return rollout;
  }

  private view({ id, state }: Rollout): RolloutView {
    const { spec, status, createdAt, stage, part, champion, reason } = state;
    return {
      ...spec,
      status,
      createdAt: new Date(createdAt).toISOString(),
      stage,
      part,
      champion,
      reason,
      now: isOver(state) ? null : (this.looks.get(id) ?? null),
    };
  }

  private subjectOf({ model, campaign }: RolloutRequest): RolloutSubject {
    if ((model === undefined) === (campaign === undefined))
      throw new CardanError('ROLLOUT_INVALID', 'A rollout is of a model or of a campaign: give one of them.');
    if (model !== undefined) {
      const { signalSet } = this.options.registry.version(model).manifest;
      const { active } = this.options.registry.desired(signalSet.id);
      if (active === null || same(active, model))
        throw new CardanError(
          'ROLLOUT_INVALID',
          active === null
            ? `No vehicle has a model yet with which ${model.name} ${model.version} could be compared.`
            : `${model.name} ${model.version} is what vehicles should run already.`,
        );
      return { kind: 'model', model, signalSet: signalSet.id };
    }
    const { id, version } = readCampaign(campaign);
    if (this.options.registry.campaigns.live(id)?.campaign.version === version)
      throw new CardanError(
        'ROLLOUT_INVALID',
        `Version ${version} of the campaign ${id} is with its cars already.`,
      );
    return { kind: 'campaign', campaign: { id, version }, document: campaign };
  }

  /** What came after it must not be taken back with it. */
  private checkHolds({ spec }: Rollout['state']): void {
    const { subject } = spec;
    if (subject.kind === 'campaign' || !reachesAll(spec)) return;
    const { active } = this.options.registry.desired(subject.signalSet);
    if (!same(active, subject.model))
      throw new CardanError(
        'ROLLOUT_STATE',
        `${subject.model.name} ${subject.model.version} is not what vehicles should run any more; roll back what came after it.`,
      );
  }
}

function lastGeneration({ moves }: Rollout['state']): number {
  return moves.at(-1)?.generation ?? 0;
}

/** A name that a person knows again; as long as an id may be. */
function idOf(subject: RolloutSubject): string {
  const ref = subject.kind === 'model' ? subject.model : { name: subject.campaign.id, ...subject.campaign };
  const id = `${ref.name}-${ref.version}`;
  return id.length <= 64
    ? id
    : `${id.slice(0, 47)}-${createHash('sha256').update(id).digest('hex').slice(0, 16)}`;
}
