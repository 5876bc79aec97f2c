export const AGENT_VERSION = '0.1.0';
/** When this version was begun, milliseconds since 1970: no true clock is before it. To be moved on with the version. */
export const AGENT_BUILT_AT = Date.UTC(2026, 10, 23);

/** Defaults of the agent. Times in milliseconds. */
export const AGENT_DEFAULTS = {
  /** One row a second. */
  rowPeriodMs: 1000,
  /** A value counts as seen for this long: five times the slowest usual CAN period. */
  staleMs: 5000,
  /** What the car says of itself is repeated at least this often. */
  reportMs: 30_000,
  scoring: {
    /**
     * Most that a model may take for one row, microseconds; at most a twentieth of the row period, too. A hundred
     * times what the trainer's models take on a small computer, and at 4,000 frames a second only twenty of them
     * wait meanwhile.
     */
    budgetUs: 5000,
    /** Statistics of a shadow go up this often, by the time of the rows: 300 rows make a distribution. */
    shadowPeriodMs: 5 * 60_000,
    /** A model that crashes does so soon, or is beyond what a trial can find: memory that leaks takes longer. */
    goodAfterMs: 5 * 60_000,
    /**
     * Multiply-adds that a microsecond holds at most: what the dense executor does on one core of a server
     * (docs/performance.md). No car's computer is faster, so a model that is over this is surely too slow.
     */
    operationsPerUs: 1000,
  },
  uplink: {
    batchRows: 50,
    batchMs: 5000,
    backlogBatchRows: 1000,
    ackTimeoutMs: 15_000,
    /** About 2,000 rows of 25 signals, and below what brokers take as one message. */
    batchBytes: 256 * 1024,
    /** A month of one row a second in 22 minutes: soon done, and little for a broker with a fleet behind it. */
    backlogRowsPerSecond: 2000,
    /** Not metered. */
    dayBytesMax: Number.POSITIVE_INFINITY,
    compression: 'none',
  },
  outbox: {
    /** Eleven days at one row a second; about 120 MB with 20 signals. */
    rowsMax: 1_000_000,
    eventsMax: 10_000,
    /** Of rows in the file: as many rows as above, with 50 signals. A smaller disk gives less. */
    bytesMax: 256 * 1024 * 1024,
    /** A quarter of a year: what is older helps nobody to find a failing part. */
    ageMaxMs: 90 * 24 * 3_600_000,
    /** Nearly three hours at one row a second; about 5 MB with 25 signals. */
    memoryRowsMax: 10_000,
    memoryEventsMax: 1000,
    /** A network that is there has told the time by then. */
    clockHoldMs: 120_000,
    synchronous: 'NORMAL',
  },
} as const;
