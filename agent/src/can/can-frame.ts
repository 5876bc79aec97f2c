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

/** A source that can be spoken to as well: for requests (OBD-II, UDS) and transport protocols. */
export interface CanBus extends CanSource {
  /**
   * Puts one frame on the bus; its `time` is ignored. Frames leave in the order of the calls. Resolves when the
   * controller, line or socket has taken it; rejects when it will not. A bus gives its own frames back to others only.
   */
  send(frame: CanFrame): Promise<void>;
}
