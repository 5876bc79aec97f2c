import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { CardanError, messageOf, signalSet, type Signal, type SignalSet } from '@cardan/shared';
import type { Dbc } from './dbc/index.ts';

/** One column of the telemetry, and the DBC signal that fills it. */
export interface MappedSignal extends Signal {
  message: string;
  dbcSignal: string;
}

/** Which DBC signals go up, under which names, in which order. */
export interface SignalMap {
  set: SignalSet;
  columns: MappedSignal[];
}

/**
 * Every signal of the DBC under its own name. A name that several messages have becomes `Message.Signal`.
 */
export function mapAllSignals(dbc: Dbc): SignalMap {
  const seen = new Map<string, number>();
  for (const message of dbc.messages)
    for (const { name } of message.signals) seen.set(name, (seen.get(name) ?? 0) + 1);
  return toMap(
    dbc.messages.flatMap((message) =>
      message.signals.map((signal) => ({
        name: (seen.get(signal.name) ?? 0) > 1 ? `${message.name}.${signal.name}` : signal.name,
        unit: signal.unit,
        message: message.name,
        dbcSignal: signal.name,
      })),
    ),
  );
}

/**
 * Reads a VSS map, a YAML file in one of two forms, which may be mixed:
 *
 *     EngineSpeed: Vehicle.Powertrain.CombustionEngine.Speed     # DBC signal: VSS path
 *     EngineData.EngineSpeed: Vehicle.…                          # Message.Signal, where a name is not unique
 *     Vehicle.Speed: { unit: km/h, dbc2vss: { signal: VehSpd } } # VSS overlay, as KUKSA's CAN provider has it
 *
 * The order of the file is the order of the columns. Throws VSS_MAP_INVALID, naming the entry.
 */
export function readVssMap(path: string, dbc: Dbc): SignalMap {
  const bad = (why: string, cause?: unknown) =>
    new CardanError('VSS_MAP_INVALID', `The VSS map ${path} cannot be used: ${why}.`, { cause });
  let document: unknown;
  try {
    document = parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw bad(messageOf(cause), cause);
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw bad('it is not a YAML mapping of DBC signals to VSS paths');
  const columns: MappedSignal[] = [];
  for (const [key, value] of Object.entries(document)) {
    const entry = parseEntry(key, value);
    if (entry === undefined) continue; // a branch of an overlay, without a signal
    if (entry instanceof Error) throw bad(entry.message);
    const found = findSignal(dbc, entry.dbcName);
    if (found === undefined) throw bad(`the DBC has no signal "${entry.dbcName}" (entry "${key}")`);
    columns.push({ name: entry.path, unit: entry.unit ?? found.unit, ...found.source });
  }
  if (columns.length === 0) throw bad('it maps no signal');
  const names = new Set<string>();
  for (const { name } of columns) {
    if (names.has(name)) throw bad(`two entries go to ${name}`);
    names.add(name);
  }
  return toMap(columns);
}

function toMap(columns: MappedSignal[]): SignalMap {
  return { set: signalSet(columns), columns };
}

function parseEntry(
  key: string,
  value: unknown,
): { dbcName: string; path: string; unit?: string } | Error | undefined {
  if (typeof value === 'string') return { dbcName: key, path: value };
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return new Error(`entry "${key}" has no VSS path`);
  const overlay = value as Record<string, unknown>;
  const source = (overlay.dbc2vss ?? overlay.dbc) as Record<string, unknown> | string | undefined;
  if (source === undefined || source === null) return undefined;
  const signal = typeof source === 'string' ? source : source.signal;
  if (typeof signal !== 'string') return new Error(`entry "${key}" names no DBC signal (dbc2vss: signal: …)`);
  const message =
    typeof source === 'object' && typeof source.message === 'string' ? `${source.message}.` : '';
  return {
    dbcName: message + signal,
    path: key,
    ...(typeof overlay.unit === 'string' ? { unit: overlay.unit } : {}),
  };
}

function findSignal(
  dbc: Dbc,
  name: string,
): { unit: string; source: { message: string; dbcSignal: string } } | undefined {
  for (const message of dbc.messages)
    for (const signal of message.signals)
      if (signal.name === name || `${message.name}.${signal.name}` === name)
        return { unit: signal.unit, source: { message: message.name, dbcSignal: signal.name } };
  return undefined;
}
