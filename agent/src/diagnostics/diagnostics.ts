import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CardanError, replaceFile, type EventData } from '@cardan/shared';
import type { CanBus, CanFrame, CanSource, SourceCounters } from '../can/can-frame.ts';
import { kernelFilters, type KernelFilter } from '../can/kernel-filters.ts';
import type { SeveralSources } from '../can/several.ts';
import { systemTimers, type Timers } from '../can/timers.ts';
import { compileDecoder, type Dbc, type Decoder } from '../dbc/index.ts';
import { DM1_PGN, J1939Matcher, J1939Transport, parseDm1, parseJ1939Id } from '../j1939/index.ts';
import type { SignalMap } from '../vss.ts';
import { HeldValues } from './held-values.ts';
import { askedBus, readObdFile, type ObdPlan } from './obd-file.ts';
import { ObdSession } from './obd-session.ts';
import { withPids } from './obd-signals.ts';
import { TroubleCodeReports } from './trouble-code-reports.ts';

export interface DiagnosticsOptions {
  /** File of `--obd`. */
  obd?: string | undefined;
  /** Ids of 29 bits are J1939's. */
  j1939: boolean;
  /** As given by `--can`. */
  can: readonly string[];
  dbc: Dbc;
  map: SignalMap;
}

/** The agent, as far as diagnostics speak with it. */
export interface DiagnosticsHost {
  accept(frame: CanFrame): void;
  emit<K extends 'io.cardan.vehicle.trouble-codes' | 'io.cardan.vehicle.identified'>(
    type: K,
    data: EventData[K],
    time?: number,
  ): void;
}

export interface AttachOptions {
  /** The VIN that was told last is kept here. */
  dataDir: string;
  onProblem: (error: CardanError) => void;
  timers?: Timers;
  /** Without a frame for this long the bus sleeps (milliseconds). */
  silenceMs?: number;
}

/**
 * What stands between the buses and the agent: answers of control units and the transport protocol of J1939 become
 * signals and events, everything else passes.
 */
export class Diagnostics {
  /** With the values of the PIDs as signals. */
  readonly dbc: Dbc;
  readonly map: SignalMap;
  /** What the kernel must let pass. */
  readonly filters: KernelFilter[];
  readonly #options: DiagnosticsOptions;
  readonly #plan: ObdPlan | undefined;
  readonly #bus: number;

  /** @throws CardanError USAGE, FILE_NOT_FOUND */
  constructor(options: DiagnosticsOptions) {
    this.#options = options;
    const { obd, j1939, dbc, map, can } = options;
    this.#plan = obd === undefined ? undefined : readObdFile(obd);
    this.#bus = this.#plan === undefined ? -1 : askedBus(this.#plan, can);
    const pids = this.#plan?.pids.map(({ pid }) => pid) ?? [];
    ({ dbc: this.dbc, map: this.map } = pids.length === 0 ? { dbc, map } : withPids(dbc, map, pids));
    this.filters = [...kernelFilters(dbc), ...diagnosticFilters(this.#plan, j1939)];
  }

  /** The source that the agent reads in the place of the buses. */
  attach(buses: SeveralSources, host: DiagnosticsHost, options: AttachOptions): CanSource {
    const { j1939 } = this.#options;
    if (this.#plan === undefined && !j1939) return buses;
    const bus = buses.sources[this.#bus];
    if (bus !== undefined && !canSend(bus))
      throw new CardanError('USAGE', `${this.#options.can[this.#bus]} cannot be sent to.`);
    return new DiagnosedSource(buses, host, {
      ...options,
      dbc: this.#options.dbc,
      j1939,
      obd: this.#plan === undefined || bus === undefined ? undefined : { plan: this.#plan, bus },
    });
  }
}

/** Flags as the kernel has them: an id of 29 bits, a remote frame. */
const EXTENDED = 0x8000_0000;
const REMOTE = 0x4000_0000;

function diagnosticFilters(plan: ObdPlan | undefined, j1939: boolean): KernelFilter[] {
  const filters: KernelFilter[] = [];
  // Any sender may send any group, and the transport protocol carries those that no frame names.
  if (j1939) filters.push({ id: EXTENDED, mask: (EXTENDED | REMOTE) >>> 0 });
  if (plan?.addressing === '11-bit') filters.push({ id: 0x7e8, mask: (EXTENDED | REMOTE | 0x7f8) >>> 0 });
  if (plan?.addressing === '29-bit' && !j1939)
    filters.push({ id: (EXTENDED | 0x18da_f100) >>> 0, mask: (EXTENDED | REMOTE | 0x1fff_ff00) >>> 0 });
  return filters;
}

function canSend(source: CanSource): source is CanBus {
  return 'send' in source && typeof source.send === 'function';
}

interface DiagnosedOptions extends AttachOptions {
  dbc: Dbc;
  j1939: boolean;
  obd: { plan: ObdPlan; bus: CanBus } | undefined;
}

/** The frames of the buses, without those that were only for diagnostics, and with the ids that the DBC has. */
class DiagnosedSource implements CanSource {
  readonly #inner: SeveralSources;
  readonly #host: DiagnosticsHost;
  readonly #options: DiagnosedOptions;
  readonly #decoder: Decoder;
  readonly #matcher: J1939Matcher | undefined;
  readonly #transport: J1939Transport | undefined;
  readonly #codes: TroubleCodeReports;
  readonly #held: HeldValues;
  #telling: Promise<void> = Promise.resolve();
  /** Of the newest frame: the clock of the rows. */
  #time: number | undefined;

  constructor(inner: SeveralSources, host: DiagnosticsHost, options: DiagnosedOptions) {
    this.#inner = inner;
    this.#host = host;
    this.#options = options;
    this.#decoder = compileDecoder(options.dbc);
    this.#held = new HeldValues((frame) => host.accept(frame));
    this.#codes = new TroubleCodeReports((codes, time) =>
      host.emit('io.cardan.vehicle.trouble-codes', codes, time),
    );
    if (!options.j1939) return;
    this.#matcher = new J1939Matcher(this.#decoder);
    // Without an address of its own it only listens.
    this.#transport = new J1939Transport({
      timers: options.timers ?? systemTimers,
      onMessage: ({ pgn, source, data, time }) => {
        const message = this.#matcher?.findGroup(pgn, source);
        if (message !== undefined)
          host.accept({ time, id: message.message.id, extended: true, fd: true, data });
        if (pgn === DM1_PGN) this.#dm1(source, data, time);
      },
    });
  }

  get malformed(): number {
    return this.#inner.malformed;
  }

  get dropped(): number {
    return this.#inner.dropped;
  }

  get counters(): Record<string, SourceCounters> {
    return this.#inner.counters;
  }

  async *frames(signal: AbortSignal): AsyncGenerator<CanFrame[]> {
    const end = new AbortController();
    const session = this.#session();
    const asking = session?.run(end.signal);
    try {
      for await (const frames of this.#inner.frames(signal)) {
        yield frames.flatMap((frame) => this.#take(frame, session) ?? []);
        this.#held.advance(this.#now());
      }
    } finally {
      end.abort();
      this.#transport?.close();
      await asking;
      await this.#telling;
    }
  }

  #session(): ObdSession | undefined {
    const { obd, timers = systemTimers, onProblem, silenceMs } = this.#options;
    if (obd === undefined) return undefined;
    const periods = new Map(obd.plan.pids.map(({ pid, periodMs }) => [pid, periodMs]));
    return new ObdSession({
      plan: obd.plan,
      send: (frame) => obd.bus.send(frame),
      timers,
      onValues: (values, pid) => this.#held.answer(pid, periods.get(pid) ?? 0, values, this.#now()),
      onVin: (vin) => {
        this.#telling = this.#identified(vin);
      },
      codes: this.#codes,
      now: () => this.#now(),
      onProblem,
      ...(silenceMs === undefined ? {} : { silenceMs }),
    });
  }

  #now(): number {
    return this.#time ?? Date.now();
  }

  /** What the agent shall get; undefined when nothing. */
  #take(frame: CanFrame, session: ObdSession | undefined): CanFrame | undefined {
    this.#time = frame.time;
    const known = this.#decoder.find(frame.id, frame.extended) !== undefined;
    const taken = (session?.receive(frame) ?? false) || (this.#transport?.receive(frame) ?? false);
    if (this.#matcher !== undefined && frame.extended) {
      const { pgn, source } = parseJ1939Id(frame.id);
      if (pgn === DM1_PGN) this.#dm1(source, frame.data, frame.time);
    }
    if (known) return frame;
    if (taken) return undefined;
    if (this.#matcher === undefined || !frame.extended) return frame;
    const message = this.#matcher.find(frame.id, true);
    return message === undefined ? frame : { ...frame, id: message.message.id };
  }

  #dm1(address: number, data: Uint8Array, time: number): void {
    const dm1 = parseDm1(data);
    if (dm1 !== null) this.#codes.dm1(address, dm1, time);
  }

  /** The VIN goes up when it is another one than the last time: a control unit, or the computer, has moved. */
  async #identified(vin: string): Promise<void> {
    const { dataDir, onProblem } = this.#options;
    const path = join(dataDir, 'vin');
    try {
      if (readFileSync(path, 'utf8').trim() === vin) return;
    } catch {
      // not told yet
    }
    this.#host.emit('io.cardan.vehicle.identified', { vin }, this.#now());
    try {
      await replaceFile(path, `${vin}\n`);
    } catch (cause) {
      onProblem(
        new CardanError(
          'DATA_DIR_NOT_WRITABLE',
          `Cannot keep the VIN in ${path}; it is told again after a restart.`,
          {
            cause,
          },
        ),
      );
    }
  }
}
