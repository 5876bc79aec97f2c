import { execFile, execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { CanFrame, CanSource } from '../../agent/src/can/can-frame.ts';

/** A frame as can-utils write it: `123#0102`, `18FEF100#`, `123##1AABB`, `123#R2`. */
export type Text = string;

export function textOf({ id, extended, fd, data }: CanFrame): Text {
  const digits = id
    .toString(16)
    .padStart(extended ? 8 : 3, '0')
    .toUpperCase();
  return `${digits}#${fd ? '#1' : ''}${Buffer.from(data).toString('hex').toUpperCase()}`;
}

export const ip = (...args: string[]) => void execFileSync('ip', args, { stdio: 'pipe' });

/** A virtual bus; with `fd` it takes CAN FD. */
export function addBus(name: string, { fd = false, up = true } = {}): void {
  ip('link', 'add', 'dev', name, 'type', 'vcan');
  if (fd) ip('link', 'set', name, 'mtu', '72');
  if (up) ip('link', 'set', name, 'up');
}

export const cansend = (bus: string, frame: Text) => promisify(execFile)('cansend', [bus, frame]);

/** Sends all frames, as fast as the kernel takes them or at a pace, by canplayer. */
export async function play(bus: string, frames: readonly Text[], perSecond?: number): Promise<void> {
  const path = `/tmp/play-${bus}.log`;
  const line = (frame: Text, i: number) => `(${(i / (perSecond ?? 1e6)).toFixed(6)}) ${bus} ${frame}\n`;
  writeFileSync(path, frames.map(line).join(''));
  await promisify(execFile)('canplayer', [...(perSecond === undefined ? ['-t'] : ['-g', '1']), '-I', path]);
}

/** Resolves when `holds` does: the kernel tells nobody when a socket is bound or a process gone. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Sockets that listen on a bus, error frames not counted. */
export function listeners(bus: string): number {
  return ['all', 'fil', 'inv', 'sff', 'eff']
    .flatMap((list) => readFileSync(`/proc/net/can/rcvlist_${list}`, 'latin1').split('\n'))
    .filter((line) => line.trim().startsWith(`${bus} `)).length;
}

/** Processes of this name that run now. */
export function running(name: string): number {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        // A killed process whose parent has not asked for its status is no more than an entry.
        const [, found, state] = /\((.*)\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
        return found === name && state !== 'Z';
      } catch {
        return false; // gone meanwhile
      }
    }).length;
}

/** Reads a source in the background. */
export class Reader {
  readonly frames: CanFrame[] = [];
  /** While it is there, nothing is read. */
  pause: Promise<void> | undefined;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(source: CanSource) {
    this.#done = this.#read(source);
  }

  get texts(): Text[] {
    return this.frames.map(textOf);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #read(source: CanSource): Promise<void> {
    for await (const frames of source.frames(this.#stop.signal)) {
      this.frames.push(...frames);
      await this.pause;
    }
  }
}
