import { setTimeout as pause } from 'node:timers/promises';
import { Kafka, logLevel, type KafkaConfig } from 'kafkajs';
import { CardanError, messageOf, systemCode } from '../../errors.ts';

/**
 * What is used of kafkajs 2.2.4 beyond its public interface. Its producer and consumer are built on a `Cluster`
 * of `Broker`s, which do the connections, TLS, SASL, metadata and the protocol of groups. Reading without a group
 * (manual assignment) and record batches at our speed need just that layer. The library is frozen, and its version
 * pinned, so the layer does not move.
 */
export interface Broker {
  nodeId: string;
  connectionPool: { send<T>(exchange: Exchange<T>): Promise<T> };
  metadata(topics: string[]): Promise<Metadata>;
  listOffsets(request: {
    replicaId: -1;
    isolationLevel: number;
    topics: { topic: string; partitions: { partition: number; timestamp: number }[] }[];
  }): Promise<{ responses: { topic: string; partitions: { partition: number; offset: string }[] }[] }>;
  createTopics(request: {
    topics: {
      topic: string;
      numPartitions: number;
      replicationFactor: number;
      configEntries: { name: string; value: string }[];
    }[];
    timeout: number;
  }): Promise<unknown>;
  describeConfigs(request: { resources: { type: number; name: string; configNames: string[] }[] }): Promise<{
    resources: { resourceName: string; configEntries: { configName: string; configValue: string }[] }[];
  }>;
  initProducerId(request: {
    transactionTimeout: number;
  }): Promise<{ producerId: string; producerEpoch: number }>;
  listGroups(): Promise<{ groups: { groupId: string; protocolType: string }[] }>;
  joinGroup(request: {
    groupId: string;
    memberId: string;
    sessionTimeout: number;
    rebalanceTimeout: number;
    groupProtocols: { name: string; metadata: Buffer }[];
  }): Promise<{
    generationId: number;
    leaderId: string;
    memberId: string;
    members: { memberId: string; memberMetadata: Buffer }[];
  }>;
  syncGroup(request: {
    groupId: string;
    generationId: number;
    memberId: string;
    groupAssignment: { memberId: string; memberAssignment: Buffer }[];
  }): Promise<{ memberAssignment: Buffer }>;
  heartbeat(request: { groupId: string; groupGenerationId: number; memberId: string }): Promise<unknown>;
  leaveGroup(request: { groupId: string; memberId: string }): Promise<unknown>;
  offsetCommit(request: {
    groupId: string;
    groupGenerationId: number;
    memberId: string;
    topics: { topic: string; partitions: { partition: number; offset: string; metadata: string }[] }[];
  }): Promise<unknown>;
  /** No topics at all means every topic of the group. */
  offsetFetch(request: {
    groupId: string;
    topics: { topic: string; partitions: { partition: number }[] }[];
  }): Promise<{ responses: { topic: string; partitions: { partition: number; offset: string }[] }[] }>;
}

interface PartitionMetadata {
  partitionId: number;
  leader: number;
}

interface Metadata {
  topicMetadata: { topic: string; isInternal: boolean; partitionMetadata: PartitionMetadata[] }[];
}

export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  refreshMetadata(): Promise<void>;
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>;
  findTopicPartitionMetadata(topic: string): PartitionMetadata[];
  findBroker(request: { nodeId: number | string }): Promise<Broker>;
  findControllerBroker(): Promise<Broker>;
  findGroupCoordinator(request: { groupId: string }): Promise<Broker>;
  getNodeIds(): string[];
}

/** A request and its answer, as kafkajs's connections take them. `buffer` is the body without the header. */
export interface Exchange<T> {
  request: {
    apiKey: number;
    apiVersion: number;
    apiName: string;
    encode(): Promise<{ buf: Buffer; buffer: Buffer }>;
  };
  response: { decode(answer: Buffer): Promise<T>; parse(decoded: T): Promise<T> };
  /** Milliseconds; counts when it is longer than the connection's own. */
  requestTimeout?: number;
}

const REQUEST_TIMEOUT_MS = 20_000;
const BACKOFF_MS = 50;
const BACKOFF_MAX_MS = 2000;
/** Failures in a row that are no news: a leader that moves, a topic that is new. */
export const TROUBLE_ATTEMPTS = 3;
/** A topic that was just created is not known to every broker at once. */
export const UNKNOWN_TOPIC_TRIES = 4;

/** Errors of the protocol that pass when the metadata is fresh or a broker is back. */
const TRANSIENT = new Set([
  'UNKNOWN_TOPIC_OR_PARTITION',
  'LEADER_NOT_AVAILABLE',
  'NOT_LEADER_FOR_PARTITION',
  'BROKER_NOT_AVAILABLE',
  'REPLICA_NOT_AVAILABLE',
  'NETWORK_EXCEPTION',
  'REQUEST_TIMED_OUT',
  'GROUP_LOAD_IN_PROGRESS',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'NOT_COORDINATOR_FOR_GROUP',
  'NOT_CONTROLLER',
  'NOT_ENOUGH_REPLICAS',
  'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
  'KAFKA_STORAGE_ERROR',
  'LISTENER_NOT_FOUND',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
  'PREFERRED_LEADER_NOT_AVAILABLE',
]);

/** A client that prints nothing by itself. */
export function kafkaClient(config: Pick<KafkaConfig, 'brokers' | 'clientId' | 'ssl' | 'sasl'>): Kafka {
  return new Kafka({
    ...config,
    connectionTimeout: 5000,
    authenticationTimeout: 10_000,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // The loops that try again are ours, below: they know what is worth it, and for how long.
    retry: { retries: 1, initialRetryTime: 50, maxRetryTime: 200 },
    logLevel: logLevel.NOTHING,
    logCreator: () => () => undefined,
  });
}

function createCluster(kafka: Kafka): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  )!;
  const create = (kafka as unknown as Record<symbol, (options: object) => Cluster>)[symbol]!;
  return create({ metadataMaxAge: 300_000, allowAutoTopicCreation: false, isolationLevel: 1 });
}

/** Says that a connection has been given up meanwhile. */
export class ConnectionClosed extends Error {}

/**
 * A set of connections to the cluster that heals itself. Requests to one broker are answered in their order, so
 * whoever waits long at a broker (a reader that tails, a member of a group) has a connection of its own.
 */
export class Connection {
  readonly #kafka: Kafka;
  #cluster: Cluster;
  #ready: Promise<void> | undefined;
  readonly #closing = new AbortController();
  readonly #disconnecting = new Set<Promise<unknown>>();

  constructor(kafka: Kafka) {
    this.#kafka = kafka;
    this.#cluster = createCluster(kafka);
  }

  /**
   * Runs `work` on a connected cluster that knows the topics, again and again while what fails may pass.
   * After `patienceMs` the last error is thrown, as a CardanError. `onTrouble` is told
   * when it takes longer.
   */
  async run<T>(
    work: (cluster: Cluster) => Promise<T>,
    options: {
      topics?: readonly string[];
      patienceMs?: number;
      signal?: AbortSignal;
      onTrouble?: (error: CardanError) => void;
    } = {},
  ): Promise<T> {
    const { topics = [], patienceMs = 30_000, signal, onTrouble } = options;
    const started = performance.now();
    let unknown = 0;
    for (let attempt = 0; ; attempt++) {
      const cluster = this.#cluster;
      try {
        if (this.#closing.signal.aborted) throw new ConnectionClosed();
        this.#ready ??= cluster.connect();
        await this.#ready;
        if (topics.length > 0) await cluster.addMultipleTargetTopics(topics);
        return await work(cluster);
      } catch (error) {
        if (this.#closing.signal.aborted) throw new ConnectionClosed();
        if (isOurs(error)) throw error;
        const unknownTopic = typeOf(error) === 'UNKNOWN_TOPIC_OR_PARTITION';
        if (unknownTopic) unknown++;
        const translated = toCardanError(error);
        if (
          !isTransient(error) ||
          (unknownTopic && unknown >= UNKNOWN_TOPIC_TRIES) ||
          performance.now() - started > patienceMs
        ) {
          if (unknownTopic) this.#reset(cluster);
          throw translated;
        }
        if (attempt >= TROUBLE_ATTEMPTS) onTrouble?.(translated);
        // The sockets of a broker that has gone may hang half open: begin anew.
        if (typeOf(error) === undefined) this.#reset(cluster);
        else await cluster.refreshMetadata().catch(() => this.#reset(cluster));
        await this.backoff(attempt, signal);
        if (signal?.aborted) throw new ConnectionClosed();
      }
    }
  }

  /**
   * Runs `work` once on the connected cluster. An error is a CardanError; after one of the connection's the next
   * call begins with new sockets.
   */
  async once<T>(work: (cluster: Cluster) => Promise<T>, topics: readonly string[] = []): Promise<T> {
    const cluster = this.#cluster;
    try {
      if (this.#closing.signal.aborted) throw new ConnectionClosed();
      this.#ready ??= cluster.connect();
      await this.#ready;
      if (topics.length > 0) await cluster.addMultipleTargetTopics(topics);
      return await work(cluster);
    } catch (error) {
      if (this.#closing.signal.aborted) throw new ConnectionClosed();
      if (isOurs(error)) throw error;
      const type = typeOf(error);
      // kafkajs goes on asking for a topic that has been deleted, and fails for all others with it.
      if (type === undefined || type === 'UNKNOWN_TOPIC_OR_PARTITION') this.#reset(cluster);
      throw toCardanError(error);
    }
  }

  /** A pause that grows with each attempt in a row; ends early when the connection is closed. */
  async backoff(attempt: number, signal?: AbortSignal): Promise<void> {
    const ms = Math.min(BACKOFF_MS * 2 ** Math.min(attempt, 10), BACKOFF_MAX_MS) * (0.75 + Math.random() / 2);
    const signals = signal === undefined ? [this.#closing.signal] : [this.#closing.signal, signal];
    await pause(ms, undefined, { signal: AbortSignal.any(signals) }).catch(() => undefined);
  }

  #reset(cluster: Cluster): void {
    if (cluster !== this.#cluster) return; // somebody else has done it already
    this.#cluster = createCluster(this.#kafka);
    this.#ready = undefined;
    const disconnected = cluster.disconnect().catch(() => undefined);
    this.#disconnecting.add(disconnected);
    void disconnected.then(() => this.#disconnecting.delete(disconnected));
  }

  /** Resolves when the sockets are closed; requests that are under way are let finish. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#ready?.catch(() => undefined);
    await this.#cluster.disconnect().catch(() => undefined);
    await Promise.all(this.#disconnecting);
  }
}

/** Errors that say already what is wrong, and bugs, which no second attempt heals. */
function isOurs(error: unknown): boolean {
  return (
    error instanceof CardanError ||
    error instanceof ConnectionClosed ||
    error instanceof TypeError ||
    error instanceof RangeError ||
    error instanceof ReferenceError
  );
}

/** The protocol's name of the error, as kafkajs has it; undefined when the trouble is the connection's. */
export function typeOf(error: unknown): string | undefined {
  const { type } = (error ?? {}) as { type?: unknown };
  return typeof type === 'string' ? type : undefined;
}

function isTransient(error: unknown): boolean {
  const type = typeOf(error);
  if (type !== undefined) return TRANSIENT.has(type);
  const name = error instanceof Error ? error.name : '';
  return name.startsWith('KafkaJS') && name !== 'KafkaJSSASLAuthenticationError' && !isRefused(error);
}

function isRefused(error: unknown): boolean {
  const type = typeOf(error) ?? '';
  const name = error instanceof Error ? error.name : '';
  return (
    /AUTHORIZATION_FAILED|SASL|TOPIC_AUTHORIZATION/.test(type) ||
    name === 'KafkaJSSASLAuthenticationError' ||
    /SASL|certificate|self.signed|alert (bad|unknown|handshake)/i.test(messageOf(error))
  );
}

/** Whatever kafkajs throws, as an error that says what to do. */
export function toCardanError(error: unknown): CardanError {
  if (error instanceof CardanError) return error;
  const type = typeOf(error);
  const message = messageOf(error);
  if (isRefused(error))
    return new CardanError(
      'LOG_DENIED',
      `Kafka refuses: ${message}. Check --kafka-tls, --kafka-ca, --kafka-sasl and the user's rights.`,
      { cause: error },
    );
  if (type === 'UNKNOWN_TOPIC_OR_PARTITION')
    return new CardanError('TOPIC_UNKNOWN', 'Kafka has no such topic. Create it, or check the name.', {
      cause: error,
    });
  if (type === 'OFFSET_OUT_OF_RANGE')
    return new CardanError('OFFSET_OUT_OF_RANGE', `Kafka: ${message}.`, { cause: error });
  const code = systemCode(error);
  return new CardanError(
    'LOG_UNREACHABLE',
    `Kafka does not answer as it should (${type ?? code ?? message}). Is it up, and is --kafka (KAFKA_BROKERS) right?`,
    { cause: error },
  );
}
