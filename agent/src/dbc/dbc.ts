import type { Conversion } from './conversion.ts';

/** A CAN database: what the frames of a vehicle mean. */
export interface Dbc {
  /** In the order of the file. Several may have one id or one name; the last one then counts, as in cantools. */
  messages: Message[];
  /** Lines that were not understood or look wrong. What they say is left out, the rest of the file counts. */
  warnings: DbcWarning[];
}

export interface DbcWarning {
  /** 1-based. */
  line: number;
  message: string;
}

export interface Message {
  name: string;
  /** 11 or 29 bits, without the flag that the file keeps in bit 31. */
  id: number;
  extended: boolean;
  /** CAN FD, by the attribute VFrameFormat. */
  fd: boolean;
  /** Bytes. */
  length: number;
  /** Attribute GenMsgCycleTime, or its default; null when there is none or 0. */
  cycleTimeMs: number | null;
  sender: string | null;
  comment: string | null;
  /** In the order of the file. */
  signals: Signal[];
  /** Where the message stands in the file, 1-based. */
  line: number;
}

export interface Signal {
  name: string;
  /** As in the file: the lowest bit when little endian, the highest ("sawtooth") when big endian. */
  start: number;
  /** Bits. */
  length: number;
  byteOrder: 'little' | 'big';
  type: 'unsigned' | 'signed' | 'float';
  scale: number;
  offset: number;
  /** How raw numbers become scaled ones, bit by bit. */
  conversion: Conversion;
  /** Scaled; as the file says, and never applied. */
  minimum: number | null;
  maximum: number | null;
  unit: string;
  comment: string | null;
  /** Names of raw values, from VAL_. */
  choices: Map<number, string> | null;
  /** Whether the value selects which other signals are in the frame. */
  selects: boolean;
  /** When the signal is in the frame; null: always. */
  branch: Branch | null;
  /** Where the signal stands in the file, 1-based. */
  line: number;
}

/** A multiplexed signal is there when its selector is there, and the selector's value is in one of the ranges. */
export interface Branch {
  /** Index in the message's signals. */
  selector: number;
  /** Inclusive, ascending, not touching. */
  ranges: (readonly [first: number, last: number])[];
}
