import { Command, Option } from 'commander';
import {
  aborted,
  mqttConnection,
  mqttOptions,
  problemPrinter,
  runCommand,
  stopSignal,
  type MqttFiles,
} from '@cardan/shared';
import { openEventLog } from '@cardan/shared/event-log';
import { Bridge } from './bridge.ts';

const program = new Command('cardan-bridge').description(
  'Carries what vehicles send over MQTT into the log, and acknowledges what is there.',
);

mqttOptions(program)
  .addOption(
    new Option('--log <url>', 'the log: sqlite:FILE').env('CARDAN_LOG').default('sqlite:.cardan/log.db'),
  )
  .option('--client-id <id>', 'name at the broker; two bridges need two names')
  .action(run);

await runCommand(program, process.argv);

async function run(options: MqttFiles & { log: string; clientId?: string }): Promise<void> {
  const stop = stopSignal();
  const log = await openEventLog(options.log);
  try {
    const bridge = await Bridge.start({
      mqttUrl: options.mqtt,
      connection: mqttConnection(options),
      log,
      ...(options.clientId === undefined ? {} : { clientId: options.clientId }),
      onProblem: problemPrinter(),
    });
    process.stderr.write(`bridge: ${options.mqtt} → ${options.log}\n`);
    await aborted(stop);
    await bridge.close();
    const { messages, rows, deadLetters } = bridge.counts;
    process.stderr.write(
      `bridge: ${messages} messages, ${rows} rows in the log, ${deadLetters} dead letters\n`,
    );
  } finally {
    await log.close();
  }
}
