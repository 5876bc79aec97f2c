import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { ChildGuard } from '../child-guard.ts';
import { freePorts, isFree } from '../free-ports.ts';
import { makeCertificates, type Certificates } from './certificates.ts';
import { findJava, kafkaJars } from './jars.ts';
import { kafkaNode, type KafkaNode } from './kafka-node.ts';
import { nodeProperties, type KafkaSecurity, type NodePorts } from './node-properties.ts';

export type { Certificates } from './certificates.ts';
export type { KafkaNode } from './kafka-node.ts';
export type { KafkaSecurity } from './node-properties.ts';

const run = promisify(execFile);

const JVM = ['-XX:+ExitOnOutOfMemoryError', '-Dorg.slf4j.simpleLogger.showDateTime=true'];

/** A running Kafka. */
export interface KafkaCluster {
  /** `HOST:PORT,HOST:PORT,…` for clients. */
  brokers: string;
  /** The same brokers by their listeners without security, for tools and for what an administrator does. */
  internalBrokers: string;
  nodes: KafkaNode[];
  /** Data, settings and `node-N.log` of each node. */
  dir: string;
  /** For `java -cp`. */
  classPath: string;
  /** With `security.tls`: the files that a client needs. */
  certificates: Certificates | undefined;
  /**
   * Runs a class of Kafka's tools, such as `org.apache.kafka.tools.TopicCommand`, and returns what it printed. It
   * knows no broker by itself: give `--bootstrap-server` and `internalBrokers`. Rejects with its output if it fails.
   */
  tool: (mainClass: string, args: string[]) => Promise<string>;
  /** Ends all nodes, and removes the folder unless it was given by `dir`. */
  stop: () => Promise<void>;
}

/** What `startKafka` starts. */
export interface KafkaOptions {
  /** Default 1. With three, topics have three copies, of which two must be in sync for a write. */
  nodes?: 1 | 3;
  /** Of the first node; the others get the next ones. Default: free ones. */
  port?: number;
  /** Where the data stays; a cluster that is there goes on. Default: a folder in the system's temporary one. */
  dir?: string;
  /** Settings of the brokers. They beat our own. */
  properties?: Record<string, string>;
  /** Of the listener for clients. The internal ones have none: who comes there is `User:ANONYMOUS`. */
  security?: KafkaSecurity;
  /** Of each node. Default 512. */
  heapMb?: number;
}

/**
 * Starts a real Apache Kafka on this machine, one node or three, and resolves when it serves: every node is
 * registered, there is a controller, and groups have their coordinators. It ends with this process in any case.
 * Throws, saying what to install, if Java or (on the first use) Maven is missing, and when the port is in use.
 */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaCluster> {
  const java = await findJava();
  const classPath = join(await kafkaJars(), '*');
  for (let tries = 1; ; tries++) {
    const ports = await choosePorts(options.nodes ?? 1, options.port);
    try {
      return await startCluster(java, classPath, ports, options);
    } catch (error) {
      // Somebody took a port between the look and the start.
      if (tries === 5 || !(error instanceof Error && error.message.includes('Address already in use')))
        throw error;
    }
  }
}

async function choosePorts(nodes: number, first: number | undefined): Promise<NodePorts[]> {
  const free = await freePorts(3 * nodes);
  const ports: NodePorts[] = [];
  for (let i = 0; i < nodes; i++) {
    const client = first === undefined ? free[3 * i]! : first + i;
    if (first !== undefined && !(await isFree(client)))
      throw new Error(`Port ${client} is in use here. Stop what listens there, or choose another one.`);
    ports.push({ client, internal: free[3 * i + 1]!, controller: free[3 * i + 2]! });
  }
  return ports;
}

async function startCluster(
  java: string,
  classPath: string,
  ports: NodePorts[],
  options: KafkaOptions,
): Promise<KafkaCluster> {
  const { security = {}, heapMb = 512 } = options;
  const ids = ports.map((_, i) => i + 1);
  const list = (name: keyof NodePorts) => ports.map((of) => `127.0.0.1:${of[name]}`).join(',');
  const temporary = options.dir === undefined;
  const dir = resolve(options.dir ?? mkdtempSync(join(tmpdir(), 'cardan-kafka-')));
  const guard = new ChildGuard(temporary ? dir : undefined);
  const nodes: ReturnType<typeof kafkaNode>[] = [];

  const tool = (mainClass: string, args: string[]) => runTool(java, classPath, mainClass, args);
  const stop = async () => {
    if (!temporary) await Promise.all(nodes.map((node) => node.stop()));
    await guard.close();
    if (temporary) rmSync(dir, { recursive: true, force: true });
  };
  try {
    mkdirSync(dir, { recursive: true });
    const there = readdirSync(dir).filter((name) => /^node-\d+$/.test(name)).length;
    if (there !== 0 && there !== ids.length)
      throw new Error(`${dir} has the data of ${there} node(s). Start as many, or choose another folder.`);
    const certificates = security.tls ? await makeCertificates(dir) : undefined;
    const clusterId = randomUUID().replaceAll('-', '').slice(0, 22);
    const scram = Object.entries(security.users ?? {}).flatMap(([name, password]) =>
      ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
        '--add-scram',
        `${mechanism}=[name=${name},password=${password}]`,
      ]),
    );
    const prepared = await Promise.allSettled(
      ids.map(async (id) => {
        const data = join(dir, `node-${id}`);
        const settings = join(dir, `node-${id}.properties`);
        const properties = {
          ...nodeProperties(id, data, ports, security, certificates),
          ...options.properties,
        };
        writeFileSync(settings, toProperties(properties), { mode: 0o600 });
        if (!existsSync(join(data, 'meta.properties')))
          await tool('kafka.tools.StorageTool', ['format', '-t', clusterId, '-c', settings, ...scram]);
        nodes[id - 1] = kafkaNode(guard, {
          id,
          clientPort: ports[id - 1]!.client,
          internalPort: ports[id - 1]!.internal,
          java,
          javaArgs: [`-Xmx${heapMb}m`, ...JVM, '-cp', classPath, 'kafka.Kafka', settings],
          log: join(dir, `node-${id}.log`),
        });
      }),
    );
    // Only now: none of them still writes to the folder.
    for (const node of prepared) if (node.status === 'rejected') throw node.reason;
    await Promise.all(nodes.map((node) => node.start(ids)));
    const [brokers, internalBrokers] = [list('client'), list('internal')];
    return { brokers, internalBrokers, nodes, dir, classPath, certificates, tool, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A Java properties file. In one, a backslash in a value (a path of Windows) must be doubled. */
export function toProperties(properties: Record<string, string>): string {
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value.replaceAll('\\', '\\\\')}\n`)
    .join('');
}

async function runTool(java: string, classPath: string, mainClass: string, args: string[]): Promise<string> {
  // Most tools run for a second: then the compiler's best is not worth its time.
  const jvm = ['-Xmx512m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC'];
  const quiet = '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn';
  try {
    const ran = await run(java, [...jvm, quiet, '-cp', classPath, mainClass, ...args], {
      maxBuffer: 1 << 28,
    });
    return ran.stdout;
  } catch (cause) {
    const { stdout = '', stderr = '' } = cause as { stdout?: string; stderr?: string };
    throw new Error(`${mainClass} failed:\n${stdout}${stderr}`, { cause });
  }
}
