import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VehicleTroubleCodes } from '@cardan/shared';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { openSource } from '../../src/can/open-source.ts';
import { compileDecoder, parseDbc } from '../../src/dbc/index.ts';
import { Diagnostics } from '../../src/diagnostics/diagnostics.ts';
import { HeldValues } from '../../src/diagnostics/held-values.ts';
import { obdPath, pidFrame, withPids } from '../../src/diagnostics/obd-signals.ts';
import { OBD_PIDS } from '../../src/diagnostics/obd2-pids.ts';
import { mapAllSignals } from '../../src/vss.ts';

// 0CF00400 is the engine's EEC1; 18FEE300 is its configuration, 39 bytes and sent in parts.
const DBC = parseDbc(`BU_: A
BO_ ${0x8cf00400} EEC1: 8 A
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031] "rpm" A
BO_ ${0x98fee300} EC1: 10 A
 SG_ IdleSpeed : 0|16@1+ (0.125,0) [0|8031] "rpm" A
BO_ 256 Motion: 2 A
 SG_ Speed : 0|16@1+ (0.01,0) [0|300] "km/h" A
`);

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'diagnostics-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function obdFile(text: string): string {
  const path = join(dir, 'obd.yaml');
  writeFileSync(path, text);
  return path;
}

/** Plays a recording through; what the agent gets: from the source, and beside it. */
async function play(lines: string[]) {
  const path = join(dir, 'trip.log');
  writeFileSync(path, lines.map((line, i) => `(${i + 1}.000000) can0 ${line}\n`).join(''));
  const can = [`candump:${path}`];
  const diagnostics = new Diagnostics({ j1939: true, can, dbc: DBC, map: mapAllSignals(DBC) });
  const frames: CanFrame[] = [];
  const codes: VehicleTroubleCodes[] = [];
  const source = diagnostics.attach(
    openSource(can, { speed: 0 }),
    {
      accept: (frame) => frames.push(frame),
      emit: (type, data) => {
        if (type === 'io.cardan.vehicle.trouble-codes') codes.push(data as VehicleTroubleCodes);
      },
    },
    { dataDir: dir, onProblem: () => undefined },
  );
  for await (const batch of source.frames(new AbortController().signal)) frames.push(...batch);
  return { ids: frames.map(({ id }) => id.toString(16)), frames, codes };
}

describe('--j1939', () => {
  it('finds messages by their group, whoever sends them, and leaves 11-bit ids alone', async () => {
    const { ids } = await play([
      '0CF00400#0000002020000000',
      '08F00421#0000002020000000',
      '100#0064',
      '18FEF100#00',
    ]);
    expect(ids).toEqual(['cf00400', 'cf00400', '100', '18fef100']);
  });

  it('puts messages together that came in parts: to all (BAM), and between two others (RTS, CTS)', async () => {
    const { frames, ids } = await play([
      '18ECFF00#200A0002FFE3FE00',
      '18EBFF00#0140200304050607',
      '18EBFF00#02080910FFFFFFFF',
      '18EC0300#100A000202E3FE00',
      '18EC0003#110201FFFFE3FE00',
      '18EB0300#0180200304050607',
      '18EB0300#02080910FFFFFFFF',
      '18EC0003#130A0002FFE3FE00',
    ]);
    expect(ids).toEqual(['18fee300', '18fee300']);
    expect(frames.map(({ data }) => Buffer.from(data).toString('hex'))).toEqual([
      '40200304050607080910',
      '80200304050607080910',
    ]);
    expect(frames.map(({ time }) => time)).toEqual([3000, 7000]);
  });

  it('reads trouble codes from DM1 in one frame and in several, and tells changes only', async () => {
    const { codes } = await play([
      '18FECA00#50FF6E000003FFFF',
      '18FECA00#50FF6E000003FFFF',
      '18ECFF21#200A0002FFCAFE00',
      '18EBFF21#0150FF6E00000371',
      '18EBFF21#02F01F7FFFFFFFFF',
    ]);
    expect(codes.map(({ unit, codes: list }) => [unit, list.map(({ code }) => code)])).toEqual([
      [0x00, ['SPN 110 FMI 0']],
      [0x21, ['SPN 110 FMI 0', 'SPN 61553 FMI 31']],
    ]);
  });
});

describe('--obd', () => {
  it('adds a signal for each value, in the order of the PIDs, and decodes what it makes of an answer', () => {
    const map = mapAllSignals(DBC);
    const pids = [...OBD_PIDS.keys()];
    const { dbc, map: whole } = withPids(DBC, map, pids);
    expect(whole.columns.slice(0, 3)).toEqual(map.columns);
    expect(new Set(whole.columns.map(({ name }) => name)).size).toBe(whole.columns.length);
    expect(whole.set.id).not.toBe(map.set.id);
    const decoder = compileDecoder(dbc);
    for (const { pid, signals } of OBD_PIDS.values()) {
      const values = signals.map(({ name, unit }, i) => ({ name, unit, value: 0.1 + pid + i }));
      const frame = pidFrame(pid, values, 7);
      const message = decoder.find(frame.id, frame.extended)!;
      message.decode(frame.data);
      expect([...decoder.values.slice(message.first, message.first + message.count)]).toEqual(
        values.map(({ value }) => value),
      );
      expect(frame.id).toBeGreaterThan(0x1fff_ffff); // no frame of a bus has it
    }
    expect(obdPath('MassAirFlow')).toBe('Vehicle.OBD.MAF');
    expect(obdPath('OxygenSensor3Voltage')).toBe('Vehicle.OBD.O2.Sensor3.Voltage');
  });

  it('holds a value that is asked for seldom, for two and a half periods', () => {
    const given: number[] = [];
    const held = new HeldValues(({ time }) => given.push(time / 1000));
    const values = [{ name: 'EngineCoolantTemperature', unit: '°C', value: 83 }];
    held.answer(0x0c, 500, values, 0); // often: only what has been answered
    held.answer(0x05, 6000, values, 0);
    for (let time = 0; time <= 60_000; time += 100) held.advance(time);
    expect(given).toEqual([0, 0, 2, 4, 6, 8, 10, 12, 14]);
    held.answer(0x05, 6000, values, 100_000);
    held.advance(50_000); // the clock was set
    held.advance(103_000);
    expect(given.slice(9)).toEqual([100]);
  });

  it('lets the kernel pass the answers, and nothing of the PIDs’ own ids', () => {
    const of = (obd: string, j1939 = false) =>
      new Diagnostics({
        obd: obdFile(obd),
        j1939,
        can: ['socketcan:can0'],
        dbc: DBC,
        map: mapAllSignals(DBC),
      }).filters;
    const passes = (filters: { id: number; mask: number }[], id: number) =>
      filters.some((filter) => (id & filter.mask) >>> 0 === filter.id);
    const standard = of('pids: {0x0C: 1}');
    expect([0x7e8, 0x7ef, 0x100].map((id) => passes(standard, id))).toEqual([true, true, true]);
    expect([0x7e7, 0x7f0, 0x98daf110].map((id) => passes(standard, id))).toEqual([false, false, false]);
    expect(standard.every(({ id }) => (id & 0x2000_0000) === 0)).toBe(true);
    const extended = of('addressing: 29-bit\nvin: true\n');
    expect([0x98daf110, 0x18daf110, 0x7e8].map((id) => passes(extended, id))).toEqual([true, false, false]);
    expect(passes(of('vin: true\n', true), 0x98ebff00)).toBe(true);
  });

  it('refuses a recording and a bus that is not there', () => {
    const make = (obd: string, can: string[]) => () =>
      new Diagnostics({ obd: obdFile(obd), j1939: false, can, dbc: DBC, map: mapAllSignals(DBC) });
    expect(make('vin: true\n', ['candump:x.log'])).toThrow(/cannot be asked/);
    expect(make('vin: true\nbus: socketcan:can1\n', ['socketcan:can0'])).toThrow(/is none of --can/);
    expect(make('vin: true\nbus: udp:239.1.1.1\n', ['candump:x.log', 'udp:239.1.1.1'])).not.toThrow();
    expect(readFileSync(join(dir, 'obd.yaml'), 'utf8')).toContain('udp'); // the file is only read
  });
});
