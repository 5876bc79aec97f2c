import type { Writable } from 'node:stream';
import { systemCode } from '@cardan/shared';

/** How a stream says that nobody reads it any more. */
const GONE = new Set(['EPIPE', 'ERR_STREAM_DESTROYED']);

/** A stream with a buffer before it that waits when the reader is slow, and knows when the reader has gone. */
export class Output {
  /** The reader has gone; what is added is dropped. */
  closed = false;
  readonly #stream: Writable;
  #parts: string[] = [];
  #length = 0;
  #failure: Error | undefined;
  readonly #onError = (error: Error) => {
    this.closed = true;
    if (!GONE.has(systemCode(error) ?? '')) this.#failure = error;
  };

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', this.#onError);
  }

  add(text: string): void {
    this.#parts.push(text);
    this.#length += text.length;
  }

  get full(): boolean {
    return this.#length >= 64 * 1024;
  }

  /** Hands everything over to the stream, and waits until it is written. Throws what the stream failed with. */
  async flush(): Promise<void> {
    const text = this.#parts.join('');
    this.#parts = [];
    this.#length = 0;
    if (text !== '' && !this.closed)
      await new Promise<void>((resolve) => {
        this.#stream.write(text, (error) => {
          if (error) this.#onError(error);
          resolve();
        });
      });
    if (this.#failure) throw this.#failure;
  }

  release(): void {
    // A late EPIPE must still find a listener.
    if (!this.closed) this.#stream.off('error', this.#onError);
  }
}
