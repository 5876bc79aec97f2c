import { CardanError, messageOf } from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import type { Timers } from '../can/timers.ts';
import { BusSleep } from './bus-sleep.ts';
import { DiagnosticClient } from './diagnostic-client.ts';
import type { ObdPlan } from './obd-file.ts';
import { ObdPoller, readStoredCodes, readVin } from './obd2.ts';
import type { ObdValue } from './obd2-pids.ts';
import type { TroubleCodeReports } from './trouble-code-reports.ts';
import { readDtcs } from './uds.ts';

export interface ObdSessionOptions {
  plan: ObdPlan;
  send: (frame: CanFrame) => Promise<void>;
  timers: Timers;
  onValues: (values: ObdValue[], pid: number) => void;
  onVin: (vin: string) => void;
  codes: TroubleCodeReports;
  /** Time of the bus now. */
  now: () => number;
  onProblem: (error: CardanError) => void;
  /** Without a frame for this long the bus sleeps. */
  silenceMs?: number;
}

/** While nobody answers (the bus is still being opened, control units start), pauses double from the first to the second. */
const AGAIN_MS_FIRST = 2_000;
const AGAIN_MS_MAX = 60_000;

/** Asks the control units of one car for what the plan says, while the bus is awake. */
export class ObdSession {
  readonly client: DiagnosticClient;
  readonly #options: ObdSessionOptions;
  readonly #sleep: BusSleep;
  readonly #poller: ObdPoller | undefined;
  #vin: string | null = null;
  readonly #refusesUds = new Set<number>();

  constructor(options: ObdSessionOptions) {
    this.#options = options;
    const { plan, send, timers, onValues } = options;
    this.client = new DiagnosticClient({ send, timers, addressing: plan.addressing });
    this.#sleep = new BusSleep(timers, options.silenceMs);
    if (plan.pids.length > 0)
      this.#poller = new ObdPoller({
        client: this.client,
        timers,
        schedule: plan.pids,
        onValues,
        onError: (message) => this.#problem(new CardanError('DIAGNOSTICS_TIMEOUT', message)),
      });
  }

  /** Takes a frame of the bus. Whether it was an answer of a control unit. */
  receive(frame: CanFrame): boolean {
    // What we have sent comes back on SocketCAN: it wakes nobody.
    if (!this.#isRequest(frame)) this.#sleep.heard();
    return this.client.receive(frame);
  }

  /** Runs until `signal` is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { plan } = this.#options;
    while (!signal.aborted) {
      const session = new AbortController();
      const stop = () => session.abort();
      signal.addEventListener('abort', stop, { once: true });
      const working = Promise.all([this.#poller?.run(session.signal), this.#askForCodes(session.signal)]);
      await this.#sleep.asleep(signal);
      stop();
      signal.removeEventListener('abort', stop);
      await working;
      if (!signal.aborted) await this.#sleep.awake(signal, plan.probeMs);
    }
    this.client.close();
  }

  /** VIN and trouble codes: at once when the bus wakes up, then every so often; sooner while nobody answers. */
  async #askForCodes(signal: AbortSignal): Promise<void> {
    const { plan, timers } = this.#options;
    const periodMs = plan.troubleCodesMs ?? AGAIN_MS_MAX;
    let againMs = AGAIN_MS_FIRST;
    while (!signal.aborted && (plan.troubleCodesMs !== null || (plan.vin && this.#vin === null))) {
      let answered = false;
      if (plan.vin && this.#vin === null)
        await this.#attempt(async () => void (answered = await this.#readVin()));
      if (plan.troubleCodesMs !== null && !signal.aborted)
        await this.#attempt(async () => void (answered = (await this.#codes(signal)) || answered));
      if (answered) againMs = AGAIN_MS_FIRST;
      await pause(timers, answered ? periodMs : Math.min(againMs, periodMs), signal);
      if (!answered) againMs = Math.min(2 * againMs, AGAIN_MS_MAX);
    }
  }

  async #readVin(): Promise<boolean> {
    this.#vin = await readVin(this.client);
    if (this.#vin === null) return false;
    this.#options.onVin(this.#vin);
    return true;
  }

  /** Whether anybody has answered. */
  async #codes(signal: AbortSignal): Promise<boolean> {
    const { plan, codes, now } = this.#options;
    const stored = await readStoredCodes(this.client);
    for (const [unit, list] of stored) codes.stored(unit, list, now());
    for (const unit of plan.uds ? stored.keys() : []) {
      if (signal.aborted) break;
      if (this.#refusesUds.has(unit)) continue;
      await this.#attempt(async () => {
        try {
          codes.uds(unit, await readDtcs(this.client, unit), now());
        } catch (error) {
          // It will say the same the next time; one that is only busy is asked again by the client.
          if (error instanceof CardanError && error.code === 'DIAGNOSTICS_REFUSED')
            this.#refusesUds.add(unit);
          throw error;
        }
      });
    }
    return stored.size > 0;
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#problem(
        error instanceof CardanError ? error : new CardanError('DIAGNOSTICS_MALFORMED', messageOf(error)),
      );
    }
  }

  #problem(error: CardanError): void {
    this.#options.onProblem(error);
  }

  #isRequest({ id, extended }: CanFrame): boolean {
    if (this.#options.plan.addressing === '11-bit')
      return !extended && (id === 0x7df || (id >= 0x7e0 && id <= 0x7e7));
    return extended && (id === 0x18db_33f1 || (id & 0x1fff_00ff) === 0x18da_00f1);
  }
}

function pause(timers: Timers, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      forget();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const forget = timers.after(ms, done);
    signal.addEventListener('abort', done, { once: true });
  });
}
