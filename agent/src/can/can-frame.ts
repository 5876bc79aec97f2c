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
  /** Frames that were on the bus and are lost, as far as the source can know: the kernel's count, and full queues. */
  readonly dropped?: number;
}

/** A bus that can be spoken on, too: for requests such as OBD-II and UDS. */
export interface CanBus extends CanSource {
  /**
   * Sends one frame; its time is not used. Resolves when the system has taken it.
   *
   * @throws CardanError CAN_SEND_FAILED
   */
  send(frame: CanFrame): Promise<void>;
}
