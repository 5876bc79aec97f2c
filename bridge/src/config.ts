/** Defaults of the bridge. */
export const BRIDGE_DEFAULTS = {
  /** Bytes that may wait for the log before reading from the broker pauses. */
  queueBytesMax: 16 * 1024 * 1024,
  /** First pause after an append that failed, and the longest one; milliseconds. */
  retryMs: 100,
  retryMaxMs: 10_000,
} as const;
