export const CLOUD_VERSION = '0.1.0';

/** Defaults of the cloud services. */
export const CLOUD_DEFAULTS = {
  host: '127.0.0.1',
  registryPort: 8090,
  monitorPort: 8080,
  trainer: {
    seed: 1,
    group: 'trainer',
    /** A first model is trained when a signal set has this many rows per vehicle: ten minutes at 1 Hz. */
    rowsPerVehicleMin: 600,
    /** The next one, when the rows have grown by this factor since. */
    growth: 2,
    /** Most rows of one training: about 20 s of one core. */
    rowsMax: 60_000,
  },
} as const;
