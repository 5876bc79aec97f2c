import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ChildGuard, type Child } from '../child-guard.ts';
import { freePorts } from '../free-ports.ts';
import { findJava } from './jars.ts';
import { endOf } from './kafka-node.ts';
import { toProperties, type KafkaCluster } from './start-kafka.ts';

const START_MS = 120_000;

/** A running Connect worker. */
export interface ConnectWorker {
  /** Of its REST interface: `http://127.0.0.1:PORT`. */
  url: string;
  /** Ends it, in good order (offsets are stored), and removes its files. */
  stop: () => Promise<void>;
}

/** What `startConnect` starts. */
export interface ConnectOptions {
  /** Settings of the worker. They beat our own: strings as keys and values, offsets stored every second. */
  workerProperties?: Record<string, string>;
  /** Settings of each connector; `name` and `connector.class` are needed. */
  connectors: Record<string, string>[];
}

/**
 * Starts a real Kafka Connect worker (standalone) with the connectors that come with Kafka (`connect-file`) beside a
 * Kafka, and resolves when all connectors and their tasks are RUNNING. It ends with this process in any case.
 */
export async function startConnect(
  cluster: Pick<KafkaCluster, 'internalBrokers' | 'classPath'>,
  options: ConnectOptions,
): Promise<ConnectWorker> {
  const java = await findJava();
  for (let tries = 1; ; tries++) {
    try {
      return await startOn((await freePorts(1))[0]!, java, cluster, options);
    } catch (error) {
      // Somebody took the port between the look and the start.
      if (tries === 5 || !(error instanceof Error && error.message.includes('Address already in use')))
        throw error;
    }
  }
}

async function startOn(
  port: number,
  java: string,
  cluster: Pick<KafkaCluster, 'internalBrokers' | 'classPath'>,
  options: ConnectOptions,
): Promise<ConnectWorker> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-connect-'));
  const guard = new ChildGuard(dir);
  const url = `http://127.0.0.1:${port}`;
  const log = join(dir, 'connect.log');
  const files = [join(dir, 'worker.properties')];
  writeFileSync(
    files[0]!,
    toProperties({
      'bootstrap.servers': cluster.internalBrokers,
      listeners: url,
      'key.converter': 'org.apache.kafka.connect.storage.StringConverter',
      'value.converter': 'org.apache.kafka.connect.storage.StringConverter',
      'offset.storage.file.filename': join(dir, 'offsets'),
      'offset.flush.interval.ms': '1000',
      // The connectors are on the class path, not in a folder of plugins.
      'plugin.discovery': 'service_load',
      ...options.workerProperties,
    }),
  );
  for (const connector of options.connectors) {
    const file = join(dir, `connector-${files.length}.properties`);
    writeFileSync(file, toProperties(connector));
    files.push(file);
  }
  let worker: Child | undefined;
  const stop = async () => {
    worker?.process.kill('SIGTERM');
    const late = setTimeout(() => worker?.process.kill('SIGKILL'), 20_000);
    await worker?.ended;
    clearTimeout(late);
    await guard.close();
    rmSync(dir, { recursive: true, force: true });
  };
  const jvm = ['-Xmx256m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', cluster.classPath];
  const main = 'org.apache.kafka.connect.cli.ConnectStandalone';
  try {
    worker = await guard.start(java, [...jvm, main, ...files], log);
    let ended: string | undefined;
    void worker.ended.then((how) => (ended = how));
    const deadline = Date.now() + START_MS;
    for (;;) {
      const states = await connectorStates(url);
      const failed = states.find(({ state }) => state === 'FAILED');
      if (failed !== undefined) throw new Error(`The connector ${failed.name} failed:\n${failed.trace}`);
      if (ended !== undefined)
        throw new Error(`The Connect worker ended by itself (${ended}):\n${endOf(log)}`);
      const running = new Set(states.filter(({ state }) => state === 'RUNNING').map(({ name }) => name));
      if (states.every(({ state }) => state === 'RUNNING') && running.size === options.connectors.length)
        return { url, stop };
      if (Date.now() > deadline)
        throw new Error(`Connect does not serve after ${START_MS / 1000} s:\n${readFileSync(log, 'utf8')}`);
      await pause(100);
    }
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The state of every connector, which is that of its first part that is not RUNNING. None while nobody answers. */
async function connectorStates(url: string): Promise<{ name: string; state: string; trace: string }[]> {
  interface Part {
    state: string;
    trace?: string;
  }
  try {
    const answer = await fetch(`${url}/connectors?expand=status`, { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) return [];
    const all = (await answer.json()) as Record<string, { status: { connector: Part; tasks: Part[] } }>;
    return Object.entries(all).map(([name, { status }]) => {
      const parts = [status.connector, ...status.tasks];
      const part = parts.find(({ state }) => state !== 'RUNNING') ?? parts[0]!;
      // A connector without tasks has not come that far yet.
      const state = status.tasks.length === 0 && part.state === 'RUNNING' ? 'STARTING' : part.state;
      return { name, state, trace: part.trace ?? '' };
    });
  } catch {
    return [];
  }
}
