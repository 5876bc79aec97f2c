import { join } from 'node:path';
import { Command, Option } from 'commander';
import {
  aborted,
  CardanError,
  ensureDataDir,
  logConnection,
  logOptions,
  mqttConnection,
  mqttOptions,
  numberBetween,
  portNumber,
  problemPrinter,
  runCommand,
  stopSignal,
  type LogFlags,
  type MqttFiles,
} from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { apiOptions, apiSettings, type ApiFlags } from './distribution/api-settings.ts';
import { campaignsCommand } from './campaigns-command.ts';
import { CLOUD_DEFAULTS, CLOUD_VERSION } from './config.ts';
import { printLag } from './lag.ts';
import { LOOP_MODES, LOOP_POLICY, type LoopMode } from './loop/decide.ts';
import { isLoopCommand, loopCommand } from './loop-command.ts';
import { modelsCommand } from './models-command.ts';
import { RegistryClient } from './registry-client.ts';
import { keepHeapSmall } from './small-heap.ts';
import { ROLLOUT_POLICIES, type RolloutPolicy } from './registry/registry.ts';
import { rolloutsCommand } from './rollouts-command.ts';
import { fitCommand } from './fit-command.ts';
import { keysCommand } from './keys-command.ts';
import { readToken } from './token-file.ts';
import { scoreCommand } from './score-command.ts';
import { tokensCommand } from './tokens-command.ts';
import { startServices, type ServiceName, type ServicesOptions } from './services.ts';
import { trendCommand } from './trend-command.ts';
import { trainCommand } from './train-command.ts';
import { vehiclesCommand } from './vehicles-command.ts';
import { logSpan, type LogSpan } from './trainer/log-span.ts';
import { spanOptions, type SpanOptions } from './trainer/span-options.ts';
import { trainOnce } from './trainer/train-once.ts';

const program = new Command('cardan-cloud')
  .description('Services around the log. Each can run alone, or several in one process.')
  .version(CLOUD_VERSION)
  .enablePositionalOptions()
  .addHelpText(
    'after',
    `
Examples:
  cardan-cloud all                      everything in one process
  cardan-cloud trainer predictor        training and prediction in one process …
  cardan-cloud trainer                  … or each in its own
  cardan-cloud registry --port 8090
  cardan-cloud trainer --from latest    learn from what comes from now on
  cardan-cloud trainer --from 2026-01-01T00:00Z --to 2026-02-01T00:00Z
                                        train once on a span of time, and end
  cardan-cloud lag                      how far the readers of the log are behind
  cardan-cloud campaigns publish FILE   have cars collect what the campaign says`,
  );

const SERVICES: Record<ServiceName, string> = {
  registry: 'stores, signs and serves models; tells vehicles what they should run',
  trainer: 'trains on what the log holds, and publishes to the registry',
  predictor: 'scores the telemetry in the log with the newest model',
  loop: 'sees drift, has models trained again, judges them and begins their rollouts',
  learner: 'learns row by row how the vehicles drive, and which drive alike',
  monitor: 'the live page',
};

interface Options extends MqttFiles, LogFlags, SpanOptions, ApiFlags {
  data: string;
  registry: string;
  tokenFile?: string;
  keysPassphraseFile?: string;
  host: string;
  registryPort: number;
  rollouts: RolloutPolicy;
  monitorPort: number;
  port?: number;
  loop: LoopMode;
  loopCoolDown: number;
  loopBudget: number;
  loopAfterDays: number;
  loopGrowth: number;
  retrain: boolean;
  seed: number;
  minRows: number;
  maxRows: number;
}

apiOptions(spanOptions(logOptions(mqttOptions(program))))
  .usage('<all | registry | trainer | predictor | learner | loop | monitor …> [options]')
  .argument('<services...>', 'which services this process runs')
  .addOption(
    new Option('--data <dir>', 'folder of keys and model files').env('CARDAN_DATA').default('.cardan/cloud'),
  )
  .addOption(
    new Option('--registry <url>', 'the registry, for services that run without it')
      .env('CARDAN_REGISTRY')
      .default(`http://127.0.0.1:${CLOUD_DEFAULTS.registryPort}`),
  )
  .addOption(
    new Option(
      '--token-file <file>',
      'file with a token for the registry: the registry takes it, and other services show it',
    ).env('CARDAN_TOKEN_FILE'),
  )
  .addOption(
    new Option('--keys-passphrase-file <file>', 'file with the passphrase of the registry’s own keys').env(
      'CARDAN_KEYS_PASSPHRASE_FILE',
    ),
  )
  .option('--host <address>', 'address to listen on', CLOUD_DEFAULTS.host)
  .option('--registry-port <port>', 'port of the registry', portNumber, CLOUD_DEFAULTS.registryPort)
  .addOption(
    new Option('--rollouts <policy>', 'how a new model gets to its vehicles (docs/rollouts.md)')
      .choices(ROLLOUT_POLICIES)
      .env('CARDAN_ROLLOUTS')
      .default('immediate'),
  )
  .option('--monitor-port <port>', 'port of the monitor', portNumber, CLOUD_DEFAULTS.monitorPort)
  .option('--port <port>', 'port of the one service that listens', portNumber)
  .addOption(
    new Option('--loop <mode>', 'what the closed loop may do by itself (docs/closed-loop.md)')
      .choices(LOOP_MODES)
      .env('CARDAN_LOOP')
      .default(LOOP_POLICY.mode),
  )
  .option(
    '--loop-cool-down <hours>',
    'between two retrainings of the loop',
    numberBetween(0, 8760),
    LOOP_POLICY.coolDownHours,
  )
  .option(
    '--loop-budget <n>',
    'most trainings of the loop in 24 hours',
    numberBetween(0, 1000, { whole: true }),
    LOOP_POLICY.perDay,
  )
  .option(
    '--loop-after-days <n>',
    'the loop retrains when the model is so old',
    numberBetween(0, 36_500),
    LOOP_POLICY.afterDays,
  )
  .option(
    '--loop-growth <n>',
    'or when so many times what it was trained on has come since',
    numberBetween(0.1, 1e6),
    LOOP_POLICY.growth,
  )
  .option('--no-retrain', 'after its first model the trainer trains on request only')
  .option(
    '--seed <n>',
    'seed of the trainer',
    numberBetween(0, 2 ** 31, { whole: true }),
    CLOUD_DEFAULTS.trainer.seed,
  )
  .option(
    '--min-rows <n>',
    'rows per vehicle that a first training takes',
    numberBetween(1, 1e9, { whole: true }),
    CLOUD_DEFAULTS.trainer.rowsPerVehicleMin,
  )
  .option(
    '--max-rows <n>',
    'most rows of one training',
    numberBetween(1, 1e9, { whole: true }),
    CLOUD_DEFAULTS.trainer.rowsMax,
  )
  .addHelpText(
    'after',
    `\nServices:\n${Object.entries(SERVICES)
      .map(([name, what]) => `  ${name.padEnd(10)} ${what}`)
      .join('\n')}`,
  )
  .action(run);

logOptions(program.command('lag').description('How far each group of readers is behind, per partition.'))
  .option('--group <name>', 'only this one; default all')
  .option('--json', 'one JSON line per partition')
  .action(lag);

campaignsCommand(program);
fitCommand(program);
keysCommand(program);
modelsCommand(program);
if (isLoopCommand(process.argv, ['all', ...Object.keys(SERVICES)])) loopCommand(program);
rolloutsCommand(program);
scoreCommand(program);
tokensCommand(program);
trainCommand(program);
trendCommand(program);
vehiclesCommand(program);

await runCommand(program, process.argv);

async function lag(options: LogFlags & { group?: string; json?: boolean }, command: Command): Promise<void> {
  const { url, kafka } = logConnection(command, options);
  const log = await openEventLog(url, { ...kafka, onProblem: problemPrinter() });
  try {
    await printLag(log, options.group, options.json ?? false);
  } finally {
    await log.close();
  }
}

async function run(names: string[], options: Options): Promise<void> {
  const services = parseServices(names);
  const listening = services.filter((name) => name === 'registry' || name === 'monitor');
  if (options.port !== undefined && listening.length !== 1)
    throw new CardanError(
      'USAGE',
      '--port is for one service that listens; use --registry-port and --monitor-port.',
    );
  const span = logSpan(options);
  const once = span.to !== undefined;
  if (once && (services.length !== 1 || services[0] !== 'trainer'))
    throw new CardanError(
      'USAGE',
      'A span with an end is trained on once, by the trainer alone: cardan-cloud trainer --from … --to …',
    );
  const stop = stopSignal();
  if (!once) ensureDataDir(options.data);
  const { url, kafka } = logConnection(program, options);
  const log = await openEventLog(url, { ...kafka, onProblem: problemPrinter() });
  try {
    if (once) {
      await trainSpan(log, span, options, stop);
      return;
    }
    const given: ServicesOptions = {
      log,
      dataDir: join(options.data, 'registry'),
      learnerFile: join(options.data, 'learner.db'),
      mqttUrl: options.mqtt,
      connection: mqttConnection(options),
      registryUrl: options.registry,
      ...(options.tokenFile === undefined ? {} : { token: readToken(options.tokenFile) }),
      api: apiSettings(options),
      rollouts: options.rollouts,
      ...(options.keysPassphraseFile === undefined
        ? {}
        : { keysPassphrase: readToken(options.keysPassphraseFile) }),
      host: options.host,
      registryPort:
        listening[0] === 'registry' ? (options.port ?? options.registryPort) : options.registryPort,
      monitorPort: listening[0] === 'monitor' ? (options.port ?? options.monitorPort) : options.monitorPort,
      loop: {
        dir: join(options.data, 'loop'),
        policy: {
          mode: options.loop,
          coolDownHours: options.loopCoolDown,
          perDay: options.loopBudget,
          afterDays: options.loopAfterDays,
          growth: options.loopGrowth,
        },
      },
      // Two that retrain by themselves would get in each other's way.
      retrain: options.retrain && options.loop === 'off',
      seed: options.seed,
      rowsPerVehicleMin: options.minRows,
      rowsMax: options.maxRows,
      span,
      rowsPerSecond: options.rowsPerSecond,
      group: options.group,
      repairs: options.repairs ?? false,
      onProblem: problemPrinter(),
    };
    if (services.includes('registry')) keepHeapSmall();
    const running = await startServices(services, given);
    for (const line of running.lines) process.stderr.write(`${line}\n`);
    // For a parent process that waits for the addresses.
    process.send?.({
      registryUrl: running.registryUrl,
      monitorUrl: running.monitorUrl,
      rootPath: running.rootPath,
    });
    await aborted(stop);
    await running.close();
  } finally {
    await log.close();
  }
}

/** Prints one JSON line per model. */
async function trainSpan(
  log: EventLog,
  span: LogSpan,
  { registry, tokenFile, seed, maxRows, rowsPerSecond, repairs = false }: Options,
  signal: AbortSignal,
): Promise<void> {
  const started = performance.now();
  const models = await trainOnce({
    log,
    registry: new RegistryClient(registry, tokenFile === undefined ? undefined : readToken(tokenFile)),
    span,
    seed,
    rowsMax: maxRows,
    repairs,
    ...(rowsPerSecond === undefined ? {} : { rowsPerSecond }),
    signal,
    onProblem: problemPrinter(),
  });
  const seconds = (performance.now() - started) / 1000;
  for (const { name, version, lineage, alarm, metrics } of models) {
    const { rows, vehicles, span, offsets } = lineage;
    process.stderr.write(
      `trainer: ${name} version ${version}, ${rows} rows of ${vehicles} vehicles from ${span.from} to ${span.to}\n`,
    );
    const { threshold } = alarm;
    process.stdout.write(
      `${JSON.stringify({ name, version, rows, vehicles, span, offsets, threshold, metrics, seconds: Number(seconds.toFixed(1)) })}\n`,
    );
  }
}

function parseServices(names: readonly string[]): ServiceName[] {
  if (names.includes('all')) return Object.keys(SERVICES) as ServiceName[];
  for (const name of names)
    if (!(name in SERVICES))
      throw new CardanError(
        'USAGE',
        `There is no service and no command "${name}". Services are: all, ${Object.keys(SERVICES).join(', ')}; cardan-cloud --help lists the commands.`,
      );
  return [...new Set(names)] as ServiceName[];
}
