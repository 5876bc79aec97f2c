import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  decodeTelemetry,
  isEvent,
  recordToEvent,
  type SignalSet,
  type VehicleTroubleCodes,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog, type LogRecord } from '@cardan/shared/event-log';
import { mapAllSignals, parseDbc } from '@cardan/agent';
import { openSource } from '../../agent/src/can/open-source.ts';
import { UdpMulticastSource } from '../../agent/src/can/udp-multicast.ts';
import { Diagnostics } from '../../agent/src/diagnostics/diagnostics.ts';
import { freePorts } from '../../ops/free-ports.ts';
import { EcuSimulator, type EcuState } from '../src/ecu.ts';

/** A real agent asks a simulated control unit over UDP multicast; what it says arrives in the log. */

const bin = (workspace: string, name: string) =>
  fileURLToPath(new URL(`../../${workspace}/bin/${name}.js`, import.meta.url));
const GROUP = '239.74.163.31';
const DBC = 'BU_: A\nBO_ 256 Motion: 2 A\n SG_ Speed : 0|16@1+ (0.01,0) [0|300] "km/h" A\n';

let dir: string;
const running: ChildProcess[] = [];
const stop: AbortController[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'diagnostics-'));
});
afterEach(async () => {
  for (const child of running.splice(0).reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  for (const controller of stop.splice(0)) controller.abort();
  rmSync(dir, { recursive: true });
});

/** Starts a service, and resolves to what its first line that matches says. */
async function service(command: string, args: string[], says: RegExp): Promise<string> {
  const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  running.push(child);
  let words = '';
  return new Promise((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      words += data.toString('utf8');
      const match = says.exec(words);
      if (match !== null) resolve(match[1] ?? '');
    });
    child.once('exit', (code) => reject(new Error(`${command} ended with ${code}: ${words}`)));
  });
}
function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}
/** Tails the topic until a record gives something. */
async function awaitIn<T>(
  log: EventLog,
  topic: 'telemetry' | 'vehicle-events' | 'signal-sets',
  find: (record: LogRecord) => T | undefined,
): Promise<T> {
  for await (const { records } of log.read(topic, { from: 'earliest' }))
    for (const record of records) {
      const found = find(record);
      if (found !== undefined) return found;
    }
  throw new Error('the log was closed');
}
function troubleCodes(
  log: EventLog,
  source: VehicleTroubleCodes['source'],
  fits: (data: VehicleTroubleCodes) => boolean = () => true,
): Promise<VehicleTroubleCodes> {
  return awaitIn(log, 'vehicle-events', (record) => {
    const event = recordToEvent(record);
    if (!isEvent(event, 'io.cardan.vehicle.trouble-codes')) return undefined;
    return event.data.source === source && fits(event.data) ? event.data : undefined;
  });
}

async function controlUnit(): Promise<{ state: EcuState; port: number }> {
  const [port] = await freePorts(1);
  const state: EcuState = {
    vin: 'WVWZZZ1JZ3W386752',
    pids: new Map([
      [0x05, Uint8Array.of(0x7b)],
      [0x0c, Uint8Array.of(0x1a, 0xf8)],
    ]),
    storedCodes: ['P0301', 'U0100'],
    dtcs: [{ number: 0x030100, status: 0x0c }],
    dm1: {
      malfunction: 'on',
      redStop: 'off',
      amberWarning: 'on',
      protect: 'off',
      // Two codes do not fit into one frame, so they come by BAM.
      codes: [
        { spn: 110, fmi: 0, occurrences: 3 },
        { spn: 520_200, fmi: 31, occurrences: null },
      ],
    },
  };
  const open = new AbortController();
  stop.push(open);
  await new Promise<void>((resolve) => {
    const bus = new UdpMulticastSource({ group: GROUP, port: port!, interface: 'lo', onOpen: resolve });
    void new EcuSimulator({ bus, state, dm1PeriodMs: 500 }).run(open.signal);
  });
  return { state, port: port! };
}

describe('cardan-agent run --obd --j1939', () => {
  it(
    'brings values of PIDs, trouble codes of three kinds and the VIN into the log',
    { timeout: 90_000 },
    async () => {
      const { state, port } = await controlUnit();
      const mqtt = await service(bin('simulators', 'cardan-sim'), ['broker', '--port', '0'], /broker: (\S+)/);
      const logPath = join(dir, 'log.db');
      await service(
        bin('bridge', 'cardan-bridge'),
        ['--mqtt', mqtt, '--log', `sqlite:${logPath}`],
        /bridge: (\S+)/,
      );
      const obd = file(
        'obd.yaml',
        'pids:\n  0x0C: 0.1\n  0x05: 0.2\ntrouble_codes_minutes: 0.02\nuds: true\nvin: true\n',
      );
      const can = `udp:${GROUP}%lo:${port}`;
      await service(
        bin('agent', 'cardan-agent'),
        [
          ...['run', '--can', can, '--dbc', file('a.dbc', DBC), '--obd', obd, '--j1939', '--period', '200'],
          ...['--mqtt', mqtt, '--vehicle', 'van-7', '--data', join(dir, 'data')],
        ],
        /van-7: 3 signals/,
      );
      const log = await SqliteEventLog.open({ path: logPath });
      try {
        const set = await awaitIn(
          log,
          'signal-sets',
          ({ value }) => JSON.parse(value!.toString()) as SignalSet,
        );
        expect(set.signals).toEqual([
          { name: 'Speed', unit: 'km/h' },
          { name: 'Vehicle.OBD.CoolantTemperature', unit: '°C' },
          { name: 'Vehicle.OBD.EngineSpeed', unit: 'rpm' },
        ]);
        const row = await awaitIn(log, 'telemetry', ({ value }) => {
          const { values, times } = decodeTelemetry(value!);
          for (let i = 0; i < times.length; i++) {
            const [speed, coolant, engine] = values.subarray(3 * i, 3 * i + 3);
            if (!Number.isNaN(engine) && !Number.isNaN(coolant)) return [speed, coolant, engine];
          }
          return undefined;
        });
        expect(row).toEqual([NaN, 83, 1726]);

        expect(await troubleCodes(log, 'obd')).toEqual({
          source: 'obd',
          unit: 0x7e8,
          codes: [
            { code: 'P0301', status: ['stored'] },
            { code: 'U0100', status: ['stored'] },
          ],
        });
        expect(await troubleCodes(log, 'uds')).toEqual({
          source: 'uds',
          unit: 0x7e8,
          codes: [{ code: 'P0301-00', status: ['pending', 'confirmed'] }],
        });
        expect(await troubleCodes(log, 'j1939')).toEqual({
          source: 'j1939',
          unit: 0,
          codes: [
            { code: 'SPN 110 FMI 0', status: ['active'], occurrences: 3 },
            { code: 'SPN 520200 FMI 31', status: ['active'] },
          ],
          lamps: ['malfunction', 'amberWarning'],
        });
        const vin = await awaitIn(log, 'vehicle-events', (record) => {
          const event = recordToEvent(record);
          return isEvent(event, 'io.cardan.vehicle.identified') ? event.data.vin : undefined;
        });
        expect(vin).toBe('WVWZZZ1JZ3W386752');

        // The workshop was there.
        state.storedCodes = [];
        expect((await troubleCodes(log, 'obd', ({ codes }) => codes.length === 0)).codes).toEqual([]);
        let told = 0;
        for await (const { records } of log.read('vehicle-events', { from: 'earliest', to: 'latest' }))
          for (const record of records) {
            const event = recordToEvent(record);
            if (isEvent(event, 'io.cardan.vehicle.trouble-codes') && event.data.source === 'obd') told++;
          }
        expect(told).toBe(2);
      } finally {
        await log.close();
      }
    },
  );

  it('tells the VIN again only when it is another one', async () => {
    const { state, port } = await controlUnit();
    const can = [`udp:${GROUP}%lo:${port}`];
    const dbc = parseDbc(DBC);
    const obd = file('obd.yaml', 'trouble_codes_minutes: 60\nvin: true\n');
    /** From a start until the trouble codes have come, which are asked for behind the VIN. */
    const drive = async () => {
      const vins: string[] = [];
      const stopped = new AbortController();
      const source = new Diagnostics({ obd, j1939: false, can, dbc, map: mapAllSignals(dbc) }).attach(
        openSource(can, { speed: 1 }),
        {
          accept: () => undefined,
          emit: (type, data) => {
            if (type === 'io.cardan.vehicle.trouble-codes') stopped.abort();
            else vins.push((data as { vin: string }).vin);
          },
        },
        { dataDir: dir, onProblem: () => undefined },
      );
      for await (const frames of source.frames(stopped.signal))
        // Answers are not handed on.
        expect(frames.map(({ id }) => id)).not.toContain(0x7e8);
      return vins;
    };
    expect(await drive()).toEqual(['WVWZZZ1JZ3W386752']);
    expect(await drive()).toEqual([]);
    state.vin = '1D4GP00R55B123456';
    expect(await drive()).toEqual(['1D4GP00R55B123456']);
  });

  it('refuses to ask a recording', async () => {
    const trip = file('trip.log', '(1.0) can0 100#0000\n');
    const child = spawn(
      process.execPath,
      [
        ...[bin('agent', 'cardan-agent'), 'run', '--can', `candump:${trip}`, '--dbc', file('a.dbc', DBC)],
        ...['--obd', file('obd.yaml', 'vin: true\n'), '--data', join(dir, 'data')],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let words = '';
    child.stderr.on('data', (data: Buffer) => (words += data.toString('utf8')));
    const [code] = (await once(child, 'close')) as [number | null];
    expect(words).toContain('error USAGE: --obd asks control units');
    expect(code).toBe(2);
  });
});
