import { join } from 'node:path';
import { Command, Option } from 'commander';
import {
  aborted,
  CardanError,
  checkVehicleId,
  mqttConnection,
  mqttOptions,
  numberBetween,
  portNumber,
  problemPrinter,
  readGivenFile,
  runCommand,
  stopSignal,
  type MqttFiles,
} from '@cardan/shared';
import { Agent } from './agent.ts';
import { agentMetrics, serveMetrics } from './agent-metrics.ts';
import { parseCampaign, type Campaign } from './campaign/index.ts';
import { busMetrics, busSummary } from './can/bus-figures.ts';
import { kernelFilters } from './can/kernel-filters.ts';
import { openSource } from './can/open-source.ts';
import { AGENT_DEFAULTS, AGENT_VERSION } from './config.ts';
import { parseDbc, type Dbc } from './dbc/index.ts';
import { dbcLintCommand } from './dbc-lint.ts';
import { decodeCommand } from './decode.ts';
import { Diagnostics } from './diagnostics/diagnostics.ts';
import { doctorCommand } from './doctor/doctor.ts';
import { encodeCommand } from './encode.ts';
import { SdNotify } from './sd-notify.ts';
import {
  storeAndForward,
  storeAndForwardOptions,
  type StoreAndForwardOptions,
} from './uplink/command-options.ts';
import { registryGet, registryOptions, type RegistryFiles } from './updater/registry-connection.ts';
import { tufCommand } from './updater/tuf-command.ts';
import { mapAllSignals, readVssMap } from './vss.ts';

const program = new Command('cardan-agent')
  .description('The in-car agent: reads CAN, scores on board, stores and forwards over MQTT.')
  .version(AGENT_VERSION);

interface RunOptions extends MqttFiles, StoreAndForwardOptions, RegistryFiles {
  campaign: string[];
  allFrames?: boolean;
  attribute: Record<string, string>;
  can: string[];
  dbc: string;
  vss?: string;
  vehicle: string;
  data: string;
  registry?: string;
  root?: string;
  period: number;
  speed: number;
  metricsPort?: number;
  obd?: string;
  j1939?: boolean;
}

/** The options of `run`. */
function runOptions(command: Command): Command {
  return mqttOptions(command)
    .requiredOption(
      '--can <source>',
      'where frames come from; several times for several buses: candump:FILE (- for standard input), ' +
        'socketcan:can0, slcan:/dev/ttyACM0[@BITRATE][,BAUD], udp:GROUP[%INTERFACE][:PORT]',
      (text: string, before: string[] = []) => [...before, text],
    )
    .requiredOption('--dbc <file>', 'DBC file that describes the frames')
    .option(
      '--vss <map>',
      'YAML map of DBC signals to VSS paths; without it every signal goes up under its DBC name',
    )
    .option('--obd <file>', 'YAML file: what is asked of the control units by OBD-II and UDS, and how often')
    .option(
      '--j1939',
      'frames with 29-bit ids are J1939: matched by parameter group, also when sent in parts',
    )
    .addOption(new Option('--vehicle <id>', 'id of this vehicle').env('CARDAN_VEHICLE').default('vehicle-1'))
    .addOption(
      new Option('--data <dir>', 'folder of outbox and models').env('CARDAN_DATA').default('.cardan/agent'),
    )
    .addOption(new Option('--registry <url>', 'where models come from; needs --root').env('CARDAN_REGISTRY'))
    .addOption(
      new Option('--root <file>', 'factory root of trust (root.json of the registry)').env('CARDAN_ROOT'),
    )
    .option(
      '--campaign <file>',
      'a campaign that runs without a cloud (JSON, see docs/campaigns.md); several times for several',
      (path: string, before: string[]) => [...before, path],
      [],
    )
    .option(
      '--all-frames',
      'take also frames that neither the DBC nor a --campaign names, for campaigns of the cloud that want them raw (SocketCAN)',
    )
    .option(
      '--attribute <name=value>',
      'what campaigns may choose this vehicle by, as engine=diesel; several times for several',
      readAttribute,
      {},
    )
    .option(
      '--period <ms>',
      'time between rows, in milliseconds',
      numberBetween(10, 3_600_000, { whole: true }),
      AGENT_DEFAULTS.rowPeriodMs,
    )
    .option(
      '--speed <factor>',
      'pace of a recording: 1 as recorded, 0 as fast as possible',
      numberBetween(0, 1_000_000),
      1,
    )
    .addOption(
      new Option('--metrics-port <port>', 'serve /metrics for Prometheus on 127.0.0.1')
        .env('CARDAN_METRICS_PORT')
        .argParser(portNumber),
    );
}

registryOptions(storeAndForwardOptions(runOptions(program.command('run'))))
  .description('Run the agent until its source ends or it is stopped.')
  .action(run);

runOptions(program.command('doctor'))
  .description(
    'Check what the agent needs: bus, DBC, clock, disk, broker, certificate; the exit status is 1 if it fails.',
  )
  .option('--seconds <n>', 'how long each bus is listened to', numberBetween(1, 3600), 5)
  .option('--json', 'one JSON object per check')
  .action(async (options: RunOptions & { seconds: number; json?: boolean }) => {
    if ((await doctorCommand({ ...options, out: process.stdout })) > 0) process.exitCode = 1;
  });

program
  .command('decode')
  .description('Print one JSON object per CAN frame of a recording.')
  .requiredOption('--dbc <file>', 'DBC file that describes the frames')
  .requiredOption('--in <file>', 'recording; - for standard input')
  .addOption(
    new Option('--format <format>', 'format of the recording')
      .choices(['candump', 'jsonl'])
      .default('candump'),
  )
  .action(async (options: { dbc: string; in: string; format: 'candump' | 'jsonl' }) => {
    await decodeCommand({
      dbcPath: options.dbc,
      inPath: options.in,
      format: options.format,
      out: process.stdout,
      err: process.stderr,
    });
  });

program
  .command('encode')
  .description(
    'Print CAN frames as JSON lines from values of their signals, as `decode --format jsonl` reads them.',
  )
  .requiredOption('--dbc <file>', 'DBC file that describes the frames')
  .requiredOption(
    '--in <file>',
    'one {"id":…,"is_extended":…,"is_fd":…,"values":{…}} a line; - for standard input',
  )
  .addOption(new Option('--format <format>', 'format of the input').choices(['jsonl']).default('jsonl'))
  .action(async (options: { dbc: string; in: string }) => {
    await encodeCommand({
      dbcPath: options.dbc,
      inPath: options.in,
      out: process.stdout,
      err: process.stderr,
    });
  });

program
  .command('dbc')
  .description('Tools for DBC files.')
  .command('lint')
  .description('List what looks wrong in DBC files; the exit status is 1 when there is something.')
  .argument('<files...>', 'DBC files')
  .option('--json', 'one JSON object per file')
  .action(async (paths: string[], { json = false }: { json?: boolean }) => {
    const findings = await dbcLintCommand({ paths, json, out: process.stdout, err: process.stderr });
    if (findings > 0) process.exitCode = 1;
  });

tufCommand(program);

await runCommand(program, process.argv);

async function run(options: RunOptions): Promise<void> {
  const vehicle = checkVehicleId(options.vehicle);
  if ((options.registry === undefined) !== (options.root === undefined))
    throw new CardanError(
      'USAGE',
      'Models are only taken with a root of trust: give both --registry and --root, or neither.',
    );
  const file = readDbc(options.dbc);
  const diagnostics = new Diagnostics({
    obd: options.obd,
    j1939: options.j1939 === true,
    can: options.can,
    dbc: file,
    map: options.vss === undefined ? mapAllSignals(file) : readVssMap(options.vss, file),
  });
  const { dbc, map, filters } = diagnostics;
  const campaigns = options.campaign.map(readCampaignFile);
  const raw = campaigns.flatMap(({ rawFrames }) => rawFrames?.ids ?? []);
  const source = openSource(options.can, {
    speed: options.speed,
    ...(options.allFrames === true ? {} : { filters: [...filters, ...kernelFilters({ messages: raw })] }),
    onMalformed: (path, line, message) => process.stderr.write(`${path}:${line}: ${message}\n`),
    onProblem: problemPrinter(),
  });
  const stop = stopSignal();
  const agent = await Agent.start({
    vehicle,
    dataDir: join(options.data, vehicle),
    dbc,
    map,
    mqttUrl: options.mqtt,
    connection: mqttConnection(options),
    rowPeriodMs: options.period,
    ...storeAndForward(options),
    campaigns,
    attributes: options.attribute,
    ...(options.registry === undefined || options.root === undefined
      ? {}
      : {
          updates: {
            registryUrl: options.registry,
            rootPath: options.root,
            get: registryGet(options.registry, options),
          },
        }),
    onProblem: problemPrinter(),
  });
  process.stderr.write(`${vehicle}: ${map.columns.length} signals (set ${map.set.id}) to ${options.mqtt}\n`);
  const metrics =
    options.metricsPort === undefined
      ? undefined
      : await serveMetrics(
          options.metricsPort,
          () => agentMetrics(agent, source.dropped) + busMetrics(source.counters),
        );
  const systemd = new SdNotify({
    environment: process.env,
    onProblem: (message) => process.stderr.write(`${message}\n`),
  });
  void systemd.ready(`${vehicle}: ${map.columns.length} signals to ${options.mqtt}`);
  try {
    const dataDir = join(options.data, vehicle);
    await agent.play(diagnostics.attach(source, agent, { dataDir, onProblem: problemPrinter() }), stop);
    agent.flush();
    if (agent.pendingRows > 0)
      process.stderr.write(`${vehicle}: the source has ended, ${agent.pendingRows} rows wait to be sent\n`);
    // What a stop or the end of a recording leaves is sent if the broker is there, and kept if not.
    const giveUp = AbortSignal.timeout(30_000);
    await Promise.race([
      agent.drain(),
      aborted(giveUp),
      ...(stop.aborted ? [aborted(AbortSignal.timeout(5_000))] : []),
    ]);
  } finally {
    const { received, unknown, malformed } = agent.frameCounts;
    const pending = agent.pendingRows;
    metrics?.close();
    await Promise.all([systemd.stopping(), agent.stop()]);
    process.stderr.write(
      `${vehicle}: ${received} frames (${unknown} with an id that the DBC does not have, ${malformed} malformed lines; ` +
        `${busSummary(source.counters)}); ` +
        `${pending === 0 ? 'all rows are in the log' : `${pending} rows wait in the outbox`}\n`,
    );
  }
}

/** One `name=value` more. Throws USAGE. */
function readAttribute(text: string, before: Record<string, string>): Record<string, string> {
  const [, name, value] = /^([A-Za-z0-9][A-Za-z0-9._-]{0,63})=([^\p{Cc}]{0,200})$/u.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new CardanError('USAGE', `--attribute ${text} is not of the form name=value.`);
  return { ...before, [name]: value };
}

function readCampaignFile(path: string): Campaign {
  const bytes = readGivenFile(path, `the campaign ${path}`);
  try {
    return parseCampaign(bytes);
  } catch (error) {
    if (!(error instanceof CardanError)) throw error;
    throw new CardanError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}

function readDbc(path: string): Dbc {
  const dbc = parseDbc(readGivenFile(path, `the DBC file ${path}`), path);
  for (const { line, message } of dbc.warnings.slice(0, 20))
    process.stderr.write(`${path}:${line}: ${message}\n`);
  if (dbc.warnings.length > 20)
    process.stderr.write(`${path}: and ${dbc.warnings.length - 20} more warnings\n`);
  return dbc;
}
