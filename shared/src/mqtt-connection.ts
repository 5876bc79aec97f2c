import { Option, type Command } from 'commander';
import { readGivenFile } from './read-file.ts';

/** How to get in at a broker, as options of a command line. Secrets come as files, never as arguments. */
export interface MqttFiles {
  mqtt: string;
  mqttUser?: string;
  mqttPasswordFile?: string;
  mqttCa?: string;
  mqttCert?: string;
  mqttKey?: string;
}

/** What the MQTT client is given beside the address. */
export interface MqttConnection {
  username?: string;
  password?: Buffer;
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
}

/**
 * Adds the options of `MqttFiles` to a command; each can also come from the environment. Without an address the
 * broker is looked for on this machine, or there is one of its own when `embedded`.
 */
export function mqttOptions(command: Command, { embedded = false } = {}): Command {
  const option = (flags: string, text: string, env: string) =>
    new Option(flags, text).env(env).helpGroup('MQTT:');
  const mqtt = option('--mqtt <url>', 'MQTT broker, mqtt:// or mqtts://', 'MQTT_URL');
  return command
    .addOption(embedded ? mqtt.default('', 'one of its own') : mqtt.default('mqtt://127.0.0.1:1883'))
    .addOption(option('--mqtt-user <name>', 'user at the broker', 'MQTT_USER'))
    .addOption(option('--mqtt-password-file <file>', 'file with the password', 'MQTT_PASSWORD_FILE'))
    .addOption(option('--mqtt-ca <file>', 'certificate authority of the broker (PEM)', 'MQTT_CA'))
    .addOption(option('--mqtt-cert <file>', 'client certificate (PEM)', 'MQTT_CERT'))
    .addOption(option('--mqtt-key <file>', 'key of the client certificate (PEM)', 'MQTT_KEY'));
}

/** Reads the files. Throws FILE_NOT_FOUND, naming the file. */
export function mqttConnection(files: MqttFiles): MqttConnection {
  const connection: MqttConnection = {};
  if (files.mqttUser !== undefined) connection.username = files.mqttUser;
  if (files.mqttPasswordFile !== undefined)
    connection.password = Buffer.from(readGivenFile(files.mqttPasswordFile).toString('utf8').trimEnd());
  if (files.mqttCa !== undefined) connection.ca = readGivenFile(files.mqttCa);
  if (files.mqttCert !== undefined) connection.cert = readGivenFile(files.mqttCert);
  if (files.mqttKey !== undefined) connection.key = readGivenFile(files.mqttKey);
  return connection;
}
