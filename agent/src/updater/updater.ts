import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TargetFile } from '@tufjs/models';
import {
  CardanError,
  messageOf,
  type ModelRef,
  type VehicleDesired,
  type VehicleReported,
} from '@cardan/shared';
import { parseDesired } from './desired.ts';
import { Downloader } from './download.ts';
import { type InstalledModel, MODEL_FILES, modelAddress, type ModelFile, ModelStore } from './model-store.ts';
import { sha256Of, TufClient } from './tuf-client.ts';

export type { InstalledModel };

/** The part of what a car reports that the updater knows. */
export type UpdateReport = Pick<VehicleReported, 'observedGeneration' | 'active' | 'phase' | 'error'>;

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
  /** 0 … 1, spreads the cars' polls; default Math.random. */
  random?: () => number;
  fetch?: typeof fetch;
  /** Waits; ends early when the signal aborts. */
  delay?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** A transfer that brings next to nothing for this long is given up (milliseconds); default 30 s. */
  stallMs?: number;
  /** Loads a verified model and swaps it in. When it throws, the car stays on what it has. */
  onInstalled: (model: InstalledModel) => Promise<void>;
  onReport: (report: UpdateReport) => void;
}

/** A poll is the fallback for hints that do not come, so it need not be fast. */
const POLL_MS = 60_000;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 300_000;
/** All files of a model together. A car's disk and memory are small. */
const MODEL_BYTES_MAX = 64 * 1024 * 1024;
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
  private report: UpdateReport = { observedGeneration: 0, active: null, phase: 'idle', error: null };
  /** Generations up to this one are dealt with: installed, or refused for good. */
  private done = 0;
  /** The newest one that is for other signals: not for us, and no reason to refuse an older one that is. */
  private foreign = 0;
  private wanted: VehicleDesired | undefined;
  /** Address of the model that was handed over. */
  private running: string | undefined;
  private newHint = new AbortController();
  private working: Promise<void> | undefined;
  private polling: Promise<void> | undefined;

  constructor(options: UpdaterOptions) {
    this.options = options;
    this.random = options.random ?? Math.random;
    this.delay = options.delay ?? waitFor;
    this.downloader = new Downloader({ fetch: options.fetch ?? fetch, stallMs: options.stallMs ?? 30_000 });
    this.tuf = new TufClient({
      dir: join(options.dir, 'metadata'),
      rootPath: options.rootPath,
      metadataUrl: `${options.baseUrl}/v1/tuf`,
      targetsUrl: `${options.baseUrl}/v1/targets`,
      downloader: this.downloader,
      clock: options.clock ?? Date.now,
    });
  }

  /**
   * Hands over the model that is installed, or the one before when that is broken or does not load; then begins
   * to poll. Needs no network.
   */
  async start(): Promise<void> {
    this.store = await ModelStore.open(join(this.options.dir, 'models'));
    await this.startInstalled(this.store);
    this.work();
    this.polling = this.pollForever();
  }

  /** What the cloud wants, as MQTT brought it. Comes back at once. */
  hint(desired: VehicleDesired): void {
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

  /** Resolves when there is nothing left to do or to try again. */
  async settled(): Promise<void> {
    while (this.working !== undefined) await this.working;
  }

  /** Breaks off what is under way; what was downloaded in part is removed at the next start. */
  async stop(): Promise<void> {
    this.stopped.abort();
    this.newHint.abort();
    this.downloader.stop();
    await Promise.all([this.working, this.polling]);
  }

  private async startInstalled(store: ModelStore): Promise<void> {
    let error: unknown = store.problem;
    for (let current = store.current; current !== null; current = store.current) {
      // The car's columns have changed since, for example by a new map: that model is not for us.
      if (current.signalSet !== this.options.signalSet) break;
      try {
        await this.handOver(await store.load(current));
        this.done = current.generation;
        this.running = current.address;
        this.say({ observedGeneration: current.generation, active: current.ref });
        break;
      } catch (cause) {
        error = cause;
        // A disk that takes no writes must not keep the car from the model before.
        await store.fallBack().catch((failure: unknown) => (error = failure));
      }
    }
    if (error !== undefined) this.say({ phase: 'failed', error: problemOf(error) });
  }

  private work(): void {
    if (this.store === undefined || this.working !== undefined || this.stopped.signal.aborted) return;
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
        if (wanted.active !== null) await this.install(store, wanted.generation, wanted.active);
        this.finish(wanted);
        this.say({ phase: 'idle', error: null });
        failures = 0;
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        this.counts.failed++;
        this.say({ phase: 'failed', error: problemOf(error) });
        if (isFinal(error)) {
          if (error instanceof CardanError && error.code === 'SIGNAL_SET_MISMATCH') this.giveUp(wanted);
          else this.finish(wanted);
          continue;
        }
        if (this.wanted === wanted) await this.delay(this.retryMs(failures++), this.newHint.signal);
        if (this.wanted !== wanted) failures = 0;
      }
    }
  }

  private async install(store: ModelStore, generation: number, ref: ModelRef): Promise<void> {
    const { signalSet } = this.options;
    await this.tuf.refresh();
    const target = (file: ModelFile) => this.tuf.target(`models/${ref.name}/${ref.version}/${file}`);
    const targets = {
      'manifest.json': target('manifest.json'),
      'model.json': target('model.json'),
      'weights.bin': target('weights.bin'),
    };
    // Before a byte of it is downloaded.
    checkFits(ref, Object.values(targets), signalSet);
    const address = modelAddress({
      'manifest.json': sha256Of(targets['manifest.json']),
      'model.json': sha256Of(targets['model.json']),
      'weights.bin': sha256Of(targets['weights.bin']),
    });
    const installed = { ref, generation, signalSet, address };
    // Otherwise it is a new decision for the model that runs already.
    if (this.running !== address) {
      const files = await store.add(ref, address, async (folder) => {
        for (const file of MODEL_FILES) await this.tuf.download(targets[file], join(folder, file));
      });
      await this.handOver(files);
      this.running = address;
      this.counts.installed++;
    }
    await store.setCurrent(installed);
    this.say({ active: ref });
  }

  private async handOver(model: InstalledModel): Promise<void> {
    try {
      await this.options.onInstalled(model);
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

/** The files are as signed, but the car cannot take the model: trying again would change nothing. */
class RefusedModelError extends CardanError {}

/** Whether trying the same generation again is useless. */
function isFinal(error: unknown): boolean {
  return (
    error instanceof RefusedModelError ||
    (error instanceof CardanError && error.code === 'SIGNAL_SET_MISMATCH')
  );
}

/** Throws SIGNAL_SET_MISMATCH, or MODEL_INVALID when it is too large for a car. */
function checkFits(ref: ModelRef, targets: TargetFile[], signalSet: string): void {
  const other = targets.find(({ custom }) => custom.signalSet !== signalSet);
  if (other !== undefined)
    throw new CardanError(
      'SIGNAL_SET_MISMATCH',
      `Model ${ref.name} ${ref.version} is for the signal set ${String(other.custom.signalSet)}; this car sends ${signalSet}.`,
    );
  const bytes = targets.reduce((sum, { length }) => sum + length, 0);
  if (bytes > MODEL_BYTES_MAX)
    throw new RefusedModelError(
      'MODEL_INVALID',
      `Model ${ref.name} ${ref.version} has ${bytes} bytes; at most ${MODEL_BYTES_MAX} fit.`,
    );
}

function problemOf(error: unknown): { code: string; message: string } {
  if (error instanceof CardanError) return { code: error.code, message: error.message };
  // Models that are refused have a code by now, so this is the disk: full, read-only, broken.
  return { code: 'DATA_DIR_NOT_WRITABLE', message: `The model cannot be stored: ${messageOf(error)}.` };
}

async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  // An aborted wait is one that ended early, not a failure. A wait alone keeps no process alive.
  await sleep(ms, undefined, { signal, ref: false }).catch(() => {});
}
