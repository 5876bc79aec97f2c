import { CardanError, messageOf } from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import { type Timers, wait, within } from '../can/timers.ts';

/*
 * ISO 15765-2: messages of more than one frame. The high half of the first byte says what a frame is:
 *
 *   0L …            single frame, L bytes (classic); CAN FD frames above 8 bytes: 00 LL …
 *   1L LL …         first frame, 12 bits of length; longer messages: 10 00 LL LL LL LL …
 *   2N …            consecutive frame, N counts modulo 16
 *   3S BS ST        flow control: S 0 go on, 1 wait, 2 overflow; frames until the next one; separation time
 */

/** One id of a link. */
export interface CanId {
  /** 11 or 29 bits. */
  id: number;
  extended: boolean;
}

/** Normal addressing: one id each way says who speaks to whom. */
export interface IsoTpAddress {
  transmit: CanId;
  receive: CanId;
}

/** The ids of "normal fixed addressing": 0x18DA, target, source. */
export function normalFixed(source: number, target: number): IsoTpAddress {
  const id = (from: number, to: number): CanId => ({ id: 0x18da_0000 | (to << 8) | from, extended: true });
  return { transmit: id(source, target), receive: id(target, source) };
}

export interface IsoTpOptions {
  address: IsoTpAddress;
  send: (frame: CanFrame) => Promise<void>;
  timers: Timers;
  /** Called with each whole message, and the time of its last frame. */
  onMessage: (payload: Uint8Array, time: number) => void;
  /** Called when a message that had begun to come will never be whole. */
  onLost?: (reason: string) => void;
  /** Called when a first frame has begun a message. */
  onBegin?: () => void;
  /** What fills a frame up to 8 bytes; null: frames are as short as they can be. Default 0xCC. */
  padding?: number | null;
  /** Bytes of the longest frame that is sent: 8 (default), or a CAN FD length up to 64. */
  frameBytes?: number;
  /** Consecutive frames that the peer may send until it waits for a flow control; 0 (default): all. */
  blockSize?: number;
  /** STmin byte that the peer is asked to keep: 0–0x7F milliseconds, 0xF1–0xF9 hundreds of microseconds. */
  separation?: number;
  /** Longest message that is taken, bytes. Default 4095, which 12 bits can say. */
  bytesMax?: number;
}

/** N_As, N_Ar: a frame is on the bus. N_Bs: a flow control comes. N_Cr: the next consecutive frame comes. */
const N_AS_MS = 1000;
const N_BS_MS = 1000;
const N_CR_MS = 1000;
/** Flow controls in a row that say "wait" before the sender gives up (N_WFTmax). */
const WAITS_MAX = 16;
const BYTES_MAX_DEFAULT = 4095;
/** The lengths that a CAN FD frame can have above 8. */
const FD_LENGTHS = [12, 16, 20, 24, 32, 48, 64];

/** One link between two nodes, one message at a time in each direction. */
export class IsoTpLink {
  /** What was wrong, since the start. */
  readonly counters = {
    /** Messages whose next frame did not come in time. */
    timeouts: 0,
    /** Messages given up because a consecutive frame was missing or twice. */
    sequenceErrors: 0,
    /** Messages that were longer than `bytesMax`, refused. */
    tooLong: 0,
    /** Messages given up because another one began. */
    interrupted: 0,
    /** Frames that make no sense, or not now. */
    ignored: 0,
    /** Flow controls that could not be sent. */
    unsent: 0,
  };
  readonly #options: IsoTpOptions;
  readonly #frameBytes: number;
  readonly #bytesMax: number;
  #incoming: Incoming | null = null;
  #forgetIncoming: () => void = () => {};
  #sending = false;
  #onFlowControl: ((control: FlowControl) => void) | null = null;
  #closed = false;

  constructor(options: IsoTpOptions) {
    const frameBytes = options.frameBytes ?? 8;
    if (frameBytes !== 8 && !FD_LENGTHS.includes(frameBytes))
      throw new CardanError('USAGE', `A CAN frame cannot have ${frameBytes} bytes; take 8, or 12 to 64.`);
    this.#options = options;
    this.#frameBytes = frameBytes;
    this.#bytesMax = options.bytesMax ?? BYTES_MAX_DEFAULT;
  }

  /** Whether a message has begun to come and is not yet whole. */
  get receiving(): boolean {
    return this.#incoming !== null;
  }

  /** Takes a frame of the bus. False when it is not of this link. */
  receive(frame: CanFrame): boolean {
    const { receive } = this.#options.address;
    if (frame.id !== receive.id || frame.extended !== receive.extended) return false;
    if (this.#closed) return true;
    const kind = (frame.data[0] ?? 0xff) >> 4;
    if (kind === 0) this.#single(frame);
    else if (kind === 1) this.#first(frame);
    else if (kind === 2) this.#consecutive(frame);
    else if (kind === 3) this.#flowControl(frame.data);
    else this.counters.ignored++;
    return true;
  }

  /**
   * Sends one message; resolves when its last frame is on the bus.
   *
   * @throws CardanError USAGE, DIAGNOSTICS_TIMEOUT, DIAGNOSTICS_REFUSED
   */
  async send(payload: Uint8Array): Promise<void> {
    if (payload.length === 0) throw new CardanError('USAGE', 'A message needs at least one byte.');
    if (payload.length > 0xffff_ffff) throw new CardanError('USAGE', 'A message can have 2^32 - 1 bytes.');
    if (this.#sending) throw new CardanError('USAGE', 'This link is sending; wait until it has.');
    this.#sending = true;
    try {
      const single = this.#singleFrame(payload);
      if (single) await this.#put(single);
      else await this.#sendSegments(payload);
    } finally {
      this.#sending = false;
      this.#onFlowControl = null;
    }
  }

  /** Forgets what has begun. A message that is being sent ends by its time-out. */
  close(): void {
    this.#closed = true;
    this.#endIncoming();
  }

  #singleFrame(payload: Uint8Array): Uint8Array | null {
    if (payload.length <= 7) return Uint8Array.of(payload.length, ...payload);
    if (this.#frameBytes === 8 || payload.length > this.#frameBytes - 2) return null;
    return Uint8Array.of(0, payload.length, ...payload);
  }

  async #sendSegments(payload: Uint8Array): Promise<void> {
    const { length } = payload;
    const head =
      length <= 0xfff
        ? [0x10 | (length >> 8), length & 0xff]
        : [0x10, 0, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff];
    let at = this.#frameBytes - head.length;
    let control = this.#nextFlowControl();
    await this.#put(Uint8Array.of(...head, ...payload.subarray(0, at)));
    let number = 1;
    while (at < length) {
      const { blockSize, separationMs } = await this.#goAhead(control);
      for (let left = blockSize || Infinity; left > 0 && at < length; left--) {
        const end = at + this.#frameBytes - 1;
        // Listening begins before the last frame of a block leaves: the answer may be quick.
        if (left === 1) control = this.#nextFlowControl();
        await this.#put(Uint8Array.of(0x20 | number, ...payload.subarray(at, end)));
        number = (number + 1) & 0xf;
        at = end;
        if (left > 1 && at < length) await wait(this.#options.timers, separationMs);
      }
    }
  }

  #nextFlowControl(): Promise<FlowControl> {
    return new Promise((resolve) => (this.#onFlowControl = resolve));
  }

  /** Waits for a flow control that lets the sender go on. */
  async #goAhead(first: Promise<FlowControl>): Promise<FlowControl> {
    let next = first;
    for (let waits = 0; waits <= WAITS_MAX; waits++) {
      const control = await within(this.#options.timers, N_BS_MS, next, () => {
        this.counters.timeouts++;
        return this.#timeout('sent no flow control');
      });
      if (control.status === 0) return control;
      if (control.status !== 1)
        throw new CardanError(
          'DIAGNOSTICS_REFUSED',
          `The peer of ${this.#name()} refuses the message: ${control.status === 2 ? 'it is too long for it' : `flow status ${control.status} does not exist`}.`,
        );
      next = this.#nextFlowControl();
    }
    throw this.#timeout(`asked ${WAITS_MAX} times to wait`);
  }

  async #put(bytes: Uint8Array): Promise<void> {
    const { address, padding = 0xcc, send, timers } = this.#options;
    const fd = this.#frameBytes > 8;
    const length = frameLength(bytes.length, padding !== null);
    const data = new Uint8Array(length).fill(padding ?? 0xcc);
    data.set(bytes);
    const frame: CanFrame = { ...address.transmit, time: 0, fd, data };
    await within(timers, N_AS_MS, send(frame), () =>
      this.#timeout('could not be reached: the bus takes no frame'),
    );
  }

  #timeout(what: string): CardanError {
    return new CardanError('DIAGNOSTICS_TIMEOUT', `The peer of ${this.#name()} ${what}.`);
  }

  #name(): string {
    return `0x${this.#options.address.transmit.id.toString(16).toUpperCase()}`;
  }

  #single(frame: CanFrame): void {
    const { data } = frame;
    const escaped = data.length > 8;
    const length = escaped ? (data[1] ?? 0) : data[0]!;
    const start = escaped ? 2 : 1;
    // Above 8 bytes the short form is not allowed.
    if ((escaped && data[0] !== 0) || length === 0 || start + length > data.length) {
      this.counters.ignored++;
      return;
    }
    this.#interrupt();
    this.#options.onMessage(data.slice(start, start + length), frame.time);
  }

  #first(frame: CanFrame): void {
    const { data } = frame;
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    let length = data.length < 8 ? 0 : view.getUint16(0) & 0xfff;
    let start = 2;
    if (length === 0 && data.length >= 8) {
      length = view.getUint32(2);
      start = 6;
      if (length <= 0xfff) length = 0;
    }
    // A message that a single frame could carry does not come in segments.
    if (length <= (data.length > 8 ? data.length - 2 : 7)) {
      this.counters.ignored++;
      return;
    }
    this.#interrupt();
    if (length > this.#bytesMax) {
      this.counters.tooLong++;
      this.#sendFlowControl(2);
      return;
    }
    const payload = new Uint8Array(length);
    payload.set(data.subarray(start));
    const blockSize = this.#options.blockSize ?? 0;
    this.#incoming = {
      payload,
      frameBytes: data.length,
      at: data.length - start,
      number: 1,
      left: blockSize || Infinity,
    };
    this.#options.onBegin?.();
    this.#sendFlowControl(0);
    this.#awaitNext();
  }

  #consecutive(frame: CanFrame): void {
    const incoming = this.#incoming;
    const { data } = frame;
    if (!incoming) {
      this.counters.ignored++;
      return;
    }
    const bytes = Math.min(incoming.frameBytes - 1, incoming.payload.length - incoming.at);
    if ((data[0]! & 0xf) !== incoming.number || data.length - 1 < bytes) {
      this.counters.sequenceErrors++;
      this.#lose('a consecutive frame is missing, twice or short');
      return;
    }
    incoming.payload.set(data.subarray(1, 1 + bytes), incoming.at);
    incoming.at += bytes;
    incoming.number = (incoming.number + 1) & 0xf;
    if (incoming.at === incoming.payload.length) {
      this.#endIncoming();
      this.#options.onMessage(incoming.payload, frame.time);
      return;
    }
    if (--incoming.left === 0) {
      incoming.left = this.#options.blockSize ?? Infinity;
      this.#sendFlowControl(0);
    }
    this.#awaitNext();
  }

  #flowControl(data: Uint8Array): void {
    const listener = this.#onFlowControl;
    if (!listener || data.length < 3) {
      this.counters.ignored++;
      return;
    }
    this.#onFlowControl = null;
    listener({ status: data[0]! & 0xf, blockSize: data[1]!, separationMs: separationMs(data[2]!) });
  }

  #sendFlowControl(status: number): void {
    const { blockSize = 0, separation = 0 } = this.#options;
    this.#put(Uint8Array.of(0x30 | status, blockSize, separation)).catch((error: unknown) => {
      this.counters.unsent++;
      if (this.#incoming) this.#lose(`the flow control could not be sent: ${messageOf(error)}`);
    });
  }

  #awaitNext(): void {
    this.#forgetIncoming();
    this.#forgetIncoming = this.#options.timers.after(N_CR_MS, () => {
      this.counters.timeouts++;
      this.#lose('the next consecutive frame did not come in time');
    });
  }

  #interrupt(): void {
    if (!this.#incoming) return;
    this.counters.interrupted++;
    this.#lose('another message began');
  }

  #lose(reason: string): void {
    this.#endIncoming();
    this.#options.onLost?.(reason);
  }

  #endIncoming(): void {
    this.#forgetIncoming();
    this.#forgetIncoming = () => {};
    this.#incoming = null;
  }
}

interface FlowControl {
  status: number;
  blockSize: number;
  separationMs: number;
}

interface Incoming {
  payload: Uint8Array;
  /** Length of the first frame, which all but the last have. */
  frameBytes: number;
  /** Bytes that have come. */
  at: number;
  /** Of the next consecutive frame. */
  number: number;
  /** Consecutive frames until the next flow control. */
  left: number;
}

/** The least length that a frame can have; with padding at least 8. */
function frameLength(bytes: number, padded: boolean): number {
  if (bytes <= 8) return padded ? 8 : bytes;
  return FD_LENGTHS.find((length) => length >= bytes) ?? bytes;
}

/** What an STmin byte asks for. Reserved ones count as the longest, as the standard says. */
export function separationMs(byte: number): number {
  if (byte <= 0x7f) return byte;
  if (byte >= 0xf1 && byte <= 0xf9) return (byte - 0xf0) / 10;
  return 0x7f;
}
