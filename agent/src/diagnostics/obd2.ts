import { CardanError, messageOf } from '@cardan/shared';
import type { Timers } from '../can/timers.ts';
import type { DiagnosticClient } from './diagnostic-client.ts';
import { decodePid, OBD_PIDS, type ObdValue } from './obd2-pids.ts';
import { troubleCode } from './trouble-code.ts';

const CURRENT_DATA = 0x01;
const STORED_CODES = 0x03;
const VEHICLE_INFORMATION = 0x09;
const VIN = 0x02;
const VIN_BYTES = 17;

/** PIDs that each control unit supports, by the CAN id that it answers with. */
export type SupportedPids = Map<number, Set<number>>;

/**
 * Asks all control units which PIDs of mode 01 they support: PIDs 00, 20, 40 … answer with one bit for each of the next
 * 32, the last of which says whether it is worth asking on.
 *
 * @throws CardanError DIAGNOSTICS_TIMEOUT when the bus takes no frame; no answer at all is an empty map
 */
export async function supportedPids(client: DiagnosticClient): Promise<SupportedPids> {
  const supported: SupportedPids = new Map();
  for (let base = 0; base <= 0xe0; base += 0x20) {
    const answers = await client.broadcast(Uint8Array.of(CURRENT_DATA, base), 1);
    let more = false;
    for (const [unit, answer] of answers) {
      if (answer.length < 6) continue;
      let pids = supported.get(unit);
      if (!pids) supported.set(unit, (pids = new Set()));
      for (let i = 0; i < 32; i++) if ((answer[2 + (i >> 3)]! >> (7 - (i & 7))) & 1) pids.add(base + 1 + i);
      more ||= pids.has(base + 0x20);
    }
    if (!more) break;
  }
  return supported;
}

/**
 * Stored trouble codes (mode 03) of all control units that answer.
 *
 * @throws CardanError DIAGNOSTICS_TIMEOUT when the bus takes no frame
 */
export async function readStoredCodes(client: DiagnosticClient): Promise<Map<number, string[]>> {
  const answers = await client.broadcast(Uint8Array.of(STORED_CODES), 0);
  return new Map([...answers].map(([unit, answer]) => [unit, parseStoredCodes(answer)]));
}

/** The codes of one answer to mode 03: a count, and two bytes each. Zeros fill up, and are no code. */
export function parseStoredCodes(answer: Uint8Array): string[] {
  const codes: string[] = [];
  const end = Math.min(answer.length, 2 + 2 * (answer[1] ?? 0));
  for (let at = 2; at + 1 < end; at += 2)
    if (answer[at] !== 0 || answer[at + 1] !== 0) codes.push(troubleCode(answer[at]!, answer[at + 1]!));
  return codes;
}

/**
 * The vehicle identification number (mode 09, PID 02), of the first control unit that has one; null when none has.
 *
 * @throws CardanError DIAGNOSTICS_TIMEOUT when the bus takes no frame, DIAGNOSTICS_MALFORMED
 */
export async function readVin(client: DiagnosticClient): Promise<string | null> {
  const answers = await client.broadcast(Uint8Array.of(VEHICLE_INFORMATION, VIN), 1);
  const [answer] = [...answers].sort(([a], [b]) => a - b).map(([, bytes]) => bytes);
  return answer ? parseVin(answer) : null;
}

/** @throws CardanError DIAGNOSTICS_MALFORMED */
export function parseVin(answer: Uint8Array): string {
  // Behind service and PID stands the number of items, then 17 characters; some control units put zeros before them.
  const text = Buffer.from(answer.subarray(3)).toString('latin1').replace(/^\0+/, '');
  const vin = text.slice(0, VIN_BYTES);
  if (!/^[A-HJ-NPR-Z0-9]{17}$/.test(vin))
    throw new CardanError('DIAGNOSTICS_MALFORMED', `"${vin.replace(/[^ -~]/g, '?')}" is no VIN.`);
  return vin;
}

/** How often one PID of mode 01 is asked for. */
export interface PidSchedule {
  pid: number;
  periodMs: number;
}

export interface ObdPollerOptions {
  client: DiagnosticClient;
  timers: Timers;
  schedule: PidSchedule[];
  /** Called with the values of each answer; `unit` is the CAN id of the control unit that gave it. */
  onValues: (values: ObdValue[], pid: number, unit: number) => void;
  /** Called when asking fails; polling goes on, more and more slowly. */
  onError?: (message: string) => void;
}

/** PIDs are asked for no more often than this: one answer takes up to 50 ms, and others want the bus, too. */
const PERIOD_MS_MIN = 50;
/** While nobody answers (the ignition is off), pauses double from the first to the second. */
const PAUSE_MS_FIRST = 1_000;
const PAUSE_MS_MAX = 60_000;
/** So many requests in a row without an answer mean that nobody is there any more. */
const FAILURES_MAX = 5;

/**
 * Asks for PIDs on a schedule. First it finds out which control unit supports which PID; each PID is then asked for of
 * the one with the lowest id that has it. One request is under way at a time, and the PID that is overdue for longest
 * is next: where the bus is slower than the schedule, values come less often, and `skipped` counts.
 */
export class ObdPoller {
  /** Requests that were left out because the one before came late. */
  skipped = 0;
  /** Requests without a usable answer. */
  failed = 0;
  /** PIDs of the schedule that no control unit supports; known after the first discovery. */
  unsupported: number[] = [];
  readonly #options: ObdPollerOptions;

  /** @throws CardanError USAGE */
  constructor(options: ObdPollerOptions) {
    for (const { pid, periodMs } of options.schedule) {
      if (!OBD_PIDS.has(pid))
        throw new CardanError('USAGE', `PID ${hex(pid)} has no known formula; leave it out of the schedule.`);
      if (!(periodMs >= PERIOD_MS_MIN))
        throw new CardanError('USAGE', `PID ${hex(pid)}: the period is at least ${PERIOD_MS_MIN} ms.`);
    }
    this.#options = options;
  }

  /** Polls until `signal` is aborted. A request that is under way then ends first. */
  async run(signal: AbortSignal): Promise<void> {
    let pause = PAUSE_MS_FIRST;
    while (!signal.aborted) {
      try {
        const supported = await supportedPids(this.#options.client);
        if (supported.size === 0)
          throw new CardanError('DIAGNOSTICS_TIMEOUT', 'No control unit answers OBD-II.');
        if (await this.#poll(this.#plan(supported), signal)) pause = PAUSE_MS_FIRST;
      } catch (error) {
        this.#options.onError?.(messageOf(error));
      }
      await this.#wait(pause, signal);
      pause = Math.min(2 * pause, PAUSE_MS_MAX);
    }
  }

  #plan(supported: SupportedPids): Due[] {
    const units = [...supported].sort(([a], [b]) => a - b);
    const now = this.#options.timers.now();
    const plan: Due[] = [];
    this.unsupported = [];
    for (const { pid, periodMs } of this.#options.schedule) {
      const unit = units.find(([, pids]) => pids.has(pid))?.[0];
      if (unit === undefined) this.unsupported.push(pid);
      else plan.push({ pid, periodMs, unit, at: now });
    }
    return plan;
  }

  /** Asks until nobody answers any more. Whether anybody has answered. */
  async #poll(plan: Due[], signal: AbortSignal): Promise<boolean> {
    const { client, timers, onValues, onError } = this.#options;
    let failures = 0;
    let answered = false;
    if (plan.length === 0)
      throw new CardanError('DIAGNOSTICS_REFUSED', 'No control unit has a PID of the schedule.');
    while (!signal.aborted && failures < FAILURES_MAX) {
      const next = plan.reduce((first, due) => (due.at < first.at ? due : first));
      await this.#wait(next.at - timers.now(), signal);
      if (signal.aborted) break;
      try {
        const answer = await client.request(next.unit, Uint8Array.of(CURRENT_DATA, next.pid), 1, true);
        failures = 0;
        answered = true;
        const values = decodePid(next.pid, answer.subarray(2));
        if (values.length === 0)
          throw new CardanError('DIAGNOSTICS_MALFORMED', `The answer to PID ${hex(next.pid)} is too short.`);
        onValues(values, next.pid, next.unit);
      } catch (error) {
        this.failed++;
        // A control unit that says no is there.
        if (error instanceof CardanError && error.code === 'DIAGNOSTICS_TIMEOUT') failures++;
        onError?.(messageOf(error));
      }
      const late = Math.floor((timers.now() - next.at) / next.periodMs);
      this.skipped += late;
      next.at += (late + 1) * next.periodMs;
    }
    return answered;
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    if (ms <= 0 || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        forget();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const forget = this.#options.timers.after(ms, done);
      signal.addEventListener('abort', done, { once: true });
    });
  }
}

interface Due {
  pid: number;
  periodMs: number;
  unit: number;
  at: number;
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(2, '0')}`;
}
