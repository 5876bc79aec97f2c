import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MqttConnection } from '@cardan/shared';
import { freePorts } from '../../../ops/free-ports.ts';
import { startMosquitto, type Mosquitto } from '../../../ops/mosquitto/start-mosquitto.ts';
import { checkBroker } from '../../src/doctor/broker.ts';
import { checkCertificate } from '../../src/doctor/certificate.ts';
import type { Finding, Findings } from '../../src/doctor/finding.ts';
import { makeAuthority, makeCertificate, type KeyPair } from './certificates.ts';

/** The way to a Mosquitto with TLS, with certificates by openssl. */

const SERVER = 'subjectAltName=IP:127.0.0.1,DNS:localhost\n';
const CLIENT = 'extendedKeyUsage=clientAuth\n';
const DAY_MS = 86_400_000;

let dir: string;
let authority: KeyPair;
let stranger: KeyPair;
let car: KeyPair;
let broker: Mosquitto;
/** By what is wrong with it. */
const urls: Record<'good' | 'expired' | 'otherName', string> = { good: '', expired: '', otherName: '' };

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'doctor-real-'));
  authority = makeAuthority(dir, 'authority');
  stranger = makeAuthority(dir, 'stranger');
  car = makeCertificate(dir, authority, 'car', { cn: 'van-7', extensions: CLIENT });
  const ports = await freePorts(3);
  const listeners: [keyof typeof urls, KeyPair][] = [
    ['good', makeCertificate(dir, authority, 'good', { cn: 'localhost', extensions: SERVER })],
    ['expired', makeCertificate(dir, authority, 'old', { cn: 'localhost', days: -1, extensions: SERVER })],
    [
      'otherName',
      makeCertificate(dir, authority, 'other', {
        cn: 'other',
        extensions: 'subjectAltName=DNS:other.example\n',
      }),
    ],
  ];
  const config = listeners.flatMap(([name, { cert, key }], i) => {
    urls[name] = `mqtts://127.0.0.1:${ports[i]}`;
    return [
      `listener ${ports[i]} 127.0.0.1`,
      `cafile ${authority.cert}`,
      `certfile ${cert}`,
      `keyfile ${key}`,
      'require_certificate true',
      'use_identity_as_username true',
    ];
  });
  broker = await startMosquitto({ config });
});
afterAll(async () => {
  await broker.stop();
  rmSync(dir, { recursive: true });
});

function files(ca: KeyPair | undefined, client?: KeyPair): MqttConnection {
  return {
    ...(ca === undefined ? {} : { ca: readFileSync(ca.cert) }),
    ...(client === undefined ? {} : { cert: readFileSync(client.cert), key: readFileSync(client.key) }),
  };
}
function way(url: string, connection: MqttConnection): Promise<Findings> {
  return checkBroker({ url, connection, vehicle: 'van-7', now: Date.now });
}
function of(findings: Findings, what: string): Finding | undefined {
  return findings.list.find((finding) => finding.what === what);
}
function failures(findings: Findings): string[] {
  return findings.list
    .filter(({ status }) => status === 'fail')
    .map(({ what, finding }) => `${what}: ${finding}`);
}

describe('doctor: the way to a broker with TLS', () => {
  it('is ok with the right certificates', async () => {
    const findings = await way(urls.good, files(authority, car));
    expect(findings.list.map(({ status, what }) => [status, what])).toEqual([
      ['ok', 'broker'],
      ['ok', 'broker TLS'],
      ['ok', 'broker MQTT'],
      ['ok', 'broker topics'],
    ]);
    expect(of(findings, 'broker TLS')?.finding).toMatch(
      /^TLSv1.3, certificate of localhost until .*, (49|50) days$/,
    );
  });

  it('says in words what TLS refuses', async () => {
    expect(failures(await way(urls.good, files(stranger, car)))).toEqual([
      expect.stringMatching(
        /^broker TLS: the broker's certificate is signed by an authority that is not trusted here/,
      ),
    ]);
    expect(failures(await way(urls.expired, files(authority, car)))).toEqual([
      expect.stringMatching(/^broker TLS: the broker's certificate, or one above it, has expired/),
    ]);
    expect(failures(await way(urls.otherName, files(authority, car)))).toEqual([
      expect.stringMatching(/^broker TLS: the broker's certificate is for another name/),
    ]);
    expect(failures(await way(broker.url.replace('mqtt:', 'mqtts:'), files(authority)))).toEqual([
      expect.stringMatching(/^broker TLS: /),
    ]);
  });

  it('says when the broker refuses the certificate of the car', async () => {
    expect(failures(await way(urls.good, files(authority)))).toEqual([
      expect.stringMatching(/the broker wants a client certificate/),
    ]);
    const old = makeCertificate(dir, authority, 'car-old', { cn: 'van-7', days: -1, extensions: CLIENT });
    expect(failures(await way(urls.good, files(authority, old)))).toEqual([
      expect.stringMatching(/the broker says that the client certificate has expired/),
    ]);
    const foreign = makeCertificate(dir, stranger, 'car-foreign', { cn: 'van-7', extensions: CLIENT });
    expect(failures(await way(urls.good, files(authority, foreign)))).toEqual([
      expect.stringMatching(/does not trust the authority of the client certificate/),
    ]);
  });

  it('sees a port for TLS that is spoken to without', async () => {
    const findings = await way(urls.good.replace('mqtts:', 'mqtt:'), {});
    expect(of(findings, 'broker MQTT')).toMatchObject({ status: 'fail' });
    expect(of(findings, 'broker MQTT')?.advice).toContain('mqtts://');
  });

  it('tells a refused password', async () => {
    const passwords = join(dir, 'passwords');
    writeFileSync(passwords, '');
    // Who names a user needs its password, also where others need none.
    const strict = await startMosquitto({ config: [`password_file ${passwords}`] });
    try {
      const findings = await way(strict.url, {
        username: 'van-7',
        password: Buffer.from('x'),
      });
      expect(failures(findings)).toEqual([
        expect.stringMatching(/^broker MQTT: the broker does not let this client in/),
      ]);
    } finally {
      await strict.stop();
    }
  });
});

describe('doctor: the certificate of the car', () => {
  const check = (connection: MqttConnection, now = Date.now, vehicle = 'van-7') =>
    checkCertificate({ connection, vehicle, url: urls.good, now });

  it('is ok when all fits', () => {
    const findings = check(files(authority, car));
    expect(findings.list.map(({ status, what }) => [status, what])).toEqual([
      ['ok', 'authority'],
      ['ok', 'certificate'],
      ['ok', 'certificate name'],
      ['ok', 'certificate key'],
      ['ok', 'certificate chain'],
    ]);
  });

  it('warns a month before the end, fails behind it and before the beginning', () => {
    const at = (days: number) =>
      of(
        check(files(authority, car), () => Date.now() + days * DAY_MS),
        'certificate',
      );
    expect(at(30)).toMatchObject({
      status: 'warn',
      finding: expect.stringMatching(/(19|20) days left/) as string,
    });
    expect(at(51)).toMatchObject({
      status: 'fail',
      finding: expect.stringContaining('has expired') as string,
    });
    expect(at(-1)).toMatchObject({
      status: 'fail',
      finding: expect.stringContaining('is valid from') as string,
    });
  });

  it('names a certificate of another car, the key of another one, and one that is not for clients', () => {
    expect(of(check(files(authority, car), Date.now, 'van-8'), 'certificate name')).toMatchObject({
      status: 'warn',
      finding: 'it is made for van-7, but the vehicle is van-8',
    });
    expect(
      of(check({ ...files(authority, car), key: readFileSync(stranger.key) }), 'certificate key')?.status,
    ).toBe('fail');
    const server = makeCertificate(dir, authority, 'server-only', {
      cn: 'van-7',
      extensions: 'extendedKeyUsage=serverAuth\n',
    });
    expect(of(check(files(authority, server)), 'certificate use')?.status).toBe('fail');
  });

  it('follows the chain through the certificates in the file, and names who is missing', () => {
    expect(of(check(files(stranger, car)), 'certificate chain')).toMatchObject({
      status: 'warn',
      finding: 'it is signed by CN=authority, which is not in --mqtt-ca',
    });
    const middle = makeCertificate(dir, authority, 'middle', {
      cn: 'middle',
      extensions: 'basicConstraints=critical,CA:TRUE\n',
    });
    const below = makeCertificate(dir, middle, 'below', { cn: 'van-7', extensions: CLIENT });
    expect(of(check(files(authority, below)), 'certificate chain')?.status).toBe('warn');
    appendFileSync(below.cert, readFileSync(middle.cert));
    expect(of(check(files(authority, below)), 'certificate chain')?.status).toBe('ok');
  });

  it('fails for a file that is none, for one without its key, and for a broker certificate as the authority', () => {
    const garbage = Buffer.from('garbage');
    expect(of(check({ ...files(authority, car), cert: garbage }), 'certificate')?.status).toBe('fail');
    expect(of(check({ cert: readFileSync(car.cert) }), 'certificate')?.status).toBe('fail');
    expect(of(check({ ca: readFileSync(car.cert) }), 'authority')?.status).toBe('fail');
    expect(of(check({}), 'certificate')?.status).toBe('skipped');
  });
});
