import type { Decoder, MessageDecoder } from '../dbc/decoder.ts';
import { pgnOf } from './j1939-id.ts';

/**
 * Finds the DBC message of a J1939 frame by its parameter group, whatever priority, destination and sender it has: the
 * DBC names one sender for a group that any node of the vehicle may send. Where the DBC has a group once per sender, the
 * sender's own message counts, and for a sender that it does not name, the first one in the file.
 */
export class J1939Matcher {
  readonly #bySender = new Map<number, MessageDecoder>();
  readonly #byGroup = new Map<number, MessageDecoder>();

  constructor(decoder: Decoder) {
    for (const message of decoder.messages) {
      if (!message.message.extended) continue;
      const { id } = message.message;
      const pgn = pgnOf(id);
      this.#bySender.set(senderKey(pgn, id & 0xff), message);
      if (!this.#byGroup.has(pgn)) this.#byGroup.set(pgn, message);
    }
  }

  /** The groups that the DBC knows. */
  get pgns(): readonly number[] {
    return [...this.#byGroup.keys()];
  }

  /** The decoder of a frame. 11-bit frames are no J1939. */
  find(id: number, extended: boolean): MessageDecoder | undefined {
    return extended ? this.findGroup(pgnOf(id), id & 0xff) : undefined;
  }

  /** The decoder of a message that came by the transport protocol. */
  findGroup(pgn: number, source: number): MessageDecoder | undefined {
    return this.#bySender.get(senderKey(pgn, source)) ?? this.#byGroup.get(pgn);
  }
}

function senderKey(pgn: number, source: number): number {
  return (pgn << 8) | source;
}
