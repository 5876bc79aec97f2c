import { createReadStream } from 'node:fs';
import { copyFile, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import type { TargetFile } from '@tufjs/models';
import { CardanError, syncFolder, systemCode } from '@cardan/shared';
import { type Downloader, HttpStatusError } from './download.ts';
import { TargetHash } from './tuf-metadata.ts';

export interface TargetDownloadOptions {
  downloader: Downloader;
  targetsUrl: string;
  /** For what has come in part, named by the hash of the whole: it outlives a broken connection and a restart. */
  partialDir: string;
}

/**
 * A connection that breaks after this many bytes is taken up again at once: it was a good one. After fewer, waiting is
 * better, and that is the caller's. As the file has to grow each time, this also bounds the attempts.
 */
const PROGRESS_BYTES = 64 * 1024;
/** Files in part that are kept. A model has three; what is left of older ones goes. */
const PARTIAL_MAX = 4;

/**
 * Downloads signed files to their last byte, over as many connections as it takes. Only the bytes that were signed are
 * ever put in place, in one step.
 */
export class TargetDownload {
  private readonly options: TargetDownloadOptions;

  constructor(options: TargetDownloadOptions) {
    this.options = options;
  }

  /**
   * Puts the file at `path`, durably. Throws TUF_HASH when it is not what was signed and TUF_MALFORMED when no hash was
   * signed that can be checked, with nothing left behind; HTTP_UNREACHABLE and HTTP_STATUS, and goes on from there
   * the next time.
   */
  async fetch(target: TargetFile, path: string, consistent: boolean): Promise<void> {
    const { partialDir, targetsUrl } = this.options;
    const sha = new TargetHash(target).name;
    const { dir, base } = posix.parse(target.path);
    const name = posix.join(dir, consistent ? `${sha}.${base}` : base);
    const url = [targetsUrl, ...name.split('/').map(encodeURIComponent)].join('/');
    const partial = join(partialDir, sha);
    await mkdir(partialDir, { recursive: true });
    await this.makeRoom(sha);
    try {
      await this.complete(url, target, partial);
      await moveFile(partial, path);
    } catch (error) {
      // More of it may come over the next connection; what is wrong, or does not fit on the disk, goes.
      const resumable =
        error instanceof CardanError && (error.code === 'HTTP_UNREACHABLE' || error.code === 'HTTP_STATUS');
      if (!resumable) await unlink(partial).catch(() => {});
      throw error;
    }
  }

  private async complete(url: string, target: TargetFile, partial: string): Promise<void> {
    let had = await sizeOf(partial);
    // What is here may not be the beginning of the file; then it goes, once, and all of it is fetched.
    let mayBegin = had > 0;
    const begin = async () => {
      await unlink(partial).catch(() => {});
      had = 0;
      mayBegin = false;
    };
    for (;;) {
      try {
        if (await this.append(url, target, partial)) return;
        if (!mayBegin)
          throw new CardanError(
            'TUF_HASH',
            `${url} is not the file that was signed (${target.length} bytes); discarded.`,
          );
        await begin();
      } catch (error) {
        const has = await sizeOf(partial);
        const broken = error instanceof CardanError && error.code === 'HTTP_UNREACHABLE';
        const noRange = error instanceof HttpStatusError && (error.status === 416 || error.status === 206);
        if (noRange && mayBegin) await begin();
        else if (broken && has >= had + PROGRESS_BYTES) had = has;
        else throw error;
      }
    }
  }

  /** Adds what is missing. Resolves to whether the file is then what was signed. */
  private async append(url: string, target: TargetFile, partial: string): Promise<boolean> {
    const file = await open(partial, 'a');
    try {
      let hash = new TargetHash(target);
      const { size } = await file.stat();
      if (size > target.length) return false;
      for await (const chunk of createReadStream(partial) as AsyncIterable<Buffer>) hash.update(chunk);
      if (size === target.length && size > 0) return hash.isWhole();
      // 5.7.3 No more bytes than were signed (endless data), and these bytes only (arbitrary software).
      const onStart = async (from: number) => {
        if (from === size) return;
        await file.truncate(0);
        hash = new TargetHash(target);
      };
      for await (const chunk of this.options.downloader.stream(url, target.length, { from: size, onStart })) {
        await file.writeFile(chunk);
        hash.update(chunk);
      }
      await file.sync();
      return hash.isWhole();
    } finally {
      await file.close();
    }
  }

  /** The oldest of the other files in part go. */
  private async makeRoom(name: string): Promise<void> {
    const { partialDir } = this.options;
    const others = (await readdir(partialDir)).filter((other) => other !== name);
    const times = await Promise.all(
      others.map(async (other) => ({ other, at: (await stat(join(partialDir, other))).mtimeMs })),
    );
    times.sort((a, b) => b.at - a.at);
    for (const { other } of times.slice(PARTIAL_MAX - 1)) await unlink(join(partialDir, other));
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0;
    throw error;
  }
}

async function moveFile(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (systemCode(error) !== 'EXDEV') throw error;
    // Another file system: in two steps, the last one atomic again.
    const temp = `${to}.${process.pid}.tmp`;
    await copyFile(from, temp);
    const file = await open(temp, 'r+');
    await file.sync();
    await file.close();
    await rename(temp, to);
    await unlink(from);
  }
  await syncFolder(dirname(to));
}
