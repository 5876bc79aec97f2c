import { Option, type Command } from 'commander';
import { numberBetween } from './cli.ts';
import { CardanError } from './errors.ts';
import { readGivenFile } from './read-file.ts';
import type { Compression, KafkaSettings } from './event-log/kafka-settings.ts';

/** Which log, and how to get into it, as options of a command line. Secrets come as files, never as arguments. */
export interface LogFlags {
  log?: string;
  kafka?: string;
  topicPrefix?: string;
  kafkaTls?: boolean;
  kafkaCa?: string;
  kafkaCert?: string;
  kafkaKey?: string;
  kafkaSasl?: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  kafkaUser?: string;
  kafkaPasswordFile?: string;
  kafkaCompression?: Compression;
  kafkaPartitions?: number;
  kafkaReplication?: number;
  kafkaRetentionDays?: number;
}

/** What `openEventLog` takes. */
export interface LogConnection {
  url: string;
  kafka: KafkaSettings;
}

const DAY_MS = 24 * 3600 * 1000;
const SASL_MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'];

/** Adds the options of `LogFlags` to a command; each can also come from the environment. */
export function logOptions(command: Command): Command {
  return kafkaOptions(
    command.addOption(
      new Option('--log <url>', 'the log in one file, sqlite:FILE (default: sqlite:.cardan/log.db)').env(
        'CARDAN_LOG',
      ),
    ),
  );
}

/** Those of them that name a Kafka. */
export function kafkaOptions(command: Command): Command {
  const option = (flags: string, text: string, env: string) =>
    new Option(flags, text).env(env).helpGroup('Kafka:');
  const count = numberBetween(1, 10_000, { whole: true });
  return command
    .addOption(option('--kafka <brokers>', 'the log in Apache Kafka: HOST:PORT,HOST:PORT,…', 'KAFKA_BROKERS'))
    .addOption(option('--topic-prefix <text>', 'stands before all topics in Kafka', 'CARDAN_TOPIC_PREFIX'))
    .addOption(option('--kafka-tls', 'TLS to Kafka', 'KAFKA_TLS'))
    .addOption(option('--kafka-ca <file>', 'certificate authority of Kafka (PEM)', 'KAFKA_CA'))
    .addOption(option('--kafka-cert <file>', 'client certificate (PEM)', 'KAFKA_CERT'))
    .addOption(option('--kafka-key <file>', 'key of the client certificate (PEM)', 'KAFKA_KEY'))
    .addOption(option('--kafka-sasl <mechanism>', 'SASL', 'KAFKA_SASL').choices(SASL_MECHANISMS))
    .addOption(option('--kafka-user <name>', 'user at Kafka', 'KAFKA_USER'))
    .addOption(option('--kafka-password-file <file>', 'file with the password', 'KAFKA_PASSWORD_FILE'))
    .addOption(
      option('--kafka-compression <codec>', 'of new records', 'KAFKA_COMPRESSION').choices([
        'none',
        'gzip',
        'lz4',
      ]),
    )
    .addOption(
      option('--kafka-partitions <n>', 'of new topics of vehicles', 'KAFKA_PARTITIONS').argParser(count),
    )
    .addOption(option('--kafka-replication <n>', 'of new topics', 'KAFKA_REPLICATION').argParser(count))
    .addOption(
      option(
        '--kafka-retention-days <n>',
        'how long new topics keep records (default: for ever)',
        'KAFKA_RETENTION_DAYS',
      ).argParser(numberBetween(1 / 24, 36_500)),
    );
}

/**
 * The log that the options name: Kafka when its brokers are given, else the file. A flag beats the environment.
 * Throws USAGE when both are given as flags, or SASL without a user; FILE_NOT_FOUND, naming the file.
 */
export function logConnection(command: Command, flags: LogFlags): LogConnection {
  const given = (name: keyof LogFlags) => command.getOptionValueSource(name) === 'cli';
  if (given('log') && given('kafka'))
    throw new CardanError('USAGE', 'Give the log by --log or by --kafka, not both.');
  const kafka = given('log') ? undefined : flags.kafka;
  if (kafka === undefined || kafka.trim() === '')
    return {
      url: flags.log ?? 'sqlite:.cardan/log.db',
      kafka: flags.log?.startsWith('kafka:') ? kafkaSettings(flags) : {},
    };
  const brokers = kafka.split(',').map((broker) => broker.trim());
  const bad = brokers.find((broker) => !/^(\[[0-9A-Fa-f:.]+\]|[^\s:]+):\d{1,5}$/.test(broker));
  if (bad !== undefined)
    throw new CardanError('USAGE', `--kafka: "${bad}" is not HOST:PORT. Kafka's usual port is 9092.`);
  return { url: `kafka:${brokers.join(',')}`, kafka: kafkaSettings(flags) };
}

function kafkaSettings(flags: LogFlags): KafkaSettings {
  const settings: KafkaSettings = {};
  if (flags.topicPrefix !== undefined && flags.topicPrefix !== '') settings.topicPrefix = flags.topicPrefix;
  const { kafkaCa, kafkaCert, kafkaKey, kafkaSasl, kafkaUser, kafkaPasswordFile } = flags;
  if (kafkaCa !== undefined || kafkaCert !== undefined || kafkaKey !== undefined)
    settings.tls = {
      ...(kafkaCa === undefined ? {} : { ca: readGivenFile(kafkaCa) }),
      ...(kafkaCert === undefined ? {} : { cert: readGivenFile(kafkaCert) }),
      ...(kafkaKey === undefined ? {} : { key: readGivenFile(kafkaKey) }),
    };
  else if (flags.kafkaTls) settings.tls = true;
  if (kafkaSasl !== undefined) {
    if (kafkaUser === undefined || kafkaPasswordFile === undefined)
      throw new CardanError('USAGE', '--kafka-sasl needs --kafka-user and --kafka-password-file.');
    const password = readGivenFile(kafkaPasswordFile).toString('utf8').trimEnd();
    settings.sasl = { mechanism: kafkaSasl, username: kafkaUser, password };
  }
  if (flags.kafkaCompression !== undefined) settings.compression = flags.kafkaCompression;
  if (flags.kafkaPartitions !== undefined) settings.partitions = flags.kafkaPartitions;
  if (flags.kafkaReplication !== undefined) settings.replication = flags.kafkaReplication;
  if (flags.kafkaRetentionDays !== undefined)
    settings.retentionMs = Math.round(flags.kafkaRetentionDays * DAY_MS);
  return settings;
}
