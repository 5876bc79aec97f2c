import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { decodeTelemetry, mqttTopic } from '@cardan/shared';
import { packageAgent } from '../package-agent/build.ts';

/** The tarball as a car gets it: unpacked in a folder with no node_modules above. */
const DBC = `VERSION ""
BU_: ECU
BO_ 256 Motor: 8 ECU
 SG_ Speed : 0|16@1+ (0.1,0) [0|0] "rpm" ECU
`;
const RECORDING = [0, 1, 2, 3, 4]
  .map((second) => `(${1_700_000_000 + second}.000000) can0 100#${'0A00000000000000'}\n`)
  .join('');

let dir: string;
let folder: string;
let bin: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-package-test-'));
  const tarball = await packageAgent({ out: dir, arch: process.arch as 'x64' | 'arm64' });
  execFileSync('tar', ['-xzf', tarball, '-C', dir]);
  folder = join(
    dir,
    readdirSync(dir).find((name) => !name.endsWith('.gz'))!,
  );
  bin = join(folder, 'bin/cardan-agent');
  writeFileSync(join(dir, 'car.dbc'), DBC);
  writeFileSync(join(dir, 'trip.log'), RECORDING);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const agent = (...args: string[]) => execFileSync(bin, args, { encoding: 'utf8', cwd: dir });

describe('the tarball of the agent', () => {
  it('is for this machine, and has licences, a unit, settings and what a CAN hat needs', () => {
    expect(folder).toMatch(/cardan-agent-\d+\.\d+\.\d+-(x64|arm64)$/);
    for (const file of [
      'lib/better_sqlite3.node',
      'agent.env',
      'systemd/cardan-agent.service',
      'network/80-can0.network',
      'network/80-can0.link',
      'network/80-can.rules',
      'network/80-cardan-can.conf',
      'install.sh',
      'uninstall.sh',
      'README.md',
      'LICENSE',
    ])
      expect(statSync(join(folder, file)).size, file).toBeGreaterThan(0);
    const licences = readFileSync(join(folder, 'THIRD-PARTY-LICENSES'), 'utf8');
    for (const name of ['mqtt', 'better-sqlite3', 'commander']) expect(licences).toContain(`== ${name} `);
  });

  it('says its version and decodes a recording', () => {
    expect(agent('--version').trim()).toMatch(/^\d+\.\d+\.\d+$/);
    const lines = agent('decode', '--dbc', 'car.dbc', '--in', 'trip.log').trimEnd().split('\n');
    expect(lines).toHaveLength(5);
    expect(JSON.parse(lines[0]!)).toMatchObject({ message: 'Motor', signals: { Speed: 1 } });
  });

  it('runs against a broker until the log has its rows', async () => {
    const vehicle = `package-${process.pid}`;
    const cloud = await mqtt.connectAsync(inject('mosquittoUrl'));
    const rows: number[] = [];
    cloud.on('message', (topic, payload) => {
      if (topic === mqttTopic(vehicle, 'telemetry')) {
        const batch = decodeTelemetry(payload);
        rows.push(...batch.values);
        const last = batch.firstSequence + batch.times.length - 1;
        cloud.publish(
          mqttTopic(vehicle, 'ack'),
          JSON.stringify({ epoch: batch.epoch, rows: [[batch.firstSequence, last]], events: [] }),
        );
      } else {
        const event = JSON.parse(payload.toString()) as { outboxepoch: string; sequence: string };
        const sequence = Number(event.sequence);
        cloud.publish(
          mqttTopic(vehicle, 'ack'),
          JSON.stringify({ epoch: Number(event.outboxepoch), rows: [], events: [[sequence, sequence]] }),
        );
      }
    });
    await cloud.subscribeAsync([mqttTopic(vehicle, 'telemetry'), mqttTopic(vehicle, 'event')], { qos: 1 });
    const child = spawn(
      bin,
      [
        ...['run', '--can', 'candump:trip.log', '--dbc', 'car.dbc', '--speed', '0'],
        ...['--data', 'data', '--vehicle', vehicle, '--mqtt', inject('mosquittoUrl')],
      ],
      { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const [status] = (await once(child, 'close')) as [number];
    await cloud.endAsync();
    expect(said).toContain('all rows are in the log');
    expect(status).toBe(0);
    expect(rows.length).toBeGreaterThanOrEqual(4);
    expect(new Set(rows.map((value) => Math.round(value)))).toEqual(new Set([1]));
  });

  it('installs, updates without touching the settings, and uninstalls', () => {
    const root = join(dir, 'root');
    const env = { ...process.env, DESTDIR: root };
    const run = (script: string, ...args: string[]) => execFileSync(script, args, { env, encoding: 'utf8' });
    run(join(folder, 'install.sh'), '--can-hat');
    const settings = join(root, 'etc/cardan-agent/agent.env');
    writeFileSync(settings, 'CARDAN_VEHICLE=mine\n');
    run(join(folder, 'install.sh'));
    expect(readFileSync(settings, 'utf8')).toBe('CARDAN_VEHICLE=mine\n');
    expect(existsSync(join(root, 'etc/systemd/network/80-can0.network'))).toBe(true);
    expect(existsSync(join(root, 'etc/sysctl.d/80-cardan-can.conf'))).toBe(true);
    const installed = join(root, 'opt/cardan-agent/bin/cardan-agent');
    expect(execFileSync(installed, ['--version'], { encoding: 'utf8' })).toBe(agent('--version'));

    // systemd's own check, with the program where it is here.
    const unit = join(root, 'cardan-agent.service');
    const text = readFileSync(join(root, 'etc/systemd/system/cardan-agent.service'), 'utf8');
    writeFileSync(
      unit,
      text.replace('ExecStart=/opt/cardan-agent/bin/cardan-agent', `ExecStart=${installed}`),
    );
    execFileSync('systemd-analyze', ['verify', '--man=no', unit], { stdio: 'pipe' });

    run(join(root, 'opt/cardan-agent/uninstall.sh'));
    expect(existsSync(join(root, 'opt/cardan-agent'))).toBe(false);
    expect(existsSync(settings)).toBe(true);
    run(join(folder, 'uninstall.sh'), '--purge');
    expect(existsSync(join(root, 'etc/cardan-agent'))).toBe(false);
  });

  it('refuses to be installed for another Node.js', () => {
    writeFileSync(join(folder, 'lib/node-abi'), '1\n');
    expect(() =>
      execFileSync(join(folder, 'install.sh'), {
        env: { ...process.env, DESTDIR: resolve(dir, 'other') },
        stdio: 'pipe',
      }),
    ).toThrow('has');
  });

  it('shows in the settings every variable that the agent reads, and no other', () => {
    const help = agent('run', '--help');
    const read = new Set([...help.matchAll(/\benv:\s+([A-Z_]+)/g)].map(([, name]) => name));
    const shown = new Set(
      [...readFileSync(join(folder, 'agent.env'), 'utf8').matchAll(/^(?:# )?([A-Z_]+)=/gm)].map(([, n]) => n),
    );
    // These are the unit's own: command line and data folder.
    for (const name of ['CARDAN_CAN', 'CARDAN_DBC', 'CARDAN_ARGS']) shown.delete(name);
    read.delete('CARDAN_DATA');
    expect(shown).toEqual(read);
  });
});
