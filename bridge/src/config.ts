/** Defaults of the bridge. */
export const BRIDGE_DEFAULTS = {
  /** Bridges of one group share what comes; see `BridgeOptions.shareGroup`. */
  shareGroup: 'cardan-bridge',
  /** MQTT 5: messages that the broker may have sent before they are in the log. It holds back the rest. */
  receiveMaximum: 1000,
  /** Bytes that may be held here before reading from the broker pauses. */
  queueBytesMax: 16 * 1024 * 1024,
  /** What a compressed batch may become, at most: sixteen times what cars send. */
  batchBytesMax: 4 * 1024 * 1024,
  /** What goes to the log at once, at most. */
  appendBytesMax: 4 * 1024 * 1024,
  appendRecordsMax: 5000,
  /** Longest first pause after an append that failed, and the longest one of all; milliseconds. */
  retryMs: 100,
  retryMaxMs: 10_000,
  /** How long closing may take; milliseconds. */
  drainMs: 20_000,
  /** Seconds between signs of life to the broker. */
  keepaliveSeconds: 30,
  /** The broker has sent its retained messages when none has come for this long; milliseconds. */
  retainedQuietMs: 5000,
  /** A dead letter that the log refuses whole is cut to this many bytes. */
  deadLetterBytes: 16 * 1024,
  /** MQTT topics whose vehicle and channel are remembered. */
  topicsMax: 100_000,
} as const;
