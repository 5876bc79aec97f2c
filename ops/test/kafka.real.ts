import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Kafka, logLevel, type KafkaConfig, type SASLOptions } from 'kafkajs';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { freePorts, isFree } from '../free-ports.ts';
import { startConnect } from '../kafka/start-connect.ts';
import { startKafka, type KafkaCluster, type KafkaOptions } from '../kafka/start-kafka.ts';

const run = promisify(execFile);
const COMMAND = fileURLToPath(new URL('../kafka/kafka.js', import.meta.url));

const clusters: KafkaCluster[] = [];
const folders: string[] = [];
afterEach(async () => {
  await Promise.all(clusters.splice(0).map((cluster) => cluster.stop()));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function start(options?: KafkaOptions): Promise<KafkaCluster> {
  const cluster = await startKafka(options);
  clusters.push(cluster);
  return cluster;
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'cardan-kafka-test-'));
  folders.push(path);
  return path;
}

function client(brokers: string, config: Partial<KafkaConfig> = {}): Kafka {
  return new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING, ...config });
}

async function createTopic(kafka: Kafka, topic: string, numPartitions = 1): Promise<void> {
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true });
  await admin.disconnect();
}

async function send(kafka: Kafka, topic: string, values: string[]): Promise<void> {
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, acks: -1, messages: values.map((value) => ({ value })) });
  await producer.disconnect();
}

/** The first `count` values of a topic. */
async function read(kafka: Kafka, topic: string, count: number): Promise<string[]> {
  const consumer = kafka.consumer({ groupId: randomUUID() });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const values: string[] = [];
  await new Promise<void>((resolve, reject) => {
    consumer
      .run({
        eachMessage: async ({ message }) => {
          if (values.push(message.value!.toString()) === count) resolve();
        },
      })
      .catch(reject);
  });
  await consumer.disconnect();
  return values;
}

/** The command lines of all processes that mention a text. */
async function processesWith(text: string): Promise<string[]> {
  const { stdout } = await run('ps', ['-eo', 'args'], { maxBuffer: 1 << 26 });
  return stdout.split('\n').filter((line) => line.includes(text));
}

describe('one Kafka node', () => {
  it('is shared by the tests', async () => {
    const admin = client(inject('kafkaBrokers')).admin();
    await admin.connect();
    expect((await admin.describeCluster()).brokers).toHaveLength(1);
    await admin.disconnect();
  });

  it('is killed and comes back on its port with its data', async () => {
    const { brokers, nodes } = await start();
    const kafka = client(brokers);
    await createTopic(kafka, 'before');
    await send(kafka, 'before', ['one', 'two']);
    await nodes[0]!.kill();
    await expect(
      client(brokers, { retry: { retries: 0 } })
        .admin()
        .connect(),
    ).rejects.toThrow();
    await nodes[0]!.start();
    expect(await read(kafka, 'before', 2)).toEqual(['one', 'two']);
    await nodes[0]!.stop();
    await nodes[0]!.start();
    await send(kafka, 'before', ['three']);
    expect(await read(kafka, 'before', 3)).toEqual(['one', 'two', 'three']);
  });

  it('goes on in a folder of the user, and does not take it for a cluster of another size', async () => {
    const dir = join(folder(), 'data');
    const first = await start({ dir });
    await createTopic(client(first.brokers), 'kept');
    await send(client(first.brokers), 'kept', ['here']);
    await first.stop();
    await expect(start({ dir, nodes: 3 })).rejects.toThrow(/has the data of 1 node\(s\)/);
    const second = await start({ dir });
    expect(await read(client(second.brokers), 'kept', 1)).toEqual(['here']);
  });

  it('takes settings, and runs the tools', async () => {
    const { internalBrokers, tool } = await start({ properties: { 'num.partitions': '7' } });
    const topics = (...args: string[]) =>
      tool('org.apache.kafka.tools.TopicCommand', ['--bootstrap-server', internalBrokers, ...args]);
    await topics('--create', '--topic', 'seven');
    expect(await topics('--describe', '--topic', 'seven')).toContain('PartitionCount: 7');
    await expect(topics('--describe', '--topic', 'none')).rejects.toThrow(/Topic 'none' does not exist/);
  });

  it('says what is wrong with its settings', async () => {
    await expect(start({ properties: { 'log.segment.bytes': 'many' } })).rejects.toThrow(
      /log\.segment\.bytes/,
    );
  });

  it('leaves no process and no file', async () => {
    const cluster = await start();
    expect(await processesWith(cluster.dir)).not.toEqual([]);
    await cluster.stop();
    expect(await processesWith(cluster.dir)).toEqual([]);
    expect(existsSync(cluster.dir)).toBe(false);
  });
});

describe('three Kafka nodes', () => {
  it('take and give records while one is killed, which is in sync again after its return', async () => {
    const { brokers, nodes } = await start({ nodes: 3 });
    const kafka = client(brokers);
    await createTopic(kafka, 'copied');
    const admin = kafka.admin();
    await admin.connect();
    const partition = async () =>
      (await admin.fetchTopicMetadata({ topics: ['copied'] })).topics[0]!.partitions[0]!;
    const { leader, replicas } = await partition();
    expect(replicas.toSorted()).toEqual([1, 2, 3]);

    const producer = kafka.producer({ idempotent: true });
    await producer.connect();
    const send = (value: string) => producer.send({ topic: 'copied', messages: [{ value }] });
    await send('before');
    await nodes[leader - 1]!.kill();
    await send('without it');
    expect((await partition()).leader).not.toBe(leader);
    expect(await read(kafka, 'copied', 2)).toEqual(['before', 'without it']);

    await nodes[leader - 1]!.start();
    await expect.poll(async () => (await partition()).isr.length, { timeout: 60_000 }).toBe(3);
    await producer.disconnect();
    await admin.disconnect();
  });
});

describe('security', () => {
  const ca = (cluster: KafkaCluster) => ({ ca: readFileSync(cluster.certificates!.ca) });
  const users = { alice: 'alice-secret' };
  const sasl = (mechanism: string, password: string) =>
    ({ mechanism, username: 'alice', password }) as SASLOptions;
  const enter = async (brokers: string, config: Partial<KafkaConfig>) => {
    const admin = client(brokers, { retry: { retries: 0 }, ...config }).admin();
    try {
      await admin.connect();
      return await admin.listTopics();
    } finally {
      await admin.disconnect();
    }
  };

  it('lets the right password in over TLS, and nobody else', async () => {
    const cluster = await start({ security: { tls: true, users } });
    const { brokers } = cluster;
    const ssl = ca(cluster);
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512']) {
      await expect(enter(brokers, { ssl, sasl: sasl(mechanism, users.alice) })).resolves.toEqual(
        expect.any(Array),
      );
      await expect(enter(brokers, { ssl, sasl: sasl(mechanism, 'guess') })).rejects.toThrow(/[Aa]uthenticat/);
    }
    await expect(enter(brokers, { ssl: true, sasl: sasl('plain', users.alice) })).rejects.toThrow(
      /certificate/,
    );
    await expect(enter(brokers, { ssl })).rejects.toThrow();
  });

  it('asks for passwords without TLS', async () => {
    const { brokers } = await start({ security: { users } });
    await enter(brokers, { sasl: sasl('scram-sha-256', users.alice) });
    await expect(enter(brokers, { sasl: sasl('scram-sha-256', 'guess') })).rejects.toThrow(/[Aa]uthenticat/);
  });

  it('asks for a certificate of the client', async () => {
    const cluster = await start({ security: { tls: true, clientCertificates: true } });
    const { clientCert, clientKey } = cluster.certificates!;
    const own = { cert: readFileSync(clientCert), key: readFileSync(clientKey) };
    await enter(cluster.brokers, { ssl: { ...ca(cluster), ...own } });
    await expect(enter(cluster.brokers, { ssl: ca(cluster) })).rejects.toThrow();
  });
});

describe('Kafka Connect', () => {
  it('brings the lines of a file into a topic by a worker of its own', async () => {
    const cluster = await start();
    await createTopic(client(cluster.brokers), 'lines');
    const file = join(folder(), 'lines.txt');
    writeFileSync(file, 'first\nsecond\n');
    const connector = { 'connector.class': 'FileStreamSource', name: 'lines', topic: 'lines', file };
    const worker = await startConnect(cluster, { connectors: [connector] });
    try {
      expect(await read(client(cluster.brokers), 'lines', 2)).toEqual(['first', 'second']);
    } finally {
      await worker.stop();
    }
    expect(await isFree(Number(new URL(worker.url).port))).toBe(true);
    await expect(
      startConnect(cluster, { connectors: [{ ...connector, 'connector.class': 'Unknown' }] }),
    ).rejects.toThrow(/Unknown/);
  });
});

describe('npm run kafka', () => {
  /** The command, and its lines when it has said where Kafka is. */
  async function command(...args: string[]) {
    const child = spawn(process.execPath, [COMMAND, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    for await (const line of createInterface(child.stdout)) if (lines.push(line) === 2) break;
    const dir = /Data and logs: (.*)\. Ctrl-C/.exec(lines[1] ?? '')![1]!;
    return { child, brokers: lines[0]!.replace('KAFKA_BROKERS=', ''), dir };
  }

  it('serves until Ctrl-C, and leaves nothing', async () => {
    const { child, brokers, dir } = await command('--port', String(await freePort()));
    await createTopic(client(brokers), 'tried');
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(await processesWith(dir)).toEqual([]);
    expect(existsSync(dir)).toBe(false);
  });

  it('leaves nothing when it is killed itself', async () => {
    const { child, dir } = await command('--port', String(await freePort()));
    child.kill('SIGKILL');
    await expect.poll(() => processesWith(dir), { timeout: 20_000 }).toEqual([]);
    expect(existsSync(dir)).toBe(false);
  });

  it('says which port is in use', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    await expect(run(process.execPath, [COMMAND, '--port', String(port)])).rejects.toMatchObject({
      code: 1,
      stderr: `Port ${port} is in use here. Stop what listens there, or choose another one.\n`,
    });
    taken.close();
  });

  it('says what to install', async () => {
    const bin = folder();
    const env = { ...process.env, JAVA_HOME: '', PATH: bin, CARDAN_KAFKA_DIR: join(bin, 'jars') };
    const tried = () => run(process.execPath, [COMMAND, '--port', '9092'], { env });
    await expect(tried()).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('apt install openjdk-17-jre-headless') as string,
    });
    const java = (await run('which', ['java'])).stdout.trim();
    symlinkSync(java, join(bin, 'java'));
    await expect(tried()).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('apt install maven') as string,
    });
    expect(readdirSync(bin)).toEqual(['java']);
  });
});

it('Kafka is fetched by two processes at the same time', async () => {
  const dir = join(folder(), 'jars');
  const jars = fileURLToPath(new URL('../kafka/jars.ts', import.meta.url));
  const script = `const { kafkaJars } = await import(${JSON.stringify(jars)}); console.log(await kafkaJars());`;
  const fetchJars = () =>
    run(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      env: { ...process.env, CARDAN_KAFKA_DIR: dir },
    });
  const both = await Promise.all([fetchJars(), fetchJars()]);
  expect(both.map(({ stdout }) => stdout.trim())).toEqual([dir, dir]);
  expect(readdirSync(dirname(dir))).toEqual(['jars']);
  expect(readdirSync(dir).filter((name) => name.startsWith('connect-file-'))).toHaveLength(1);
});

async function freePort(): Promise<number> {
  return (await freePorts(1))[0]!;
}
