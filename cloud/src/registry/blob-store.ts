import { createHash } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { CardanError, systemCode, syncFolder } from '@cardan/shared';

/** Largest blob that the API takes, bytes. */
export const BLOB_BYTES_MAX = 64 * 1024 * 1024;

const SHA256 = /^[0-9a-f]{64}$/;

/** Files named by the SHA-256 of their bytes. What is here is whole, durable and never changes. */
export class BlobStore {
  readonly dir: string;
  private temps = 0;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Opens the store and removes what a crash in the middle of a `put` has left. */
  static async open(dir: string): Promise<BlobStore> {
    await mkdir(dir, { recursive: true });
    for (const name of await readdir(dir)) if (name.endsWith('.tmp')) await unlink(join(dir, name));
    return new BlobStore(dir);
  }

  /**
   * Stores the content; resolves to whether it is new. Throws BLOB_HASH_MISMATCH, and keeps nothing, when the
   * content does not hash to `sha256` (64 lower-case hexadecimal digits).
   */
  async put(sha256: string, content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<boolean> {
    const path = this.path(sha256);
    const temp = join(this.dir, `${sha256}.${process.pid}-${this.temps++}.tmp`);
    const hash = createHash('sha256');
    const file = await open(temp, 'wx');
    try {
      try {
        for await (const chunk of content) {
          hash.update(chunk);
          await file.writeFile(chunk);
        }
        await file.sync();
      } finally {
        await file.close();
      }
      const actual = hash.digest('hex');
      if (actual !== sha256)
        throw new CardanError(
          'BLOB_HASH_MISMATCH',
          `The content hashes to ${actual}, not to ${sha256} as its name says. Send it again.`,
        );
      const isNew = (await this.size(sha256)) === undefined;
      await rename(temp, path);
      await syncFolder(this.dir);
      return isNew;
    } catch (error) {
      await unlink(temp).catch(() => {});
      throw error;
    }
  }

  /** Length in bytes, or undefined when there is no such blob. */
  async size(sha256: string): Promise<number | undefined> {
    try {
      return (await stat(this.path(sha256))).size;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** The bytes. Throws BLOB_UNKNOWN. */
  async read(sha256: string): Promise<Buffer> {
    try {
      return await readFile(this.path(sha256));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      throw unknownBlob(sha256, error);
    }
  }

  /** Only a hash can name a file here: nothing else in the file system can be reached. */
  private path(sha256: string): string {
    if (!SHA256.test(sha256)) throw unknownBlob(sha256);
    return join(this.dir, sha256);
  }
}

export function unknownBlob(sha256: string, cause?: unknown): CardanError {
  return new CardanError(
    'BLOB_UNKNOWN',
    `There is no blob ${sha256}. Upload it with PUT /v1/blobs/${sha256}.`,
    {
      cause,
    },
  );
}
