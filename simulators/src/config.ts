/** Defaults of the simulator. */
export const SIM_DEFAULTS = {
  vehicles: 20,
  seed: 1,
  /** Simulated seconds per second: to watch, and to be done soon. */
  speedup: 20,
  speedupOnce: 60,
  /**
   * A simulation faster than real begins a day ago, so that its time is never in the future (Kafka refuses
   * records over an hour ahead). When it has caught up with the present it goes on at the pace of the clock.
   */
  beginsBeforeMs: 24 * 3600_000,
  /** Pace of the loop, wall time. */
  tickMs: 20,
  /** Most simulated time per tick and car: a slow machine simulates slower instead of choking. */
  stepMaxMs: 5000,
  fault: {
    severityMin: 0.7,
    severityMax: 1,
    /** Simulated time from the onset to full severity. */
    growthMs: 3 * 60_000,
    /** Simulated time after which the workshop has repaired it. */
    lastsMs: 40 * 60_000,
  },
  /** The state of the cars is saved this often (wall time), so that a restart goes on. */
  saveMs: 2000,
} as const;
