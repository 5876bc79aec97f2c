import { CardanError } from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import { type Timers, wait, within } from '../can/timers.ts';
import { type CanId, IsoTpLink } from './iso-tp.ts';
import { BUSY_REPEAT_REQUEST, NEGATIVE, negativeReason, RESPONSE_PENDING } from './negative-response.ts';

export interface DiagnosticClientOptions {
  send: (frame: CanFrame) => Promise<void>;
  timers: Timers;
  /** ISO 15765-4: 7DF and 7E0–7E7 with answers from 7E8–7EF, or 18DB33F1 and 18DAxxF1 with answers from 18DAF1xx. */
  addressing: '11-bit' | '29-bit';
  /** How long a control unit may take to begin its answer. The standard says 50 ms; slow gateways take longer. */
  responseMs?: number;
  /** How long it may take after it has said that the answer comes later (P2*). */
  pendingMs?: number;
}

const RESPONSE_MS_DEFAULT = 250;
const PENDING_MS_DEFAULT = 5_000;
/** "The answer comes later" in a row: at most this often, so a minute or two. */
const PENDING_MAX = 24;
/** An answer that has begun to come may take so long: 4095 bytes at the longest separation take 75 s. */
const MESSAGE_MS = 90_000;
/** A busy control unit is asked again this often, after a pause. */
const BUSY_RETRIES = 3;
const BUSY_PAUSE_MS = 100;
/** Requests that may wait for their turn. */
const QUEUE_MAX = 32;
/** Control units that are spoken with; ISO 15765-4 allows 8. Diagnostics of a whole car has more. */
const UNITS_MAX = 32;

/** Answers of several control units, by the CAN id that each answers with. */
export type Answers = Map<number, Uint8Array>;

/**
 * Asks control units over ISO-TP, one request at a time, in the order of the calls. A control unit is named by the CAN
 * id that it answers with, for instance 0x7E8.
 */
export class DiagnosticClient {
  readonly counters = {
    requests: 0,
    timeouts: 0,
    negative: 0,
    /** Frames and messages that we have not asked for, or that came too late. */
    unasked: 0,
    /** Messages that were not whole. */
    lost: 0,
  };
  readonly #options: DiagnosticClientOptions;
  readonly #links = new Map<number, IsoTpLink>();
  #queue: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #expecting: Expectation | null = null;
  #closed = false;

  constructor(options: DiagnosticClientOptions) {
    this.#options = options;
  }

  /** Takes a frame of the bus. False when it is no answer of a control unit. */
  receive(frame: CanFrame): boolean {
    if (this.#closed || frame.extended !== this.#extended || !this.#isAnswer(frame.id)) return false;
    // Somebody else may ask, too (a dongle, a workshop's tester): the flow of answers to them is not ours to control.
    if (!this.#links.get(frame.id)?.receiving && !this.#expecting?.wants(frame.id)) {
      this.counters.unasked++;
      return true;
    }
    return this.#link(frame.id)?.receive(frame) ?? false;
  }

  /**
   * Asks one control unit and gives its positive response.
   *
   * @param echo bytes behind the service that the response repeats (sub-function, PID): others are no answer to this
   * @param functional asks all, and takes the answer of this one; legislated OBD knows no other way
   * @throws CardanError DIAGNOSTICS_TIMEOUT, DIAGNOSTICS_REFUSED, USAGE
   */
  request(unit: number, payload: Uint8Array, echo: number, functional = false): Promise<Uint8Array> {
    return this.#inTurn(async () => {
      for (let attempt = 0; ; attempt++) {
        const answers = await this.#ask(payload, echo, unit, functional);
        const answer = answers.get(unit);
        if (!answer) {
          this.counters.timeouts++;
          throw new CardanError(
            'DIAGNOSTICS_TIMEOUT',
            `Control unit ${hex(unit)} did not answer service ${hex(payload[0]!)}.`,
          );
        }
        if (answer[0] !== NEGATIVE) return answer;
        this.counters.negative++;
        if (answer[2] === BUSY_REPEAT_REQUEST && attempt < BUSY_RETRIES) {
          await wait(this.#options.timers, BUSY_PAUSE_MS);
          continue;
        }
        throw new CardanError(
          'DIAGNOSTICS_REFUSED',
          `Control unit ${hex(unit)} refuses service ${hex(payload[0]!)}: ${negativeReason(answer[2] ?? 0)}.`,
        );
      }
    });
  }

  /**
   * Asks all control units, in a single frame of up to 7 bytes, and gives the positive responses that came in time. No
   * answer is no error: control units do not answer a broadcast that is not for them.
   */
  broadcast(payload: Uint8Array, echo: number): Promise<Answers> {
    return this.#inTurn(async () => {
      const answers = await this.#ask(payload, echo, null, true);
      for (const [unit, answer] of answers) if (answer[0] === NEGATIVE) answers.delete(unit);
      return answers;
    });
  }

  /** Requests that are under way or wait end by their time-outs. */
  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  get #extended(): boolean {
    return this.#options.addressing === '29-bit';
  }

  #isAnswer(id: number): boolean {
    return this.#extended ? id >>> 8 === 0x18_daf1 : id >= 0x7e8 && id <= 0x7ef;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= QUEUE_MAX)
      return Promise.reject(new CardanError('USAGE', `${QUEUE_MAX} requests wait already; ask less often.`));
    this.#waiting++;
    const done = this.#queue.then(work).finally(() => this.#waiting--);
    this.#queue = done.catch(() => undefined);
    return done;
  }

  /** Sends a request and collects what comes back: from one unit, or from all until the time is over. */
  async #ask(payload: Uint8Array, echo: number, unit: number | null, functional: boolean): Promise<Answers> {
    if (unit !== null && !this.#isAnswer(unit))
      throw new CardanError('USAGE', `${hex(unit)} is no id that a control unit answers with.`);
    this.counters.requests++;
    const expecting = new Expectation(payload.slice(0, 1 + echo), unit, this.#options);
    this.#expecting = expecting;
    try {
      if (functional) {
        await this.#sendFunctional(payload);
      } else {
        const link = unit === null ? undefined : this.#link(unit);
        if (!link) throw new CardanError('USAGE', `More than ${UNITS_MAX} control units are spoken with.`);
        await link.send(payload);
      }
      expecting.begin();
      return await expecting.answers;
    } finally {
      expecting.end();
      this.#expecting = null;
    }
  }

  async #sendFunctional(payload: Uint8Array): Promise<void> {
    if (payload.length > 7) throw new CardanError('USAGE', 'A request to all has at most 7 bytes.');
    const data = new Uint8Array(8).fill(0xcc);
    data.set([payload.length, ...payload]);
    const id = this.#extended ? 0x18db_33f1 : 0x7df;
    const { send, timers } = this.#options;
    await within(
      timers,
      RESPONSE_MS_DEFAULT * 4,
      send({ time: 0, id, extended: this.#extended, fd: false, data }),
      () => new CardanError('DIAGNOSTICS_TIMEOUT', 'The bus takes no frame; is it up?'),
    );
  }

  #link(unit: number): IsoTpLink | undefined {
    let link = this.#links.get(unit);
    if (link || this.#links.size >= UNITS_MAX) return link;
    const { send, timers } = this.#options;
    const extended = this.#extended;
    const address: { transmit: CanId; receive: CanId } = {
      transmit: { id: extended ? 0x18da_00f1 | ((unit & 0xff) << 8) : unit - 8, extended },
      receive: { id: unit, extended },
    };
    link = new IsoTpLink({
      address,
      send,
      timers,
      onBegin: () => this.#expecting?.coming(unit),
      onLost: () => {
        this.counters.lost++;
        this.#expecting?.lost(unit);
      },
      onMessage: (payload) => {
        if (!this.#expecting?.take(unit, payload)) this.counters.unasked++;
      },
    });
    this.#links.set(unit, link);
    return link;
  }
}

/** What a request waits for. */
class Expectation {
  readonly answers: Promise<Answers>;
  readonly #head: Uint8Array;
  readonly #unit: number | null;
  readonly #timers: Timers;
  readonly #responseMs: number;
  readonly #pendingMs: number;
  readonly #got: Answers = new Map();
  /** Units whose answer is coming, with what forgets its time-out. */
  readonly #open = new Map<number, () => void>();
  readonly #pending = new Map<number, number>();
  #resolve: (answers: Answers) => void = () => {};
  #forget: () => void = () => {};
  #over = false;

  constructor(head: Uint8Array, unit: number | null, options: DiagnosticClientOptions) {
    this.#head = head;
    this.#unit = unit;
    this.#timers = options.timers;
    this.#responseMs = options.responseMs ?? RESPONSE_MS_DEFAULT;
    this.#pendingMs = options.pendingMs ?? PENDING_MS_DEFAULT;
    this.answers = new Promise((resolve) => (this.#resolve = resolve));
  }

  /** The request is on the bus. */
  begin(): void {
    this.#forget = this.#timers.after(this.#responseMs, () => {
      this.#over = true;
      this.#settle();
    });
    this.#settle();
  }

  end(): void {
    this.#forget();
    for (const forget of this.#open.values()) forget();
    this.#open.clear();
  }

  wants(unit: number): boolean {
    return this.#unit === null || this.#unit === unit;
  }

  coming(unit: number): void {
    if (this.wants(unit)) this.#keepOpen(unit, MESSAGE_MS);
  }

  lost(unit: number): void {
    this.#close(unit);
    this.#settle();
  }

  /** Whether the message answers the request. */
  take(unit: number, payload: Uint8Array): boolean {
    if (!this.wants(unit)) return false;
    const service = this.#head[0]!;
    const negative = payload[0] === NEGATIVE && payload[1] === service;
    const positive =
      payload[0] === service + 0x40 && this.#head.every((byte, i) => i === 0 || payload[i] === byte);
    if (!negative && !positive) return false;
    this.#close(unit);
    if (negative && payload[2] === RESPONSE_PENDING) {
      const count = (this.#pending.get(unit) ?? 0) + 1;
      this.#pending.set(unit, count);
      if (count <= PENDING_MAX) this.#keepOpen(unit, this.#pendingMs);
    } else this.#got.set(unit, payload);
    this.#settle();
    return true;
  }

  #keepOpen(unit: number, ms: number): void {
    this.#close(unit);
    this.#open.set(
      unit,
      this.#timers.after(ms, () => {
        this.#open.delete(unit);
        this.#settle();
      }),
    );
  }

  #close(unit: number): void {
    this.#open.get(unit)?.();
    this.#open.delete(unit);
  }

  #settle(): void {
    const enough = this.#unit !== null && this.#got.has(this.#unit);
    if (enough || (this.#over && this.#open.size === 0)) this.#resolve(this.#got);
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase()}`;
}
