import { CardanError } from '../errors.ts';
import type { EventLog } from './event-log.ts';
import { SqliteEventLog } from './sqlite.ts';

/** Opens the log that a URL names: `sqlite:PATH`. Throws USAGE for any other. */
export function openEventLog(url: string): Promise<EventLog> {
  if (url.startsWith('sqlite:')) return SqliteEventLog.open({ path: url.slice('sqlite:'.length) });
  return Promise.reject(new CardanError('USAGE', `"${url}" names no event log. Use sqlite:PATH.`));
}
