import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CompressionTypes, Kafka, logLevel } from 'kafkajs';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { type Batch, type NewRecord, openEventLog } from '@cardan/shared/event-log';
import type { KafkaCluster, KafkaOptions } from '../../../ops/kafka/start-kafka.ts';
import { startKafka } from '../../../ops/kafka/start-kafka.ts';
import { KafkaEventLog, type KafkaEventLogOptions } from '../../src/event-log/kafka/kafka.ts';
import { Consumer, Meeting } from './consumer.ts';

const CHILD = fileURLToPath(new URL('child.ts', import.meta.url));
const brokers = inject('kafkaBrokers');
const all = { from: 'earliest', to: 'latest' } as const;
const code = (name: string) => expect.objectContaining({ name: 'CardanError', code: name }) as unknown;

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function open(at = brokers, options: Partial<KafkaEventLogOptions> = {}): Promise<KafkaEventLog> {
  const log = await KafkaEventLog.open({ brokers: at.split(','), sessionTimeoutMs: 6000, ...options });
  closing.push(() => log.close());
  return log;
}

async function cluster(options?: KafkaOptions): Promise<KafkaCluster> {
  const started = await startKafka(options);
  closing.push(() => started.stop());
  return started;
}

function newTopic(): string {
  return `topic-${randomUUID()}`;
}

function record(value: string, rest: Partial<NewRecord> = {}): NewRecord {
  return { key: 'car', value: Buffer.from(value), timestamp: 1_700_000_000_000, ...rest };
}

function numbered(from: number, count: number): NewRecord[] {
  return Array.from({ length: count }, (_, i) => record(String(from + i), { key: `k${(from + i) % 10}` }));
}

async function valuesOf(batches: AsyncIterable<Batch>): Promise<string[]> {
  const values: string[] = [];
  for await (const { records } of batches) values.push(...records.map(({ value }) => String(value)));
  return values;
}

function sorted(values: readonly string[]): number[] {
  return values.map(Number).sort((a, b) => a - b);
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** Another client of Kafka. */
function other(at = brokers): Kafka {
  return new Kafka({ brokers: at.split(','), logLevel: logLevel.NOTHING });
}

describe('KafkaEventLog with brokers that go', () => {
  it('appends on while one of three is killed, every record once and in order', async () => {
    const three = await cluster({ nodes: 3, heapMb: 300 });
    const log = await open(three.brokers, { replication: 3 });
    const topic = newTopic();
    await log.createTopic(topic, { partitions: 6 });
    let sent = 0;
    const send = async () => {
      await log.append(topic, numbered(sent, 20));
      sent += 20;
    };
    const meeting = new Meeting();
    const reader = new Consumer(await open(three.brokers), 'group', [topic], meeting);
    for (let i = 0; i < 20; i++) await send();
    for (const node of three.nodes.slice(0, 2)) {
      await node.kill();
      for (let i = 0; i < 20; i++) await send();
      await node.start();
      for (let i = 0; i < 20; i++) await send();
    }
    const values = await valuesOf(log.read(topic, all));
    // The producer is idempotent: sent again does not mean written again.
    expect(sorted(values)).toEqual(upTo(sent));
    const perKey = new Map<number, number[]>();
    for (const value of values.map(Number))
      perKey.set(value % 10, [...(perKey.get(value % 10) ?? []), value]);
    for (const list of perKey.values()) expect(list).toEqual([...list].sort((a, b) => a - b));
    await meeting.until(() => new Set(reader.values).size === sent);
    await reader.stop();
  });

  it('waits for a Kafka that is away, and goes on when it is back: appends, a tail, and a group', async () => {
    const one = await cluster();
    const troubles: string[] = [];
    const log = await open(one.brokers, { onProblem: (error) => troubles.push(error.code) });
    const topic = newTopic();
    await log.createTopic(topic, { partitions: 2 });
    await log.append(topic, numbered(0, 50));
    const meeting = new Meeting();
    const consumer = new Consumer(log, 'group', [topic], meeting);
    const tailed: string[] = [];
    const abort = new AbortController();
    const tailing = (async () => {
      for await (const { records } of log.read(topic, { from: 'earliest', signal: abort.signal })) {
        tailed.push(...records.map(({ value }) => String(value)));
        meeting.happened();
      }
    })();
    await meeting.until(() => consumer.values.length === 50 && tailed.length === 50);
    await one.nodes[0]!.kill();
    const pending = log.append(topic, numbered(50, 50));
    await one.nodes[0]!.start();
    await pending;
    await meeting.until(() => new Set(consumer.values).size === 100 && tailed.length === 100);
    abort.abort();
    await tailing;
    await consumer.stop();
    expect(sorted(tailed)).toEqual(upTo(100));
    expect(sorted(await valuesOf(log.read(topic, all)))).toEqual(upTo(100));
    expect(new Set(troubles)).toEqual(new Set(['LOG_UNREACHABLE']));
    expect((await log.lag('group')).map(({ lag }) => lag)).toEqual([0, 0]);
  });

  it('says so at once when nobody answers', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    server.close();
    await once(server, 'close');
    await expect(openEventLog(`kafka:127.0.0.1:${port}`)).rejects.toEqual(code('LOG_UNREACHABLE'));
  });
});

describe('KafkaEventLog behind TLS and SASL', () => {
  it('gets in with the right certificate authority, user and password, and else says what is refused', async () => {
    const safe = await cluster({
      security: { tls: true, users: { bridge: 'right' } },
    });
    const ca = readFileSync(safe.certificates!.ca);
    const topic = newTopic();
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const) {
      const sasl = { mechanism, username: 'bridge', password: 'right' };
      const log = await open(safe.brokers, { tls: { ca }, sasl });
      await log.createTopic(topic, { partitions: 1 });
      await log.append(topic, [record(mechanism)]);
      await expect(
        KafkaEventLog.open({
          brokers: safe.brokers.split(','),
          tls: { ca },
          sasl: { ...sasl, password: 'wrong' },
        }),
      ).rejects.toEqual(code('LOG_DENIED'));
    }
    const sasl = { mechanism: 'plain', username: 'bridge', password: 'right' } as const;
    const log = await open(safe.brokers, { tls: { ca }, sasl });
    expect(await valuesOf(log.read(topic, all))).toEqual(['plain', 'scram-sha-256', 'scram-sha-512']);
    // Not signed by an authority that the system knows.
    await expect(KafkaEventLog.open({ brokers: safe.brokers.split(','), tls: true, sasl })).rejects.toEqual(
      code('LOG_DENIED'),
    );
  });
});

describe('a group on Kafka', () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  it('gives what a killed member had not finished to another one', async () => {
    const log = await open();
    const topic = newTopic();
    const group = randomUUID();
    await log.createTopic(topic, { partitions: 1 });
    await log.append(topic, numbered(0, 5));
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', CHILD, 'hold', `kafka:${brokers}`, topic, group, '6000'],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    children.push(child);
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    expect(line).toBe('0,1,2,3,4');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const meeting = new Meeting();
    const heir = new Consumer(log, group, [topic], meeting);
    await meeting.until(() => heir.values.length === 5);
    await heir.stop();
    expect(heir.values).toEqual(['0', '1', '2', '3', '4']);
  });
});

describe('records on Kafka', () => {
  it('are refused, all of an append, when one of them can never be taken', async () => {
    const admin = other().admin();
    await admin.connect();
    closing.push(() => admin.disconnect());
    const topic = newTopic();
    await admin.createTopics({
      topics: [
        {
          topic,
          numPartitions: 1,
          configEntries: [
            { name: 'max.message.bytes', value: '50000' },
            { name: 'message.timestamp.after.max.ms', value: '3600000' },
            { name: 'message.timestamp.before.max.ms', value: String(48 * 3_600_000) },
          ],
        },
      ],
    });
    const log = await open();
    const now = Date.now();
    const good = record('good', { timestamp: now });
    for (const bad of [
      record('', {
        value: Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 7919) % 251)),
        timestamp: now,
      }),
      record('future', { timestamp: now + 2 * 3_600_000 }),
      record('old', { timestamp: now - 49 * 3_600_000 }),
    ])
      await expect(log.append(topic, [good, bad, good])).rejects.toEqual(code('RECORD_REFUSED'));
    // Many small ones are no large one, and what compresses well is not large.
    await log.append(
      topic,
      Array.from({ length: 100 }, (_, i) => record(`${i}`.padEnd(5000, 'x'), { timestamp: now })),
    );
    const packed = await open(brokers, { compression: 'gzip' });
    await packed.append(topic, [record('y'.repeat(200_000), { timestamp: now })]);
    expect(await valuesOf(log.read(topic, all))).toHaveLength(101);
  });

  it('of other clients can be read: any compression that kafkajs has, transactions only when committed', async () => {
    const log = await open();
    const topic = newTopic();
    await log.createTopic(topic, { partitions: 1 });
    const producer = other().producer({ transactionalId: randomUUID(), maxInFlightRequests: 1 });
    await producer.connect();
    closing.push(() => producer.disconnect());
    const send = (value: string, compression = CompressionTypes.None) => ({
      topic,
      compression,
      messages: [{ key: 'k', value, headers: { list: ['a', 'b'], empty: '' } }],
    });
    for (const [value, commit] of [
      ['kept 1', true],
      ['aborted', false],
      ['kept 2', true],
    ] as const) {
      const transaction = await producer.transaction();
      await transaction.send(send(value, CompressionTypes.GZIP));
      await (commit ? transaction.commit() : transaction.abort());
    }
    await log.append(topic, [record('ours')]);
    expect(await valuesOf(log.read(topic, all))).toEqual(['kept 1', 'kept 2', 'ours']);
    const meeting = new Meeting();
    const group = randomUUID();
    const consumer = new Consumer(log, group, [topic], meeting);
    await meeting.until(() => consumer.values.length === 3);
    await consumer.stop();
    expect((await log.lag(group)).map(({ lag }) => lag)).toEqual([0]);
  });

  it('are as kafkajs writes and reads them', async () => {
    const log = await open(brokers, { compression: 'gzip' });
    const topic = newTopic();
    await log.createTopic(topic, { partitions: 1 });
    await log.append(topic, [
      record('v', { key: 'schlüssel', headers: { ce_type: 'x', 'ce-ä': 'ü' }, timestamp: 1_234_567_890_123 }),
      record('', { key: null, value: null }),
    ]);
    const consumer = other().consumer({ groupId: randomUUID() });
    closing.push(() => consumer.disconnect());
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    const seen: unknown[] = [];
    await new Promise<void>((resolve, reject) => {
      consumer
        .run({
          eachMessage: async ({ message: { key, value, headers, timestamp } }) => {
            const texts = Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)]);
            seen.push([key?.toString() ?? null, value?.toString() ?? null, texts, timestamp]);
            if (seen.length === 2) resolve();
          },
        })
        .catch(reject);
    });
    expect(seen).toEqual([
      [
        'schlüssel',
        'v',
        [
          ['ce_type', 'x'],
          ['ce-ä', 'ü'],
        ],
        '1234567890123',
      ],
      [null, null, [], '1700000000000'],
    ]);
  });

  it('wait at the broker while their reader is slow: little is fetched ahead', async () => {
    const log = await open();
    const topic = newTopic();
    await log.createTopic(topic, { partitions: 2 });
    const large = Buffer.alloc(100_000, 1);
    for (let i = 0; i < 20; i++)
      await log.append(
        topic,
        Array.from({ length: 40 }, (_, k) => record('', { value: large, key: `k${k}` })),
      );
    const reader = await open();
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    let count = 0;
    for await (const { records } of reader.read(topic, { ...all, recordsMax: 1 })) {
      count += records.length;
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    expect(count).toBe(800); // 80 MB
    expect(most).toBeLessThan(50_000_000);
  });
});

describe('topics on Kafka', () => {
  it('are made as the settings say, with the prefix', async () => {
    const prefix = `${randomUUID()}.`;
    const log = await open(brokers, {
      topicPrefix: prefix,
      partitions: 12,
      replication: 1,
      retentionMs: 86_400_000,
    });
    await log.createTopic('telemetry', { partitions: 6 });
    await log.createTopic('models', { partitions: 1 });
    await log.createTopic('sets', { partitions: 1, compacted: true });
    expect(await log.topics()).toEqual([
      { topic: 'models', partitions: 1, compacted: false },
      { topic: 'sets', partitions: 1, compacted: true },
      { topic: 'telemetry', partitions: 12, compacted: false },
    ]);
    const admin = other().admin();
    await admin.connect();
    closing.push(() => admin.disconnect());
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: `${prefix}telemetry`, configNames: ['retention.ms', 'cleanup.policy'] }],
    });
    const configs = resources[0]!.configEntries.map(({ configName, configValue }) => [
      configName,
      configValue,
    ]);
    expect(Object.fromEntries(configs)).toEqual({ 'cleanup.policy': 'delete', 'retention.ms': '86400000' });
    const meeting = new Meeting();
    const consumer = new Consumer(log, 'readers', ['models'], meeting);
    await log.append('models', [record('x')]);
    await meeting.until(() => consumer.values.length === 1);
    await consumer.stop();
    expect(await log.groups()).toEqual(['readers']);
    expect((await admin.listGroups()).groups.map(({ groupId }) => groupId)).toContain(`${prefix}readers`);
  });

  it('may be deleted by somebody else: what goes to others goes on', async () => {
    const log = await open();
    const [gone, known, later] = [newTopic(), newTopic(), newTopic()];
    for (const topic of [gone, known]) {
      await log.createTopic(topic, { partitions: 1 });
      await log.append(topic, [record('before')]);
    }
    const admin = other().admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [gone] });
    await admin.disconnect();
    await log.createTopic(later, { partitions: 1 });
    await log.append(later, [record('later')]);
    await log.append(known, [record('after')]);
    expect(await valuesOf(log.read(known, all))).toEqual(['before', 'after']);
    await expect(log.append(gone, [record('lost')])).rejects.toEqual(code('TOPIC_UNKNOWN'));
    await log.append(known, [record('still')]);
    expect(await valuesOf(log.read(known, all))).toHaveLength(3);
  });

  it('cannot have more copies than there are brokers', async () => {
    const log = await open(brokers, { replication: 3 });
    await expect(log.createTopic(newTopic(), { partitions: 1 })).rejects.toEqual(code('USAGE'));
  });
});
