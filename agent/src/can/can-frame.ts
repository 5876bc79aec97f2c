/** One CAN frame as a source delivers it. */
export interface CanFrame {
  /** Milliseconds since 1970 in UTC, with fractions. */
  time: number;
  /** 11 or 29 bits. */
  id: number;
  extended: boolean;
  /** CAN FD: up to 64 bytes. */
  fd: boolean;
  data: Uint8Array;
}

/** Where frames come from. A source yields them in batches, in the order in which they were on the bus. */
export interface CanSource {
  frames(signal: AbortSignal): AsyncIterable<CanFrame[]>;
  /** Lines or datagrams that were no frame. */
  readonly malformed: number;
}
