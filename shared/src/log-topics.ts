import { CardanError } from './errors.ts';
import type { EventLog, TopicConfig } from './event-log/event-log.ts';

/** The topics of the log. The key is the vehicle, or the aggregate's id in `models` and `campaigns`. */
export const LOG_TOPICS = {
  /** `TelemetryBatch` records. */
  telemetry: { partitions: 6 },
  /** What cars say of themselves: boot, anomaly, reported, status. */
  'vehicle-events': { partitions: 6 },
  /** `ScoreBatch` records of the cloud's predictor. */
  predictions: { partitions: 6 },
  /** Trained, published, decided. One partition: the order of all decisions is the history. */
  models: { partitions: 1 },
  /**
   * Published, withdrawn. A topic of its own: who reads models need not read what is collected, the rights to write can
   * differ, and one that cannot be read keeps nobody from the other. One partition, for the order of generations.
   */
  campaigns: { partitions: 1 },
  /** What happens to each rollout, with the evidence. One partition, for the order of generations. */
  rollouts: { partitions: 1 },
  /** Registered, changed, removed. What operators say of vehicles; what these say of themselves is above. */
  vehicles: { partitions: 1 },
  /**
   * Driving states of the fleet, per signal set, and the cluster of each vehicle: what the learner says. Only the newest
   * counts, and it must stay while the telemetry behind it goes.
   */
  clusters: { partitions: 1, compacted: true },
  /** The columns behind a signal-set id. */
  'signal-sets': { partitions: 1, compacted: true },
  /** Messages that the bridge could not read, with the reason in the headers. */
  'dead-letters': { partitions: 1 },
} as const satisfies Record<string, TopicConfig>;

export type LogTopic = keyof typeof LOG_TOPICS;

/**
 * Creates the topics of the log that are missing. An operator may have created those of vehicles with another number
 * of partitions; they are used as they are. Throws TOPIC_EXISTS for a topic that cannot be used.
 */
export async function ensureLogTopics(
  log: EventLog,
  topics: readonly LogTopic[] = Object.keys(LOG_TOPICS) as LogTopic[],
): Promise<void> {
  for (const topic of topics) {
    const config: TopicConfig = LOG_TOPICS[topic];
    try {
      await log.createTopic(topic, config);
    } catch (error) {
      if (!(error instanceof CardanError) || error.code !== 'TOPIC_EXISTS') throw error;
      const there = (await log.topics()).find((info) => info.topic === topic);
      if (config.partitions === 1 || there?.compacted !== (config.compacted ?? false)) throw error;
    }
  }
}
