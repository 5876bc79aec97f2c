import { CardanError, messageOf, systemCode } from '@cardan/shared';

/** What went wrong in the background, as an error with a code: one that has none comes from the disk. */
export function problemFrom(error: unknown): CardanError {
  if (error instanceof CardanError) return error;
  const code = systemCode(error) === undefined ? 'SERVICE_FAILED' : 'DATA_DIR_NOT_WRITABLE';
  return new CardanError(code, `The registry failed and tries again: ${messageOf(error)}.`, { cause: error });
}
