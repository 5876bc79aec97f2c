import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ChildGuard } from '../../ops/child-guard.ts';

const run = promisify(execFile);

export const TELEGRAF_VERSION = '1.37.3';
const MODULE = 'github.com/influxdata/telegraf';
/** Of Telegraf's custom builder: what is compiled in. Less makes the program smaller, not faster. */
const TAGS = ['custom', 'inputs.mqtt_consumer', 'outputs.kafka', 'parsers.value', 'serializers.influx'];

/**
 * The program Telegraf, built by Go from the module's source on the first use (a minute or two, 300 MB of modules),
 * and kept in ~/.cache/cardan/telegraf-VERSION-…. Throws, saying what to install, if Go is missing.
 */
export async function telegrafProgram(): Promise<string> {
  const hash = createHash('sha256').update(TAGS.join()).digest('hex').slice(0, 8);
  const program = join(homedir(), '.cache', 'cardan', `telegraf-${TELEGRAF_VERSION}-${hash}`, 'telegraf');
  if (existsSync(program)) return program;
  mkdirSync(dirname(dirname(program)), { recursive: true });
  const folder = mkdtempSync(join(dirname(dirname(program)), '.telegraf-'));
  try {
    const source = `${MODULE}@v${TELEGRAF_VERSION}`;
    const { Dir } = JSON.parse(await go(['mod', 'download', '-json', source], folder)) as { Dir: string };
    await go(
      ['build', '-trimpath', '-tags', TAGS.join(), '-o', join(folder, 'telegraf'), './cmd/telegraf'],
      Dir,
    );
    try {
      renameSync(folder, dirname(program));
    } catch (error) {
      if (!existsSync(program)) throw error;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return program;
}

async function go(args: string[], cwd: string): Promise<string> {
  try {
    return (await run('go', args, { cwd, maxBuffer: 1 << 26 })).stdout;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
      throw new Error(
        'There is no Go here (go), which builds Telegraf. Install it from https://go.dev/dl, 1.25 or newer.',
        { cause },
      );
    const said = (cause as { stderr?: string }).stderr?.trim().split('\n').slice(-5).join('\n') ?? '';
    throw new Error(`Go could not build Telegraf. It says:\n${said}`, { cause });
  }
}

/** How Telegraf takes a message as the value of a metric. */
export interface TelegrafFormat {
  name: string;
  dataType: 'base64' | 'string';
}

/**
 * A protobuf is binary: as base64 it arrives whole. As a string it does not (Telegraf cuts off what looks like white
 * space), but that is the least work that Telegraf can do with 200 bytes.
 */
export const TELEGRAF_FORMATS: readonly TelegrafFormat[] = [
  { name: 'base64', dataType: 'base64' },
  { name: 'string', dataType: 'string' },
];

/**
 * Starts Telegraf as a bridge that gives the same promise as ours: QoS 1, a message is acknowledged to the broker when
 * Kafka has it on all replicas, and its key is the MQTT topic. What it does not do is all the rest: no check of the
 * message, no headers, no acknowledgement to the vehicle. Everything else is its default, but for the flush interval
 * (10 s), which is for what is less than a batch.
 */
export async function startTelegraf(
  guard: ChildGuard,
  program: string,
  options: {
    dir: string;
    format: TelegrafFormat;
    mqttPort: number;
    mqttFilter: string;
    brokers: string;
    logTopic: string;
  },
): Promise<{ pid: number }> {
  const { dir, format, mqttPort, mqttFilter, brokers, logTopic } = options;
  const config = join(dir, `telegraf-${format.name}.toml`);
  const list = brokers.split(',').map((broker) => `"${broker}"`);
  writeFileSync(
    config,
    `[agent]
  flush_interval = "1s"
  omit_hostname = true

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:${mqttPort}"]
  topics = ["${mqttFilter}"]
  qos = 1
  persistent_session = true
  client_id = "telegraf-${format.name}"
  data_format = "value"
  data_type = "${format.dataType}"

[[outputs.kafka]]
  brokers = [${list.join()}]
  topic = "${logTopic}"
  routing_tag = "topic"
  required_acks = -1
`,
  );
  const output = join(dir, `telegraf-${format.name}.log`);
  const child = await guard.start(program, ['--config', config, '--quiet'], output);
  return { pid: child.process.pid! };
}
