import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ChildGuard, type Child } from '../child-guard.ts';
import { findJava, kafkaJars } from './jars.ts';

const USAGE = `npm run connect -- WORKER.properties CONNECTOR.properties…
Runs a Kafka Connect worker (standalone) on this machine until Ctrl-C.
KAFKA_BROKERS (default 127.0.0.1:9092) and CARDAN_TOPIC_PREFIX (default none) can be used in the files as \${env:NAME}.
Examples are in ops/connect.`;

/** How long a worker may take to note how far it has read. It takes about a second. */
const STOP_MS = 20_000;

const files = process.argv.slice(2);
if (files.includes('--help') || files.includes('-h')) {
  console.log(USAGE);
  process.exit(0);
}

let worker: Child | undefined;
let stopping = false;
// A second one changes nothing: npm may pass on what the terminal sends to both.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    if (worker === undefined) process.exit(1);
    worker.process.kill('SIGTERM');
    setTimeout(() => worker!.process.kill('SIGKILL'), STOP_MS).unref();
  });

try {
  if (files.length < 2) throw new Error(USAGE);
  const missing = files.find((file) => !existsSync(file));
  if (missing !== undefined) throw new Error(`There is no file ${missing}.`);
  const java = await findJava();
  const classPath = join(await kafkaJars(), '*');
  process.env.KAFKA_BROKERS ||= '127.0.0.1:9092';
  process.env.CARDAN_TOPIC_PREFIX ??= '';
  const guard = new ChildGuard();
  const quiet = '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn';
  const jvm = ['-Xmx256m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', quiet, '-cp', classPath];
  worker = await guard.start(java, [...jvm, 'org.apache.kafka.connect.cli.ConnectStandalone', ...files]);
  console.log(
    `Kafka Connect at ${process.env.KAFKA_BROKERS}, with ${files.slice(1).join(', ')}. Ctrl-C stops it.`,
  );
  const ended = await worker.ended;
  await guard.close();
  if (!stopping) throw new Error(`Kafka Connect ended by itself (${ended}).`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
