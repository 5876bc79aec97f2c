import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { CardanError, messageOf } from '@cardan/shared';
import { parseSource } from '../can/open-source.ts';
import type { PidSchedule } from './obd2.ts';
import { OBD_PIDS } from './obd2-pids.ts';

/** What `--obd FILE` says. Times in milliseconds. */
export interface ObdPlan {
  addressing: '11-bit' | '29-bit';
  /** The bus that is asked, as `--can` names it; null for the first one. */
  bus: string | null;
  pids: PidSchedule[];
  /** Between two looks at the trouble codes; null for none. */
  troubleCodesMs: number | null;
  /** Whether control units are asked for their trouble codes by UDS, too. */
  uds: boolean;
  vin: boolean;
  /** While the bus is silent it is tried this often; null: not at all, a frame must come. */
  probeMs: number | null;
}

const SECONDS_MIN = 0.05;
const SECONDS_MAX = 86_400;
const MINUTES_MAX = 1440;
const KEYS = ['addressing', 'bus', 'pids', 'trouble_codes_minutes', 'uds', 'vin', 'probe_minutes'];

/**
 * Reads a YAML file:
 *
 *     addressing: 11-bit          # or 29-bit
 *     bus: socketcan:can1         # of several; default the first
 *     pids:                       # PID of mode 01: seconds between two requests
 *       0x0C: 0.5
 *       0x05: 10
 *     trouble_codes_minutes: 10   # default: never
 *     uds: true                   # trouble codes by UDS, too
 *     vin: true                   # once after each start
 *     probe_minutes: 5            # for a socket that is silent unless asked
 *
 * @throws CardanError USAGE, naming the entry
 */
export function readObdFile(path: string): ObdPlan {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new CardanError('FILE_NOT_FOUND', `Cannot read ${path} (${messageOf(cause)}). Check --obd.`, {
      cause,
    });
  }
  return parseObd(text, path);
}

/** @throws CardanError USAGE */
export function parseObd(text: string, path: string): ObdPlan {
  const bad = (why: string, cause?: unknown) =>
    new CardanError('USAGE', `${path} cannot be used: ${why}.`, { cause });
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw bad(messageOf(cause), cause);
  }
  if (!isMapping(document)) throw bad('it is no YAML mapping');
  for (const key of Object.keys(document))
    if (!KEYS.includes(key)) throw bad(`there is no "${key}"; it knows ${KEYS.join(', ')}`);
  const flag = (key: string): boolean => {
    const value = document[key] ?? false;
    if (typeof value !== 'boolean') throw bad(`"${key}" is true or false`);
    return value;
  };
  const minutes = (key: string): number | null => {
    const value = document[key] ?? null;
    if (value === null) return null;
    if (typeof value !== 'number' || !(value > 0 && value <= MINUTES_MAX))
      throw bad(`"${key}" is a number above 0, up to ${MINUTES_MAX}`);
    return 60_000 * value;
  };
  const addressing = document.addressing ?? '11-bit';
  if (addressing !== '11-bit' && addressing !== '29-bit') throw bad('"addressing" is "11-bit" or "29-bit"');
  const bus = document.bus ?? null;
  if (bus !== null && typeof bus !== 'string') throw bad('"bus" is a text, as in --can');
  const pids = document.pids ?? {};
  if (!isMapping(pids)) throw bad('"pids" is a mapping of PIDs to seconds');
  const plan: ObdPlan = {
    addressing,
    bus,
    pids: Object.entries(pids).map(([key, seconds]) => {
      const pid = Number(key);
      const name = Number.isInteger(pid) && pid >= 0 ? hex(pid) : key;
      if (!OBD_PIDS.has(pid)) throw bad(`PID "${name}" has no known formula; docs/diagnostics.md lists them`);
      if (typeof seconds !== 'number' || !(seconds >= SECONDS_MIN && seconds <= SECONDS_MAX))
        throw bad(`PID ${name} needs seconds from ${SECONDS_MIN} to ${SECONDS_MAX}`);
      return { pid, periodMs: 1000 * seconds };
    }),
    troubleCodesMs: minutes('trouble_codes_minutes'),
    uds: flag('uds'),
    vin: flag('vin'),
    probeMs: minutes('probe_minutes'),
  };
  if (plan.uds && plan.troubleCodesMs === null) throw bad('"uds" needs "trouble_codes_minutes"');
  if (plan.pids.length === 0 && plan.troubleCodesMs === null && !plan.vin) throw bad('it asks for nothing');
  return plan;
}

/**
 * Index of the bus that is asked.
 *
 * @throws CardanError USAGE when it is none of them, or a recording
 */
export function askedBus(plan: ObdPlan, can: readonly string[]): number {
  const at = plan.bus === null ? 0 : can.indexOf(plan.bus);
  const text = can[at];
  if (text === undefined)
    throw new CardanError('USAGE', `The bus "${plan.bus}" of --obd is none of --can: ${can.join(', ')}.`);
  if (parseSource(text).kind === 'candump')
    throw new CardanError(
      'USAGE',
      `--obd asks control units, and ${text} is a recording: it cannot be asked. Leave --obd out, or name a bus with --can.`,
    );
  return at;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(2, '0')}`;
}
