import type { UplinkOptions } from './uplink.ts';
import type { OutboxOptions } from './outbox.ts';

export const AGENT_VERSION = '0.1.0';

/** Defaults of the agent. Times in milliseconds. */
export const AGENT_DEFAULTS = {
  /** One row a second. */
  rowPeriodMs: 1000,
  /** A value counts as seen for this long: five times the slowest usual CAN period. */
  staleMs: 5000,
  /** What the car says of itself is repeated at least this often. */
  reportMs: 30_000,
  uplink: {
    batchRows: 50,
    batchMs: 5000,
    backlogBatchRows: 1000,
    ackTimeoutMs: 15_000,
  } satisfies Partial<UplinkOptions>,
  outbox: {
    /** Eleven days at one row a second; about 120 MB with 20 signals. */
    rowsMax: 1_000_000,
    eventsMax: 10_000,
    synchronous: 'NORMAL',
  } satisfies Partial<OutboxOptions>,
} as const;
