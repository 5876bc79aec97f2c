import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import mqtt from 'mqtt';
import { startAedes } from '../../../bridge/test/aedes-broker.ts';
import { testRegistry } from '../../../cloud/test/registry/registry-fixture.ts';
import { freePorts } from '../../../ops/free-ports.ts';
import { UdpMulticastSource } from '../../src/can/udp-multicast.ts';
import { parseDbc } from '../../src/dbc/index.ts';
import { checkBroker } from '../../src/doctor/broker.ts';
import { checkBus } from '../../src/doctor/bus.ts';
import { checkClock } from '../../src/doctor/clock.ts';
import { checkCoverage, checkDbc } from '../../src/doctor/coverage.ts';
import { checkDisk } from '../../src/doctor/disk.ts';
import { Findings, type Finding } from '../../src/doctor/finding.ts';
import { checkInterface } from '../../src/doctor/interface.ts';
import { checkOutbox } from '../../src/doctor/outbox.ts';
import { checkObd } from '../../src/doctor/obd.ts';
import type { Ran } from '../../src/doctor/program.ts';
import { checkRegistry } from '../../src/doctor/registry.ts';
import { checkRuntime } from '../../src/doctor/runtime.ts';
import { Traffic } from '../../src/doctor/traffic.ts';
import { addRows, openOutbox } from '../outbox/fixture.ts';

const AGENT = fileURLToPath(new URL('../../bin/cardan-agent.js', import.meta.url));
const DBC = `VERSION ""
BU_: A
BO_ 256 Motion: 2 A
 SG_ Speed : 0|16@1+ (0.01,0) [0|300] "km/h" A
BO_ 512 Engine: 8 A
 SG_ EngineSpeed : 0|16@1+ (0.25,0) [0|8000] "rpm" A
BO_ 768 Doors: 1 A
 SG_ Door : 0|1@1+ (1,0) [0|1] "" A
BA_DEF_ BO_ "GenMsgCycleTime" INT 0 10000;
BA_DEF_DEF_ "GenMsgCycleTime" 0;
BA_ "GenMsgCycleTime" BO_ 512 100;
`;

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'doctor-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}
/** Ten seconds of a bus, ten frames of each id a second. */
function recording(...frames: string[]): string {
  const lines: string[] = [];
  for (let i = 0; i <= 100; i++)
    for (const frame of frames) lines.push(`(${(1767600000 + i / 10).toFixed(6)}) can0 ${frame}`);
  return file('trip.log', lines.join('\n') + '\n');
}
function status(findings: Findings, what: string): Finding | undefined {
  return findings.list.find((finding) => finding.what === what);
}
async function listen(can: string, seconds = 5) {
  const traffic = new Traffic();
  return { findings: await checkBus({ can, seconds, traffic }), traffic };
}

describe('cardan-agent doctor', () => {
  async function doctor(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const child = spawn(process.execPath, [AGENT, 'doctor', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const text = { out: '', err: '' };
    child.stdout.on('data', (data: Buffer) => (text.out += data.toString('utf8')));
    child.stderr.on('data', (data: Buffer) => (text.err += data.toString('utf8')));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, ...text };
  }

  it('ends with 0 when nothing failed, and with 1 when something did; goes on after a failure', async () => {
    const broker = await startAedes();
    onTestFinished(() => broker.close());
    const data = join(dir, 'data');
    const usual = ['--dbc', file('a.dbc', DBC), '--data', data, '--vehicle', 'van-7'];
    const good = await doctor(
      '--can',
      `candump:${recording('100#6400', '200#0102030405060708')}`,
      ...usual,
      '--mqtt',
      broker.url,
    );
    expect(good.err).toBe('');
    expect(good.out).toMatch(/^ok {7}coverage +2 of 2 ids seen are in the DBC, with 100.0 % of 202 frames$/m);
    expect(good.out).toMatch(/^ok {7}broker topics +may subscribe to cardan\/v1\/van-7\/ack/m);
    expect(good.out).toMatch(/^skipped {2}outbox .*\n {9}→ /m);
    expect(good.out).not.toMatch(/^fail/m);
    expect(good.code).toBe(0);
    expect(existsSync(data)).toBe(false); // it has made nothing

    const [port] = await freePorts(1);
    const bad = await doctor(
      '--can',
      'candump:/not/there',
      ...usual,
      '--mqtt',
      `mqtt://127.0.0.1:${port}`,
      '--json',
    );
    const findings = bad.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Finding);
    expect(findings.filter(({ status }) => status === 'fail').map(({ what }) => what)).toEqual([
      'bus candump:/not/there',
      'broker',
    ]);
    for (const { status, advice } of findings) expect(advice === undefined).toBe(status === 'ok');
    expect(findings.map(({ what }) => what)).toContain('disk write');
    expect(bad.code).toBe(1);
  });
});

describe('bus and DBC coverage', () => {
  const dbc = parseDbc(DBC);

  it('names unknown ids with their rates, frames that are short, and messages that should have come', async () => {
    const { findings, traffic } = await listen(
      `candump:${recording('100#64', '7FF#00', '18FEF100#0011', '18FEF100#0012')}`,
    );
    expect(findings.list).toEqual([
      {
        status: 'ok',
        what: expect.any(String) as string,
        finding: '404 frames of a recording, 40 frames/s by its own times',
      },
    ]);
    const coverage = checkCoverage(dbc, traffic);
    expect(status(coverage, 'coverage')).toMatchObject({
      status: 'ok',
      finding: '1 of 3 ids seen are in the DBC, with 25.0 % of 404 frames',
    });
    expect(status(coverage, 'unknown ids')).toMatchObject({
      status: 'warn',
      finding: '2: 0x18FEF100 20/s, 0x7FF 10/s',
    });
    expect(status(coverage, 'short frames')).toMatchObject({
      status: 'warn',
      finding: 'Motion 1 of 2 bytes',
    });
    // Engine says every 100 ms; Doors says nothing.
    expect(status(coverage, 'known ids')).toMatchObject({
      status: 'warn',
      finding: '1 should have come by their period and did not: Engine 0x200',
    });
  });

  it('fails when no id is known, and says skipped when nothing was heard', async () => {
    const { traffic } = await listen(`candump:${recording('7FF#00')}`);
    expect(status(checkCoverage(dbc, traffic), 'coverage')?.status).toBe('fail');
    expect(checkCoverage(dbc, new Traffic()).list).toMatchObject([{ status: 'skipped', what: 'coverage' }]);
  });

  it('matches ids of trucks by their parameter group when told so', async () => {
    const truck = parseDbc('BU_: A\nBO_ 2566844672 CCVS: 8 A\n SG_ S : 8|16@1+ (1,0) [0|0] "" A\n');
    const { traffic } = await listen(`candump:${recording('18FEF121#0011223344556677')}`);
    expect(status(checkCoverage(truck, traffic), 'coverage')?.status).toBe('fail');
    expect(status(checkCoverage(truck, traffic, { j1939: true }), 'coverage')?.status).toBe('ok');
  });

  it('counts the frames of a live bus, and warns of a silent one', async () => {
    const [port] = await freePorts(1);
    const can = `udp:239.74.163.21%lo:${port}`;
    const silent = await listen(can, 1);
    expect(silent.findings.list).toMatchObject([{ status: 'warn', finding: 'silent for 1 s' }]);
    expect(silent.findings.list[0]?.advice).toContain('termination');

    const car = new UdpMulticastSource({ group: '239.74.163.21', port: port!, interface: 'lo' });
    const stop = new AbortController();
    void car.frames(stop.signal).next();
    onTestFinished(() => stop.abort());
    const sending = setInterval(
      () => void car.send({ time: 0, id: 256, extended: false, fd: false, data: Uint8Array.of(1, 2) }),
      10,
    );
    onTestFinished(() => clearInterval(sending));
    const busy = await listen(can, 1);
    expect(busy.findings.list).toMatchObject([{ status: 'ok' }]);
    expect([...busy.traffic.ids.keys()]).toEqual([256]);
  });

  it('counts what is no frame, and names the first', async () => {
    const { findings } = await listen(`candump:${file('x.log', '(1.0) can0 100#00\nrubbish\n')}`);
    expect(findings.list[1]).toMatchObject({
      status: 'warn',
      finding: expect.stringMatching(/^1 .* line 2: /) as string,
    });
  });

  it('warns of what looks wrong in a DBC, and fails for a VSS map with an unknown signal', () => {
    const broken = file('b.dbc', `${DBC}BO_ 9 Wrong\n`);
    expect(status(checkDbc(broken, undefined).findings, 'dbc')).toMatchObject({ status: 'warn' });
    const map = file('map.yaml', 'NoSuchSignal: Vehicle.Speed\n');
    expect(status(checkDbc(file('a.dbc', DBC), map).findings, 'signals')).toMatchObject({ status: 'fail' });
    expect(checkDbc(join(dir, 'none.dbc'), undefined).findings.list).toMatchObject([{ status: 'fail' }]);
  });

  // The keys and states are those of iproute2 (ip/iplink_can.c); there is no CAN hardware here.
  const link = (flags: string[], data: object, kind = 'can') =>
    JSON.stringify([{ ifname: 'can0', flags, linkinfo: { info_kind: kind, info_data: data } }]);
  const bitrate = { bittiming: { bitrate: 500000, sample_point: '0.875' } };
  it.each([
    [
      'up',
      link(['NOARP', 'UP'], { state: 'ERROR-ACTIVE', ...bitrate }),
      'ok',
      'up, 500 kbit/s, ERROR-ACTIVE',
    ],
    ['down', link(['NOARP'], { state: 'STOPPED' }), 'fail', 'it is down'],
    [
      'alone',
      link(['UP'], { state: 'ERROR-PASSIVE', berr_counter: { tx: 128, rx: 0 }, ...bitrate }),
      'warn',
      'up, 500 kbit/s, ERROR-PASSIVE, error counters 128 sent, 0 received',
    ],
    ['off', link(['UP'], { state: 'BUS-OFF', ...bitrate }), 'fail', 'up, 500 kbit/s, BUS-OFF'],
    ['virtual', link(['UP'], {}, 'vcan'), 'ok', 'up, virtual'],
    ['no CAN', link(['UP'], {}, 'bridge'), 'fail', 'it is no CAN interface (bridge)'],
    ['an old ip', 'can0: <NOARP,UP>', 'skipped', 'this "ip" is too old to tell'],
  ])('reads the state of an interface: %s', async (_, out, expected, finding) => {
    const findings = new Findings();
    await checkInterface(findings, 'can0', () => Promise.resolve({ status: 0, out, err: '' }));
    expect(status(findings, 'interface can0')).toMatchObject({ status: expected, finding });
  });
});

describe('broker', () => {
  const check = (url: string, connection = {}) =>
    checkBroker({ url, connection, vehicle: 'van-7', now: Date.now, connectMs: 3000 });

  it('leaves a running agent connected', async () => {
    const broker = await startAedes();
    const agent = await mqtt.connectAsync(broker.url, { clientId: 'cardan-agent-van-7', reconnectPeriod: 0 });
    onTestFinished(async () => {
      await agent.endAsync(true);
      await broker.close();
    });
    let closed = 0;
    agent.on('close', () => closed++);
    expect((await check(broker.url)).list.map(({ status: s, what }) => [s, what])).toEqual([
      ['ok', 'broker'],
      ['ok', 'broker MQTT'],
      ['ok', 'broker topics'],
    ]);
    await agent.publishAsync('x', 'y', { qos: 1 });
    expect(closed).toBe(0);
  });

  it('tells a refused user from a refused topic', async () => {
    const broker = await startAedes();
    onTestFinished(() => broker.close());
    broker.aedes.authorizeSubscribe = (_client, subscription, done) =>
      done(null, subscription.topic.endsWith('/desired') ? null : subscription);
    const topics = await check(broker.url);
    expect(status(topics, 'broker topics')).toMatchObject({
      status: 'fail',
      finding: 'the broker refuses cardan/v1/van-7/desired',
    });
    broker.aedes.authenticate = (_client, _user, _password, done) =>
      done(Object.assign(new Error('no'), { returnCode: 4 }), null);
    const user = await check(broker.url, { username: 'van-7', password: Buffer.from('wrong') });
    expect(status(user, 'broker MQTT')).toMatchObject({
      status: 'fail',
      finding: 'user or password are wrong',
    });
  });

  it.each([
    ['mqtt://no-such-host.invalid', 'broker', /name is not known/],
    ['http://127.0.0.1', 'broker', /no way to a broker/],
    ['rubbish', 'broker', /no address/],
  ])('says in words why %s cannot be reached', async (url, what, words) => {
    expect(status(await check(url), what)).toMatchObject({
      status: 'fail',
      finding: expect.stringMatching(words) as string,
    });
  });

  it('sees that a port speaks no TLS', async () => {
    const broker = await startAedes();
    onTestFinished(() => broker.close());
    const findings = await check(broker.url.replace('mqtt:', 'mqtts:'));
    expect(status(findings, 'broker TLS')).toMatchObject({
      status: 'fail',
      finding: expect.stringMatching(/does not speak TLS|closed the connection/) as string,
    });
  });
});

describe('clock', () => {
  /** Two of the lines of `chronyc tracking`, by its manual. */
  const chrony = (leap: string) => `Reference ID    : C0248F82 (192.36.143.130)\nLeap status     : ${leap}\n`;
  const run =
    (programs: Record<string, string>) =>
    (program: string): Promise<Ran> =>
      Promise.resolve(program in programs ? { status: 0, out: programs[program]!, err: '' } : 'missing');
  const base = { now: Date.now, timesyncFile: '/not/there' };

  it('fails when the year is before this version', async () => {
    const findings = await checkClock({ ...base, now: () => 86_400_000, run: run({}) });
    expect(status(findings, 'clock')).toMatchObject({
      status: 'fail',
      finding: expect.stringContaining('1970-01-02') as string,
    });
  });

  it.each([
    [{}, 'skipped'],
    [{ chronyc: chrony('Normal') }, 'ok'],
    [{ chronyc: chrony('Not synchronised') }, 'warn'],
    [{ timedatectl: 'yes\n' }, 'ok'],
    [{ timedatectl: 'no\n' }, 'warn'],
  ])('asks who sets it: %j', async (programs, expected) => {
    const findings = await checkClock({ ...base, run: run(programs) });
    expect(status(findings, 'clock sync')?.status).toBe(expected);
  });

  it.each([
    [0, 'ok', 'the same second as the registry'],
    [60, 'warn', '60 s behind the registry'],
    [-3600, 'fail', '3600 s ahead of the registry'],
  ])('compares with the Date of the registry: %i s', async (seconds, expected, words) => {
    const now = Date.UTC(2026, 5, 1);
    const server = createHttp((_, response) =>
      response.writeHead(404, { date: new Date(now + 1000 * seconds).toUTCString() }).end(),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    // The header has whole seconds, so half a second stands for the truth behind it.
    const findings = await checkClock({ ...base, now: () => now + 500, registry, run: run({}) });
    expect(status(findings, 'clock offset')).toMatchObject({
      status: expected,
      finding: expect.stringContaining(words) as string,
    });
  });
});

describe('disk and outbox', () => {
  it('writes, reads back, and leaves nothing; says when it cannot', () => {
    expect(status(checkDisk({ dataDir: dir }), 'disk write')?.status).toBe('ok');
    expect(readdirSync(dir)).toEqual([]);
    expect(status(checkDisk({ dataDir: '/proc/self' }), 'disk write')?.status).toBe('fail');
  });

  it.each([
    ['0x01 0x03\n', '0x01\n', 'ok', 'mmcblk0 has used up to 30 % of its life'],
    ['0x0a 0x02\n', '0x01\n', 'warn', 'mmcblk0 has used up to 100 % of its life'],
    ['0x0b 0x02\n', '0x03\n', 'fail', 'mmcblk0 is beyond its life'],
  ])('reads what eMMC says of its wear: %j', (life, preEol, expected, finding) => {
    const device = join(dir, 'mmcblk0', 'device');
    mkdirSync(device, { recursive: true });
    writeFileSync(join(device, 'life_time'), life);
    writeFileSync(join(device, 'pre_eol_info'), preEol);
    mkdirSync(join(dir, 'mmcblk0p1'));
    expect(status(checkDisk({ dataDir: dir, blockDir: dir }), 'flash wear')).toMatchObject({
      status: expected,
      finding,
    });
  });

  it('reads the outbox while an agent writes it, and changes nothing', () => {
    const outbox = openOutbox(dir);
    onTestFinished(() => outbox.close());
    addRows(outbox, 0, 25);
    expect(status(checkOutbox(dir), 'outbox')).toMatchObject({
      status: 'ok',
      finding: expect.stringMatching(/^25 rows and 0 events wait/) as string,
    });
    addRows(outbox, 25, 50);
    expect(outbox.pendingRows).toBe(50);
    expect(checkOutbox(dir).list).toMatchObject([
      { finding: expect.stringMatching(/^50 rows/) as string },
      { status: 'ok', what: 'losses' },
    ]);
  });

  it('tells losses, damage, and another program’s file', () => {
    const outbox = openOutbox(dir, { rowsMax: 10 });
    addRows(outbox, 0, 25);
    outbox.close();
    expect(status(checkOutbox(dir), 'losses')).toMatchObject({
      status: 'warn',
      finding: expect.stringMatching(/^15 rows and 0 events were dropped/) as string,
    });
    writeFileSync(join(dir, 'outbox.db.corrupt-2026-01-01T00-00-00.000Z'), '');
    expect(status(checkOutbox(dir), 'damaged outbox')).toMatchObject({ status: 'warn' });
    writeFileSync(join(dir, 'outbox.db'), 'no database, but long enough for a header of SQLite'.repeat(50));
    rmSync(join(dir, 'outbox.db-wal'), { force: true });
    expect(checkOutbox(dir).list).toMatchObject([{ status: 'fail', what: 'outbox' }]);
  });
});

describe('registry', () => {
  it('verifies what it serves as the agent does, and tells a foreign root', async () => {
    const registry = await testRegistry({ dir: join(dir, 'a') });
    onTestFinished(() => registry.close());
    const other = await testRegistry({ dir: join(dir, 'b') });
    onTestFinished(() => other.close());
    const check = (root: string, now = Date.now) =>
      checkRegistry({ registry: registry.url, root, dataDir: dir, now });
    const good = await check(registry.rootPath);
    expect(good.list.map(({ status: s, what }) => [s, what])).toEqual([
      ['ok', 'root of trust'],
      ['ok', 'registry'],
      ['ok', 'root expiry'],
    ]);
    expect(status(await check(other.rootPath), 'registry')).toMatchObject({
      status: 'fail',
      finding: expect.stringMatching(/^TUF_SIGNATURE/) as string,
    });
    expect(status(await check(registry.rootPath, () => Date.UTC(2060, 0)), 'registry')).toMatchObject({
      status: 'fail',
      finding: expect.stringMatching(/^TUF_EXPIRED/) as string,
    });
    expect(status(await check(file('root.json', '{}')), 'root of trust')?.status).toBe('fail');
  });

  it('says when nobody answers, when one option is missing, and that none is given', async () => {
    const [port] = await freePorts(1);
    const root = file('root.json', '{}');
    const usual = { dataDir: dir, now: Date.now };
    expect(
      status(await checkRegistry({ registry: `http://127.0.0.1:${port}`, root, ...usual }), 'registry')
        ?.status,
    ).toBe('fail');
    expect(status(await checkRegistry({ root, ...usual }), 'registry')?.status).toBe('fail');
    expect((await checkRegistry(usual)).list).toMatchObject([{ status: 'skipped', what: 'registry' }]);
  });
});

describe('--obd', () => {
  it('reads the file, and sees that a recording cannot be asked', () => {
    const path = file('obd.yaml', 'pids: {0x0C: 1}\ntrouble_codes_minutes: 10\n');
    expect(checkObd(path, ['socketcan:can0']).list).toEqual([
      { status: 'ok', what: 'obd', finding: '1 PID, trouble codes, on socketcan:can0; nothing is asked now' },
    ]);
    expect(checkObd(path, ['candump:trip.log']).list).toMatchObject([{ status: 'fail' }]);
    expect(checkObd(join(dir, 'none.yaml'), ['socketcan:can0']).list).toMatchObject([{ status: 'fail' }]);
  });
});

describe('runtime', () => {
  it('tells an old Node.js and too little memory', () => {
    const findings = checkRuntime({ nodeVersion: 'v18.20.4', memoryAvailable: () => 50e6 });
    expect(findings.list).toMatchObject([
      { status: 'fail', what: 'node' },
      { status: 'warn', what: 'memory', finding: 'only 50 MB available' },
      { status: 'ok', what: 'native module' },
    ]);
  });
});
