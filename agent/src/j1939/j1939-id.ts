/** What the 29 bits of an id say in SAE J1939-21. */
export interface J1939Id {
  /** 0 (highest) to 7. */
  priority: number;
  /**
   * Parameter group number, 18 bits: extended data page, data page, PDU format, and for formats from 240 on (PDU2)
   * also the group extension. Below 240 (PDU1) the low byte is 0, because there the id carries a destination.
   */
  pgn: number;
  /** Address of the sender. */
  source: number;
  /** Address of the receiver; {@link GLOBAL} for all. PDU2 always goes to all. */
  destination: number;
}

/** The address of everybody. */
export const GLOBAL = 0xff;

/** From this PDU format on the low byte of a PGN is a group extension, below it a destination. */
const PDU2_FROM = 240;

/** Whether the parameter group has a destination in its id. */
export function isPdu1(pgn: number): boolean {
  return ((pgn >> 8) & 0xff) < PDU2_FROM;
}

/** The PGN of a 29-bit id. */
export function pgnOf(id: number): number {
  const pgn = (id >>> 8) & 0x3_ffff;
  return isPdu1(pgn) ? pgn & 0x3_ff00 : pgn;
}

export function parseJ1939Id(id: number): J1939Id {
  const pgn = pgnOf(id);
  return {
    priority: (id >>> 26) & 7,
    pgn,
    source: id & 0xff,
    destination: isPdu1(pgn) ? (id >>> 8) & 0xff : GLOBAL,
  };
}

/** The 29-bit id. `destination` counts for PDU1 only. */
export function formatJ1939Id({ priority, pgn, source, destination }: J1939Id): number {
  return (priority << 26) | (pgn << 8) | (isPdu1(pgn) ? destination << 8 : 0) | source;
}
