import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { messageOf, type MqttConnection } from '@cardan/shared';
import { counted, dayText, daysUntil, Findings } from './finding.ts';

const DAYS_WARN = 30;
/** Extended key usage "TLS client" of RFC 5280. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
/** An authority file of a whole system has about 150. */
const CERTIFICATES_MAX = 1000;

export interface CertificateOptions {
  connection: MqttConnection;
  vehicle: string;
  url: string;
  now: () => number;
}

/** The car's own certificate, and the authority that it trusts. Nothing is asked over the network. */
export function checkCertificate(options: CertificateOptions): Findings {
  const findings = new Findings();
  const { ca, cert, key } = options.connection;
  const authorities = ca === undefined ? [] : authority(findings, ca, options.now());
  const what = 'certificate';
  if (cert === undefined && key === undefined) {
    findings.skip(
      what,
      'no client certificate is given',
      'Nothing, if the broker knows the car by a password; else give --mqtt-cert and --mqtt-key.',
    );
    return findings;
  }
  if (cert === undefined || key === undefined) {
    findings.fail(
      what,
      `--mqtt-${cert === undefined ? 'key' : 'cert'} is given, but not the other one`,
      'Give both --mqtt-cert and --mqtt-key.',
    );
    return findings;
  }
  if (!/^(mqtts|ssl|tls):/.test(options.url))
    findings.warn(what, 'given, but --mqtt has no TLS, so it is not used', 'Use mqtts://.');
  const chain = parse(findings, what, cert, '--mqtt-cert');
  const leaf = chain?.[0];
  if (chain === undefined || leaf === undefined) return findings;
  validity(findings, what, leaf, options.now());
  name(findings, leaf, options.vehicle);
  matches(findings, leaf, key);
  if (leaf.keyUsage !== undefined && !leaf.keyUsage.includes(CLIENT_AUTH))
    findings.fail(
      'certificate use',
      'it is not made for TLS clients',
      'Make one with extendedKeyUsage=clientAuth.',
    );
  signedBy(findings, chain, authorities);
  return findings;
}

function parse(findings: Findings, what: string, pem: Buffer, option: string): X509Certificate[] | undefined {
  try {
    const blocks = pem.toString('latin1').match(PEM) ?? [];
    if (blocks.length === 0) throw new Error('there is no "BEGIN CERTIFICATE" in it');
    return blocks.slice(0, CERTIFICATES_MAX).map((block) => new X509Certificate(block));
  } catch (error) {
    findings.fail(
      what,
      `${option} cannot be read: ${messageOf(error)}`,
      `Give a file in PEM format with ${option}.`,
    );
    return undefined;
  }
}

function authority(findings: Findings, ca: Buffer, now: number): X509Certificate[] {
  const what = 'authority';
  const list = parse(findings, what, ca, '--mqtt-ca');
  if (list === undefined) return [];
  const usable = list.filter((one) => one.ca && Date.parse(one.validTo) > now);
  if (usable.length === 0) {
    const [first] = list;
    if (first?.ca === true) validity(findings, what, first, now);
    else
      findings.fail(
        what,
        'the certificate in --mqtt-ca is no authority',
        'Give the certificate that signed the broker, not the one of the broker.',
      );
    return list;
  }
  if (usable.length === 1) validity(findings, what, usable[0]!, now);
  else findings.ok(what, `${counted(usable.length, 'authority').replace(/ys$/, 'ies')} that are valid now`);
  return list;
}

function validity(findings: Findings, what: string, certificate: X509Certificate, now: number): void {
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  const days = daysUntil(to, now);
  const who = commonName(certificate) ?? one(certificate.subject);
  if (now < from)
    findings.fail(what, `${who} is valid from ${dayText(from)} on only`, 'Check the clock here.');
  else if (now >= to)
    findings.fail(what, `${who} has expired on ${dayText(to)}`, 'Make a new one; check the clock here, too.');
  else if (days < DAYS_WARN)
    findings.warn(
      what,
      `${who} until ${dayText(to)}, ${counted(days, 'day')} left`,
      'Renew it before the car cannot connect any more.',
    );
  else findings.ok(what, `${who} until ${dayText(to)}, ${days} days left`);
}

function name(findings: Findings, leaf: X509Certificate, vehicle: string): void {
  const what = 'certificate name';
  const names = [
    commonName(leaf),
    ...(leaf.subjectAltName ?? '').split(/,\s*/).map((entry) => entry.replace(/^[^:]+:/, '')),
  ].filter((entry): entry is string => entry !== undefined && entry !== '');
  if (names.includes(vehicle)) findings.ok(what, `it is made for ${vehicle}`);
  else
    findings.warn(
      what,
      `it is made for ${names.join(', ') || one(leaf.subject)}, but the vehicle is ${vehicle}`,
      'A broker that goes by the name in the certificate will not let it use its topics. Give the right --vehicle or certificate.',
    );
}

function matches(findings: Findings, leaf: X509Certificate, pem: Buffer): void {
  const what = 'certificate key';
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (error) {
    const encrypted = pem.includes('ENCRYPTED');
    findings.fail(
      what,
      encrypted ? '--mqtt-key has a passphrase' : `--mqtt-key cannot be read: ${messageOf(error)}`,
      encrypted ? 'Nobody is there to type it: openssl pkey -in KEY -out NEW.' : 'Give a key in PEM format.',
    );
    return;
  }
  if (leaf.checkPrivateKey(key)) findings.ok(what, 'it belongs to the certificate');
  else
    findings.fail(
      what,
      'the key does not belong to the certificate',
      'Give the right pair with --mqtt-cert and --mqtt-key.',
    );
}

/** From the car's certificate up, through those that are in its file, to one of the authorities. */
function signedBy(findings: Findings, chain: X509Certificate[], authorities: X509Certificate[]): void {
  const what = 'certificate chain';
  if (authorities.length === 0)
    return findings.skip(
      what,
      'without --mqtt-ca there is nothing to hold it against',
      'The line "broker MQTT" tells whether the broker takes it.',
    );
  const signs = (issuer: X509Certificate, certificate: X509Certificate) =>
    certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  let at = chain[0]!;
  // Each step takes one of the file, so there is an end.
  for (const rest = chain.slice(1); ;) {
    const top = authorities.find((issuer) => signs(issuer, at));
    if (top !== undefined)
      return findings.ok(what, `signed by ${commonName(top) ?? one(top.subject)} in --mqtt-ca`);
    const next = rest.findIndex((issuer) => signs(issuer, at));
    if (next < 0) break;
    at = rest.splice(next, 1)[0]!;
  }
  findings.warn(
    what,
    `it is signed by ${one(at.issuer)}, which is not in --mqtt-ca`,
    'Right if the broker trusts another authority for cars than the one that signed itself; else it is the wrong certificate.',
  );
}

function commonName(certificate: X509Certificate): string | undefined {
  return /^CN=(.*)$/m.exec(certificate.subject)?.[1];
}

/** A distinguished name in one line. */
function one(text: string): string {
  return text.split('\n').join(', ');
}
