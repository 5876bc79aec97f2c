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

/**
 * How a bus is. A controller that sees many faults goes from error-warning to error-passive, where it may not stop
 * others any more, and then to bus-off, where it takes no part; sources other than SocketCAN know open and closed only.
 */
export type BusState = 'closed' | 'open' | 'error-warning' | 'error-passive' | 'bus-off';

/** What a source has counted since the process started. */
export interface SourceCounters {
  state: BusState;
  /** Data frames handed on. */
  received: number;
  /** Lines or datagrams that were no frame. */
  malformed: number;
  /** Frames lost, as far as the source can know. */
  dropped: number;
  /** Reports of the controller's own troubles. */
  errors: number;
}

/** Where frames come from. A source yields them in batches, in the order in which they were on the bus. */
export interface CanSource {
  frames(signal: AbortSignal): AsyncIterable<CanFrame[]>;
  /** Lines or datagrams that were no frame. */
  readonly malformed: number;
  /** Frames that were on the bus and are lost, as far as the source can know: the kernel's count, and full queues. */
  readonly dropped?: number;
  /** Reports of the controller's own troubles; of kinds of source that have them. */
  readonly errors?: number;
  /** Without it the bus is open from the first call of `frames` to its end. */
  readonly state?: BusState;
  /** By bus, named as `--can` does. */
  readonly counters?: Readonly<Record<string, SourceCounters>>;
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
