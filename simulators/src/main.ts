import { Command, InvalidArgumentError, Option } from 'commander';
import mqtt from 'mqtt';
import {
  aborted,
  CardanError,
  kafkaOptions,
  logConnection,
  messageOf,
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
import { startBroker } from './broker.ts';
import { onceSecondsMax, onceSpeedup, SIM_DEFAULTS } from './config.ts';
import { DemoTerminal } from './demo-terminal.ts';
import type { DemoOptions } from './demo-options.ts';
import { faultKinds, runDemo } from './demo.ts';
import { FAULT_KINDS, type FaultKind } from './faults.ts';
import { Fleet } from './fleet.ts';
import { SIM_TOPICS, type InjectRequest } from './sim-topics.ts';

const program = new Command('cardan-sim').description(
  'A simulated fleet, and the demo that starts the whole loop.',
);

const vehiclesOption = () =>
  new Option('--vehicles <n>', 'number of cars')
    .argParser(numberBetween(1, 10_000, { whole: true }))
    .default(SIM_DEFAULTS.vehicles);
const seedOption = () =>
  new Option('--seed <n>', 'the same seed gives the same cars')
    .argParser(numberBetween(0, 2 ** 31, { whole: true }))
    .default(SIM_DEFAULTS.seed);
const speedupOption = () =>
  new Option('--speedup <factor>', 'simulated seconds per second').argParser(numberBetween(0.1, 1000));
const faultKind = (text: string): FaultKind => {
  if (!(FAULT_KINDS as readonly string[]).includes(text))
    throw new InvalidArgumentError(`Choose one of: ${FAULT_KINDS.join(', ')}.`);
  return text as FaultKind;
};

interface ReplayOptions {
  replay?: string;
  dbc?: string;
  vss?: string;
}

function replayOptions(command: Command): Command {
  return command
    .option('--replay <file>', 'recording of a real car (candump -L) that drives along; needs --dbc')
    .option('--dbc <file>', 'DBC file of the recording')
    .option('--vss <map>', 'VSS map of the recording');
}

const demoCommand = replayOptions(
  program.command('demo', { isDefault: true }).description('Start the whole loop on this machine.'),
)
  .addOption(vehiclesOption())
  .addOption(seedOption())
  .addOption(speedupOption())
  .option('--port <port>', 'port of the page', portNumber, 8080)
  .option('--data <dir>', 'keep the data there, and go on with it; default is a temporary folder')
  .option('--faults <which>', 'how many cars get a fault, or which kinds, separated by commas, or none')
  .option('--once', 'stop when the loop has closed twice, and print a summary as JSON')
  .option(
    '--timeout <s>',
    'with --once: seconds that it may take; default 85, more with over 20 cars',
    numberBetween(10, 86_400),
  )
  .action(demo);
kafkaOptions(mqttOptions(demoCommand, { embedded: true }));

replayOptions(mqttOptions(program.command('fleet').description('Simulated cars, each with a real agent.')))
  .addOption(vehiclesOption())
  .addOption(seedOption())
  .addOption(speedupOption().default(1))
  .option('--data <dir>', 'folder of outboxes, models and the state of the cars', '.cardan/fleet')
  .addOption(new Option('--registry <url>', 'where models come from; needs --root').env('CARDAN_REGISTRY'))
  .addOption(new Option('--root <file>', 'factory root of trust').env('CARDAN_ROOT'))
  .action(fleet);

mqttOptions(program.command('inject').description('Give a car of a running fleet a fault.'))
  .option('--vehicle <id>', 'which car; default a healthy one')
  .option('--kind <kind>', `one of ${FAULT_KINDS.join(', ')}; default any`, faultKind)
  .option('--severity <0..1>', 'how bad', numberBetween(0, 1))
  .option('--growth <s>', 'simulated seconds until it is that bad', numberBetween(0, 1e7))
  .action(inject);

program
  .command('broker')
  .description('The embedded MQTT broker, on loopback only.')
  .option('--port <port>', 'port', portNumber, 1883)
  .action(async ({ port }: { port: number }) => {
    const stop = stopSignal();
    const broker = await startBroker(port);
    process.stderr.write(`broker: ${broker.url}\n`);
    await aborted(stop);
    await broker.close();
  });

await runCommand(program, process.argv);

async function demo(
  given: MqttFiles &
    LogFlags &
    ReplayOptions & {
      vehicles: number;
      seed: number;
      speedup?: number;
      port: number;
      data?: string;
      faults?: string;
      once?: true;
      timeout?: number;
    },
): Promise<void> {
  const once = given.once === true;
  const replay = parseReplay(given);
  const log = logConnection(demoCommand, given);
  const options: DemoOptions = {
    vehicles: given.vehicles,
    seed: given.seed,
    speedup: given.speedup ?? (once ? onceSpeedup(given.vehicles) : SIM_DEFAULTS.speedup),
    port: given.port,
    ...(given.data === undefined ? {} : { dataDir: given.data }),
    faults: parseFaults(given.faults, given.vehicles),
    ...(replay === undefined ? {} : { replay }),
    ...(given.mqtt === ''
      ? {}
      : { mqtt: { url: given.mqtt, connection: mqttConnection(given), flags: flagsFor('mqtt') } }),
    ...(log.url.startsWith('kafka:')
      ? { kafka: { ...log, flags: [...flagsFor('kafka'), ...flagsFor('topic')] } }
      : {}),
    once,
    secondsMax: given.timeout ?? onceSecondsMax(given.vehicles),
  };
  const stop = stopSignal();
  const terminal = new DemoTerminal(process.stderr);
  terminal.title(options);
  const summary = await runDemo(options, stop, terminal);
  terminal.summary(summary, once);
  if (!once) return;
  process.stdout.write(`${JSON.stringify(summary)}\n`);
  if (summary.loop === 'open') process.exitCode = 1;
}

/** The demo's own flags of a kind, to be given to its child processes; the environment reaches them by itself. */
function flagsFor(kind: 'mqtt' | 'kafka' | 'topic'): string[] {
  return demoCommand.options.flatMap((option) => {
    const name = option.attributeName();
    if (!name.startsWith(kind) || demoCommand.getOptionValueSource(name) !== 'cli') return [];
    const value: unknown = demoCommand.getOptionValue(name);
    return value === true ? [option.long!] : [option.long!, String(value)];
  });
}

async function fleet(
  given: MqttFiles &
    ReplayOptions & {
      vehicles: number;
      seed: number;
      speedup: number;
      data: string;
      registry?: string;
      root?: string;
    },
): Promise<void> {
  if ((given.registry === undefined) !== (given.root === undefined))
    throw new CardanError(
      'USAGE',
      'Models are only taken with a root of trust: give both --registry and --root, or neither.',
    );
  const replay = parseReplay(given);
  const stop = stopSignal();
  const running = await Fleet.start({
    vehicles: given.vehicles,
    seed: given.seed,
    speedup: given.speedup,
    dataDir: given.data,
    mqttUrl: given.mqtt,
    connection: mqttConnection(given),
    ...(given.registry === undefined || given.root === undefined
      ? {}
      : { updates: { registryUrl: given.registry, rootPath: given.root } }),
    ...(replay === undefined ? {} : { replay }),
    onProblem: problemPrinter(),
  });
  process.stderr.write(`fleet: ${given.vehicles} cars at ${given.speedup}× real time to ${given.mqtt}\n`);
  await aborted(stop);
  await running.close();
}

async function inject(
  given: MqttFiles & { vehicle?: string; kind?: FaultKind; severity?: number; growth?: number },
): Promise<void> {
  const client = await mqtt
    .connectAsync(given.mqtt, { ...mqttConnection(given), protocolVersion: 4, reconnectPeriod: 0 })
    .catch((cause: unknown) => {
      throw new CardanError(
        'MQTT_UNREACHABLE',
        `No MQTT broker answers at ${given.mqtt} (${messageOf(cause)}). The demo prints its address when it starts.`,
        { cause },
      );
    });
  try {
    await client.subscribeAsync(SIM_TOPICS.truth, { qos: 1 });
    const answer = new Promise<string>((resolve) => {
      client.once('message', (_topic, payload) => resolve(payload.toString('utf8')));
    });
    const request: InjectRequest = {
      ...(given.vehicle === undefined ? {} : { vehicle: given.vehicle }),
      ...(given.kind === undefined ? {} : { kind: given.kind }),
      ...(given.severity === undefined ? {} : { severity: given.severity }),
      ...(given.growth === undefined ? {} : { growthS: given.growth }),
    };
    await client.publishAsync(SIM_TOPICS.inject, JSON.stringify(request), { qos: 1 });
    const truth = await Promise.race([answer, aborted(AbortSignal.timeout(5000)).then(() => undefined)]);
    if (truth === undefined)
      throw new CardanError(
        'USAGE',
        `No fleet at ${given.mqtt} took the fault within 5 s. Is one running there, and has it the car ${given.vehicle ?? '(any)'}?`,
      );
    process.stdout.write(`${truth}\n`);
  } finally {
    await client.endAsync();
  }
}

function parseReplay({ replay, dbc, vss }: ReplayOptions): DemoOptions['replay'] {
  if (replay === undefined && dbc === undefined && vss === undefined) return undefined;
  if (replay === undefined || dbc === undefined)
    throw new CardanError(
      'USAGE',
      'A replay needs both the recording and its DBC file: --replay FILE --dbc FILE.',
    );
  return { path: replay, dbcPath: dbc, ...(vss === undefined ? {} : { vssPath: vss }) };
}

/** `7`, `none`, or `bearing-wear,slow-puncture`; by default every kind once, in at most a third of the cars. */
function parseFaults(text: string | undefined, vehicles: number): FaultKind[] {
  if (text === undefined) return faultKinds(Math.min(FAULT_KINDS.length, Math.ceil(vehicles / 3)));
  if (text === 'none') return [];
  const count = Number(text);
  const kinds =
    Number.isInteger(count) && text.trim() !== '' ? faultKinds(count) : text.split(',').map(kindOf);
  if (count < 0 || kinds.length > vehicles)
    throw new CardanError(
      'USAGE',
      `--faults asks for ${kinds.length || text} faults; with ${vehicles} cars it can be 0 to ${vehicles}, one a car.`,
    );
  return kinds;
}

function kindOf(text: string): FaultKind {
  try {
    return faultKind(text.trim());
  } catch {
    throw new CardanError(
      'USAGE',
      `--faults: there is no fault "${text}". Give a number, none, or kinds out of: ${FAULT_KINDS.join(', ')}.`,
    );
  }
}
