import { readFileSync } from 'node:fs';
import { CardanError, messageOf } from '@cardan/shared';

/** The token in a file; a command line would show it to every user of the machine. Throws FILE_NOT_FOUND. */
export function readToken(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new CardanError('FILE_NOT_FOUND', `Cannot read the token file ${path} (${messageOf(cause)}).`, {
      cause,
    });
  }
}
