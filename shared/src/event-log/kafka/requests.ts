import type { Exchange } from './cluster.ts';
import type { AbortedTransaction } from './record-batch.ts';

/**
 * The two requests of the hot paths, written by hand: kafkajs's own ones encode and decode record by record, at
 * several times the cost (bench/record-batch.ts). https://kafka.apache.org/protocol
 */

export interface ProducePartition {
  topic: string;
  partition: number;
  /** A record batch. */
  batch: Buffer;
}

export interface ProduceAnswer {
  topic: string;
  partition: number;
  errorCode: number;
}

const ACKS_ALL = -1;

/** Produce v7, acks=all. */
export function produce(parts: readonly ProducePartition[], timeoutMs: number): Exchange<ProduceAnswer[]> {
  return {
    request: {
      apiKey: 0,
      apiVersion: 7,
      apiName: 'Produce',
      encode: async () => {
        const topics = byTopic(parts);
        let size = 2 + 2 + 4 + 4;
        for (const [topic, list] of topics) {
          size += 2 + Buffer.byteLength(topic) + 4;
          for (const { batch } of list) size += 4 + 4 + batch.length;
        }
        const out = new Writer(size);
        out.int16(-1); // no transaction
        out.int16(ACKS_ALL);
        out.int32(timeoutMs);
        out.int32(topics.size);
        for (const [topic, list] of topics) {
          out.string(topic);
          out.int32(list.length);
          for (const { partition, batch } of list) {
            out.int32(partition);
            out.int32(batch.length);
            out.bytes(batch);
          }
        }
        return out.done();
      },
    },
    response: {
      decode: async (bytes) => {
        const input = new Reader(bytes);
        const answers: ProduceAnswer[] = [];
        for (let topics = input.int32(); topics > 0; topics--) {
          const topic = input.string();
          for (let partitions = input.int32(); partitions > 0; partitions--) {
            answers.push({ topic, partition: input.int32(), errorCode: input.int16() });
            input.skip(8 + 8 + 8); // base offset, append time, start of the log
          }
        }
        return answers;
      },
      parse: async (answers) => answers,
    },
    requestTimeout: timeoutMs + 5000,
  };
}

export interface FetchPartition {
  topic: string;
  partition: number;
  offset: number;
  bytesMax: number;
}

export interface FetchAnswer {
  topic: string;
  partition: number;
  errorCode: number;
  /** End of what a reader may see (behind the last finished transaction). */
  endOffset: number;
  startOffset: number;
  aborted: AbortedTransaction[];
  /** Record batches; the last one may be cut off. A view into what was received. */
  batches: Buffer;
}

const READ_COMMITTED = 1;

/** Fetch v11, without a fetch session. Waits up to `waitMs` at the broker for a first byte. */
export function fetch(
  parts: readonly FetchPartition[],
  waitMs: number,
  bytesMax: number,
): Exchange<FetchAnswer[]> {
  return {
    request: {
      apiKey: 1,
      apiVersion: 11,
      apiName: 'Fetch',
      encode: async () => {
        const topics = byTopic(parts);
        let size = 4 + 4 + 4 + 4 + 1 + 4 + 4 + 4 + 4 + 2;
        for (const [topic, list] of topics) size += 2 + Buffer.byteLength(topic) + 4 + list.length * 28;
        const out = new Writer(size);
        out.int32(-1); // not a replica
        out.int32(waitMs);
        out.int32(1); // at least this many bytes
        out.int32(bytesMax);
        out.int8(READ_COMMITTED);
        out.int32(0); // no session …
        out.int32(-1);
        out.int32(topics.size);
        for (const [topic, list] of topics) {
          out.string(topic);
          out.int32(list.length);
          for (const { partition, offset, bytesMax } of list) {
            out.int32(partition);
            out.int32(-1); // leader epoch unknown
            out.int64(offset);
            out.int64(-1);
            out.int32(bytesMax);
          }
        }
        out.int32(0); // … so nothing to forget
        out.string(''); // rack
        return out.done();
      },
    },
    response: {
      decode: async (bytes) => {
        const input = new Reader(bytes);
        input.skip(4); // throttled
        const sessionError = input.int16();
        input.skip(4);
        const answers: FetchAnswer[] = [];
        for (let topics = input.int32(); topics > 0; topics--) {
          const topic = input.string();
          for (let partitions = input.int32(); partitions > 0; partitions--) {
            const partition = input.int32();
            const errorCode = input.int16() || sessionError;
            input.skip(8); // high watermark
            const endOffset = input.int64();
            const startOffset = input.int64();
            const aborted: AbortedTransaction[] = [];
            for (let count = input.int32(); count > 0; count--)
              aborted.push({ producerId: input.bigInt64(), firstOffset: input.int64() });
            input.skip(4); // preferred replica
            const batches = input.bytes(Math.max(0, input.int32()));
            answers.push({ topic, partition, errorCode, endOffset, startOffset, aborted, batches });
          }
        }
        return answers;
      },
      parse: async (answers) => answers,
    },
    requestTimeout: waitMs + 20_000,
  };
}

function byTopic<T extends { topic: string }>(parts: readonly T[]): Map<string, T[]> {
  const topics = new Map<string, T[]>();
  for (const part of parts) {
    const list = topics.get(part.topic);
    if (list === undefined) topics.set(part.topic, [part]);
    else list.push(part);
  }
  return topics;
}

/** Writes the protocol's primitive types into a buffer of known size. */
class Writer {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(size: number) {
    this.#buffer = Buffer.allocUnsafe(size);
  }

  int8(value: number): void {
    this.#at = this.#buffer.writeInt8(value, this.#at);
  }

  int16(value: number): void {
    this.#at = this.#buffer.writeInt16BE(value, this.#at);
  }

  int32(value: number): void {
    this.#at = this.#buffer.writeInt32BE(value, this.#at);
  }

  int64(value: number): void {
    this.#at = this.#buffer.writeBigInt64BE(BigInt(value), this.#at);
  }

  string(text: string): void {
    this.int16(Buffer.byteLength(text));
    this.#at += this.#buffer.write(text, this.#at);
  }

  bytes(bytes: Buffer): void {
    this.#at += bytes.copy(this.#buffer, this.#at);
  }

  done(): { buf: Buffer; buffer: Buffer } {
    return { buf: this.#buffer, buffer: this.#buffer };
  }
}

/** Reads them; a RangeError of Buffer means that the answer is cut off. */
class Reader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  int16(): number {
    const value = this.#buffer.readInt16BE(this.#at);
    this.#at += 2;
    return value;
  }

  int32(): number {
    const value = this.#buffer.readInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  int64(): number {
    return Number(this.bigInt64());
  }

  bigInt64(): bigint {
    const value = this.#buffer.readBigInt64BE(this.#at);
    this.#at += 8;
    return value;
  }

  string(): string {
    const length = this.int16();
    this.#at += length;
    return this.#buffer.toString('utf8', this.#at - length, this.#at);
  }

  bytes(length: number): Buffer {
    this.#at += length;
    return this.#buffer.subarray(this.#at - length, this.#at);
  }
}
