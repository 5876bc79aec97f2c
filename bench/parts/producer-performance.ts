import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findJava } from '../../ops/kafka/jars.ts';
import { cpuSecondsOfEndedChildren } from './process-cpu.ts';

const run = promisify(execFile);

export interface ProducerRun {
  /** Of its best window of 5 s, or of all of it if that was better: Java compiles during the first seconds. */
  bytesPerSecond: number;
  /** Of the whole process, from the start of Java on. */
  cpuSeconds: number;
}

/**
 * Runs Kafka's own bench of its own client, org.apache.kafka.tools.ProducerPerformance, with acks=all and without
 * compression; `properties` are further settings of its producer. No other child process may end meanwhile.
 */
export async function producerPerformance(
  kafka: { classPath: string; brokers: string },
  options: { topic: string; records: number; recordBytes: number; properties?: Record<string, string> },
): Promise<ProducerRun> {
  const { topic, records, recordBytes, properties = {} } = options;
  const settings = {
    'bootstrap.servers': kafka.brokers,
    acks: 'all',
    'compression.type': 'none',
    ...properties,
  };
  const args = ['--topic', topic, '--num-records', String(records), '--record-size', String(recordBytes)];
  const props = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  const java = await findJava();
  const cpu = cpuSecondsOfEndedChildren();
  const { stdout } = await run(java, [
    ...['-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-Xmx512m', '-cp', kafka.classPath],
    ...['org.apache.kafka.tools.ProducerPerformance', ...args, '--throughput', '-1'],
    ...['--producer-props', ...props],
  ]);
  const cpuSeconds = cpuSecondsOfEndedChildren() - cpu;
  // A line for every 5 s, and the last one of all: `N records sent, N records/sec (N MB/sec), …`.
  const lines = [...stdout.matchAll(/^(\d+) records sent, ([\d.]+) records\/sec/gm)];
  if (Number(lines.at(-1)?.[1]) !== records)
    throw new Error(`ProducerPerformance did not send everything:\n${stdout}`);
  const best = Math.max(...lines.map(([, , perSecond]) => Number(perSecond)));
  return { bytesPerSecond: best * recordBytes, cpuSeconds };
}
