import { createHash } from 'node:crypto';
import { CardanError } from './errors.ts';

/** One column of telemetry. `name` is a VSS path, or the DBC name where no map was given. */
export interface Signal {
  name: string;
  /** Unit as in the DBC or VSS, for example `km/h`; empty when it has none. */
  unit: string;
}

/** The ordered columns of telemetry rows. Cars with the same columns share the id, and so share models. */
export interface SignalSet {
  /** First 16 hexadecimal digits of the SHA-256 over the JSON of `[[name, unit], …]`. */
  id: string;
  signals: Signal[];
}

/** Most signals a set may have: a row stays under 4 kB, a batch of 50 rows under 256 kB. */
export const SIGNALS_MAX = 1000;

/** Builds a signal set; the id follows from names, units and order alone. */
export function signalSet(signals: readonly Signal[]): SignalSet {
  const columns = signals.map(({ name, unit }) => ({ name, unit }));
  const json = JSON.stringify(columns.map(({ name, unit }) => [name, unit]));
  return { id: createHash('sha256').update(json).digest('hex').slice(0, 16), signals: columns };
}

/** Parses a signal set from JSON of unknown origin and checks that its id is its own. */
export function parseSignalSet(value: unknown): SignalSet {
  const bad = (why: string) => new CardanError('EVENT_MALFORMED', `Not a signal set: ${why}.`);
  if (typeof value !== 'object' || value === null || !('signals' in value) || !Array.isArray(value.signals))
    throw bad('it has no list "signals"');
  if (value.signals.length === 0 || value.signals.length > SIGNALS_MAX)
    throw bad(`it has ${value.signals.length} signals; 1 to ${SIGNALS_MAX} are allowed`);
  const signals = value.signals.map((signal: unknown): Signal => {
    if (typeof signal !== 'object' || signal === null) throw bad('a signal is not an object');
    const { name, unit } = signal as Partial<Signal>;
    if (typeof name !== 'string' || name === '' || typeof unit !== 'string')
      throw bad('a signal needs the strings "name" and "unit"');
    return { name, unit };
  });
  const set = signalSet(signals);
  if ('id' in value && value.id !== set.id) throw bad(`its id should be ${set.id}`);
  return set;
}
