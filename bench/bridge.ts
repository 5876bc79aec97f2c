/**
 * MQTT → Kafka: CPU of a real `cardan-bridge` process per message of 200 bytes, beside Telegraf. Both run at the same
 * Mosquitto and the same Kafka, and get the same messages in turn, as fast as they take them. Every message comes from
 * another vehicle of a fleet of 5,000, so the bridge's acknowledgements cannot be put together. One JSON line per figure.
 *
 *   node --import tsx bench/bridge.ts [--messages N] [--rounds N] [--cpu-prof DIR]
 *
 * Needs Linux, Java, Maven (first use) and Mosquitto; Go for Telegraf. What is missing is said and left out.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LOG_TOPICS, mqttTopic } from '@cardan/shared';
import { openEventLog } from '@cardan/shared/event-log';
import { ChildGuard } from '../ops/child-guard.ts';
import { startKafka } from '../ops/kafka/start-kafka.ts';
import { startMosquitto } from '../ops/mosquitto/start-mosquitto.ts';
import { startBridge } from './parts/bridge-process.ts';
import { median, printFigure } from './parts/figure.ts';
import { FleetMessages } from './parts/fleet-messages.ts';
import { Flow } from './parts/flow.ts';
import { MqttPublisher } from './parts/mqtt-publisher.ts';
import { orSkip } from './parts/or-skip.ts';
import { cpuSecondsOf, needProc } from './parts/process-cpu.ts';
import { startTelegraf, TELEGRAF_FORMATS, TELEGRAF_VERSION, telegrafProgram } from './parts/telegraf.ts';

const VEHICLES = 5000;
/** Two rows of 18 signals are a batch of about 200 bytes. */
const ROWS = 2;
const AHEAD_MAX = 20_000;
/** Until V8 has optimised what is hot. */
const WARM_UP_MESSAGES = 60_000;
/** Where the peers get their messages: topics as long as ours. */
const peerPrefix = (i: number) => `cardan/t${i}/`;

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '200000' },
    rounds: { type: 'string', default: '3' },
    'cpu-prof': { type: 'string' },
  },
});
const [count, rounds] = [Number(values.messages), Number(values.rounds)];
const profile = values['cpu-prof'];

interface Round {
  perSecond: number;
  cpuUs: number;
}

/** Who carries messages into the log. */
interface Side {
  name: string;
  pid: number;
  flow: Flow;
  rounds: Round[];
}

await orSkip('the bridge', async () => {
  needProc();
  const closing: (() => unknown)[] = [];
  try {
    await measure((close) => closing.push(close));
  } finally {
    for (const close of closing.reverse()) await close();
  }
});

async function measure(atEnd: (close: () => unknown) => void): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-bench-'));
  atEnd(() => rmSync(dir, { recursive: true, force: true }));
  // As many on their way to a client as it asks for; Mosquitto's own bound for clients of MQTT 3.1.1 is 20.
  const mosquitto = await startMosquitto({ config: ['max_inflight_messages 1000'] });
  atEnd(() => mosquitto.stop());
  const kafka = await startKafka();
  atEnd(() => kafka.stop());
  const log = await openEventLog(`kafka:${kafka.brokers}`);
  atEnd(() => log.close());
  const guard = new ChildGuard();
  atEnd(() => guard.close());
  const publishers = [
    await MqttPublisher.connect(mosquitto.port, 'fleet-0'),
    await MqttPublisher.connect(mosquitto.port, 'fleet-1'),
  ];
  atEnd(() => publishers.forEach((publisher) => publisher.close()));
  const flow = (logTopic: string, topicOf: (vehicle: string) => string) =>
    new Flow({
      publishers,
      log,
      logTopic,
      messages: new FleetMessages({ vehicles: VEHICLES, rows: ROWS }),
      mqttTopic: topicOf,
      aheadMax: AHEAD_MAX,
    });

  const bridge = await startBridge(guard, {
    mqttUrl: mosquitto.url,
    brokers: kafka.brokers,
    output: join(dir, 'bridge.log'),
    nodeArgs: profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`],
  });
  const ours: Side = {
    name: 'ours',
    pid: bridge.pid,
    flow: flow('telemetry', (vehicle) => mqttTopic(vehicle, 'telemetry')),
    rounds: [],
  };
  await ours.flow.begin();

  const peers = await orSkip('Telegraf', async () => {
    const program = await telegrafProgram();
    const sides: Side[] = [];
    for (const [i, format] of TELEGRAF_FORMATS.entries()) {
      const logTopic = `telegraf-${format.name}`;
      await log.createTopic(logTopic, { partitions: LOG_TOPICS.telemetry.partitions });
      const { pid } = await startTelegraf(guard, program, {
        dir,
        format,
        mqttPort: mosquitto.port,
        mqttFilter: `${peerPrefix(i)}+/telemetry`,
        brokers: kafka.brokers,
        logTopic,
      });
      const theirs = flow(logTopic, (vehicle) => `${peerPrefix(i)}${vehicle}/telemetry`);
      sides.push({ name: format.name, pid, flow: theirs, rounds: [] });
      await theirs.begin();
    }
    return sides;
  });

  const sides = [ours, ...(peers ?? [])];
  for (const { flow } of sides) await flow.run(WARM_UP_MESSAGES);
  for (let round = 0; round < rounds; round++)
    for (const side of sides) side.rounds.push(await oneRound(side));
  const deadLetters = await bridge.counter('cardan_bridge_dead_letters_total');
  if (deadLetters > 0) throw new Error(`${deadLetters} messages are dead letters: the bench sends rubbish.`);
  await bridge.stop();
  print(ours, peers ?? []);
}

function print(ours: Side, peers: readonly Side[]): void {
  const bytes = new FleetMessages({ vehicles: VEHICLES, rows: ROWS }).payload(VEHICLES * 100).length;
  const common = { unit: 'messages/s', message_bytes: bytes, messages: count * rounds };
  const we = summary(ours);
  const theirs = peers.map((peer) => ({ name: peer.name, ...summary(peer) }));
  const [cheapest] = theirs.toSorted((a, b) => a.cpuUs - b.cpuUs);
  printFigure({
    bench: 'bridge_mqtt_to_kafka',
    value: we.perSecond,
    cpu_us_per_item: we.cpuUs,
    ...common,
    ...(cheapest === undefined
      ? {}
      : {
          peer: `Telegraf ${TELEGRAF_VERSION} ${cheapest.name}`,
          peer_value: cheapest.perSecond,
          peer_cpu_us_per_item: cheapest.cpuUs,
          cpu_ratio: we.cpuUs / cheapest.cpuUs,
        }),
  });
  for (const { name, perSecond, cpuUs } of theirs)
    printFigure({
      bench: `bridge_mqtt_to_kafka_telegraf_${name}`,
      value: perSecond,
      cpu_us_per_item: cpuUs,
      ...common,
    });
}

async function oneRound({ pid, flow }: Side): Promise<Round> {
  const cpu = cpuSecondsOf(pid);
  const seconds = await flow.run(count);
  return { perSecond: count / seconds, cpuUs: ((cpuSecondsOf(pid) - cpu) * 1e6) / count };
}

/** Medians. */
function summary({ rounds }: Side): Round {
  return {
    perSecond: median(rounds, ({ perSecond }) => perSecond).perSecond,
    cpuUs: median(rounds, ({ cpuUs }) => cpuUs).cpuUs,
  };
}
