/** How record batches are compressed. Reading understands all of them, and zstd on Node.js 22.15 or newer. */
export type Compression = 'none' | 'gzip' | 'lz4';

/** How to get into a Kafka cluster, and how topics are made there. Nothing is needed for one without security. */
export interface KafkaSettings {
  /** Stands before the names of topics and groups, so that several Cardans can share a cluster. Default none. */
  topicPrefix?: string;
  /** TLS: true for the system's authorities. */
  tls?: true | { ca?: Buffer; cert?: Buffer; key?: Buffer };
  sasl?: { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: string };
  compression?: Compression;
  /** Partitions of new topics that have more than one. */
  partitions?: number;
  /** Copies of each partition of new topics; default the cluster's. */
  replication?: number;
  /** How long new topics keep a record, by its own timestamp; default for ever. Compacted ones keep the newest. */
  retentionMs?: number;
}
