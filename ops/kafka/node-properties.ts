import type { Certificates } from './certificates.ts';

/** The ports of one node on 127.0.0.1. */
export interface NodePorts {
  /** The listener for clients, with the security that is asked for. */
  client: number;
  /** The listener of the brokers among themselves, without security. */
  internal: number;
  controller: number;
}

/** How clients get in. */
export interface KafkaSecurity {
  /** TLS, with a certificate for 127.0.0.1 and localhost from an authority made for this cluster. */
  tls?: boolean;
  /** With `tls`: clients must show a certificate of that authority. */
  clientCertificates?: boolean;
  /** SASL: passwords by user name, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. Letters, digits and `-` only. */
  users?: Record<string, string>;
}

/** The settings of node `id` (from 1) of a cluster with these ports: https://kafka.apache.org/documentation/#configuration */
export function nodeProperties(
  id: number,
  dataDir: string,
  ports: NodePorts[],
  security: KafkaSecurity,
  certificates: Certificates | undefined,
): Record<string, string> {
  const own = ports[id - 1]!;
  const copies = String(ports.length);
  const inSync = ports.length === 1 ? '1' : '2';
  const protocol = security.users
    ? certificates
      ? 'SASL_SSL'
      : 'SASL_PLAINTEXT'
    : certificates
      ? 'SSL'
      : 'PLAINTEXT';
  const listeners = `CLIENT://127.0.0.1:${own.client},INTERNAL://127.0.0.1:${own.internal}`;
  return {
    'process.roles': 'broker,controller',
    'node.id': String(id),
    'controller.quorum.voters': ports.map((of, i) => `${i + 1}@127.0.0.1:${of.controller}`).join(','),
    listeners: `${listeners},CONTROLLER://127.0.0.1:${own.controller}`,
    'advertised.listeners': listeners,
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'INTERNAL',
    'listener.security.protocol.map': `CLIENT:${protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT`,
    'log.dirs': dataDir,
    'auto.create.topics.enable': 'false',
    'default.replication.factor': copies,
    'min.insync.replicas': inSync,
    'offsets.topic.replication.factor': copies,
    'transaction.state.log.replication.factor': copies,
    'transaction.state.log.min.isr': inSync,
    'share.coordinator.state.topic.replication.factor': copies,
    'share.coordinator.state.topic.min.isr': inSync,
    // A few instead of 50: they are there sooner.
    'offsets.topic.num.partitions': String(OFFSETS_PARTITIONS),
    'transaction.state.log.num.partitions': '3',
    'share.coordinator.state.topic.num.partitions': '3',
    // The first member of a group need not wait 3 s for others.
    'group.initial.rebalance.delay.ms': '0',
    // Instead of 9 s: a killed broker is given up, and may come back, that much sooner.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    // Instead of 128 MB.
    'log.cleaner.dedupe.buffer.size': String(16 << 20),
    ...(security.users ? sasl(security.users) : {}),
    ...(certificates ? tls(certificates, security.clientCertificates ?? false) : {}),
  };
}

/** Partitions of `__consumer_offsets`. */
export const OFFSETS_PARTITIONS = 3;

function sasl(users: Record<string, string>): Record<string, string> {
  const plain = Object.entries(users).map(([name, password]) => ` user_${name}="${password}"`);
  const login = (module: string) => `org.apache.kafka.common.security.${module} required`;
  return {
    'listener.name.client.sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    'listener.name.client.plain.sasl.jaas.config': `${login('plain.PlainLoginModule')}${plain.join('')};`,
    'listener.name.client.scram-sha-256.sasl.jaas.config': `${login('scram.ScramLoginModule')};`,
    'listener.name.client.scram-sha-512.sasl.jaas.config': `${login('scram.ScramLoginModule')};`,
  };
}

function tls(certificates: Certificates, clientCertificates: boolean): Record<string, string> {
  return {
    'listener.name.client.ssl.keystore.type': 'PEM',
    'listener.name.client.ssl.keystore.location': certificates.server,
    'listener.name.client.ssl.truststore.type': 'PEM',
    'listener.name.client.ssl.truststore.location': certificates.ca,
    'listener.name.client.ssl.client.auth': clientCertificates ? 'required' : 'none',
  };
}
