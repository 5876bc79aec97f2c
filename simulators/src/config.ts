/** Defaults of the simulator. */
export const SIM_DEFAULTS = {
  vehicles: 20,
  seed: 1,
  /** Simulated seconds per second, to watch. */
  speedup: 20,
  once: {
    /** Car-seconds per second that two cores simulate with room to spare; shared by the cars. */
    carSecondsPerSecond: 1200,
    speedupMax: 240,
    /** Rows that the fleet drives before its first model; shared by the cars, within bounds. */
    rows: 15_000,
    rowsPerVehicleMin: 240,
    rowsPerVehicleMax: 3000,
    /** Seconds that the loop may take with up to 20 cars; more cars take longer in proportion. */
    secondsMax: 85,
  },
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
  /** Rows of a recording after which it gets a model of its own: ten minutes at 1 Hz. */
  replayModelRows: 600,
  /** The state of the cars is saved this often (wall time), so that a restart goes on. */
  saveMs: 2000,
} as const;

/** Pace for `--once`: few cars go faster, so that it takes as long with 3 as with 20. */
export function onceSpeedup(vehicles: number): number {
  const { carSecondsPerSecond, speedupMax } = SIM_DEFAULTS.once;
  return Math.max(1, Math.min(speedupMax, Math.floor(carSecondsPerSecond / vehicles)));
}

/** Rows per car before the first model: a small fleet needs more of each car to learn what is normal. */
export function firstModelRows(vehicles: number): number {
  const { rows, rowsPerVehicleMin, rowsPerVehicleMax } = SIM_DEFAULTS.once;
  return Math.max(rowsPerVehicleMin, Math.min(rowsPerVehicleMax, Math.ceil(rows / vehicles)));
}

/** Seconds that `--once` may take by default. */
export function onceSecondsMax(vehicles: number): number {
  return SIM_DEFAULTS.once.secondsMax * Math.max(1, vehicles / 20);
}
