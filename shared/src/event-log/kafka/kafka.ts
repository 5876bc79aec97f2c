import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Kafka, KafkaConfig } from 'kafkajs';
import { CardanError } from '../../errors.ts';
import { checkRecord, checkRecordsMax, checkSubscription, checkTopic } from '../checks.ts';
import type {
  Batch,
  EventLog,
  NewRecord,
  Offsets,
  PartitionLag,
  PartitionOffsets,
  Position,
  ReadOptions,
  SubscribeOptions,
  TopicConfig,
  TopicInfo,
} from '../event-log.ts';
import type { KafkaSettings } from '../kafka-settings.ts';
import { partitionOf } from '../murmur2.ts';
import { type Cluster, Connection, ConnectionClosed, kafkaClient, typeOf } from './cluster.ts';
import { encodeRecordBatch, recordSizeBound } from './record-batch.ts';
import { Fetcher, type Fetched, type Start } from './fetcher.ts';
import { Member } from './group.ts';
import { Producer } from './producer.ts';

export interface KafkaEventLogOptions extends KafkaSettings {
  /** HOST:PORT of some of the brokers; the others are found through them. */
  brokers: readonly string[];
  /** Shown in Kafka's logs and quotas. */
  clientId?: string;
  /** A member of a group that gives no sign for so long has lost its partitions. Brokers allow 6 s and more. */
  sessionTimeoutMs?: number;
  /** Told of trouble that is being got over: a broker that is away, a leader that moves. */
  onProblem?: (error: CardanError) => void;
}

const PARTITIONS_MAX = 10_000;
/** One record may have this many bytes in topics that we create. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** Of a topic whose configuration we may not see: Kafka's default. */
const MESSAGE_BYTES_MAX_DEFAULT = 1_048_588;
const INT64_MAX = '9223372036854775807';
const CREATE_TIMEOUT_MS = 15_000;
/** How long the settings of a topic are taken for known. */
const TOPIC_FRESH_MS = 60_000;
const OPEN_PATIENCE_MS = 5_000;
const TOPIC_RESOURCE = 2;
const LATEST = -1;
const EARLIEST = -2;
const READ_COMMITTED = 1;

interface Topic extends TopicInfo {
  messageBytesMax: number;
  /** Timestamps may be at most this far from now, in ms. */
  timestampBeforeMaxMs: number;
  timestampAfterMaxMs: number;
  seenAt: number;
}

/**
 * The event log in Apache Kafka. Records are stored as any client of Kafka stores them: keys partitioned by murmur2,
 * timestamps of the data (CreateTime), headers as UTF-8. Written by an idempotent producer with acks=all.
 *
 * - kafkajs has the connections, TLS, SASL, metadata and the requests of groups; record batches, fetching and the
 *   loops that try again are here (docs/decisions/0005).
 * - What waits for Kafka goes on by itself when it is back: reads that tail and subscriptions for as long as it
 *   takes, everything else for 30 s and then LOG_UNREACHABLE.
 * - Transactions of others are read as committed.
 *
 * Errors: LOG_CLOSED, LOG_UNREACHABLE, LOG_DENIED, LOG_CORRUPT, LOG_COMPRESSION, RECORD_REFUSED, TOPIC_UNKNOWN,
 * TOPIC_EXISTS, OFFSET_OUT_OF_RANGE, USAGE.
 */
export class KafkaEventLog implements EventLog {
  readonly #kafka: Kafka;
  readonly #options: KafkaEventLogOptions;
  readonly #prefix: string;
  readonly #onProblem: (error: CardanError) => void;
  /** For requests that are answered at once; who waits at a broker has a connection of its own. */
  readonly #connection: Connection;
  readonly #writing: Connection;
  readonly #producer: Producer;
  readonly #topics = new Map<string, Topic>();
  /** What is under way, each with what ends it. */
  readonly #open = new Set<() => Promise<void>>();
  #keyless = 0;
  #closing: Promise<void> | undefined;

  private constructor(options: KafkaEventLogOptions) {
    this.#options = options;
    this.#prefix = options.topicPrefix ?? '';
    this.#onProblem = options.onProblem ?? (() => undefined);
    this.#kafka = kafkaClient(clientConfig(options));
    this.#connection = new Connection(this.#kafka);
    this.#writing = new Connection(this.#kafka);
    this.#producer = new Producer(this.#writing, options.compression ?? 'none', this.#onProblem);
  }

  /** Connects. Throws LOG_UNREACHABLE when no broker answers within some seconds, LOG_DENIED. */
  static async open(options: KafkaEventLogOptions): Promise<KafkaEventLog> {
    const log = new KafkaEventLog(options);
    try {
      await log.#connection.run((cluster) => cluster.refreshMetadata(), { patienceMs: OPEN_PATIENCE_MS });
      return log;
    } catch (error) {
      await log.#abandon();
      if (!(error instanceof CardanError) || error.code !== 'LOG_UNREACHABLE') throw error;
      throw new CardanError(
        'LOG_UNREACHABLE',
        `No Kafka broker answers at ${options.brokers.join(', ')} (${rootMessage(error)}). Start one, or give another address with --kafka (KAFKA_BROKERS).`,
        { cause: error },
      );
    }
  }

  async createTopic(topic: string, config: TopicConfig): Promise<void> {
    const { compacted = false } = config;
    checkTopic(topic, config, PARTITIONS_MAX);
    if (topic.length + this.#prefix.length > 249)
      throw new CardanError(
        'USAGE',
        `With its prefix, "${topic}" is longer than the 249 characters of a topic.`,
      );
    const partitions = config.partitions > 1 ? (this.#options.partitions ?? config.partitions) : 1;
    const there = (await this.#findTopic(topic)) ?? (await this.#makeTopic(topic, partitions, compacted));
    if (there.partitions !== partitions || there.compacted !== compacted)
      throw new CardanError(
        'TOPIC_EXISTS',
        `Topic "${this.#prefix}${topic}" is there with ${there.partitions} partitions, ${there.compacted ? '' : 'not '}compacted. ` +
          'Use it as it is, or choose another name.',
      );
  }

  async topics(): Promise<TopicInfo[]> {
    const names = await this.#request(async (cluster) => {
      const broker = await anyBroker(cluster);
      const { topicMetadata } = await broker.metadata([]);
      return topicMetadata
        .filter(({ topic, isInternal }) => !isInternal && !topic.startsWith('__'))
        .map(({ topic }) => topic);
    });
    const mine = names.filter((name) => name.startsWith(this.#prefix));
    const topics = await this.#describe(mine.map((name) => name.slice(this.#prefix.length)));
    return topics
      .map(({ topic, partitions, compacted }) => ({ topic, partitions, compacted }))
      .sort((a, b) => (a.topic < b.topic ? -1 : 1));
  }

  async append(topic: string, records: readonly NewRecord[]): Promise<void> {
    this.#check();
    // The order of calls counts, so what is known is not asked for.
    const there = this.#fresh(topic) ?? (await this.#topic(topic));
    if (records.length === 0) return;
    const byPartition = new Map<number, NewRecord[]>();
    let keyless: number | undefined;
    const now = Date.now();
    for (const [i, record] of records.entries()) {
      checkRecord(record, i, there);
      const { key } = record;
      const partition =
        key === null ? (keyless ??= this.#keyless++ % there.partitions) : partitionOf(key, there.partitions);
      const list = byPartition.get(partition);
      if (list === undefined) byPartition.set(partition, [record]);
      else list.push(record);
      checkTime(record.timestamp, i, there, now);
    }
    for (const [i, record] of records.entries()) {
      if (recordSizeBound(record) <= there.messageBytesMax - 200) continue;
      // Before anything is sent, so that none of the records is in when one is refused.
      const alone = await encodeRecordBatch([record], this.#options.compression ?? 'none', NOBODY);
      if (alone.length > there.messageBytesMax)
        throw new CardanError(
          'RECORD_REFUSED',
          `Record ${i} has ${alone.length} bytes; topic "${topic}" takes ${there.messageBytesMax} (max.message.bytes). Nothing was appended.`,
        );
    }
    try {
      await this.#producer.append(this.#prefix + topic, byPartition, there.messageBytesMax - 200);
    } catch (error) {
      if (error instanceof CardanError && error.code === 'TOPIC_UNKNOWN') this.#topics.delete(topic);
      throw error;
    }
  }

  async *read(topic: string, options: ReadOptions): AsyncGenerator<Batch, void, undefined> {
    const { signal, from, to } = options;
    const recordsMax = checkRecordsMax(options.recordsMax);
    const there = await this.#topic(topic);
    const partitions = [...new Set(options.partitions ?? range(there.partitions))];
    for (const partition of partitions) checkPartition(there, partition);
    if (signal?.aborted || partitions.length === 0) return;
    const begin = await this.#offsetsAt(there, from);
    const end = to === undefined ? undefined : await this.#offsetsAt(there, to);
    const earliest = partitions.every((partition) => begin[partition] !== undefined)
      ? {}
      : await this.#listOffsets(there, EARLIEST);
    const starts = partitions.map((partition): Start => ({
      topic: this.#prefix + topic,
      partition,
      next: begin[partition] ?? earliest[partition]!,
      to: end === undefined ? Number.POSITIVE_INFINITY : (end[partition] ?? 0),
    }));
    // A bounded read is never kept waiting at a broker, so it may share a connection.
    const bounded = to !== undefined;
    const connection = bounded ? this.#connection : new Connection(this.#kafka);
    const fetcher = this.#fetcher(connection, recordsMax);
    const finish = async () => {
      fetcher.close();
      if (!bounded) await connection.close();
    };
    this.#open.add(finish);
    const wake = () => fetcher.wake();
    signal?.addEventListener('abort', wake);
    try {
      fetcher.assign(starts);
      for (;;) {
        this.#check();
        if (signal?.aborted) return;
        const batch = fetcher.take();
        if (batch !== undefined) {
          yield this.#toBatch(batch);
          // Otherwise a long read would keep timers and sockets waiting for its end.
          await nextTurn();
        } else if (fetcher.done) return;
        else await fetcher.changed();
      }
    } catch (error) {
      throw this.#closing === undefined ? error : this.#closed();
    } finally {
      signal?.removeEventListener('abort', wake);
      this.#open.delete(finish);
      // Requests that wait at a broker end by themselves; nobody has to wait for them here.
      this.#later(finish());
    }
  }

  async *subscribe(
    group: string,
    topics: readonly string[],
    options: SubscribeOptions = {},
  ): AsyncGenerator<Batch, void, undefined> {
    const { signal, from = 'earliest' } = options;
    const recordsMax = checkRecordsMax(options.recordsMax);
    checkSubscription(group, topics);
    for (const topic of topics) await this.#topic(topic);
    if (signal?.aborted) return;
    const connection = new Connection(this.#kafka);
    // The coordinator keeps a join waiting: fetches must not wait behind it.
    const fetching = new Connection(this.#kafka);
    const fetcher = this.#fetcher(fetching, recordsMax);
    const member = new Member(connection, {
      group: this.#prefix + group,
      topics: [...new Set(topics)].map((topic) => this.#prefix + topic),
      sessionTimeoutMs: this.#options.sessionTimeoutMs ?? 30_000,
      partitionsOf: async (topic) => (await this.#topic(topic.slice(this.#prefix.length))).partitions,
      onDisturbed: () => fetcher.wake(),
      onTrouble: this.#onProblem,
    });
    let interrupt: (nothing: undefined) => void = () => undefined;
    const interrupted = new Promise<undefined>((resolve) => {
      interrupt = resolve;
    });
    const wake = () => {
      interrupt(undefined);
      fetcher.wake();
    };
    const finish = async () => {
      fetcher.close();
      wake();
      await member.leave();
      await Promise.all([connection.close(), fetching.close()]);
    };
    this.#open.add(finish);
    signal?.addEventListener('abort', wake);
    try {
      for (;;) {
        this.#check();
        if (signal?.aborted) return;
        if (member.disturbed) {
          fetcher.assign([]);
          // While the join waits for others, an abort or a close does not.
          const joining = this.#joined(member, from, signal);
          const starts = await Promise.race([joining, interrupted]);
          if (starts === undefined) joining.catch(() => undefined);
          else fetcher.assign(starts);
          continue;
        }
        const batch = fetcher.take();
        if (batch === undefined) {
          await fetcher.changed();
          continue;
        }
        yield this.#toBatch(batch);
        this.#check();
        await member.commit([batch]);
        await nextTurn();
      }
    } catch (error) {
      throw this.#closing === undefined ? error : this.#closed();
    } finally {
      signal?.removeEventListener('abort', wake);
      this.#open.delete(finish);
      await finish();
    }
  }

  async resolve(topic: string, position: Position): Promise<Offsets> {
    const there = await this.#topic(topic);
    const offsets = await this.#offsetsAt(there, position);
    const all = range(there.partitions);
    if (all.every((partition) => offsets[partition] !== undefined)) return offsets;
    return { ...(await this.#listOffsets(there, EARLIEST)), ...offsets };
  }

  async offsets(topic: string): Promise<PartitionOffsets[]> {
    const there = await this.#topic(topic);
    const [earliest, latest] = await Promise.all([
      this.#listOffsets(there, EARLIEST),
      this.#listOffsets(there, LATEST),
    ]);
    return range(there.partitions).map((partition) => ({
      partition,
      earliest: earliest[partition]!,
      latest: latest[partition]!,
    }));
  }

  async commit(group: string, topic: string, offsets: Offsets): Promise<void> {
    checkSubscription(group, [topic]);
    const there = await this.#topic(topic);
    const next = await this.#offsetsAt(there, offsets);
    const groupId = this.#prefix + group;
    await this.#request(async (cluster) => {
      const coordinator = await cluster.findGroupCoordinator({ groupId });
      try {
        await coordinator.offsetCommit({
          groupId,
          groupGenerationId: -1,
          memberId: '',
          topics: [
            {
              topic: this.#prefix + topic,
              partitions: Object.entries(next).map(([partition, offset]) => ({
                partition: Number(partition),
                offset: String(offset),
                metadata: '',
              })),
            },
          ],
        });
      } catch (error) {
        if (!HAS_MEMBERS.has(typeOf(error) ?? '')) throw error;
        throw new CardanError(
          'USAGE',
          `Group "${group}" has members that commit by themselves. Take another name for this reader.`,
          { cause: error },
        );
      }
    });
  }

  async groups(): Promise<string[]> {
    const lists = await this.#request(async (cluster) => {
      await cluster.refreshMetadata();
      return Promise.all(
        cluster.getNodeIds().map(async (nodeId) => (await cluster.findBroker({ nodeId })).listGroups()),
      );
    });
    const names = lists.flatMap(({ groups }) => groups.map(({ groupId }) => groupId));
    return [...new Set(names)]
      .filter((name) => name.startsWith(this.#prefix))
      .map((name) => name.slice(this.#prefix.length))
      .sort();
  }

  async lag(group: string): Promise<PartitionLag[]> {
    const groupId = this.#prefix + group;
    const committed = await this.#request(async (cluster) => {
      const coordinator = await cluster.findGroupCoordinator({ groupId });
      return (await coordinator.offsetFetch({ groupId, topics: [] })).responses;
    });
    const lags: PartitionLag[] = [];
    for (const { topic: name, partitions } of committed) {
      const known = partitions.filter(({ offset }) => Number(offset) >= 0);
      if (known.length === 0 || !name.startsWith(this.#prefix)) continue;
      const topic = name.slice(this.#prefix.length);
      const there = await this.#findTopic(topic);
      if (there === undefined) continue; // deleted since
      const latest = await this.#listOffsets(there, LATEST);
      for (const { partition, offset } of known) {
        const end = latest[partition];
        if (end === undefined) continue;
        const next = Number(offset);
        lags.push({ topic, partition, committed: next, latest: end, lag: Math.max(0, end - next) });
      }
    }
    return lags.sort((a, b) =>
      a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1,
    );
  }

  /** Sends what has been appended, leaves the groups, and disconnects. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#producer.close();
      await Promise.all([...this.#open].map((finish) => finish()));
      await this.#abandon();
    })();
    return this.#closing;
  }

  async #abandon(): Promise<void> {
    await Promise.all([this.#connection.close(), this.#writing.close()]);
  }

  /** What goes on after its caller has gone; `close` waits for it. */
  #later(work: Promise<void>): void {
    const wait = () => work;
    this.#open.add(wait);
    void work.finally(() => this.#open.delete(wait));
  }

  #check(): void {
    if (this.#closing !== undefined) throw this.#closed();
  }

  #closed(): CardanError {
    return new CardanError('LOG_CLOSED', 'The log in Kafka has been closed. Open it again.');
  }

  /** A request that is answered at once, tried for some time. */
  async #request<T>(work: (cluster: Cluster) => Promise<T>, topics: readonly string[] = []): Promise<T> {
    this.#check();
    try {
      return await this.#connection.run(work, {
        topics: topics.map((topic) => this.#prefix + topic),
        onTrouble: this.#onProblem,
      });
    } catch (error) {
      if (error instanceof ConnectionClosed) throw this.#closed();
      throw error;
    }
  }

  #fetcher(connection: Connection, recordsMax: number): Fetcher {
    return new Fetcher(connection, {
      recordsMax,
      plainName: (topic) => topic.slice(this.#prefix.length),
      onTrouble: this.#onProblem,
    });
  }

  #toBatch({ topic, partition, records, endOffset }: Fetched): Batch {
    return { topic: topic.slice(this.#prefix.length), partition, records, endOffset };
  }

  /** Joins, and notes the beginning where the group has none, so that nothing after it can be missed. */
  async #joined(member: Member, from: 'earliest' | 'latest', signal?: AbortSignal): Promise<Start[]> {
    const assigned = await member.join(signal);
    const starts: Start[] = [];
    const fresh: Start[] = [];
    const ends = new Map<string, { earliest: Offsets; begin: Offsets }>();
    for (const { topic, partition, committed } of assigned) {
      let offsets = ends.get(topic);
      if (offsets === undefined) {
        const there = await this.#topic(topic.slice(this.#prefix.length));
        const earliest = await this.#listOffsets(there, EARLIEST);
        offsets = {
          earliest,
          begin: from === 'earliest' ? earliest : await this.#listOffsets(there, LATEST),
        };
        ends.set(topic, offsets);
      }
      // Records that were deleted before the group had read them: it goes on with the first that is there.
      const next = Math.max(committed ?? offsets.begin[partition]!, offsets.earliest[partition]!);
      const start = { topic, partition, next, to: Number.POSITIVE_INFINITY };
      starts.push(start);
      if (committed === undefined) fresh.push(start);
    }
    if (fresh.length > 0) await member.commit(fresh);
    return starts;
  }

  #fresh(topic: string): Topic | undefined {
    const known = this.#topics.get(topic);
    return known !== undefined && performance.now() - known.seenAt < TOPIC_FRESH_MS ? known : undefined;
  }

  async #topic(topic: string): Promise<Topic> {
    const there = await this.#findTopic(topic);
    if (there !== undefined) return there;
    throw new CardanError(
      'TOPIC_UNKNOWN',
      `Kafka at ${this.#options.brokers.join(', ')} has no topic "${this.#prefix}${topic}". Create it, or check the name.`,
    );
  }

  async #findTopic(topic: string): Promise<Topic | undefined> {
    this.#check();
    const known = this.#fresh(topic);
    if (known !== undefined) return known;
    return (await this.#describe([topic]))[0];
  }

  /** Partitions and settings of those of the topics that are there. */
  async #describe(topics: readonly string[]): Promise<Topic[]> {
    const missing = topics.filter((topic) => this.#fresh(topic) === undefined);
    if (missing.length > 0)
      await this.#request(async (cluster) => {
        const broker = await anyBroker(cluster);
        const found = new Map<string, number>();
        for (const topic of missing) this.#topics.delete(topic);
        // One unknown topic fails the request for all: ask for all that there are, and choose.
        const { topicMetadata } = await broker
          .metadata(missing.length === 1 ? [this.#prefix + missing[0]!] : [])
          .catch((error: unknown) => {
            if (isUnknownTopic(error)) return { topicMetadata: [] };
            throw error;
          });
        for (const { topic, partitionMetadata } of topicMetadata) found.set(topic, partitionMetadata.length);
        const names = missing.filter((topic) => found.has(this.#prefix + topic));
        const settings = await this.#settings(cluster, names);
        for (const topic of names) {
          const value = (name: string, otherwise: number) =>
            Number(settings.get(topic)?.get(name) ?? otherwise);
          this.#topics.set(topic, {
            topic,
            partitions: found.get(this.#prefix + topic)!,
            compacted: settings.get(topic)?.get('cleanup.policy')?.includes('compact') ?? false,
            messageBytesMax: value('max.message.bytes', MESSAGE_BYTES_MAX_DEFAULT),
            timestampBeforeMaxMs: value('message.timestamp.before.max.ms', Number.POSITIVE_INFINITY),
            timestampAfterMaxMs: value('message.timestamp.after.max.ms', Number.POSITIVE_INFINITY),
            seenAt: performance.now(),
          });
        }
      });
    return topics.flatMap((topic) => this.#topics.get(topic) ?? []);
  }

  /** Empty where we may not see them. */
  async #settings(cluster: Cluster, topics: readonly string[]): Promise<Map<string, Map<string, string>>> {
    if (topics.length === 0) return new Map();
    const broker = await anyBroker(cluster);
    try {
      const { resources } = await broker.describeConfigs({
        resources: topics.map((topic) => ({
          type: TOPIC_RESOURCE,
          name: this.#prefix + topic,
          configNames: [
            'cleanup.policy',
            'max.message.bytes',
            'message.timestamp.before.max.ms',
            'message.timestamp.after.max.ms',
          ],
        })),
      });
      return new Map(
        resources.map(({ resourceName, configEntries }) => [
          resourceName.slice(this.#prefix.length),
          new Map(configEntries.map(({ configName, configValue }) => [configName, configValue])),
        ]),
      );
    } catch (error) {
      if (typeOf(error)?.endsWith('AUTHORIZATION_FAILED')) return new Map();
      throw error;
    }
  }

  async #makeTopic(topic: string, partitions: number, compacted: boolean): Promise<Topic> {
    const { retentionMs = -1, replication = -1 } = this.#options;
    const name = this.#prefix + topic;
    await this.#request(async (cluster) => {
      const broker = await cluster.findControllerBroker();
      try {
        await broker.createTopics({
          timeout: CREATE_TIMEOUT_MS,
          topics: [
            {
              topic: name,
              numPartitions: partitions,
              replicationFactor: replication,
              configEntries: [
                { name: 'cleanup.policy', value: compacted ? 'compact' : 'delete' },
                { name: 'retention.ms', value: String(retentionMs) },
                { name: 'max.message.bytes', value: String(MESSAGE_BYTES_MAX) },
                { name: 'message.timestamp.type', value: 'CreateTime' },
                // A car's clock may be wrong: its rows are kept as they are rather than refused for ever.
                { name: 'message.timestamp.after.max.ms', value: INT64_MAX },
              ],
            },
          ],
        });
      } catch (error) {
        const reason = firstOf(error);
        if (typeOf(reason) === 'TOPIC_ALREADY_EXISTS') return;
        if (typeOf(reason) === 'INVALID_REPLICATION_FACTOR')
          throw new CardanError(
            'USAGE',
            `Kafka cannot make ${replication} copies of topic "${name}": it has fewer brokers. Give a smaller --kafka-replication.`,
            { cause: reason },
          );
        throw reason;
      }
    });
    return this.#created(topic, partitions);
  }

  /** A new topic has no leaders at first, and not every broker knows it. */
  async #created(topic: string, partitions: number): Promise<Topic> {
    const name = this.#prefix + topic;
    await this.#request(async (cluster) => {
      try {
        await cluster.addMultipleTargetTopics([name]);
        await cluster.refreshMetadata();
        await this.#listOffsetsOnce(cluster, name, range(partitions), LATEST);
      } catch (error) {
        if (!isUnknownTopic(error)) throw error;
        throw Object.assign(new Error('the new topic is not known yet'), { type: 'LEADER_NOT_AVAILABLE' });
      }
    });
    return this.#topic(topic);
  }

  /** The offsets that a position means. Partitions that it does not name are left out. */
  async #offsetsAt(topic: Topic, position: Position): Promise<Record<number, number>> {
    if (position === 'earliest') return this.#listOffsets(topic, EARLIEST);
    if (position === 'latest') return this.#listOffsets(topic, LATEST);
    if (position instanceof Date) {
      const time = position.getTime();
      if (Number.isNaN(time)) throw new CardanError('USAGE', 'A position in the log is not a valid date.');
      const found = await this.#listOffsets(topic, Math.max(0, time));
      if (Object.values(found).every((offset) => offset >= 0)) return found;
      const latest = await this.#listOffsets(topic, LATEST);
      for (const [partition, offset] of Object.entries(found))
        if (offset < 0) found[Number(partition)] = latest[Number(partition)]!;
      return found;
    }
    const offsets: Record<number, number> = {};
    const entries = Object.entries(position);
    if (entries.length === 0) return offsets;
    for (const [name] of entries) checkPartition(topic, Number(name));
    const [earliest, latest] = [
      await this.#listOffsets(topic, EARLIEST),
      await this.#listOffsets(topic, LATEST),
    ];
    for (const [name, offset] of entries) {
      const partition = Number(name);
      const first = topic.compacted ? 0 : earliest[partition]!;
      if (!Number.isInteger(offset) || offset < first || offset > latest[partition]!)
        throw new CardanError(
          'OFFSET_OUT_OF_RANGE',
          `Partition ${partition} of topic "${topic.topic}" has no offset ${offset}; it has ` +
            `${earliest[partition]} to ${latest[partition]}. Is this the log that the offset was taken from?`,
        );
      offsets[partition] = offset;
    }
    return offsets;
  }

  #listOffsets(topic: Topic, timestamp: number): Promise<Record<number, number>> {
    return this.#request(
      (cluster) =>
        this.#listOffsetsOnce(cluster, this.#prefix + topic.topic, range(topic.partitions), timestamp),
      [topic.topic],
    );
  }

  async #listOffsetsOnce(
    cluster: Cluster,
    topic: string,
    partitions: readonly number[],
    timestamp: number,
  ): Promise<Record<number, number>> {
    const metadata = cluster.findTopicPartitionMetadata(topic);
    const byLeader = new Map<number, number[]>();
    for (const partition of partitions) {
      const leader = metadata.find(({ partitionId }) => partitionId === partition)?.leader ?? -1;
      if (leader < 0) throw Object.assign(new Error('no leader'), { type: 'LEADER_NOT_AVAILABLE' });
      byLeader.set(leader, [...(byLeader.get(leader) ?? []), partition]);
    }
    const offsets: Record<number, number> = {};
    await Promise.all(
      [...byLeader].map(async ([nodeId, list]) => {
        const broker = await cluster.findBroker({ nodeId });
        const { responses } = await broker.listOffsets({
          replicaId: -1,
          isolationLevel: READ_COMMITTED,
          topics: [{ topic, partitions: list.map((partition) => ({ partition, timestamp })) }],
        });
        for (const { partitions } of responses)
          for (const { partition, offset } of partitions) offsets[partition] = Number(offset);
      }),
    );
    return offsets;
  }
}

const NOBODY = { producerId: -1n, epoch: -1, sequence: -1 };
/** What a commit without a member meets in a group that has some. */
const HAS_MEMBERS = new Set(['UNKNOWN_MEMBER_ID', 'ILLEGAL_GENERATION', 'REBALANCE_IN_PROGRESS']);

function clientConfig(
  options: KafkaEventLogOptions,
): Pick<KafkaConfig, 'brokers' | 'clientId' | 'ssl' | 'sasl'> {
  const { brokers, clientId = 'cardan', tls, sasl } = options;
  return {
    brokers: [...brokers],
    clientId,
    ...(tls === undefined ? {} : { ssl: tls === true ? true : { ...tls } }),
    // A copy: kafkajs writes into it.
    ...(sasl === undefined ? {} : { sasl: { ...sasl } as NonNullable<KafkaConfig['sasl']> }),
  };
}

async function anyBroker(cluster: Cluster) {
  const [nodeId] = cluster.getNodeIds();
  if (nodeId === undefined) await cluster.refreshMetadata();
  return cluster.findControllerBroker();
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function checkPartition(topic: Topic, partition: number): void {
  if (!Number.isInteger(partition) || partition < 0 || partition >= topic.partitions)
    throw new CardanError(
      'USAGE',
      `Topic "${topic.topic}" has no partition ${partition}; it has 0 to ${topic.partitions - 1}.`,
    );
}

/** Brokers refuse a whole batch for one such record. */
function checkTime(timestamp: number, index: number, topic: Topic, now: number): void {
  if (timestamp <= now + topic.timestampAfterMaxMs && timestamp >= now - topic.timestampBeforeMaxMs) return;
  throw new CardanError(
    'RECORD_REFUSED',
    `Record ${index} is of ${new Date(timestamp).toISOString()}; topic "${topic.topic}" does not take records so far from now ` +
      '(message.timestamp.after.max.ms, message.timestamp.before.max.ms). Nothing was appended.',
  );
}

function isUnknownTopic(error: unknown): boolean {
  const type = typeOf(error);
  return type === 'UNKNOWN_TOPIC_OR_PARTITION' || type === 'INVALID_TOPIC_EXCEPTION';
}

/** kafkajs gathers the errors of several topics; ours are one at a time. */
function firstOf(error: unknown): Error {
  const { errors } = error as { errors?: Error[] };
  return errors?.[0] ?? (error as Error);
}

/** The system's words at the bottom of a chain of causes. */
function rootMessage(error: CardanError): string {
  let cause: unknown = error;
  while (cause instanceof Error && cause.cause instanceof Error) cause = cause.cause;
  return (cause as Error).message;
}
