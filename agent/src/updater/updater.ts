import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Campaign,
  type CampaignReport,
  CardanError,
  messageOf,
  type ErrorCode,
  type ModelRef,
  type VehicleDesired,
  type VehicleModelStopped,
  type VehicleReported,
} from '@cardan/shared';
import { AGENT_BUILT_AT, AGENT_VERSION } from '../config.ts';
import { bootId } from './boot-id.ts';
import { CampaignUpdater } from './campaigns.ts';
import { parseDesired } from './desired.ts';
import { Downloader } from './download.ts';
import { checkFits, RefusedModelError, type Abilities } from './fits.ts';
import { httpGet, type HttpGet } from './http-get.ts';
import {
  type Installation,
  type InstalledModel,
  MODEL_FILES,
  modelAddress,
  type ModelFile,
  ModelStore,
} from './model-store.ts';
import { TufClient } from './tuf-client.ts';
import { crashLoop } from './trials.ts';
import { sha256Of } from './tuf-metadata.ts';

export type { InstalledModel };

type ModelRole = VehicleModelStopped['role'];

/** The part of what a car reports that the updater knows. */
export type UpdateReport = Pick<VehicleReported, 'observedGeneration' | 'active' | 'phase' | 'error'>;

/** What may be wrong with a model, as it is reported. */
type Failure = { code: ErrorCode; message: string };

export interface UpdaterOptions {
  /** For metadata and models. */
  dir: string;
  /** The root.json that the car got in the factory. */
  rootPath: string;
  /** Of the registry, for example `http://127.0.0.1:8081`. */
  baseUrl: string;
  vehicle: string;
  /** Id of the columns that this car sends; models for others are refused. */
  signalSet: string;
  /** Milliseconds since 1970, default Date.now; tells expired metadata. */
  clock?: () => number;
  /** The clock counts as no earlier than this, milliseconds since 1970; default when this agent was released. */
  notBefore?: number;
  /** 0 … 1, spreads the cars' polls; default Math.random. */
  random?: () => number;
  get?: HttpGet;
  /** Waits; ends early when the signal aborts. */
  delay?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** A transfer that brings next to nothing for this long is given up (milliseconds); default 30 s. */
  stallMs?: number;
  /** Loads a verified model and swaps it in. When it throws, the car stays on what it has. */
  onInstalled: (model: InstalledModel) => Promise<void>;
  /** The same for the model that scores silently beside it; null: none does any more. */
  onCandidate: (model: InstalledModel | null) => Promise<void>;
  onReport: (report: UpdateReport) => void;
  /** The updater has given up a model: it fails its self-test here, or the agent died again and again with it. */
  onModelStopped?: (stopped: VehicleModelStopped) => void;
  /** What this car can run; without it only what the files themselves show is checked. */
  abilities?: Abilities;
  /** Names this start of the computer; default that of the system. */
  bootId?: string;
  /** What is collected from now on; without it campaigns are left aside. */
  onCampaigns?: (campaigns: readonly Campaign[]) => void;
  /** Campaigns that do not run, with the reason. */
  onCampaignTrouble?: (trouble: readonly CampaignReport[]) => void;
}

/** A poll is the fallback for hints that do not come, so it need not be fast. */
const POLL_MS = 60_000;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 300_000;
const DESIRED_BYTES_MAX = 65_536;

/**
 * Keeps the car on the model that the cloud wants: hears hints, polls, verifies by TUF, downloads, hands over.
 * One installation at a time; hints in between are coalesced to the newest.
 */
export class Updater {
  /** Since the start. */
  readonly counts = { polls: 0, pollsFailed: 0, installed: 0, failed: 0 };
  private readonly options: UpdaterOptions;
  private readonly tuf: TufClient;
  private readonly downloader: Downloader;
  private readonly random: () => number;
  private readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  private readonly stopped = new AbortController();
  private store: ModelStore | undefined;
  /** What is installed has been handed over. Hints that come before wait: they would be overtaken by it. */
  private started = false;
  private report: UpdateReport = { observedGeneration: 0, active: null, phase: 'idle', error: null };
  /** Generations up to this one are dealt with: installed, or refused for good. */
  private done = 0;
  /** The newest one that is for other signals: not for us, and no reason to refuse an older one that is. */
  private foreign = 0;
  private wanted: VehicleDesired | undefined;
  /** Address of the model that was handed over. */
  private running: string | undefined;
  /** The same of the candidate. */
  private shadowing: string | undefined;
  private newHint = new AbortController();
  private working: Promise<void> | undefined;
  private polling: Promise<void> | undefined;
  private readonly campaigns: CampaignUpdater | undefined;
  private readonly bootId: string;
  /** Swaps of models and what goes with them, one after the other. */
  private swapping: Promise<unknown> = Promise.resolve();

  constructor(options: UpdaterOptions) {
    this.options = options;
    this.random = options.random ?? Math.random;
    this.delay = options.delay ?? waitFor;
    this.bootId = options.bootId ?? bootId();
    this.downloader = new Downloader({ get: options.get ?? httpGet, stallMs: options.stallMs ?? 30_000 });
    this.tuf = new TufClient({
      dir: join(options.dir, 'metadata'),
      rootPath: options.rootPath,
      metadataUrl: `${options.baseUrl}/v1/tuf`,
      targetsUrl: `${options.baseUrl}/v1/targets`,
      downloader: this.downloader,
      clock: options.clock ?? Date.now,
      notBefore: options.notBefore ?? AGENT_BUILT_AT,
    });
    if (options.onCampaigns !== undefined)
      this.campaigns = new CampaignUpdater({
        dir: join(options.dir, 'campaigns'),
        agent: AGENT_VERSION,
        tuf: this.tuf,
        retryMs: (failures) => this.retryMs(failures),
        delay: this.delay,
        onCampaigns: options.onCampaigns,
        onTrouble: options.onCampaignTrouble ?? (() => undefined),
      });
  }

  /**
   * Hands over the model that is installed, or the one before when that is broken or does not load; then begins
   * to poll. Needs no network.
   */
  async start(): Promise<void> {
    await this.campaigns?.start();
    const store = await ModelStore.open(join(this.options.dir, 'models'));
    this.store = store;
    await this.startInstalled(store, await this.breakCrashLoop(store));
    await this.startCandidate(store);
    this.started = true;
    this.work();
    this.polling = this.pollForever();
  }

  /** What the cloud wants, as MQTT brought it. Comes back at once. */
  hint(desired: VehicleDesired): void {
    this.campaigns?.hint(desired);
    const { generation } = desired;
    if (generation <= this.done || generation === this.foreign) return;
    if (this.wanted !== undefined && generation <= this.wanted.generation) return;
    this.wanted = desired;
    this.newHint.abort();
    this.newHint = new AbortController();
    this.work();
  }

  /** Asks the cloud what it wants. Failures are counted: being offline is a car's normal state. */
  async poll(): Promise<void> {
    const { baseUrl, vehicle, signalSet } = this.options;
    const url = `${baseUrl}/v1/vehicles/${encodeURIComponent(vehicle)}/desired?signalSet=${encodeURIComponent(signalSet)}`;
    this.counts.polls++;
    try {
      this.hint(parseDesired(await this.downloader.bytes(url, DESIRED_BYTES_MAX)));
    } catch {
      this.counts.pollsFailed++;
    }
  }

  /**
   * A model was stopped in this car because of how it ran. It is not installed again, and the model before becomes
   * the current one, so that a restart begins with that. `activeAddress` is what scores now: where it is not what
   * the store says, the stored one is handed over.
   */
  modelStopped(address: string, { code, message }: Failure, activeAddress: string | null): void {
    const { store } = this;
    if (store === undefined) return;
    if (this.shadowing === address) this.shadowing = undefined;
    if (this.running === address) this.running = activeAddress ?? undefined;
    void this.exclusive(async () => {
      const error: Failure = { code, message };
      const failed = (cause: unknown) => {
        error.message += ` ${problemOf(cause).message}`;
      };
      // It counts in memory at once, so this goes on also when the disk takes no writes.
      await store.giveUp(address, code, message).catch(failed);
      await this.goBack(store).catch(failed);
      this.say({ phase: 'failed', error, active: store.current?.ref ?? null });
    });
  }

  /** The model with this address has proved itself, so that it is one to go back to. */
  modelIsGood(address: string): void {
    const { store } = this;
    // On a disk that takes no writes it counts until the next start.
    void this.exclusive(async () => store?.markGood(address).catch(() => {}));
  }

  /** The model with this address has scored for a minute. */
  modelIsCalm(address: string): void {
    const { store } = this;
    void this.exclusive(async () => store?.markCalm(address).catch(() => {}));
  }

  /** Resolves when there is nothing left to do or to try again. */
  async settled(): Promise<void> {
    while (this.working !== undefined) await this.working;
    await this.campaigns?.settled();
    await this.swapping;
  }

  /** Breaks off what is under way; what was downloaded in part is removed at the next start. */
  async stop(): Promise<void> {
    this.stopped.abort();
    this.newHint.abort();
    this.downloader.stop();
    await Promise.all([this.campaigns?.stop(), this.working, this.polling, this.swapping]);
    // A disk that takes no writes lets this end look like a crash; it takes three of them to count.
    await this.store?.endTrials().catch(() => {});
  }

  /** Gives up the model with which the agent died again and again. Needs no network. */
  private async breakCrashLoop(store: ModelStore): Promise<unknown> {
    const looped = store.judgeTrials(this.bootId);
    if (looped === undefined) return store.problem;
    const { ref, address, role } = looped;
    const { code, message } = crashLoop(looped);
    await this.giveUpModel(store, { ref, address }, role, new RefusedModelError(code, message));
    return new CardanError(code, message);
  }

  /** A model that must not run here again: it is told of, and remembered. */
  private async giveUpModel(
    store: ModelStore,
    { ref, address }: Pick<Installation, 'ref' | 'address'>,
    role: ModelRole,
    { code, message }: CardanError,
  ): Promise<void> {
    if (code === 'SELF_TEST_FAILED' || code === 'MODEL_CRASH_LOOP')
      this.options.onModelStopped?.({ model: ref, role, code, message });
    // It counts in memory at once, so the car goes on without it also when the disk takes no writes.
    await store.giveUp(address, code, message).catch(() => {});
  }

  private async startInstalled(store: ModelStore, problem: unknown): Promise<void> {
    let error = problem;
    for (let current = store.current; current !== null; current = store.current) {
      // The car's columns have changed since, for example by a new map: that model is not for us.
      if (current.signalSet !== this.options.signalSet) break;
      try {
        const files = await store.load(current);
        await this.tryOut(store, current, 'active').catch(() => {});
        await this.handOver(files);
        this.done = current.generation;
        this.say({ observedGeneration: current.generation, active: current.ref });
        break;
      } catch (cause) {
        error = cause;
        if (isSelfTest(cause)) await this.giveUpModel(store, current, 'active', cause);
        // A disk that takes no writes must not keep the car from the model before.
        else await store.fallBack().catch((failure: unknown) => (error = failure));
      }
    }
    if (error !== undefined) this.say({ phase: 'failed', error: problemOf(error) });
  }

  private async startCandidate(store: ModelStore): Promise<void> {
    const { candidate } = store;
    if (candidate?.signalSet !== this.options.signalSet) return;
    try {
      const files = await store.load(candidate);
      await this.tryOut(store, candidate, 'shadow').catch(() => {});
      this.shadowing = candidate.address;
      await this.options.onCandidate(files);
    } catch (cause) {
      this.shadowing = undefined;
      if (isSelfTest(cause)) return this.giveUpModel(store, candidate, 'shadow', cause);
      // The car is as good without it; the next decision brings it again.
      await store.setCandidate(null).catch(() => {});
    }
  }

  /** Hands over what the store has as the current model, where something else runs. */
  private async goBack(store: ModelStore): Promise<void> {
    const { current } = store;
    if (current === null || current.address === this.running || current.signalSet !== this.options.signalSet)
      return;
    const files = await store.load(current);
    await this.tryOut(store, current, 'active').catch(() => {});
    await this.handOver(files);
  }

  /** Before a model gets its first row. */
  private tryOut(store: ModelStore, { ref, address }: Installation, role: ModelRole): Promise<void> {
    return store.beginTrial({ ref, address, role, bootId: this.bootId });
  }

  private work(): void {
    if (
      this.store === undefined ||
      !this.started ||
      this.working !== undefined ||
      this.stopped.signal.aborted
    )
      return;
    const store = this.store;
    this.working = this.installWanted(store).finally(() => {
      this.working = undefined;
      // A hint may have come between the last look and now.
      if (this.wanted !== undefined) this.work();
    });
  }

  private async installWanted(store: ModelStore): Promise<void> {
    let failures = 0;
    while (this.wanted !== undefined && !this.stopped.signal.aborted) {
      const wanted = this.wanted;
      this.say({ observedGeneration: wanted.generation, phase: 'updating' });
      try {
        const refused = await this.install(store, wanted);
        this.finish(wanted);
        if (refused === undefined) this.say({ phase: 'idle', error: null });
        else {
          this.counts.failed++;
          this.say({ phase: 'failed', error: problemOf(refused) });
        }
        failures = 0;
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        this.counts.failed++;
        this.say({ phase: 'failed', error: problemOf(error) });
        if (error instanceof CardanError && error.code === 'SIGNAL_SET_MISMATCH') {
          this.giveUp(wanted);
          continue;
        }
        if (this.wanted === wanted) await this.delay(this.retryMs(failures++), this.newHint.signal);
        if (this.wanted !== wanted) failures = 0;
      }
    }
  }

  /**
   * Installs both models. A model that is refused for good does not keep the other one out; the refusal is
   * returned. Whatever else goes wrong is thrown, and worth another try.
   */
  private async install(store: ModelStore, wanted: VehicleDesired): Promise<CardanError | undefined> {
    const { active, candidate = null, generation } = wanted;
    let refused: CardanError | undefined;
    try {
      if (active !== null) await this.installActive(store, generation, active);
    } catch (error) {
      if (!(error instanceof RefusedModelError)) throw error;
      refused = error;
    }
    try {
      await this.installCandidate(store, generation, candidate);
    } catch (error) {
      if (!isFinal(error)) throw error;
      refused ??= error;
    }
    return refused;
  }

  private async installActive(store: ModelStore, generation: number, ref: ModelRef): Promise<void> {
    const { installed, fetch } = await this.find(store, generation, ref);
    // Otherwise it is a new decision for the model that runs already.
    const files = this.running === installed.address ? undefined : await fetch();
    await this.exclusive(async () => {
      if (files !== undefined) {
        await this.tryOut(store, installed, 'active');
        await this.orGiveUp(store, installed, 'active', this.handOver(files));
        this.counts.installed++;
      }
      // It may have been stopped since.
      this.checkNotStopped(store, installed);
      await store.setCurrent(installed);
      this.say({ active: ref });
    });
  }

  private async installCandidate(store: ModelStore, generation: number, ref: ModelRef | null): Promise<void> {
    const found = ref === null ? undefined : await this.find(store, generation, ref);
    // The active model beside itself would tell nothing.
    const wanted = found?.installed.address === this.running ? undefined : found;
    if (this.shadowing === wanted?.installed.address) return;
    if (wanted === undefined) {
      await this.options.onCandidate(null);
      this.shadowing = undefined;
      await store.setCandidate(null);
      return;
    }
    const { installed, fetch } = wanted;
    const files = await fetch();
    await this.exclusive(async () => {
      await this.tryOut(store, installed, 'shadow');
      // Already now, as it may be stopped on its first row.
      this.shadowing = installed.address;
      try {
        const taken = this.refusable(this.options.onCandidate(files));
        await this.orGiveUp(store, installed, 'shadow', taken);
      } catch (error) {
        this.shadowing = undefined;
        throw error;
      }
      this.checkNotStopped(store, installed);
      await store.setCandidate(installed);
    });
  }

  /** Looks a model up in the signed metadata. Nothing of it is downloaded before `fetch`. */
  private async find(
    store: ModelStore,
    generation: number,
    ref: ModelRef,
  ): Promise<{ installed: Installation; fetch: () => Promise<InstalledModel> }> {
    const { signalSet } = this.options;
    await this.tuf.refresh();
    const target = (file: ModelFile) => this.tuf.target(`models/${ref.name}/${ref.version}/${file}`);
    const targets = {
      'manifest.json': await target('manifest.json'),
      'model.json': await target('model.json'),
      'weights.bin': await target('weights.bin'),
    };
    // Before a byte of it is downloaded.
    checkFits(ref, targets, signalSet, this.options.abilities);
    const address = modelAddress({
      'manifest.json': sha256Of(targets['manifest.json']),
      'model.json': sha256Of(targets['model.json']),
      'weights.bin': sha256Of(targets['weights.bin']),
    });
    const installed = { ref, generation, signalSet, address };
    this.checkNotStopped(store, installed);
    const fetch = () =>
      store.add(ref, address, async (folder) => {
        for (const file of MODEL_FILES) await this.tuf.download(targets[file], join(folder, file));
      });
    return { installed, fetch };
  }

  /** Throws the reason for which a model was stopped here. */
  private checkNotStopped(store: ModelStore, { address }: Installation): void {
    const stopped = store.stopped(address);
    if (stopped !== undefined) throw new RefusedModelError(stopped.code, stopped.message);
  }

  private async handOver(model: InstalledModel): Promise<void> {
    const before = this.running;
    // Already now, as it may be stopped on its first row.
    this.running = model.address;
    try {
      await this.refusable(this.options.onInstalled(model));
    } catch (error) {
      if (this.running === model.address) this.running = before;
      throw error;
    }
  }

  /** A model that fails its self-test is not fetched and tried again at each start. */
  private async orGiveUp(
    store: ModelStore,
    installed: Installation,
    role: ModelRole,
    taken: Promise<void>,
  ): Promise<void> {
    try {
      await taken;
    } catch (error) {
      if (isSelfTest(error)) await this.giveUpModel(store, installed, role, error);
      throw error;
    }
  }

  /** One swap at a time: what a stopped model asks for may come in the middle of an installation. */
  private exclusive<T>(task: () => Promise<T>): Promise<T> {
    const done = this.swapping.then(task);
    this.swapping = done.catch(() => {});
    return done;
  }

  private async refusable(handedOver: Promise<void>): Promise<void> {
    try {
      await handedOver;
    } catch (cause) {
      throw new RefusedModelError(
        cause instanceof CardanError ? cause.code : 'MODEL_INVALID',
        messageOf(cause),
        {
          cause,
        },
      );
    }
  }

  private finish({ generation }: VehicleDesired): void {
    this.done = Math.max(this.done, generation);
    if (this.wanted !== undefined && this.wanted.generation <= this.done) this.wanted = undefined;
  }

  private giveUp(wanted: VehicleDesired): void {
    this.foreign = wanted.generation;
    if (this.wanted === wanted) this.wanted = undefined;
  }

  /** Doubles from one second up to five minutes. With up to half as much again, so that a fleet does not knock in step. */
  private retryMs(failures: number): number {
    return Math.min(RETRY_MS_MIN * 2 ** Math.min(failures, 20), RETRY_MS_MAX) * (1 + this.random() / 2);
  }

  private async pollForever(): Promise<void> {
    const { signal } = this.stopped;
    while (!signal.aborted) {
      await this.poll();
      await this.delay(POLL_MS * (1 + this.random() / 2), signal);
    }
  }

  private say(change: Partial<UpdateReport>): void {
    this.report = { ...this.report, ...change };
    this.options.onReport(this.report);
  }
}

/** Whether trying the same generation again is useless. */
function isFinal(error: unknown): error is CardanError {
  return (
    error instanceof RefusedModelError ||
    (error instanceof CardanError && error.code === 'SIGNAL_SET_MISMATCH')
  );
}

function isSelfTest(error: unknown): error is CardanError {
  return error instanceof CardanError && error.code === 'SELF_TEST_FAILED';
}

function problemOf(error: unknown): Failure {
  if (error instanceof CardanError) return { code: error.code, message: error.message };
  // Models that are refused have a code by now, so this is the disk: full, read-only, broken.
  return { code: 'DATA_DIR_NOT_WRITABLE', message: `The model cannot be stored: ${messageOf(error)}.` };
}

async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  // An aborted wait is one that ended early, not a failure. A wait alone keeps no process alive.
  await sleep(ms, undefined, { signal, ref: false }).catch(() => {});
}
