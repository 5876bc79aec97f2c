import { randomBytes } from 'node:crypto';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import mqtt from 'mqtt';
import { mqttTopic, type MqttConnection } from '@cardan/shared';
import { dayText, daysUntil, Findings } from './finding.ts';
import { reasonOf } from './tls-words.ts';

/** Mobile networks take a second or two; who needs longer than this will not do. */
const CONNECT_MS = 8000;
const DAYS_WARN = 14;

export interface BrokerOptions {
  url: string;
  connection: MqttConnection;
  vehicle: string;
  now: () => number;
  connectMs?: number;
}

/**
 * The way to the broker, layer by layer: address, TLS, MQTT, access to the own topics. It has a client id of its own,
 * since a broker throws out the older one of two clients with one id, which would be the agent. Nothing is published.
 */
export async function checkBroker(options: BrokerOptions): Promise<Findings> {
  const findings = new Findings();
  let url: URL;
  try {
    url = new URL(options.url);
  } catch {
    findings.fail('broker', `"${options.url}" is no address`, 'Use mqtt://HOST:1883 or mqtts://HOST:8883.');
    return findings;
  }
  const secure = /^(mqtts|ssl|tls):$/.test(url.protocol);
  if (!secure && !/^(mqtt|tcp):$/.test(url.protocol)) {
    findings.fail('broker', `"${url.protocol}" is no way to a broker`, 'Use mqtt:// or mqtts://.');
    return findings;
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port === '' ? (secure ? 8883 : 1883) : Number(url.port);
  if (!(await reaches(findings, host, port, options))) return findings;
  if (secure && !(await handshake(findings, host, port, options))) return findings;
  if (!secure && !isLocal(host))
    findings.warn(
      'broker TLS',
      'none: everybody on the way can read, and write',
      'Use mqtts:// over public networks.',
    );
  await session(findings, options);
  return findings;
}

function isLocal(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

async function reaches(
  findings: Findings,
  host: string,
  port: number,
  { connectMs = CONNECT_MS }: BrokerOptions,
): Promise<boolean> {
  const begun = performance.now();
  const socket = connectTcp({ host, port });
  try {
    await opened(socket, 'connect', connectMs);
    findings.ok('broker', `${host}:${port} answers in ${Math.ceil(performance.now() - begun)} ms`);
    return true;
  } catch (error) {
    const { reason, advice } = reasonOf(error);
    findings.fail('broker', `${host}:${port}: ${reason}`, advice);
    return false;
  } finally {
    socket.destroy();
  }
}

async function handshake(
  findings: Findings,
  host: string,
  port: number,
  { connection, now, connectMs = CONNECT_MS }: BrokerOptions,
): Promise<boolean> {
  const what = 'broker TLS';
  let socket: TLSSocket | undefined;
  try {
    const { ca, cert, key } = connection;
    socket = connectTls({
      host,
      port,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    });
    await opened(socket, 'secureConnect', connectMs);
    const { subject, valid_to: until } = socket.getPeerCertificate();
    const end = Date.parse(until);
    const days = daysUntil(end, now());
    const text = `${socket.getProtocol()}, certificate of ${String(subject.CN)} until ${dayText(end)}, ${days} days`;
    if (days < DAYS_WARN) findings.warn(what, text, 'Renew the certificate of the broker.');
    else findings.ok(what, text);
    return true;
  } catch (error) {
    const { reason, advice } = reasonOf(error);
    findings.fail(what, reason, advice);
    return false;
  } finally {
    socket?.destroy();
  }
}

/** Resolves with the event, rejects with the socket's error, and when nothing comes. */
function opened(socket: Socket, event: 'connect' | 'secureConnect', ms: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })), ms);
    const settle = (error?: Error) => {
      clearTimeout(timer);
      if (error === undefined) resolve();
      else reject(error);
    };
    socket.once(event, () => settle());
    socket.on('error', settle);
    socket.once('close', () =>
      settle(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' })),
    );
  });
}

/** CONNACK of MQTT 3.1.1. */
const REFUSALS: ReadonlyMap<number, [reason: string, advice: string]> = new Map([
  [1, ['the broker does not speak MQTT 3.1.1', 'Allow protocol version 4 at the broker.']],
  [
    2,
    [
      'the broker refuses the client id of the doctor',
      'It may allow known ids only; the agent has another one.',
    ],
  ],
  [3, ['the broker says that it is not available', 'Try again; its log may say more.']],
  [
    4,
    ['user or password are wrong', 'Check --mqtt-user and --mqtt-password-file, or the user at the broker.'],
  ],
  [
    5,
    [
      'the broker does not let this client in',
      'Check --mqtt-user, --mqtt-password-file and --mqtt-cert, and what the broker allows.',
    ],
  ],
]);

async function session(findings: Findings, options: BrokerOptions): Promise<void> {
  const { url, connection, vehicle, connectMs = CONNECT_MS } = options;
  const client = mqtt.connect(url, {
    ...connection,
    clientId: `cardan-doctor-${vehicle}-${randomBytes(3).toString('hex')}`,
    protocolVersion: 4,
    clean: true,
    reconnectPeriod: 0,
    connectTimeout: connectMs,
  });
  try {
    const refused = await new Promise<Error | null>((resolve) => {
      const timer = setTimeout(() => resolve(Object.assign(new Error(), { code: 'ETIMEDOUT' })), connectMs);
      const settle = (error: Error | null) => {
        clearTimeout(timer);
        resolve(error);
      };
      client.once('connect', () => settle(null));
      client.on('error', settle);
      client.once('close', () =>
        settle(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' })),
      );
    });
    if (refused !== null) {
      const { code } = refused as { code?: unknown };
      const [reason, advice] = (typeof code === 'number' ? REFUSALS.get(code) : undefined) ?? [];
      const words = reasonOf(refused);
      findings.fail(
        'broker MQTT',
        reason ?? words.reason,
        advice ?? (code === 'ECONNRESET' ? `${words.advice} A port for TLS needs mqtts://.` : words.advice),
      );
      return;
    }
    const user = connection.username === undefined ? 'without a user' : `as ${connection.username}`;
    findings.ok('broker MQTT', `accepted ${user}, under a client id of the doctor's own`);
    await topics(findings, client, vehicle, connectMs);
  } finally {
    await client.endAsync(true);
  }
}

async function topics(
  findings: Findings,
  client: mqtt.MqttClient,
  vehicle: string,
  ms: number,
): Promise<void> {
  const what = 'broker topics';
  const own = [mqttTopic(vehicle, 'ack'), mqttTopic(vehicle, 'desired')];
  const refused: string[] = [];
  // One by one: for several, mqtt.js only says that there was one that was refused.
  for (const topic of own) if (!(await subscribes(client, topic, ms))) refused.push(topic);
  if (refused.length > 0)
    findings.fail(
      what,
      `the broker refuses ${refused.join(', ')}`,
      `Allow ${vehicle} to read and write cardan/v1/${vehicle}/# in the broker's access list.`,
    );
  else findings.ok(what, `may subscribe to ${own.join(', ')}; publishing is not tried`);
}

function subscribes(client: mqtt.MqttClient, topic: string, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    client.subscribe(topic, { qos: 1 }, (error) => {
      clearTimeout(timer);
      resolve(error === null);
    });
  });
}
