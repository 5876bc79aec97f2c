import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { CardanError, messageOf } from '../../errors.ts';
import type { NewRecord } from '../event-log.ts';
import type { Compression } from '../kafka-settings.ts';
import { type Connection, ConnectionClosed, TROUBLE_ATTEMPTS, UNKNOWN_TOPIC_TRIES } from './cluster.ts';
import { encodeRecordBatch, recordSizeBound } from './record-batch.ts';
import { produce } from './requests.ts';

/** Kafka 4's own default: appends that come within this time share their record batches. */
const LINGER_MS = 5;
/** Most bytes of one record batch before compression; a single larger record is a batch of its own. */
const BATCH_BYTES_MAX = 1_000_000;
/** Most bytes of one request. */
const REQUEST_BYTES_MAX = 16 * 1024 * 1024;
/** How long an append is tried before its caller is told. */
const DELIVERY_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 15_000;

/** Codes of the protocol. https://kafka.apache.org/protocol#protocol_error_codes */
const MESSAGE_TOO_LARGE = 10;
const TOPIC_AUTHORIZATION_FAILED = 29;
const CLUSTER_AUTHORIZATION_FAILED = 31;
const INVALID_TIMESTAMP = 32;
const POLICY_VIOLATION = 44;
const OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
const DUPLICATE_SEQUENCE_NUMBER = 46;
const INVALID_PRODUCER_EPOCH = 47;
const INVALID_PRODUCER_ID_MAPPING = 49;
const UNKNOWN_PRODUCER_ID = 59;
const INVALID_RECORD = 87;
const SEQUENCE_LOST = new Set([
  OUT_OF_ORDER_SEQUENCE_NUMBER,
  INVALID_PRODUCER_EPOCH,
  INVALID_PRODUCER_ID_MAPPING,
  UNKNOWN_PRODUCER_ID,
]);
const REFUSED = new Map([
  [MESSAGE_TOO_LARGE, 'it is larger than max.message.bytes of the topic'],
  [INVALID_TIMESTAMP, 'its timestamp is outside of what the topic accepts (message.timestamp.after.max.ms)'],
  [INVALID_RECORD, 'the broker calls it invalid'],
  [POLICY_VIOLATION, 'a policy of the cluster forbids it'],
]);
const SEQUENCE_END = 2 ** 31;

/** One `append`, which is done when all of its records are in. */
interface Append {
  open: number;
  resolve: () => void;
  reject: (error: CardanError) => void;
}

/** A run of records of one append for one partition. */
interface Piece {
  append: Append;
  records: NewRecord[];
  bytes: number;
}

/** Who we are to the brokers, and the number of the next record per partition: by these they drop copies. */
interface Identity {
  producerId: bigint;
  epoch: number;
  sequences: Map<Target, number>;
}

/** One partition's queue. */
interface Target {
  topic: string;
  partition: number;
  queue: Piece[];
  /** Most bytes of a batch that the topic takes. */
  batchBytesMax: number;
}

/** A record batch under way: it goes out with the same number again until it is in. */
interface Parcel {
  target: Target;
  pieces: Piece[];
  records: NewRecord[];
  batch: Buffer;
}

/**
 * An idempotent producer with acks=all: one request at a time, so that order holds, while the next one is being put
 * together. What arrives meanwhile goes into larger batches. A request that failed is sent again as it is; the
 * broker knows its sequence numbers, and drops what it has.
 */
export class Producer {
  readonly #connection: Connection;
  readonly #compression: Compression;
  readonly #onTrouble: (error: CardanError) => void;
  readonly #targets = new Map<string, Target>();
  #identity: Promise<Identity> | undefined;
  #queuedBytes = 0;
  #sending: Promise<void> | undefined;
  #hurry: () => void = () => undefined;
  /** When `close` gives up, in terms of performance.now(). */
  #closeBy = Number.POSITIVE_INFINITY;

  constructor(connection: Connection, compression: Compression, onTrouble: (error: CardanError) => void) {
    this.#connection = connection;
    this.#compression = compression;
    this.#onTrouble = onTrouble;
  }

  /**
   * Resolves when the cluster has all records. Throws RECORD_REFUSED, LOG_DENIED, LOG_UNREACHABLE, TOPIC_UNKNOWN.
   * `byPartition` keeps the order of the caller within each partition.
   */
  append(
    topic: string,
    byPartition: ReadonlyMap<number, NewRecord[]>,
    messageBytesMax: number,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const append: Append = { open: 0, resolve, reject };
      for (const [partition, records] of byPartition) {
        const target = this.#target(topic, partition);
        target.batchBytesMax = Math.min(BATCH_BYTES_MAX, messageBytesMax);
        for (const piece of cut(records, target.batchBytesMax, append)) {
          append.open++;
          target.queue.push(piece);
          this.#queuedBytes += piece.bytes;
        }
      }
      if (this.#queuedBytes >= BATCH_BYTES_MAX) this.#hurry();
      this.#sending ??= this.#send();
    });
  }

  /** Sends what has been appended; what cannot be sent is rejected in time. */
  async close(): Promise<void> {
    this.#closeBy = performance.now() + CLOSE_TIMEOUT_MS;
    this.#hurry();
    await this.#sending;
  }

  #target(topic: string, partition: number): Target {
    const key = `${topic}/${partition}`;
    let target = this.#targets.get(key);
    if (target === undefined) {
      target = { topic, partition, queue: [], batchBytesMax: BATCH_BYTES_MAX };
      this.#targets.set(key, target);
    }
    return target;
  }

  async #send(): Promise<void> {
    await this.#linger();
    let underWay: Promise<void> = Promise.resolve();
    for (;;) {
      if (this.#queuedBytes === 0) {
        // Something may come while the request under way finishes; after that nothing may, until the end is noted.
        await underWay;
        if (this.#queuedBytes === 0) break;
      }
      let parcels: Parcel[];
      try {
        parcels = await this.#pack();
      } catch (error) {
        await underWay;
        this.#rejectQueued(error);
        break;
      }
      await underWay;
      underWay = this.#deliver(parcels);
    }
    this.#sending = undefined;
  }

  /** Waits a little for company; less when there is enough already. */
  async #linger(): Promise<void> {
    await nextTurn(); // what is appended in the same turn belongs together
    if (this.#closeBy < Number.POSITIVE_INFINITY || this.#queuedBytes >= BATCH_BYTES_MAX) return;
    const enough = new AbortController();
    this.#hurry = () => enough.abort();
    await pause(LINGER_MS, undefined, { signal: enough.signal }).catch(() => undefined);
    this.#hurry = () => undefined;
  }

  /** Takes from every partition what makes one record batch. */
  async #pack(): Promise<Parcel[]> {
    const parcels: Parcel[] = [];
    let total = 0;
    for (const target of this.#targets.values()) {
      if (target.queue.length === 0 || total >= REQUEST_BYTES_MAX) continue;
      let bytes = 0;
      let count = 0;
      for (const piece of target.queue) {
        if (count > 0 && bytes + piece.bytes > target.batchBytesMax) break;
        bytes += piece.bytes;
        count++;
      }
      const pieces = target.queue.splice(0, count);
      this.#queuedBytes -= bytes;
      total += bytes;
      const records = pieces.length === 1 ? pieces[0]!.records : pieces.flatMap((piece) => piece.records);
      parcels.push({ target, pieces, records, batch: Buffer.alloc(0) });
    }
    try {
      for (const parcel of parcels) await this.#encode(parcel);
    } catch (error) {
      for (const { pieces } of parcels) for (const { append } of pieces) append.reject(asCardanError(error));
      throw error;
    }
    return parcels;
  }

  /** Gives the records their sequence numbers and encodes them. */
  async #encode(parcel: Parcel): Promise<void> {
    const { target, records } = parcel;
    this.#identity ??= this.#newIdentity();
    const identity = await this.#identity.catch((error: unknown) => {
      this.#identity = undefined;
      throw error;
    });
    const sequence = identity.sequences.get(target) ?? 0;
    identity.sequences.set(target, (sequence + records.length) % SEQUENCE_END);
    parcel.batch = await encodeRecordBatch(records, this.#compression, { ...identity, sequence });
  }

  async #newIdentity(): Promise<Identity> {
    return this.#connection.run(
      async (cluster) => {
        if (cluster.getNodeIds().length === 0) await cluster.refreshMetadata();
        const broker = await cluster.findBroker({ nodeId: cluster.getNodeIds()[0]! });
        const { producerId, producerEpoch } = await broker.initProducerId({ transactionTimeout: 60_000 });
        return { producerId: BigInt(producerId), epoch: producerEpoch, sequences: new Map<Target, number>() };
      },
      { patienceMs: DELIVERY_TIMEOUT_MS, onTrouble: this.#onTrouble },
    );
  }

  /** Never rejects: every append is told for itself. */
  async #deliver(parcels: Parcel[]): Promise<void> {
    const deadline = performance.now() + DELIVERY_TIMEOUT_MS;
    let open = parcels;
    let last: CardanError | undefined;
    let unknown = 0;
    for (let attempt = 0; open.length > 0; attempt++) {
      if (attempt > 0 && performance.now() > Math.min(deadline, this.#closeBy)) break;
      try {
        open = await this.#attempt(open, attempt);
        last = undefined;
      } catch (error) {
        last = asCardanError(error);
        if (!(error instanceof CardanError) || last.code === 'LOG_DENIED') break;
        if (last.code === 'TOPIC_UNKNOWN') {
          const topics = new Set(open.map(({ target }) => target.topic));
          if (topics.size > 1) {
            // One of them has been deleted. It must not take the others with it.
            for (const topic of topics)
              await this.#deliver(open.filter(({ target }) => target.topic === topic));
            return;
          }
          if (++unknown >= UNKNOWN_TOPIC_TRIES) break;
        }
        if (attempt >= TROUBLE_ATTEMPTS) this.#onTrouble(last);
      }
      if (open.length > 0) await this.#connection.backoff(attempt);
    }
    if (open.length === 0) return;
    // Whether the records are in is not known: from here on other numbers, so that they cannot be mixed up.
    this.#identity = undefined;
    const topics = [...new Set(open.map(({ target }) => target.topic))].join('", "');
    const error =
      last ??
      new CardanError(
        'LOG_UNREACHABLE',
        `Kafka has not taken records of topic "${topics}" for ${DELIVERY_TIMEOUT_MS / 1000} s. Are its brokers up, and enough replicas in sync?`,
      );
    for (const { pieces } of open) for (const { append } of pieces) append.reject(error);
  }

  /** One round; returns what must be sent again. */
  async #attempt(parcels: Parcel[], attempt: number): Promise<Parcel[]> {
    const again: Parcel[] = [];
    let renumber = false;
    const failures: unknown[] = [];
    await this.#connection.once(
      async (cluster) => {
        if (attempt > 0) await cluster.refreshMetadata();
        const byLeader = new Map<number, Parcel[]>();
        for (const parcel of parcels) {
          const { topic, partition } = parcel.target;
          const metadata = cluster.findTopicPartitionMetadata(topic);
          const leader = metadata.find(({ partitionId }) => partitionId === partition)?.leader ?? -1;
          const group = byLeader.get(leader);
          if (group === undefined) byLeader.set(leader, [parcel]);
          else group.push(parcel);
        }
        again.push(...(byLeader.get(-1) ?? []));
        byLeader.delete(-1);
        await Promise.all(
          [...byLeader].map(async ([nodeId, group]) => {
            try {
              const broker = await cluster.findBroker({ nodeId });
              const parts = group.map(({ target, batch }) => ({ ...target, batch }));
              const answers = await broker.connectionPool.send(produce(parts, REQUEST_TIMEOUT_MS));
              for (const { topic, partition, errorCode } of answers) {
                const parcel = group.find(
                  ({ target }) => target.topic === topic && target.partition === partition,
                );
                if (parcel === undefined) continue;
                if (errorCode === 0 || errorCode === DUPLICATE_SEQUENCE_NUMBER) accept(parcel);
                else if (REFUSED.has(errorCode)) this.#refuse(parcel, REFUSED.get(errorCode)!);
                else if (
                  errorCode === TOPIC_AUTHORIZATION_FAILED ||
                  errorCode === CLUSTER_AUTHORIZATION_FAILED
                )
                  reject(
                    parcel,
                    new CardanError('LOG_DENIED', `Kafka does not let this user write to "${topic}".`),
                  );
                else {
                  renumber ||= SEQUENCE_LOST.has(errorCode);
                  again.push(parcel);
                }
              }
            } catch (error) {
              failures.push(error);
              again.push(...group);
            }
          }),
        );
        // What the others have taken stands; with no answer at all the connections are made anew.
        if (failures.length > 0 && again.length === parcels.length) throw failures[0] as Error;
      },
      [...new Set(parcels.map(({ target }) => target.topic))],
    );
    if (renumber) await this.#renumber(again);
    return again;
  }

  /** The broker has lost track of the numbers (it forgets idle producers): all begin anew under a new identity. */
  async #renumber(parcels: Parcel[]): Promise<void> {
    this.#identity = undefined;
    for (const parcel of parcels) await this.#encode(parcel);
  }

  /** A refused batch leaves a gap in the numbers. */
  #refuse(parcel: Parcel, why: string): void {
    this.#identity = undefined;
    const what = parcel.records.length === 1 ? 'the record' : `one of ${parcel.records.length} records`;
    reject(
      parcel,
      new CardanError('RECORD_REFUSED', `Topic "${parcel.target.topic}" does not take ${what}: ${why}.`),
    );
  }

  #rejectQueued(error: unknown): void {
    for (const target of this.#targets.values()) {
      for (const { append, bytes } of target.queue.splice(0)) {
        this.#queuedBytes -= bytes;
        append.reject(asCardanError(error));
      }
    }
  }
}

/** Runs of records that fit into a batch. */
function cut(records: NewRecord[], bytesMax: number, append: Append): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  let bytes = 0;
  for (let i = 0; i < records.length; i++) {
    const size = recordSizeBound(records[i]!);
    if (i > from && bytes + size > bytesMax) {
      pieces.push({ append, records: records.slice(from, i), bytes });
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  pieces.push({ append, records: from === 0 ? records : records.slice(from), bytes });
  return pieces;
}

function accept({ pieces }: Parcel): void {
  for (const { append } of pieces) if (--append.open === 0) append.resolve();
}

function reject({ pieces }: Parcel, error: CardanError): void {
  for (const { append } of pieces) append.reject(error);
}

function asCardanError(error: unknown): CardanError {
  if (error instanceof CardanError) return error;
  if (error instanceof ConnectionClosed)
    return new CardanError('LOG_CLOSED', 'The log was closed before it had taken the records.');
  return new CardanError('LOG_UNREACHABLE', `The records could not be sent: ${messageOf(error)}`, {
    cause: error,
  });
}
