/**
 * Whether memory stays flat: ten million rows (50 in a message) go through a real `cardan-bridge` at a real Mosquitto
 * into a real Kafka, and are read back by a process that reads as a training does. One JSON line per figure: the
 * memory in RAM of that process (RSS) at 1, 5 and 10 million rows; all samples are in `samples_mb`.
 *
 *   node --import tsx bench/memory.ts [--million-rows N]
 *
 * Needs Linux, Java, Maven (first use) and Mosquitto, and 1.5 GB in the temporary folder. What is missing is said and
 * left out.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mqttTopic } from '@cardan/shared';
import { openEventLog } from '@cardan/shared/event-log';
import { ChildGuard } from '../ops/child-guard.ts';
import { startKafka } from '../ops/kafka/start-kafka.ts';
import { startMosquitto } from '../ops/mosquitto/start-mosquitto.ts';
import { startBridge } from './parts/bridge-process.ts';
import { printFigure } from './parts/figure.ts';
import { FleetMessages } from './parts/fleet-messages.ts';
import { Flow } from './parts/flow.ts';
import { MqttPublisher } from './parts/mqtt-publisher.ts';
import { orSkip } from './parts/or-skip.ts';
import { cpuSecondsOf, memoryOf, needProc } from './parts/process-cpu.ts';
import type { ReaderSample } from './parts/reader-process.ts';

const READER = fileURLToPath(new URL('parts/reader-process.ts', import.meta.url));
const MILLION = 1_000_000;
const ROWS_PER_MESSAGE = 50;
const VEHICLES = 5000;
/** 40 MB of messages on their way: the broker holds them, not the bridge. */
const AHEAD_MAX = 10_000;
/** Most rows of a training, as --max-rows; older ones give way. */
const ROWS_MAX = 100_000;
/** Millions of rows at which a figure is printed. */
const SHOWN = [1, 5, 10];

const { values } = parseArgs({ options: { 'million-rows': { type: 'string', default: '10' } } });
const millions = Number(values['million-rows']);

await orSkip('the memory of bridge and reader', async () => {
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
  const mosquitto = await startMosquitto();
  atEnd(() => mosquitto.stop());
  const kafka = await startKafka();
  atEnd(() => kafka.stop());
  const log = await openEventLog(`kafka:${kafka.brokers}`);
  atEnd(() => log.close());
  const guard = new ChildGuard();
  atEnd(() => guard.close());
  const publishers = [await MqttPublisher.connect(mosquitto.port, 'fleet')];
  atEnd(() => publishers.forEach((publisher) => publisher.close()));
  const bridge = await startBridge(guard, {
    mqttUrl: mosquitto.url,
    brokers: kafka.brokers,
    output: join(dir, 'bridge.log'),
  });

  const flow = new Flow({
    publishers,
    log,
    logTopic: 'telemetry',
    messages: new FleetMessages({ vehicles: VEHICLES, rows: ROWS_PER_MESSAGE }),
    mqttTopic: (vehicle) => mqttTopic(vehicle, 'telemetry'),
    aheadMax: AHEAD_MAX,
  });
  await flow.begin();
  const samples: number[] = [];
  const cpu = cpuSecondsOf(bridge.pid);
  const seconds = await flow.run((millions * MILLION) / ROWS_PER_MESSAGE, (arrived) => {
    while (arrived * ROWS_PER_MESSAGE >= (samples.length + 1) * MILLION)
      samples.push(memoryOf(bridge.pid).rss);
  });
  const rows = millions * MILLION;
  show('memory_bridge', samples, {
    peak_mb: memoryOf(bridge.pid).peak / 1e6,
    rows_per_second: rows / seconds,
    cpu_us_per_item: ((cpuSecondsOf(bridge.pid) - cpu) * 1e6) / rows,
  });
  const deadLetters = await bridge.counter('cardan_bridge_dead_letters_total');
  if (deadLetters > 0) throw new Error(`${deadLetters} messages are dead letters: the bench sends rubbish.`);
  await bridge.stop();

  const read = await readBack(kafka.brokers);
  // The messages that began the flow hold the first rows of one vehicle: copies, which the reader drops.
  if (read.rows !== rows) throw new Error(`The reader has read ${read.rows} of ${rows} rows.`);
  show('memory_training_reader', read.samples, { rows_max: ROWS_MAX });
}

/** Memory of the reading process after each million rows, and how many rows it has read in all. */
async function readBack(brokers: string): Promise<{ rows: number; samples: number[] }> {
  const child = spawn(process.execPath, ['--import', 'tsx', READER, brokers, String(ROWS_MAX)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit');
  const said: ReaderSample[] = [];
  for await (const line of createInterface({ input: child.stdout }))
    said.push(JSON.parse(line) as ReaderSample);
  const [status] = (await exit) as [number | null];
  if (status !== 0) throw new Error(`The reader ended with status ${String(status)}.`);
  const last = said.pop();
  return { rows: last?.rows ?? 0, samples: said.map(({ rss }) => rss) };
}

/** `samples`: bytes after each million rows. */
function show(bench: string, samples: readonly number[], further: Record<string, number>): void {
  const mb = samples.map((bytes) => Math.round(bytes / 1e6));
  for (const million of SHOWN) {
    const value = mb[million - 1];
    if (value === undefined) continue;
    const last = million === SHOWN.filter((one) => one <= mb.length).at(-1);
    printFigure({
      bench: `${bench}_at_${million}_million_rows`,
      value,
      unit: 'MB',
      ...(last ? { ...further, samples_mb: mb.join(' ') } : {}),
    });
  }
}
