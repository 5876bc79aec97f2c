import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CardanError,
  messageOf,
  type ErrorCode,
  type ModelRef,
  systemCode,
  replaceFile,
  syncFolder,
} from '@cardan/shared';
import { AGENT_VERSION } from '../config.ts';
import { begun, ended, judged, type Trial } from './trials.ts';

export const MODEL_FILES = ['manifest.json', 'model.json', 'weights.bin'] as const;
export type ModelFile = (typeof MODEL_FILES)[number];

/** A model's files, as they were signed. */
export interface InstalledModel {
  ref: ModelRef;
  /** Content address: `modelAddress` of the three files. */
  address: string;
  manifest: Buffer;
  model: Buffer;
  weights: Buffer;
}

/** What the pointer file says of an installed model. */
export interface Installation {
  ref: ModelRef;
  /** Generation of the decision that asked for it. */
  generation: number;
  /** The signal set that it was installed for. */
  signalSet: string;
  /** Content address: `modelAddress` of its three files. */
  address: string;
  /** Has scored for long enough without trouble; see `Probation`. */
  good?: true;
}

/** A model that was stopped in this car because of how it ran. */
export interface Stopped {
  address: string;
  code: ErrorCode;
  message: string;
  /** Version of the agent that stopped it; another one may run it better. */
  agent: string;
}

interface Pointer {
  current: Installation | null;
  previous: Installation | null;
  candidate: Installation | null;
  stopped: Stopped[];
  trials: Trial[];
}

const NOTHING: Pointer = { current: null, previous: null, candidate: null, stopped: [], trials: [] };

/** Stopped models that are remembered. A fleet whose last 16 models were all stopped has other worries. */
const STOPPED_MAX = 16;

/**
 * Installed models:
 *
 *     current.json              {current, previous, candidate, stopped, trials}, replaced in one step
 *     {content address}/        manifest.json  model.json  weights.bin
 *     incoming/                 a download under way; removed at the next start
 *
 * The folder's name is the hash of what must be in it, so a folder proves itself whole. The model before stays, and
 * the candidate that scores beside the current one. Models that were stopped are remembered, so that none of them is
 * installed again; and those that have not proved themselves yet, so that a crash loop is found out.
 */
export class ModelStore {
  /** Why the pointer file could not be used, when it could not; the store then begins empty. */
  readonly problem: CardanError | undefined;
  private readonly dir: string;
  private pointer: Pointer;
  /** Address of what was added last: nothing may point to it yet. */
  private added: string | undefined;
  /** Writes of the pointer file, one after the other. */
  private writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, pointer: Pointer, problem: CardanError | undefined) {
    this.dir = dir;
    this.pointer = pointer;
    this.problem = problem;
  }

  static async open(dir: string): Promise<ModelStore> {
    await mkdir(dir, { recursive: true });
    await rm(join(dir, 'incoming'), { recursive: true, force: true });
    try {
      return new ModelStore(dir, parsePointer(await readFile(join(dir, 'current.json'), 'utf8')), undefined);
    } catch (cause) {
      const problem =
        systemCode(cause) === 'ENOENT'
          ? undefined
          : new CardanError(
              'MODEL_INVALID',
              `${join(dir, 'current.json')} is damaged: ${messageOf(cause)}.`,
              { cause },
            );
      return new ModelStore(dir, NOTHING, problem);
    }
  }

  get current(): Installation | null {
    return this.pointer.current;
  }

  get candidate(): Installation | null {
    return this.pointer.candidate;
  }

  /** Why a model was stopped here by this version of the agent, if it was. */
  stopped(address: string): Stopped | undefined {
    return this.pointer.stopped.find((entry) => entry.address === address && entry.agent === AGENT_VERSION);
  }

  /** Reads a model and verifies it by its address. Throws MODEL_INVALID when a file is missing or damaged. */
  async load(installed: Pick<Installation, 'ref' | 'address'>): Promise<InstalledModel> {
    const { ref, address } = installed;
    const broken = (cause?: unknown) =>
      new CardanError('MODEL_INVALID', `The files of model ${ref.name} ${ref.version} are damaged.`, {
        cause,
      });
    let contents: [Buffer, Buffer, Buffer];
    try {
      const read = (file: ModelFile) => readFile(join(this.dir, address, file));
      contents = await Promise.all([read('manifest.json'), read('model.json'), read('weights.bin')]);
    } catch (cause) {
      throw broken(cause);
    }
    const [manifest, model, weights] = contents;
    const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
    const hashes = {
      'manifest.json': hash(manifest),
      'model.json': hash(model),
      'weights.bin': hash(weights),
    };
    if (modelAddress(hashes) !== address) throw broken();
    return { ref, address, manifest, model, weights };
  }

  /**
   * Has the three files put into a fresh folder by `fill`, makes them durable under their address, and loads them
   * from there. What is there already and whole is not fetched again.
   */
  async add(
    ref: ModelRef,
    address: string,
    fill: (folder: string) => Promise<void>,
  ): Promise<InstalledModel> {
    this.added = address;
    try {
      return await this.load({ ref, address });
    } catch {
      const incoming = join(this.dir, 'incoming');
      await rm(incoming, { recursive: true, force: true });
      await mkdir(incoming);
      await fill(incoming);
      await syncFolder(incoming);
      await rm(join(this.dir, address), { recursive: true, force: true });
      await rename(incoming, join(this.dir, address));
      await syncFolder(this.dir);
      return this.load({ ref, address });
    }
  }

  /**
   * Makes a model the current one, and the one until now the previous; older ones go. One that has not scored yet
   * does not push out a previous one that has.
   */
  async setCurrent(installed: Installation): Promise<void> {
    const { current, previous } = this.pointer;
    const again = current?.address === installed.address;
    const keeps = again || (current?.good !== true && previous?.good === true);
    const before = keeps ? previous : current;
    await this.point({
      current: this.isGood(installed.address) ? { ...installed, good: true } : installed,
      previous: before?.address === installed.address ? null : before,
    });
  }

  /** Keeps a model beside the current one; null: none. */
  async setCandidate(candidate: Installation | null): Promise<void> {
    await this.point({ candidate });
  }

  /** Whether a model has proved itself in this car, as the active one or as the candidate. */
  isGood(address: string): boolean {
    const { current, previous, candidate } = this.pointer;
    return [current, previous, candidate].some((entry) => entry?.address === address && entry.good === true);
  }

  /** A model has proved itself: from now on it is one to go back to, and no longer on trial. */
  async markGood(address: string): Promise<void> {
    const { current, candidate, trials } = this.pointer;
    const good = (entry: Installation | null): Installation | null =>
      entry?.address === address ? { ...entry, good: true } : entry;
    const others = trials.filter((trial) => trial.address !== address);
    if (others.length < trials.length || !this.isGood(address))
      await this.point({ current: good(current), candidate: good(candidate), trials: others });
  }

  /**
   * To be called before a model gets its first row; when this resolves, its trial is on the disk. One that has proved
   * itself needs none.
   */
  async beginTrial(trial: Pick<Trial, 'ref' | 'address' | 'role' | 'bootId'>): Promise<void> {
    if (!this.isGood(trial.address)) await this.point({ trials: begun(this.pointer.trials, trial) });
  }

  /** A model on trial has scored for a minute. */
  async markCalm(address: string): Promise<void> {
    const { trials } = this.pointer;
    if (trials.some((trial) => trial.address === address))
      await this.point({
        trials: trials.map((trial) => (trial.address === address ? { ...trial, calm: true } : trial)),
      });
  }

  /**
   * To be called once, before anything scores: counts the end of the agent before against what was on trial then.
   * Returns the model that brought the agent down too often, if one did. It is on the disk with the next change.
   */
  judgeTrials(bootId: string): Trial | undefined {
    const { trials, looped } = judged(this.pointer.trials, bootId);
    this.pointer = { ...this.pointer, trials };
    return looped;
  }

  /** The agent ends as it should. */
  async endTrials(): Promise<void> {
    const { trials } = this.pointer;
    if (trials.some(({ running }) => running)) await this.point({ trials: ended(trials) });
  }

  /** Gives up the current model; the previous one, if any, takes its place. */
  async fallBack(): Promise<void> {
    await this.point({ current: this.pointer.previous, previous: null });
  }

  /** Gives up a model wherever it is used, and remembers why, so that it is not installed again. */
  async giveUp(address: string, code: ErrorCode, message: string): Promise<void> {
    const { current, previous, candidate, stopped, trials } = this.pointer;
    const without = (entry: Installation | null) => (entry?.address === address ? null : entry);
    const others = stopped.filter((entry) => entry.address !== address);
    await this.point({
      current: current?.address === address ? without(previous) : current,
      previous: current?.address === address ? null : without(previous),
      candidate: without(candidate),
      stopped: [...others, { address, code, message, agent: AGENT_VERSION }].slice(-STOPPED_MAX),
      trials: trials.filter((trial) => trial.address !== address),
    });
  }

  /** The change counts at once, and is on the disk when this resolves. */
  private point(change: Partial<Pointer>): Promise<void> {
    this.pointer = { ...this.pointer, ...change };
    const written = this.writing.then(() => this.write());
    this.writing = written.catch(() => {});
    return written;
  }

  private async write(): Promise<void> {
    const { pointer } = this;
    await replaceFile(join(this.dir, 'current.json'), JSON.stringify(pointer));
    const { current, previous, candidate } = pointer;
    const kept = new Set([
      'current.json',
      // A download goes on beside a change of the pointer.
      'incoming',
      this.added,
      ...[current, previous, candidate].map((entry) => entry?.address),
    ]);
    for (const name of await readdir(this.dir))
      if (!kept.has(name)) await rm(join(this.dir, name), { recursive: true, force: true });
  }
}

/** The content address of a model: SHA-256 over the hashes of its files, in the format of `sha256sum`. */
export function modelAddress(hashes: Record<ModelFile, string>): string {
  const list = MODEL_FILES.map((file) => `${hashes[file]}  ${file}\n`).join('');
  return createHash('sha256').update(list).digest('hex');
}

function parsePointer(json: string): Pointer {
  // The first agents knew no candidate, stopped nothing, and put nothing on trial.
  const { current, previous, candidate, stopped, trials } = {
    ...NOTHING,
    ...(JSON.parse(json) as Partial<Pointer>),
  };
  for (const entry of [current, previous, candidate]) {
    if (entry === null) continue;
    const { ref, generation, signalSet, address } = entry;
    if (typeof ref.name !== 'string' || typeof ref.version !== 'string' || typeof signalSet !== 'string')
      throw new TypeError('an entry has no model or no signal set');
    if (!Number.isSafeInteger(generation)) throw new TypeError('an entry has no generation');
    if (!/^[0-9a-f]{64}$/.test(address)) throw new TypeError('an entry has no address');
  }
  if (!Array.isArray(stopped)) throw new TypeError('what was stopped is no list');
  for (const { address, code, message, agent } of stopped)
    if (![address, code, message, agent].every((text) => typeof text === 'string'))
      throw new TypeError('an entry of what was stopped is incomplete');
  if (!Array.isArray(trials)) throw new TypeError('what is on trial is no list');
  for (const { ref, address, role, bootId, running, calm, deaths, cuts } of trials) {
    if (![ref.name, ref.version, address, role, bootId].every((text) => typeof text === 'string'))
      throw new TypeError('an entry of what is on trial is incomplete');
    if (typeof running !== 'boolean' || typeof calm !== 'boolean')
      throw new TypeError('an entry of what is on trial has no state');
    if (!Number.isSafeInteger(deaths) || !Number.isSafeInteger(cuts))
      throw new TypeError('an entry of what is on trial counts nothing');
  }
  return { current, previous, candidate, stopped, trials };
}
