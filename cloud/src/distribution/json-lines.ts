import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { CardanError } from '@cardan/shared';

export const LINES_TYPE = 'application/x-ndjson';
/** Forty attributes with the longest values. Somebody who never ends his line must not fill the memory. */
const LINE_CHARS_MAX = 32_768;

/** The values in a stream of JSON, one a line; empty lines are passed over. Throws VEHICLE_INVALID, naming the line. */
export async function* jsonLines(stream: Readable): AsyncGenerator<unknown, void, undefined> {
  const decoder = new StringDecoder('utf8');
  let line = 0;
  let rest = '';
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop()!;
    for (const text of lines) {
      line++;
      if (text.trim() !== '') yield parse(text, line);
    }
    if (rest.length > LINE_CHARS_MAX)
      throw new CardanError(
        'VEHICLE_INVALID',
        `Line ${line + 1} is longer than ${LINE_CHARS_MAX} characters.`,
      );
  }
  rest += decoder.end();
  if (rest.trim() !== '') yield parse(rest, line + 1);
}

function parse(text: string, line: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CardanError('VEHICLE_INVALID', `Line ${line} is not JSON.`, { cause });
  }
}
