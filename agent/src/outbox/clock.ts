import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';

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
   * has told it the time, rows of this boot are kept, and not sent; they get their right times when it is set.
   */
  known(): boolean;
}

/** Cardan is younger than this: a clock that is before it has not been set. */
export const EARLIEST_MS = Date.UTC(2026, 0, 1);

/** The folder is there while systemd-timesyncd runs, the file since it has first set the clock in this boot. */
const TIMESYNC = '/run/systemd/timesync';

/** Until the clock is set, the file is looked for this often. */
const LOOK_MS = 500;

/** The computer's clock. Linux names its boots; elsewhere each process is one. */
export const systemClock: Clock = {
  boot: bootId(),
  monotonicMs,
  wallMs: Date.now,
  known: believed(),
};

function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + Math.floor(nanoseconds / 1e6);
}

function believed(): () => boolean {
  let set = false;
  let lookedMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (Date.now() < EARLIEST_MS) return false;
    const now = monotonicMs();
    if (!set && now - lookedMs >= LOOK_MS) {
      lookedMs = now;
      set = !existsSync(TIMESYNC) || existsSync(`${TIMESYNC}/synchronized`);
    }
    return set;
  };
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return randomUUID();
  }
}
