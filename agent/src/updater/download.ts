import { CardanError, messageOf } from '@cardan/shared';
import type { HttpGet } from './http-get.ts';

export interface DownloadOptions {
  get: HttpGet;
  /** Within this time (milliseconds) the answer must begin, and then `STALL_BYTES` or the end must come, again and again. */
  stallMs: number;
}

/**
 * Less than this in `stallMs` counts as nothing. A time-out for the whole body would cut off a slow mobile link;
 * one that any byte feeds would let a server hold a car for years (TUF: slow retrieval attack).
 */
const STALL_BYTES = 1024;

/** HTTP answered, but not with the file. */
export class HttpStatusError extends CardanError {
  readonly status: number;

  constructor(url: string, status: number) {
    super(
      'HTTP_STATUS',
      `${url} answered with status ${status}. Check that the registry's address is right.`,
    );
    this.status = status;
  }
}

/** Fetches files, bounded in size and in time. */
export class Downloader {
  private readonly options: DownloadOptions;
  private readonly stopped = new AbortController();

  constructor(options: DownloadOptions) {
    this.options = options;
  }

  /** Breaks off what is under way and everything later. */
  stop(): void {
    this.stopped.abort();
  }

  /**
   * The body, chunk by chunk. Throws HTTP_UNREACHABLE, HTTP_STATUS, or TUF_HASH as soon as there are more than
   * `bytesMax` bytes (TUF: endless data attack). With `from` only the bytes from there on are asked for; `onStart` is
   * told where they begin: there, or at 0 where the server knows no ranges.
   */
  async *stream(
    url: string,
    bytesMax: number,
    { from = 0, onStart }: { from?: number; onStart?: (from: number) => Promise<void> } = {},
  ): AsyncGenerator<Uint8Array> {
    const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
    const { stallMs } = this.options;
    const abort = new AbortController();
    const onStop = () => abort.abort(new Error('the updater was stopped'));
    const timer = setTimeout(() => abort.abort(new Error(`nothing came for ${stallMs} ms`)), stallMs);
    timer.unref();
    this.stopped.signal.addEventListener('abort', onStop);
    if (this.stopped.signal.aborted) onStop();
    try {
      const response = await this.options.get(url, { headers, signal: abort.signal });
      const partial = from > 0 && response.status === 206;
      if (!response.ok || (partial && !isFrom(response.headers.get('content-range'), from)))
        throw new HttpStatusError(url, response.status);
      let total = partial ? from : 0;
      await onStart?.(total);
      let sinceFed = 0;
      for await (const chunk of response.body ?? []) {
        total += chunk.length;
        if (total > bytesMax)
          throw new CardanError(
            'TUF_HASH',
            `${url} sends more than the ${bytesMax} bytes that it may; broken off.`,
          );
        sinceFed += chunk.length;
        if (sinceFed >= STALL_BYTES) {
          sinceFed = 0;
          timer.refresh();
        }
        yield chunk;
      }
    } catch (cause) {
      if (cause instanceof CardanError) throw cause;
      const why = abort.signal.aborted ? messageOf(abort.signal.reason) : messageOf(cause);
      throw new CardanError('HTTP_UNREACHABLE', `Cannot fetch ${url}: ${why}. Trying again later.`, {
        cause,
      });
    } finally {
      clearTimeout(timer);
      this.stopped.signal.removeEventListener('abort', onStop);
      abort.abort(); // closes the connection of a body that was not read to its end
    }
  }

  /** The whole body. */
  async bytes(url: string, bytesMax: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.stream(url, bytesMax)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
}

function isFrom(contentRange: string | null, from: number): boolean {
  return contentRange?.startsWith(`bytes ${from}-`) === true;
}
