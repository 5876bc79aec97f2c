import { CardanError, messageOf } from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import { type Timers, wait, within } from '../can/timers.ts';
import { formatJ1939Id, GLOBAL, type J1939Id, parseJ1939Id } from './j1939-id.ts';

/*
 * SAE J1939-21, messages of 9 to 1785 bytes. Data go in TP.DT frames, a number from 1 and 7 bytes each. TP.CM frames say
 * what is going on; their last three bytes are the PGN of the message:
 *
 *   10 LL LL NN MM ff  RTS: bytes, packets, packets that the sender likes at once
 *   11 NN KK ff ff ff  CTS: send NN packets from number KK on; NN 0: wait
 *   13 LL LL NN ff ff  EndOfMsgAck
 *   20 LL LL NN ff ff  BAM: the same for all, without any answer
 *   FF RR ff ff ff ff  abort, with a reason
 */
export const TP_CM_PGN = 0xec00;
export const TP_DT_PGN = 0xeb00;
const RTS = 0x10;
const CTS = 0x11;
const END_OF_MESSAGE = 0x13;
const BAM = 0x20;
const ABORT = 0xff;

/** Why a connection was aborted; the numbers are those of the wire. */
export const AbortReason = {
  busy: 1,
  resources: 2,
  timeout: 3,
  ctsDuringTransfer: 4,
  tooManyRetransmits: 5,
  tooLong: 9,
} as const;

/** 255 packets of 7 bytes. */
export const TRANSPORT_BYTES_MAX = 1785;
const PACKET_BYTES = 7;

/** A receiver waits so long for the next packet. */
const T1_MS = 750;
/** A receiver waits so long for the first packet after its CTS. */
const T2_MS = 1250;
/** A sender waits so long for a CTS or EndOfMsgAck. */
const T3_MS = 1250;
/** A sender waits so long for the next CTS after one that said "wait". */
const T4_MS = 1050;
/** Between two packets of a BAM; the standard allows 50 to 200. */
const BAM_PACKET_MS = 50;
/** The bus takes a frame within this time, or sending has failed. */
const SEND_MS = 1000;
/** CTS messages in a row that say "wait" before the sender gives up. */
const WAITS_MAX = 16;
/** How often packets of one message are asked for again. */
const RETRANSMITS_MAX = 2;
/** CTS that a sender follows in one message: every packet on its own, and each twice again. */
const CTS_MAX = 3 * 255;
/** Messages that may be under way at once: each node has one to all and one to each other; 1785 bytes each. */
const SESSIONS_MAX_DEFAULT = 64;

/** A whole message, in one frame or in many. */
export interface J1939Message extends J1939Id {
  data: Uint8Array;
  /** Of the last frame. */
  time: number;
}

export interface J1939TransportOptions {
  timers: Timers;
  /** Called with every message that came in more than one frame. */
  onMessage: (message: J1939Message) => void;
  /** Called when a message will never be whole. */
  onLost?: (message: LostMessage) => void;
  /** Needed to send and to answer RTS. Without it the transport only listens, to what others tell each other too. */
  send?: (frame: CanFrame) => Promise<void>;
  /** Our own address. */
  address?: number;
  /** Packets that a peer may send at once. Default 255. */
  packetsAtOnce?: number;
  sessionsMax?: number;
}

export interface LostMessage extends J1939Id {
  reason: string;
  /** Packets that did not come. */
  packets: number;
}

/** The transport protocol: puts messages together, of all nodes at once, and sends them. */
export class J1939Transport {
  readonly counters = {
    /** Packets of messages given up that did not come. */
    lostPackets: 0,
    /** Messages that were begun and never whole. */
    lostMessages: 0,
    timeouts: 0,
    /** Connections that a peer has aborted. */
    aborts: 0,
    /** Messages refused because too many were under way. */
    refused: 0,
    /** Frames that make no sense, or belong to no message. */
    ignored: 0,
    /** Answers that could not be sent. */
    unsent: 0,
  };
  readonly #options: J1939TransportOptions;
  readonly #sessionsMax: number;
  readonly #sessions = new Map<number, Session>();
  /** By peer: what waits for its CTS, EndOfMsgAck or abort. */
  readonly #outgoing = new Map<number, (control: Uint8Array) => void>();
  readonly #sendingTo = new Set<number>();

  constructor(options: J1939TransportOptions) {
    this.#options = options;
    this.#sessionsMax = options.sessionsMax ?? SESSIONS_MAX_DEFAULT;
  }

  /** Messages that have begun and are not yet whole. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /** Takes a frame of the bus. False when it does not belong to the transport protocol. */
  receive(frame: CanFrame): boolean {
    if (!frame.extended) return false;
    const id = parseJ1939Id(frame.id);
    if (id.pgn !== TP_CM_PGN && id.pgn !== TP_DT_PGN) return false;
    if (frame.data.length !== 8) this.counters.ignored++;
    else if (id.pgn === TP_DT_PGN) this.#packet(id, frame);
    else this.#control(id, frame.data);
    return true;
  }

  /**
   * Sends a message: in one frame up to 8 bytes; to all by BAM; to one by RTS and CTS. Resolves when it is on the bus,
   * by RTS when the receiver has said that it has all of it.
   *
   * @throws CardanError USAGE, DIAGNOSTICS_TIMEOUT, DIAGNOSTICS_REFUSED
   */
  async send(message: Omit<J1939Id, 'source'>, data: Uint8Array): Promise<void> {
    const { send, address: source, timers } = this.#options;
    if (!send || source === undefined)
      throw new CardanError('USAGE', 'Sending needs a bus and an own address.');
    if (data.length > TRANSPORT_BYTES_MAX)
      throw new CardanError(
        'USAGE',
        `A J1939 message has at most ${TRANSPORT_BYTES_MAX} bytes, not ${data.length}.`,
      );
    const put = (id: J1939Id, bytes: Uint8Array): Promise<void> =>
      within(timers, SEND_MS, send(frameOf(id, bytes)), () => timeout('The bus takes no frame.'));
    const id = { ...message, source };
    if (data.length <= 8) return put(id, data);
    // A PDU2 group has no receiver in its id.
    const { destination } = parseJ1939Id(formatJ1939Id(id));
    if (this.#sendingTo.has(destination))
      throw new CardanError('USAGE', `A message to ${destination} is under way; wait until it has arrived.`);
    this.#sendingTo.add(destination);
    try {
      const transfer: Transfer = { id: { ...id, destination }, packets: split(data), data, put };
      if (destination === GLOBAL) await this.#broadcast(transfer);
      else await this.#connect(transfer);
    } finally {
      this.#sendingTo.delete(destination);
      this.#outgoing.delete(destination);
    }
  }

  /** Forgets all that is under way to us. */
  close(): void {
    for (const session of this.#sessions.values()) session.forget();
    this.#sessions.clear();
  }

  async #broadcast({ id, packets, data, put }: Transfer): Promise<void> {
    const { timers } = this.#options;
    await put(controlId(id), control(BAM, [...le16(data.length), packets.length, 0xff], id.pgn));
    for (const packet of packets) {
      await wait(timers, BAM_PACKET_MS);
      await put(dataId(id), packet);
    }
  }

  async #connect({ id, packets, data, put }: Transfer): Promise<void> {
    const { timers } = this.#options;
    const peer = id.destination;
    const abort = (reason: number): Promise<void> =>
      put(controlId(id), control(ABORT, [reason, 0xff, 0xff, 0xff], id.pgn));
    /** The next control frame of the peer for this message. */
    const next = (): Promise<Uint8Array> =>
      new Promise((resolve) => {
        this.#outgoing.set(peer, (bytes) => {
          if (pgnIn(bytes) === id.pgn) resolve(bytes);
          else this.counters.ignored++;
        });
      });
    let answer = next();
    await put(controlId(id), control(RTS, [...le16(data.length), packets.length, 0xff], id.pgn));
    let waitMs = T3_MS;
    let waits = 0;
    for (let count = 0; count < CTS_MAX; count++) {
      let bytes: Uint8Array;
      try {
        bytes = await within(timers, waitMs, answer, () => timeout(`Node ${peer} does not answer.`));
      } catch (error) {
        this.counters.timeouts++;
        await abort(AbortReason.timeout);
        throw error;
      }
      answer = next();
      waitMs = T3_MS;
      const [kind, number = 0, from = 0] = bytes;
      if (kind === END_OF_MESSAGE) return;
      if (kind === ABORT) {
        this.counters.aborts++;
        throw new CardanError('DIAGNOSTICS_REFUSED', `Node ${peer} aborted the message, reason ${number}.`);
      }
      if (number === 0) {
        if (++waits > WAITS_MAX) break;
        waitMs = T4_MS;
        continue;
      }
      waits = 0;
      if (from === 0 || from > packets.length) {
        this.counters.ignored++;
        continue;
      }
      for (const packet of packets.slice(from - 1, from - 1 + number)) await put(dataId(id), packet);
    }
    await abort(AbortReason.tooManyRetransmits);
    throw timeout(`Node ${peer} never had enough.`);
  }

  #control(id: J1939Id, data: Uint8Array): void {
    const kind = data[0]!;
    const ours = id.destination === this.#options.address;
    if (kind === BAM || kind === RTS) {
      // BAM goes to all, RTS to one.
      if ((kind === BAM) === (id.destination === GLOBAL)) this.#begin(id, data, kind === RTS && ours);
      else this.counters.ignored++;
    } else if (kind === CTS || kind === END_OF_MESSAGE || kind === ABORT) {
      if (kind === ABORT) this.#aborted(id, data);
      if (kind === CTS) this.#overheard(id, data);
      if (ours) this.#outgoing.get(id.source)?.(data);
    } else this.counters.ignored++;
  }

  #begin(id: J1939Id, data: Uint8Array, answers: boolean): void {
    const length = data[1]! | (data[2]! << 8);
    const packets = data[3]!;
    const key = sessionKey(id.source, id.destination);
    if (length <= 8 || length > TRANSPORT_BYTES_MAX || packets !== Math.ceil(length / PACKET_BYTES)) {
      this.counters.ignored++;
      if (answers) this.#answer(id, control(ABORT, [AbortReason.tooLong, 0xff, 0xff, 0xff], pgnIn(data)));
      return;
    }
    const open = this.#sessions.get(key);
    if (open) this.#lose(open, 'the sender began another message');
    if (this.#sessions.size >= this.#sessionsMax) {
      this.counters.refused++;
      if (answers) this.#answer(id, control(ABORT, [AbortReason.resources, 0xff, 0xff, 0xff], pgnIn(data)));
      return;
    }
    const session: Session = {
      // The group's own destination, not that of the transport frame, is in the id that is told.
      id: { ...id, pgn: pgnIn(data) },
      key,
      bytes: new Uint8Array(packets * PACKET_BYTES),
      length,
      packets,
      have: new Uint8Array(packets + 1),
      received: 0,
      expected: 1,
      answers,
      connected: data[0] === RTS,
      blockEnd: packets,
      atOnce: Math.min(data[0] === RTS ? data[4]! || 0xff : 0xff, this.#options.packetsAtOnce ?? 0xff),
      retransmits: 0,
      forget: () => {},
    };
    this.#sessions.set(key, session);
    if (answers) this.#clearToSend(session);
    else this.#expect(session, session.connected ? T3_MS : T1_MS);
  }

  #packet(id: J1939Id, frame: CanFrame): void {
    const session = this.#sessions.get(sessionKey(id.source, id.destination));
    const number = frame.data[0]!;
    if (!session || number === 0 || number > session.packets) {
      this.counters.ignored++;
      return;
    }
    if (!session.have[number]) {
      session.have[number] = 1;
      session.received++;
      session.bytes.set(frame.data.subarray(1), (number - 1) * PACKET_BYTES);
    }
    if (session.received === session.packets) {
      this.#finish(session, frame.time);
      return;
    }
    if (number < session.blockEnd) this.#expect(session, T1_MS);
    else if (session.answers) this.#clearToSend(session);
    else if (session.connected) this.#expect(session, T3_MS);
    // What a BAM has left out does not come again.
    else this.#lose(session, 'packets are missing');
  }

  #finish(session: Session, time: number): void {
    const { id, length, packets } = session;
    this.#end(session);
    if (session.answers) this.#answer(id, control(END_OF_MESSAGE, [...le16(length), packets, 0xff], id.pgn));
    this.#options.onMessage({ ...id, data: session.bytes.slice(0, length), time });
  }

  /** Asks for the packets that come next: first those that are missing before the end of the last block. */
  #clearToSend(session: Session): void {
    const from = session.have.indexOf(0, 1);
    if (from < session.expected && ++session.retransmits > RETRANSMITS_MAX) {
      this.#answer(
        session.id,
        control(ABORT, [AbortReason.tooManyRetransmits, 0xff, 0xff, 0xff], session.id.pgn),
      );
      this.#lose(session, 'packets were missing again');
      return;
    }
    const count = Math.min(session.atOnce, session.packets - from + 1);
    session.blockEnd = from + count - 1;
    session.expected = session.blockEnd + 1;
    this.#answer(session.id, control(CTS, [count, from, 0xff, 0xff], session.id.pgn));
    this.#expect(session, T2_MS);
  }

  /** The receiver of a message between two others has said which packets come next. */
  #overheard(id: J1939Id, data: Uint8Array): void {
    const session = this.#sessions.get(sessionKey(id.destination, id.source));
    if (!session || session.answers || !session.connected) return;
    const [, count = 0, from = 0] = data;
    if (count > 0) session.blockEnd = from + count - 1;
    this.#expect(session, count > 0 ? T2_MS : T4_MS);
  }

  #aborted(id: J1939Id, data: Uint8Array): void {
    // Either side may abort.
    for (const key of [sessionKey(id.source, id.destination), sessionKey(id.destination, id.source)]) {
      const session = this.#sessions.get(key);
      if (session?.connected !== true || session.id.pgn !== pgnIn(data)) continue;
      this.counters.aborts++;
      this.#lose(session, `aborted, reason ${data[1]}`);
    }
  }

  #expect(session: Session, ms: number): void {
    session.forget();
    session.forget = this.#options.timers.after(ms, () => {
      this.counters.timeouts++;
      if (session.answers)
        this.#answer(session.id, control(ABORT, [AbortReason.timeout, 0xff, 0xff, 0xff], session.id.pgn));
      this.#lose(session, 'the next packet did not come in time');
    });
  }

  #lose(session: Session, reason: string): void {
    this.#end(session);
    const packets = session.packets - session.received;
    this.counters.lostMessages++;
    this.counters.lostPackets += packets;
    this.#options.onLost?.({ ...session.id, reason, packets });
  }

  #end(session: Session): void {
    session.forget();
    this.#sessions.delete(session.key);
  }

  /** Sends a control frame back to the sender of `to`. */
  #answer(to: J1939Id, bytes: Uint8Array): void {
    const { send, timers } = this.#options;
    if (!send) return;
    const id = controlId({ ...to, source: to.destination, destination: to.source });
    within(timers, SEND_MS, send(frameOf(id, bytes)), () => timeout('The bus takes no frame.')).catch(
      (error: unknown) => {
        this.counters.unsent++;
        const session = this.#sessions.get(sessionKey(to.source, to.destination));
        if (session) this.#lose(session, `the answer could not be sent: ${messageOf(error)}`);
      },
    );
  }
}

/** A message that is being put together. */
interface Session {
  id: J1939Id;
  key: number;
  bytes: Uint8Array;
  length: number;
  packets: number;
  /** By packet number: 1 when it has come. */
  have: Uint8Array;
  received: number;
  /** First packet that was never asked for. */
  expected: number;
  /** We are the receiver and say how it goes on. */
  answers: boolean;
  /** By RTS, not BAM. */
  connected: boolean;
  /** Last packet until somebody says how it goes on. */
  blockEnd: number;
  atOnce: number;
  retransmits: number;
  forget: () => void;
}

/** A message that is being sent. */
interface Transfer {
  id: J1939Id;
  packets: Uint8Array[];
  data: Uint8Array;
  put: (id: J1939Id, bytes: Uint8Array) => Promise<void>;
}

function sessionKey(source: number, destination: number): number {
  return (source << 8) | destination;
}

/** Transport frames have the lowest priority, whatever the message has. */
function controlId(id: J1939Id): J1939Id {
  return { ...id, priority: 7, pgn: TP_CM_PGN };
}

function dataId(id: J1939Id): J1939Id {
  return { ...id, priority: 7, pgn: TP_DT_PGN };
}

function control(kind: number, four: number[], pgn: number): Uint8Array {
  return Uint8Array.of(kind, ...four, pgn & 0xff, (pgn >> 8) & 0xff, pgn >> 16);
}

function pgnIn(data: Uint8Array): number {
  return data[5]! | (data[6]! << 8) | (data[7]! << 16);
}

function le16(value: number): [number, number] {
  return [value & 0xff, value >> 8];
}

/** Numbered packets of 7 bytes, the last one filled up. */
function split(data: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.ceil(data.length / PACKET_BYTES) }, (_, i) => {
    const packet = new Uint8Array(8).fill(0xff);
    packet[0] = i + 1;
    packet.set(data.subarray(i * PACKET_BYTES, (i + 1) * PACKET_BYTES), 1);
    return packet;
  });
}

function frameOf(id: J1939Id, data: Uint8Array): CanFrame {
  return { time: 0, id: formatJ1939Id(id), extended: true, fd: false, data };
}

function timeout(message: string): CardanError {
  return new CardanError('DIAGNOSTICS_TIMEOUT', message);
}
