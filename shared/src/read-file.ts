import { readFileSync } from 'node:fs';
import { CardanError, messageOf, systemCode } from './errors.ts';

/**
 * A file that a command line names. `what` says what it is, as in `the DBC file car.dbc`; default its path.
 *
 * @throws CardanError FILE_NOT_FOUND, whatever keeps it from being read
 */
export function readGivenFile(path: string, what = path): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new CardanError(
      'FILE_NOT_FOUND',
      `Cannot read ${what} (${systemCode(cause) ?? messageOf(cause)}).`,
      { cause },
    );
  }
}
