import {
  type CanBus,
  type CanFrame,
  type Dm1,
  DM1_PGN,
  formatDm1,
  GLOBAL,
  IsoTpLink,
  J1939Transport,
  systemTimers,
  type Timers,
  troubleCodeBytes,
} from '@cardan/agent';

/** What the simulated control unit knows. It may be changed while it runs. */
export interface EcuState {
  vin: string;
  /** Data bytes of the PIDs of mode 01 that it supports. Which ones it supports (00, 20, …) it says by itself. */
  pids: Map<number, Uint8Array>;
  /** Codes of mode 03, as P0301. At most 127. */
  storedCodes: string[];
  /** Codes of service 0x19: 24 bits and status. */
  dtcs: { number: number; status: number }[];
  dm1: Dm1;
}

export interface EcuOptions {
  bus: CanBus;
  state: EcuState;
  /** CAN id that it is asked by; it answers 8 above. Default 0x7E0. */
  requestId?: number;
  /** J1939 address. Default 0, the engine. */
  address?: number;
  /** Says so often "response pending" before it answers service 0x19. */
  pendingResponses?: number;
  /** Between two DM1; SAE J1939-73 says one second. Infinity: none. */
  dm1PeriodMs?: number;
  timers?: Timers;
}

const OBD_FUNCTIONAL = 0x7df;
const NEGATIVE = 0x7f;
const REASON = { serviceNotSupported: 0x11, subFunctionNotSupported: 0x12, wrongLength: 0x13, pending: 0x78 };

/** A control unit of an engine: answers OBD-II (modes 01, 03, 09) and UDS 0x19 02, and sends J1939 DM1. */
export class EcuSimulator {
  /** Requests that it has answered. */
  answered = 0;
  /** What could not be sent. */
  unsent = 0;
  readonly #options: EcuOptions;
  readonly #timers: Timers;
  readonly #link: IsoTpLink;
  readonly #transport: J1939Transport;
  #answering: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(options: EcuOptions) {
    this.#options = options;
    const { bus, requestId = 0x7e0, address = 0, timers = systemTimers } = options;
    this.#timers = timers;
    const send = (frame: CanFrame): Promise<void> => bus.send(frame);
    this.#link = new IsoTpLink({
      address: {
        transmit: { id: requestId + 8, extended: false },
        receive: { id: requestId, extended: false },
      },
      send,
      timers,
      onMessage: (request) => this.#answer(request, false),
    });
    this.#transport = new J1939Transport({ timers, send, address, onMessage: () => {} });
  }

  /** Listens and answers until `signal` is aborted or the bus ends. */
  async run(signal: AbortSignal): Promise<void> {
    const stopDm1 = this.#sendDm1Periodically();
    try {
      for await (const frames of this.#options.bus.frames(signal))
        for (const frame of frames) this.#receive(frame);
    } finally {
      stopDm1();
      this.#link.close();
      this.#transport.close();
    }
  }

  /** Sends the DM1 of now: in one frame, or by BAM when it has more than one code. */
  async sendDm1(): Promise<void> {
    const { state } = this.#options;
    await this.#transport.send({ priority: 6, pgn: DM1_PGN, destination: GLOBAL }, formatDm1(state.dm1));
  }

  #receive(frame: CanFrame): void {
    if (frame.id === OBD_FUNCTIONAL && !frame.extended) {
      const length = frame.data[0] ?? 0;
      if (length >= 1 && length <= 7 && frame.data.length > length)
        this.#answer(frame.data.slice(1, 1 + length), true);
    } else if (!this.#link.receive(frame)) this.#transport.receive(frame);
  }

  /** Answers one request after the other; a few may wait. */
  #answer(request: Uint8Array, functional: boolean): void {
    if (this.#waiting >= 8) {
      this.unsent++;
      return;
    }
    this.#waiting++;
    this.#answering = this.#answering
      .then(async () => {
        const response = this.#respond(request);
        // A broadcast that is not for this control unit stays without an answer.
        if (functional && response[0] === NEGATIVE) return;
        if (request[0] === 0x19)
          for (let i = 0; i < (this.#options.pendingResponses ?? 0); i++)
            await this.#link.send(Uint8Array.of(NEGATIVE, 0x19, REASON.pending));
        await this.#link.send(response);
        this.answered++;
      })
      .catch(() => {
        this.unsent++;
      })
      .finally(() => this.#waiting--);
  }

  #respond(request: Uint8Array): Uint8Array {
    const { state } = this.#options;
    const [service = 0, second = 0, third = 0] = request;
    const refuse = (reason: number): Uint8Array => Uint8Array.of(NEGATIVE, service, reason);
    switch (service) {
      case 0x01: {
        if (request.length !== 2) return refuse(REASON.wrongLength);
        const data = second % 0x20 === 0 ? this.#supported(second) : state.pids.get(second);
        return data ? Uint8Array.of(0x41, second, ...data) : refuse(REASON.subFunctionNotSupported);
      }
      case 0x03: {
        const codes = state.storedCodes.map((code) => troubleCodeBytes(code) ?? [0, 0]);
        return Uint8Array.of(0x43, codes.length, ...codes.flat());
      }
      case 0x09:
        if (second !== 0x02) return refuse(REASON.subFunctionNotSupported);
        return Uint8Array.of(0x49, 0x02, 1, ...Buffer.from(state.vin, 'latin1'));
      case 0x19: {
        if (second !== 0x02) return refuse(REASON.subFunctionNotSupported);
        if (request.length !== 3) return refuse(REASON.wrongLength);
        const matching = state.dtcs.filter(({ status }) => status & third);
        return Uint8Array.of(
          0x59,
          0x02,
          0xff,
          ...matching.flatMap(({ number, status }) => [
            number >> 16,
            (number >> 8) & 0xff,
            number & 0xff,
            status,
          ]),
        );
      }
      default:
        return refuse(REASON.serviceNotSupported);
    }
  }

  /** One bit for each of the 32 PIDs behind `base`; undefined when there is none from there on. */
  #supported(base: number): Uint8Array | undefined {
    const pids = [...this.#options.state.pids.keys()];
    if (base > 0 && !pids.some((pid) => pid > base)) return undefined;
    const bits = new Uint8Array(4);
    const set = (pid: number): void => {
      const i = pid - base - 1;
      bits[i >> 3]! |= 0x80 >> (i & 7);
    };
    for (const pid of pids) if (pid > base && pid <= base + 0x20) set(pid);
    if (pids.some((pid) => pid > base + 0x20)) set(base + 0x20);
    return bits;
  }

  #sendDm1Periodically(): () => void {
    const { dm1PeriodMs = 1000 } = this.#options;
    if (dm1PeriodMs === Infinity) return () => {};
    let stopped = false;
    let forget = (): void => {};
    const next = (): void => {
      forget = this.#timers.after(dm1PeriodMs, () => {
        this.sendDm1()
          .catch(() => {
            this.unsent++;
          })
          .finally(() => {
            if (!stopped) next();
          });
      });
    };
    next();
    return () => {
      stopped = true;
      forget();
    };
  }
}
