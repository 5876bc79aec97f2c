import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { CardanError, messageOf, systemCode } from '@cardan/shared';

/** Longest line that is kept. A CAN frame in JSON has about 300 characters. */
export const LINE_CHARACTERS_MAX = 64 * 1024;

/** A piece of a text file: whole lines, without their ends. */
export interface LineBlock {
  /** Number of the first line, 1-based. */
  first: number;
  /** Null stands for a line of more than {@link LINE_CHARACTERS_MAX} characters, which was skipped. */
  lines: (string | null)[];
}

/**
 * Reads a text file line by line, as a stream: memory does not grow with the file, nor with the length of a line. It
 * ends quietly when `signal` is aborted.
 *
 * @param path `-` for `stdin`
 * @throws CardanError FILE_NOT_FOUND, FILE_NOT_READABLE
 */
export async function* readLines(
  path: string,
  { stdin = process.stdin, signal }: { stdin?: Readable | undefined; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<LineBlock> {
  const input: Readable = path === '-' ? stdin : createReadStream(path, { highWaterMark: 256 * 1024 });
  const stop = () => input.destroy();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    if (signal?.aborted) return;
    yield* splitLines(input as AsyncIterable<Buffer | string>);
  } catch (error) {
    if (!signal?.aborted) throw unreadable(path, error);
  } finally {
    signal?.removeEventListener('abort', stop);
    input.destroy();
  }
}

/** The error for a file that cannot be opened or read. */
export function unreadable(path: string, cause: unknown): unknown {
  const code = systemCode(cause);
  if (code === undefined) return cause;
  if (code === 'ENOENT')
    return new CardanError('FILE_NOT_FOUND', `There is no file ${path}. Check the path.`, { cause });
  return new CardanError(
    'FILE_NOT_READABLE',
    `The file ${path} cannot be read (${code === 'EISDIR' ? 'it is a folder' : messageOf(cause)}).`,
    { cause },
  );
}

async function* splitLines(input: AsyncIterable<Buffer | string>): AsyncGenerator<LineBlock> {
  const decoder = new StringDecoder('utf8');
  /** The beginning of a line whose end has not come yet; null once it is too long. */
  let open: string | null = '';
  let first = 1;
  const close = (end: string): string | null =>
    open === null || open.length + end.length > LINE_CHARACTERS_MAX ? null : withoutReturn(open + end);

  for await (const chunk of input) {
    const parts = (typeof chunk === 'string' ? chunk : decoder.write(chunk)).split('\n');
    const last = parts.pop() ?? '';
    const lines: (string | null)[] = [];
    for (const part of parts) {
      lines.push(close(part));
      open = '';
    }
    open = open === null || open.length + last.length > LINE_CHARACTERS_MAX ? null : open + last;
    if (lines.length === 0) continue;
    yield { first, lines };
    first += lines.length;
  }
  const rest = close(decoder.end());
  if (rest !== '') yield { first, lines: [rest] };
}

function withoutReturn(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}
