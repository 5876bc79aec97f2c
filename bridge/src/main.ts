import { Command, Option } from 'commander';
import {
  aborted,
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
import { openEventLog } from '@cardan/shared/event-log';
import { serveBridge } from './bridge-http.ts';
import { Bridge } from './bridge.ts';
import { BRIDGE_DEFAULTS } from './config.ts';

interface Options extends MqttFiles, LogFlags {
  clientId?: string;
  mqttVersion?: '4' | '5';
  share?: string;
  receiveMaximum: number;
  metricsPort?: number;
  host: string;
  drainSeconds: number;
}

const program = new Command('cardan-bridge').description(
  'Carries what vehicles send over MQTT into the log, and acknowledges what is there.',
);

logOptions(mqttOptions(program))
  .option('--client-id <id>', 'name at the broker; two bridges need two names (default: a random one)')
  .addOption(
    new Option('--mqtt-version <version>', '5, or 4 for MQTT 3.1.1 (default: what the broker speaks)')
      .choices(['4', '5'])
      .env('MQTT_VERSION'),
  )
  .addOption(
    new Option(
      '--share <group>',
      'bridges of one group and one log share the load; "none" for a single one (default: cardan-bridge, and the topic prefix)',
    ).env('CARDAN_SHARE'),
  )
  .option(
    '--receive-maximum <n>',
    'messages that an MQTT 5 broker may have sent before they are in the log',
    numberBetween(1, 65_535, { whole: true }),
    BRIDGE_DEFAULTS.receiveMaximum,
  )
  .addOption(
    new Option('--metrics-port <port>', 'serves /livez, /readyz and /metrics there; 0 takes a free port')
      .argParser(portNumber)
      .env('CARDAN_METRICS_PORT'),
  )
  .option('--host <address>', 'where they are served', '127.0.0.1')
  .option(
    '--drain-seconds <n>',
    'how long it may take at the end to put what it holds into the log',
    numberBetween(0, 3600),
    BRIDGE_DEFAULTS.drainMs / 1000,
  )
  .action(run);

await runCommand(program, process.argv);

async function run(options: Options): Promise<void> {
  const stop = stopSignal();
  const { url, kafka } = logConnection(program, options);
  const onProblem = problemPrinter();
  const say = (text: string) => process.stderr.write(`bridge: ${text}\n`);
  const connection = mqttConnection(options);
  const log = await openEventLog(url, { ...kafka, onProblem });
  try {
    const bridge = await Bridge.start({
      mqttUrl: options.mqtt,
      connection,
      log,
      ...(options.clientId === undefined ? {} : { clientId: options.clientId }),
      ...(options.mqttVersion === undefined ? {} : { mqttVersion: options.mqttVersion === '5' ? 5 : 4 }),
      shareGroup: groupOf(options),
      receiveMaximum: options.receiveMaximum,
      onProblem,
    });
    try {
      const http =
        options.metricsPort === undefined
          ? undefined
          : await serveBridge(bridge, options.host, options.metricsPort);
      if (http !== undefined) say(`health and metrics at ${http.url}`);
      if (bridge.shareGroup === null && options.share !== 'none')
        say('this broker does not share a subscription among bridges (MQTT 5): run only one for this log');
      say(
        `${options.mqtt} → ${url} (MQTT ${bridge.mqttVersion === 5 ? '5' : '3.1.1'}${bridge.shareGroup === null ? '' : `, group ${bridge.shareGroup}`})`,
      );
      await aborted(stop);
      const left = await bridge.close(options.drainSeconds * 1000);
      await http?.close();
      const { messages, rows, deadLetters } = bridge.counts;
      say(`${messages} messages, ${rows} rows in the log, ${deadLetters} dead letters`);
      if (left > 0) {
        say(`${left} messages are not in the log and not acknowledged; their vehicles send them again`);
        process.exitCode = 1;
      }
    } finally {
      await bridge.close(0);
    }
  } finally {
    await log.close();
  }
}

/** Bridges with another prefix write to another log, so they share nothing with us. */
function groupOf({ share, topicPrefix = '' }: Options): string | null {
  if (share === 'none') return null;
  return share ?? `${BRIDGE_DEFAULTS.shareGroup}${topicPrefix === '' ? '' : `-${topicPrefix}`}`;
}
