import { parseArgs } from 'node:util';
import { startKafka, type KafkaCluster, type KafkaOptions } from './start-kafka.ts';

const USAGE = `npm run kafka -- [--nodes 1|3] [--port 9092] [--dir DIR]
Runs Apache Kafka on this machine until Ctrl-C.
  --nodes 1|3   brokers (default 1)
  --port N      of the first broker; the others get the next ones (default 9092)
  --dir DIR     keeps the data there; without it they are gone at the end`;

function options(): KafkaOptions {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '1' },
      port: { type: 'string', default: '9092' },
      dir: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const [nodes, port] = [Number(values.nodes), Number(values.port)];
  if (nodes !== 1 && nodes !== 3) throw new Error('--nodes is 1 or 3.');
  if (!(Number.isInteger(port) && port >= 1 && port + nodes - 1 <= 65_535))
    throw new Error('--port is a number from 1 to 65535.');
  return { nodes, port, ...(values.dir === undefined ? {} : { dir: values.dir }) };
}

let kafka: KafkaCluster | undefined;
let stopping = false;
// A second one changes nothing: npm may pass on what the terminal sends to both.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    // Before Kafka serves there is nothing to stop in good order: the brokers end with this process.
    if (kafka === undefined) process.exit(1);
    kafka.stop().then(() => process.exit(0), fail);
  });

try {
  kafka = await startKafka(options());
  console.log(`KAFKA_BROKERS=${kafka.brokers}`);
  console.log(`Data and logs: ${kafka.dir}. Ctrl-C stops it.`);
} catch (error) {
  fail(error);
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
