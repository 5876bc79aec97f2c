/** Rows outside of any campaign, and alarms: which goes first when the outbox is full. 0 goes first, 9 last. */
export const PRIORITY_DEFAULT = 5;
export const PRIORITY_ALARM = 9;
export const PRIORITIES = 10;

export const COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

/** What a run of rows has in common; a batch on the wire has one of these. */
export interface RowContext {
  signalSet: string;
  modelName: string;
  modelVersion: string;
  /** Which campaign asked for these rows; losses are counted by it. Without one: the empty name. */
  campaign?: string;
  /** 0 to 9, 5 without it. When the outbox is full, the oldest rows of the lowest priority go first. */
  priority?: number;
  /** How its batches go up; without it as the uplink's options say. */
  compression?: Compression;
  /** `memory`: never written to the disk, and gone with the process; `disk` without it. */
  persistence?: 'disk' | 'memory';
}

/** A row that is not in a file yet. */
export interface NewRow {
  /** 0 while the file could not be opened, so that nobody knows which number comes next. */
  sequence: number;
  time: number;
  values: Buffer;
  score: number | null;
  context: RowContext;
  /** When it was taken, by the monotonic clock. */
  monotonic: number;
}

/** Losses of one campaign. */
export interface Dropped {
  rows: number;
  events: number;
}

/**
 * What a row takes in the file beside its values: 28 bytes were measured for sequence, time, score, context and
 * SQLite's own, 8 more are for boot and monotonic time.
 */
export const ROW_OVERHEAD_BYTES = 36;

export function priorityOf({ priority = PRIORITY_DEFAULT }: RowContext): number {
  if (!(priority >= 0)) return PRIORITY_DEFAULT;
  return Math.min(PRIORITIES - 1, Math.floor(priority));
}
