import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import {
  CardanError,
  cloudEvent,
  ensureDataDir,
  type EventData,
  type EventType,
  eventToRecord,
  ensureLogTopics,
  type ModelManifest,
  type ModelRef,
  parseManifest,
  type RolloutDecided,
  type TrainingRequested,
  type VehicleDesired,
} from '@cardan/shared';
import type { EventLog } from '@cardan/shared/event-log';
import { BlobStore, unknownBlob } from './blob-store.ts';
import type { CampaignsDesired } from './campaign-projection.ts';
import { Campaigns } from './campaigns.ts';
import {
  ModelProjection,
  MODELS_TOPIC,
  type ModelSummary,
  type ModelVersion,
  type SignedVersion,
} from './model-projection.ts';
import { Tail } from './tail.ts';
import { problemFrom } from './problem.ts';
import { KeyFolder } from './tuf-keys.ts';
import { type Target, TufRepository } from './tuf-repository.ts';

const SOURCE = '/services/registry';
/** The alias of what all vehicles of a signal set run. */
export const CHAMPION = 'champion';
/** Aliases of a model, and tags of a version: enough for people to find something by, and no second database. */
const LABELS_MAX = 64;
/** Signatures live a day or longer and are renewed at half their life, so once in ten minutes is often. */
const RENEW_CHECK_MS = 600_000;

/**
 * `immediate`: to all at once. `staged`: by a rollout with the default plan, which begins by itself. `manual`: by a rollout
 * that somebody makes. The first model of a signal set goes to all at once in any case: there is nothing to compare
 * it with.
 */
export const ROLLOUT_POLICIES = ['immediate', 'staged', 'manual'] as const;
export type RolloutPolicy = (typeof ROLLOUT_POLICIES)[number];

/** What the registry must know of rollouts. */
export interface RolloutsUnderWay {
  /** The highest one that a rollout has used. */
  generation: () => number;
  /** Versions that cars may be told to run, and so must be able to fetch. */
  models: () => ModelRef[];
}

export interface RegistryOptions {
  log: EventLog;
  /** Gets the folders `blobs`, `keys` and `tuf`. */
  dir: string;
  /** Milliseconds since 1970; default Date.now. */
  clock?: () => number;
  onProblem: (error: CardanError) => void;
  /** Of the private keys in the folder `keys`; default none. */
  keysPassphrase?: string | undefined;
  /** How a new version gets to its vehicles; default `immediate`. */
  rollouts?: RolloutPolicy | undefined;
  /** Names of trainings; default random UUIDs. */
  newId?: () => string;
}

/**
 * The models of a fleet: immutable versions, and which of them each signal set should run. All of it is a
 * projection of the topic `models`; only keys and content-addressed files live beside the log.
 *
 * Every change takes one path: an event is appended, comes back through the tail, the metadata is signed anew,
 * and only then are the listeners called. So a restart in between ends in the same state as no restart.
 */
export class Registry {
  readonly blobs: BlobStore;
  readonly tuf: TufRepository;
  /** Published versions that no car can get, as their files are not in the blob store. */
  missing: ModelRef[] = [];
  private readonly options: RegistryOptions;
  private readonly clock: () => number;
  private readonly models: ModelProjection;
  private readonly listeners = new Set<() => void>();
  /** One object for all vehicles that should have the same, by the two that it is made of. */
  private readonly desiredWith = new WeakMap<VehicleDesired, WeakMap<CampaignsDesired, VehicleDesired>>();
  /** Whether something has changed that is not signed and told yet. */
  private unsettled = true;
  private tail: Tail | undefined;
  private collecting: Campaigns | undefined;
  private rollouts: RolloutsUnderWay = { generation: () => 0, models: () => [] };
  private renewal: NodeJS.Timeout | undefined;
  private writing: Promise<unknown> = Promise.resolve();
  private settling: Promise<unknown> = Promise.resolve();
  /** Before it, signing would take from the cars what was not read yet. */
  private replayed = false;

  private constructor(
    options: RegistryOptions,
    models: ModelProjection,
    blobs: BlobStore,
    tuf: TufRepository,
  ) {
    this.options = options;
    this.models = models;
    this.clock = options.clock ?? Date.now;
    this.blobs = blobs;
    this.tuf = tuf;
  }

  /**
   * Replays the log, brings the signed metadata up to date, and makes decisions that a crash has prevented.
   * Throws DATA_DIR_NOT_WRITABLE, or TUF_SIGNATURE when keys and metadata do not belong together.
   */
  static async open(options: RegistryOptions): Promise<Registry> {
    const { log, clock = Date.now, onProblem } = options;
    const dir = ensureDataDir(options.dir);
    const blobs = await BlobStore.open(join(dir, 'blobs'));
    const keys = new KeyFolder(join(dir, 'keys'), options.keysPassphrase);
    const tuf = await TufRepository.open({ dir: join(dir, 'tuf'), keys, clock });
    await ensureLogTopics(log, [MODELS_TOPIC]);
    const models = await ModelProjection.open({ path: join(dir, 'models.db'), log });
    const registry = new Registry(options, models, blobs, tuf);
    registry.collecting = await Campaigns.open({
      log,
      clock,
      inTurn: (task) => registry.inTurn(task),
      nextGeneration: () => registry.nextGeneration(),
      settle: () => registry.settle(),
      onProblem,
    });
    registry.tail = await Tail.start({
      log,
      topic: MODELS_TOPIC,
      from: models.position(),
      apply: (batch) => {
        if (models.apply(batch)) registry.unsettled = true;
      },
      settle: async () => {
        registry.replayed = true;
        if (registry.unsettled) await registry.settle();
      },
      onProblem,
    });
    await registry.inTurn(() => registry.decide());
    registry.renewal = setInterval(
      () => void tuf.renew().catch((error: unknown) => onProblem(problemFrom(error))),
      RENEW_CHECK_MS,
    ).unref();
    return registry;
  }

  /** What cars collect. */
  get campaigns(): Campaigns {
    return this.collecting!; // there from `open` on
  }

  /** Records of the topics that could not be read. */
  get malformed(): number {
    return this.models.malformed + this.campaigns.malformed;
  }

  /** Names of all models. */
  names(): string[] {
    return this.models.names();
  }

  /** Versions of a model, oldest first. Throws MODEL_UNKNOWN. */
  versions(name: string): [ModelVersion, ...ModelVersion[]] {
    const [first, ...others] = this.models.versions(name);
    if (first === undefined) throw new CardanError('MODEL_UNKNOWN', `There is no model ${name}.`);
    return [first, ...others];
  }

  /** The newest versions in a list, oldest first. Throws MODEL_UNKNOWN. */
  newest(name: string, limit: number): ModelSummary[] {
    const newest = this.models.newest(name, limit);
    if (newest.length === 0) throw new CardanError('MODEL_UNKNOWN', `There is no model ${name}.`);
    return newest;
  }

  /** All versions after the n-th publication, oldest first, read as they are taken. Throws MODEL_UNKNOWN. */
  published(name: string, after: number): Iterable<ModelSummary> {
    this.resolve(name, 'latest');
    return this.models.published(name, after);
  }

  /** Alias → version. */
  aliases(name: string): Record<string, string> {
    return this.models.aliases(name);
  }

  /** The version that a word names: its own, `latest`, or an alias. Throws MODEL_UNKNOWN. */
  resolve(name: string, word: string): ModelRef {
    const version = this.models.resolve(name, word);
    if (version === undefined)
      throw new CardanError('MODEL_UNKNOWN', `There is no version or alias ${word} of the model ${name}.`);
    return { name, version };
  }

  /** undefined when there is none. */
  find(ref: ModelRef): ModelVersion | undefined {
    return this.models.version(ref);
  }

  tags(ref: ModelRef): Record<string, string> {
    return this.models.tags(ref);
  }

  /** Throws MODEL_UNKNOWN. */
  version(ref: ModelRef): ModelVersion {
    const version = this.models.version(ref);
    if (version === undefined)
      throw new CardanError('MODEL_UNKNOWN', `There is no version ${ref.version} of the model ${ref.name}.`);
    return version;
  }

  /**
   * What a vehicle with this signal set should run; generation 0 before anything was decided. A change of its campaigns
   * makes it grow, too. Without a vehicle: what is decided for all with this signal set.
   */
  desired(signalSet: string, vehicle?: string): VehicleDesired {
    const desired = this.models.desired(signalSet);
    const collecting = vehicle === undefined ? undefined : this.campaigns.desired(vehicle);
    if (collecting === undefined) return desired;
    let withCampaigns = this.desiredWith.get(desired);
    if (withCampaigns === undefined) this.desiredWith.set(desired, (withCampaigns = new WeakMap()));
    let both = withCampaigns.get(collecting);
    if (both === undefined) {
      const { generation, campaigns } = collecting;
      both = { ...desired, generation: Math.max(desired.generation, generation), campaigns };
      withCampaigns.set(collecting, both);
    }
    return both;
  }

  /** From now on generations are newer than those of rollouts, too. Call it once, before anything is changed. */
  attach(rollouts: RolloutsUnderWay): void {
    this.rollouts = rollouts;
  }

  /** Newest versions of their signal sets that no decision has followed yet: what a rollout is for. */
  undecided(): ModelVersion[] {
    // What waits for signatures no car could get.
    return this.models
      .undecided()
      .filter(({ manifest: { name, version } }) =>
        this.tuf.isPublished(`models/${name}/${version}/manifest.json`),
      );
  }

  /** To be called when signatures were brought: what has waited for them is told and decided now. */
  signaturesBrought(): Promise<void> {
    return this.inTurn(async () => {
      await this.settle();
      await this.decide();
    });
  }

  /** Runs a change with the next generation; no other one is made meanwhile. */
  change<T>(task: (generation: number) => Promise<T>): Promise<T> {
    return this.inTurn(async () => {
      await this.tail?.caughtUp();
      return task(this.nextGeneration());
    });
  }

  /** All vehicles with the signal set should run this model from now on. Within `change` only. Throws MODEL_UNKNOWN. */
  async decideActive(signalSet: string, active: ModelRef, generation: number): Promise<void> {
    this.version(active);
    await this.append('io.cardan.rollout.decided', active.name, `decided-${generation}`, {
      generation,
      signalSet,
      active,
    });
  }

  /** The newest decision of each signal set. */
  decisions(): RolloutDecided[] {
    return this.models.allDecisions();
  }

  /** Calls back after versions or decisions have changed and the metadata for them is signed. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Publishes a version: its files must be uploaded. Resolves when its metadata is signed and it is decided that
   * all vehicles with its signal set should run it; of a trial nothing is decided. The same bytes again are fine (`created` is false then).
   * Throws MODEL_INVALID, BLOB_UNKNOWN, BLOB_HASH_MISMATCH (wrong length), MODEL_EXISTS (other bytes).
   */
  publish(
    name: string,
    manifestBytes: Uint8Array,
    actor?: string,
    { trial = false } = {},
  ): Promise<{ model: ModelRef; created: boolean }> {
    return this.inTurn(async () => {
      const manifest = parseManifest(manifestBytes);
      if (manifest.name !== name)
        throw new CardanError(
          'MODEL_INVALID',
          `The manifest is of the model ${manifest.name}, not of ${name}.`,
        );
      const model = { name, version: manifest.version };
      const manifestSha256 = createHash('sha256').update(manifestBytes).digest('hex');
      await this.checkFiles(manifest);
      await this.tail?.caughtUp();
      const there = this.models.version(model);
      if (there !== undefined && there.manifestSha256 !== manifestSha256)
        throw new CardanError(
          'MODEL_EXISTS',
          `Version ${model.version} of ${name} is published with other content. Versions never change: take a new one.`,
        );
      await this.blobs.put(manifestSha256, [manifestBytes]);
      if (there === undefined)
        await this.append('io.cardan.model.published', name, `published-${name}-${model.version}`, {
          manifest,
          manifestSha256,
          ...(actor === undefined ? {} : { actor }),
          ...(trial ? { trial } : {}),
        });
      else await this.settle();
      await this.decide();
      return { model, created: there === undefined };
    });
  }

  /**
   * Has an alias name a version, or, with null, none any more. `champion` is what all vehicles of the signal set run: to
   * set it is to decide that, for all of them at once. Throws MODEL_UNKNOWN, LABEL_INVALID.
   */
  setAlias(name: string, alias: string, version: string | null, actor: string): Promise<void> {
    return this.inTurn(async () => {
      await this.tail?.caughtUp();
      const before = this.models.aliases(name);
      const named = Object.hasOwn(before, alias) ? before[alias] : undefined;
      if (version === null) {
        if (named === undefined)
          throw new CardanError('MODEL_UNKNOWN', `There is no alias ${alias} of the model ${name}.`);
        if (alias === CHAMPION)
          throw new CardanError(
            'LABEL_INVALID',
            'The champion is what the cars run. Have another version be it, instead of none.',
          );
      } else {
        const { manifest } = this.version({ name, version });
        if (named === version) return;
        const taken = alias === 'latest' || this.models.version({ name, version: alias }) !== undefined;
        if (taken) throw new CardanError('LABEL_INVALID', `"${alias}" names a version already.`);
        if (named === undefined && Object.keys(before).length >= LABELS_MAX)
          throw new CardanError('LABEL_INVALID', `A model has at most ${LABELS_MAX} aliases.`);
        if (alias === CHAMPION)
          await this.decideActive(manifest.signalSet.id, { name, version }, this.nextGeneration());
      }
      await this.append('io.cardan.model.alias-set', name, `alias-${randomUUID()}`, {
        name,
        alias,
        version,
        actor,
      });
    });
  }

  /** Sets tags of a version; null takes one away, others stay. Throws MODEL_UNKNOWN, LABEL_INVALID. */
  setTags(ref: ModelRef, tags: Record<string, string | null>, actor: string): Promise<void> {
    return this.inTurn(async () => {
      await this.tail?.caughtUp();
      this.version(ref);
      const before = new Map(Object.entries(this.models.tags(ref)));
      const changed = Object.entries(tags).filter(([tag, value]) => (before.get(tag) ?? null) !== value);
      if (changed.length === 0) return;
      for (const [tag, value] of changed)
        if (value === null) before.delete(tag);
        else before.set(tag, value);
      if (before.size > LABELS_MAX)
        throw new CardanError('LABEL_INVALID', `A version has at most ${LABELS_MAX} tags.`);
      await this.append('io.cardan.model.tagged', ref.name, `tagged-${randomUUID()}`, {
        ...ref,
        tags: Object.fromEntries(changed),
        actor,
      });
    });
  }

  /** Asks for a training; who trains sees it in the log. Resolves to its id. */
  async requestTraining(request: Omit<TrainingRequested, 'training'>): Promise<string> {
    const training = (this.options.newId ?? randomUUID)();
    await this.append('io.cardan.training.requested', training, `requested-${training}`, {
      training,
      ...request,
    });
    return training;
  }

  /** Stops following the log. The log itself stays open. */
  async close(): Promise<void> {
    clearInterval(this.renewal);
    await this.writing;
    await this.tail?.close();
    await this.campaigns.close();
    await this.settling;
    this.models.close();
  }

  /** Newest published versions that go to all vehicles of their signal sets at once. */
  private async decide(): Promise<void> {
    const { rollouts = 'immediate' } = this.options;
    for (const { manifest } of this.undecided()) {
      const { name, version, signalSet } = manifest;
      if (rollouts === 'immediate' || this.models.desired(signalSet.id).active === null)
        await this.decideActive(signalSet.id, { name, version }, this.nextGeneration());
    }
  }

  private async append<K extends EventType>(
    type: K,
    key: string,
    id: string,
    data: EventData[K],
  ): Promise<void> {
    const event = cloudEvent(type, { source: SOURCE, id, time: this.clock() }, data);
    await this.options.log.append(MODELS_TOPIC, [eventToRecord(key, event)]);
    await this.tail?.caughtUp();
  }

  private async checkFiles(manifest: ModelManifest): Promise<void> {
    for (const [file, { sha256, length }] of Object.entries(manifest.files)) {
      const size = await this.blobs.size(sha256);
      if (size === undefined) throw unknownBlob(sha256);
      if (size !== length)
        throw new CardanError(
          'BLOB_HASH_MISMATCH',
          `${file} has ${size} bytes; the manifest says ${length}.`,
        );
    }
  }

  /** One number for all decisions, so that a car can tell which of two it was told of is newer. */
  private nextGeneration(): number {
    return Math.max(this.models.generation, this.campaigns.generation, this.rollouts.generation()) + 1;
  }

  /** Models and campaigns settle one after the other: what is signed last must be of the newest state of both. */
  private settle(): Promise<void> {
    this.unsettled = true;
    const settled = this.settling.then(() => this.signAll());
    this.settling = settled.catch(() => {});
    return settled;
  }

  private async signAll(): Promise<void> {
    if (!this.replayed) return;
    // What is taken in from here on needs another turn.
    this.unsettled = false;
    try {
      const missing: ModelRef[] = [];
      const targets: Target[] = this.campaigns.targets();
      for (const signed of this.models.signedVersions(this.rollouts.models())) {
        const files = await this.targetsOf(signed);
        if (files === undefined) missing.push({ name: signed.name, version: signed.version });
        else targets.push(...files);
      }
      this.missing = missing;
      await this.tuf.publish(targets);
    } catch (error) {
      this.unsettled = true;
      throw error;
    }
    for (const listener of this.listeners) listener();
  }

  /** undefined when a file is not in the store: what cannot be fetched is not signed. */
  private async targetsOf({
    name,
    version,
    manifestSha256,
    files,
    custom,
  }: SignedVersion): Promise<Target[] | undefined> {
    const length = await this.blobs.size(manifestSha256);
    if (length === undefined) return undefined;
    const targets: Target[] = [];
    for (const [file, ref] of Object.entries({
      'manifest.json': { sha256: manifestSha256, length },
      ...files,
    })) {
      if ((await this.blobs.size(ref.sha256)) !== ref.length) return undefined;
      targets.push({ path: `models/${name}/${version}/${file}`, ...ref, custom: { ...custom } });
    }
    return targets;
  }

  private inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.writing.then(task);
    this.writing = result.catch(() => {});
    return result;
  }
}
