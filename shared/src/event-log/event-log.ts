/**
 * The log: topics of partitions of records, as in Apache Kafka. It is the only store of the cloud; every
 * table, page and metric is a projection of it. Adapters: `SqliteEventLog` (embedded default), `KafkaEventLog`.
 *
 * Everything moves in batches, never single records: a promise per record is what makes streaming slow.
 */

/** A record to append. */
export interface NewRecord {
  /** Records with one key keep their order: key → partition by murmur2, as Kafka's own clients do. */
  key: string | null;
  /** null is a tombstone in a compacted topic. */
  value: Uint8Array | null;
  /** The data's own time, milliseconds since 1970 in UTC. Late records stand behind newer ones. */
  timestamp: number;
  headers?: Readonly<Record<string, string>>;
}

/** A record as it stands in the log. */
export interface LogRecord {
  offset: number;
  key: string | null;
  value: Buffer | null;
  timestamp: number;
  headers: Readonly<Record<string, string>>;
}

/** Consecutive records of one partition, in order of their offsets. Never empty. */
export interface Batch {
  topic: string;
  partition: number;
  records: LogRecord[];
  /** Offset that the next record to be appended to this partition would get, when the batch was read. */
  endOffset: number;
}

/** One offset per partition. As an end it is exclusive, as a committed offset it is the next to read. */
export type Offsets = Readonly<Record<number, number>>;

/**
 * A place in a topic. `Date` is the first offset per partition whose timestamp is not before it, or the end
 * where there is none. As the data's own times are not sorted in the log, who reads a span of time up to
 * pinned end offsets filters the records by time as well.
 */
export type Position = 'earliest' | 'latest' | Date | Offsets;

export interface ReadOptions {
  from: Position;
  /** Exclusive end, pinned when the read begins. Without it the read tails the topic until aborted. */
  to?: Position;
  /** Only these partitions; default all. */
  partitions?: readonly number[];
  /** Ends the iteration; the batch in hand is still delivered. */
  signal?: AbortSignal;
  /** Most records in a batch; default 1000. */
  recordsMax?: number;
}

export interface SubscribeOptions {
  /** Where a group begins in a partition for which it has committed nothing; default 'earliest'. */
  from?: 'earliest' | 'latest';
  /** Ends the iteration after the batch in hand has been committed; the member leaves the group. */
  signal?: AbortSignal;
  /** Most records in a batch; default 1000. */
  recordsMax?: number;
}

export interface TopicConfig {
  partitions: number;
  /** Keep only the newest record per key (older ones go, offsets keep their gaps). */
  compacted?: boolean;
}

export interface TopicInfo {
  topic: string;
  partitions: number;
  compacted: boolean;
}

/** `earliest`: first offset still there; `latest`: the offset that the next record will get. */
export interface PartitionOffsets {
  partition: number;
  earliest: number;
  latest: number;
}

export interface PartitionLag {
  topic: string;
  partition: number;
  /** Next offset that the group will read. */
  committed: number;
  latest: number;
  /** Records that the group has not finished yet. */
  lag: number;
}

export interface EventLog {
  /** Creates the topic. The same topic with the same config again is fine; another config is TOPIC_EXISTS. */
  createTopic(topic: string, config: TopicConfig): Promise<void>;
  topics(): Promise<TopicInfo[]>;
  /**
   * Resolves when all the records are durable. When it rejects with USAGE or RECORD_REFUSED none of them is; with
   * any other error some may be: append them again, readers drop copies. Order is kept per key.
   */
  append(topic: string, records: readonly NewRecord[]): Promise<void>;
  /** Reads without a group: nothing is committed. Bounded with `to`, tailing without. */
  read(topic: string, options: ReadOptions): AsyncIterable<Batch>;
  /**
   * Reads as a member of a consumer group: partitions are shared among its members, also across processes,
   * and go to others when a member leaves or dies. A batch is committed when the consumer asks for the next
   * one; after a crash it is delivered again (at least once).
   */
  subscribe(group: string, topics: readonly string[], options?: SubscribeOptions): AsyncIterable<Batch>;
  /** The offsets that a position means now, one per partition. They can go into a lineage. */
  resolve(topic: string, position: Position): Promise<Offsets>;
  offsets(topic: string): Promise<PartitionOffsets[]>;
  /**
   * Notes how far a group has got that reads by `read` and not by `subscribe`: `offsets` are the next ones to read.
   * Its lag is then visible like that of any group. The group must have no members.
   */
  commit(group: string, topic: string, offsets: Offsets): Promise<void>;
  /** Names of the consumer groups that have committed or are reading. */
  groups(): Promise<string[]>;
  lag(group: string): Promise<PartitionLag[]>;
  close(): Promise<void>;
}
