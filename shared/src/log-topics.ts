import type { TopicConfig } from './event-log/event-log.ts';

/** The topics of the log. The key is the vehicle, or the aggregate's id in `models`. */
export const LOG_TOPICS = {
  /** `TelemetryBatch` records. */
  telemetry: { partitions: 6 },
  /** What cars say of themselves: boot, anomaly, reported, status. */
  'vehicle-events': { partitions: 6 },
  /** `ScoreBatch` records of the cloud's predictor. */
  predictions: { partitions: 6 },
  /** Trained, published, decided. One partition: the order of all decisions is the history. */
  models: { partitions: 1 },
  /** The columns behind a signal-set id. */
  'signal-sets': { partitions: 1, compacted: true },
  /** Messages that the bridge could not read, with the reason in the headers. */
  'dead-letters': { partitions: 1 },
} as const satisfies Record<string, TopicConfig>;

export type LogTopic = keyof typeof LOG_TOPICS;
