import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CardanError, messageOf, type ModelRef, systemCode, replaceFile, syncFolder } from '@cardan/shared';

export const MODEL_FILES = ['manifest.json', 'model.json', 'weights.bin'] as const;
export type ModelFile = (typeof MODEL_FILES)[number];

/** A model's files, as they were signed. */
export interface InstalledModel {
  ref: ModelRef;
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
}

interface Pointer {
  current: Installation | null;
  previous: Installation | null;
}

/**
 * Installed models:
 *
 *     current.json              {current, previous}, replaced in one step
 *     {content address}/        manifest.json  model.json  weights.bin
 *     incoming/                 a download under way; removed at the next start
 *
 * The folder's name is the hash of what must be in it, so a folder proves itself whole. The model before stays.
 */
export class ModelStore {
  /** Why the pointer file could not be used, when it could not; the store then begins empty. */
  readonly problem: CardanError | undefined;
  private readonly dir: string;
  private pointer: Pointer;

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
      return new ModelStore(dir, { current: null, previous: null }, problem);
    }
  }

  get current(): Installation | null {
    return this.pointer.current;
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
    return { ref, manifest, model, weights };
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

  /** Makes a model the current one, and the one until now the previous; older ones go. */
  async setCurrent(installed: Installation): Promise<void> {
    const { current, previous } = this.pointer;
    await this.point({
      current: installed,
      previous: current?.address === installed.address ? previous : current,
    });
  }

  /** Gives up the current model; the previous one, if any, takes its place. */
  async fallBack(): Promise<void> {
    await this.point({ current: this.pointer.previous, previous: null });
  }

  private async point(pointer: Pointer): Promise<void> {
    this.pointer = pointer;
    await replaceFile(join(this.dir, 'current.json'), JSON.stringify(pointer));
    const kept = new Set(['current.json', pointer.current?.address, pointer.previous?.address]);
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
  const { current, previous } = JSON.parse(json) as Pointer;
  for (const entry of [current, previous]) {
    if (entry === null) continue;
    const { ref, generation, signalSet, address } = entry;
    if (typeof ref.name !== 'string' || typeof ref.version !== 'string' || typeof signalSet !== 'string')
      throw new TypeError('an entry has no model or no signal set');
    if (!Number.isSafeInteger(generation)) throw new TypeError('an entry has no generation');
    if (!/^[0-9a-f]{64}$/.test(address)) throw new TypeError('an entry has no address');
  }
  return { current, previous };
}
