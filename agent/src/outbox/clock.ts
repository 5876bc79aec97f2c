import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Where the outbox takes time from. All in milliseconds. */
export interface Clock {
  /** Names this boot of the computer; monotonic times can be compared within one boot only. */
  boot: string;
  /** Never jumps, whatever is done to the clock. */
  monotonicMs(): number;
  /** Since 1970 (UTC); may jump. */
  wallMs(): number;
  /**
   * Whether the wall clock can be believed yet. A Raspberry Pi has no clock of its own: until the network or GPS
   * has told it the time, rows of this boot are kept, and not sent.
   */
  known(): boolean;
}

/** The computer's clock, believed from the start. Linux names its boots; elsewhere each process is one. */
export const systemClock: Clock = {
  boot: bootId(),
  monotonicMs: () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1000 + Math.floor(nanoseconds / 1e6);
  },
  wallMs: Date.now,
  known: () => true,
};

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return randomUUID();
  }
}
