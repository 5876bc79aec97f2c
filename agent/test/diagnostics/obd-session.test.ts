import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { VehicleTroubleCodes } from '@cardan/shared';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { parseObd, readObdFile } from '../../src/diagnostics/obd-file.ts';
import { ObdSession } from '../../src/diagnostics/obd-session.ts';
import { TroubleCodeReports } from '../../src/diagnostics/trouble-code-reports.ts';
import { FakeTimers } from '../fake-timers.ts';

/** A session on a bus where one control unit gives these answers, and what it has sent, by the clock's seconds. */
function session(plan: string, answers: Record<string, string> = {}) {
  const timers = new FakeTimers();
  const sent: { seconds: number; data: string }[] = [];
  const vins: string[] = [];
  const told: VehicleTroubleCodes[] = [];
  const frame = (id: number, hex = '00'): CanFrame => ({
    time: 0,
    id,
    extended: false,
    fd: false,
    data: Buffer.from(hex, 'hex'),
  });
  const obd = new ObdSession({
    plan: parseObd(plan, 'obd.yaml'),
    send: async ({ id, data }) => {
      if (id !== 0x7df) return; // a flow control
      const request = Buffer.from(data.subarray(1, 1 + data[0]!)).toString('hex');
      sent.push({ seconds: timers.now() / 1000, data: request });
      const answer = answers[request];
      if (answer !== undefined) timers.after(10, () => obd.receive(frame(0x7e8, answer)));
    },
    timers,
    onValues: () => undefined,
    onVin: (vin) => vins.push(vin),
    codes: new TroubleCodeReports((codes) => told.push(codes)),
    now: () => timers.now(),
    onProblem: () => undefined,
  });
  const stop = new AbortController();
  const running = obd.run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await timers.advance(10_000);
    await running;
  });
  return { timers, sent, vins, told, receive: (id: number, hex?: string) => obd.receive(frame(id, hex)) };
}

describe('asking while the bus is awake', () => {
  it('stops when the bus is silent, and goes on with the next frame', async () => {
    const { timers, sent, receive } = session('pids: { 0x0C: 1 }\ntrouble_codes_minutes: 1\n');
    await timers.advance(60_000);
    const atFirst = sent.length;
    expect(atFirst).toBeGreaterThan(0);
    expect(sent.at(-1)!.seconds).toBeLessThanOrEqual(11);
    await timers.advance(3_600_000);
    expect(sent.length).toBe(atFirst);

    // What it has sent itself comes back on SocketCAN, and wakes nobody.
    receive(0x7df, '02010c');
    await timers.advance(60_000);
    expect(sent.length).toBe(atFirst);

    receive(0x100);
    await timers.advance(1000);
    expect(sent.slice(atFirst).map(({ data }) => data)).toEqual(expect.arrayContaining(['0100', '03']));
  });

  it('does not stop while there are frames, and asks for codes at each period', async () => {
    const { timers, sent, receive } = session('trouble_codes_minutes: 1\n', { '03': '0243000000000000' });
    for (let second = 0; second < 185; second++) {
      receive(0x100);
      await timers.advance(1000);
    }
    expect(sent.filter(({ data }) => data === '03').length).toBe(4);
  });

  it('asks again soon, then more and more slowly, while nobody answers', async () => {
    const { timers, sent, receive } = session('trouble_codes_minutes: 10\n');
    for (let second = 0; second < 190; second++) {
      receive(0x100);
      await timers.advance(1000);
    }
    expect(sent.map(({ seconds }) => Math.floor(seconds))).toEqual([0, 2, 6, 14, 31, 63, 123, 183]);
  });

  it('tries a silent bus as often as the plan says', async () => {
    const { timers, sent } = session('trouble_codes_minutes: 10\nprobe_minutes: 5\n');
    await timers.advance(21 * 60_000);
    expect([...new Set(sent.map(({ seconds }) => Math.round(seconds / 60)))]).toEqual([0, 5, 10, 16, 21]);
  });

  it('asks for the VIN until somebody tells it, and then no more', async () => {
    const { timers, sent, vins, receive } = session('vin: true\n');
    const wakeFor = async (seconds: number) => {
      for (let i = 0; i < seconds; i++) {
        receive(0x100);
        await timers.advance(1000);
      }
    };
    await wakeFor(2);
    expect(sent.map(({ data }) => data)).toEqual(['0902']);
    await timers.advance(400);
    expect(sent.length).toBe(2);
    // ISO-TP: 20 bytes in a first frame and two consecutive ones; the published example of a VIN.
    receive(0x7e8, '1014490201314434');
    await timers.advance(1);
    receive(0x7e8, '2147503030523535');
    receive(0x7e8, '2242313233343536');
    await timers.advance(1000);
    expect(vins).toEqual(['1D4GP00R55B123456']);
    const asked = sent.length;
    await wakeFor(300);
    expect(sent.length).toBe(asked);
  });
});

describe('the file of --obd', () => {
  it('is there as an example', () => {
    const plan = readObdFile(fileURLToPath(new URL('../../examples/obd.yaml', import.meta.url)));
    expect([plan.pids.length, plan.troubleCodesMs, plan.vin]).toEqual([9, 600_000, true]);
  });

  it('takes PIDs in hexadecimal, seconds and minutes', () => {
    expect(
      parseObd(
        'addressing: 29-bit\npids:\n  0x0C: 0.5\n  5: 10\ntrouble_codes_minutes: 10\nuds: true\n',
        'f',
      ),
    ).toEqual({
      addressing: '29-bit',
      bus: null,
      pids: [
        { pid: 5, periodMs: 10_000 },
        { pid: 0x0c, periodMs: 500 },
      ],
      troubleCodesMs: 600_000,
      uds: true,
      vin: false,
      probeMs: null,
    });
  });

  it.each([
    ['pids: {0x0C: 0}', 'PID 0x0C needs seconds from 0.05 to 86400'],
    ['pids: {0x1C: 1}', 'PID "0x1C" has no known formula'],
    ['pids: {EngineSpeed: 1}', 'PID "EngineSpeed" has no known formula'],
    ['pids: [1]', '"pids" is a mapping'],
    ['pdis: {}', 'there is no "pdis"'],
    ['addressing: 12-bit\nvin: true', '"addressing" is "11-bit" or "29-bit"'],
    ['vin: maybe', '"vin" is true or false'],
    ['uds: true', '"uds" needs "trouble_codes_minutes"'],
    ['trouble_codes_minutes: -1', '"trouble_codes_minutes" is a number above 0'],
    ['vin: false', 'it asks for nothing'],
    ['just text', 'it is no YAML mapping'],
    ['a: [', 'cannot be used'],
  ])('refuses %j', (text, words) => {
    expect(() => parseObd(text, 'obd.yaml')).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringContaining(words) as string }) as Error,
    );
  });
});

describe('trouble codes', () => {
  it('go up when they change only, whatever their order; DM1 that flickers every ten seconds at most', () => {
    const told: [VehicleTroubleCodes['source'], number, string[]][] = [];
    const reports = new TroubleCodeReports(({ source, codes }, time) =>
      told.push([source, time, codes.map(({ code }) => code)]),
    );
    reports.stored(0x7e8, ['P0301', 'P0420'], 0);
    reports.stored(0x7e8, ['P0420', 'P0301'], 1);
    reports.stored(0x7e9, [], 2);
    reports.stored(0x7e8, [], 3);
    const lamps = { malfunction: 'off', redStop: 'off', amberWarning: 'off', protect: 'off' } as const;
    const on = { ...lamps, codes: [{ spn: 110, fmi: 0, occurrences: 1 }] };
    for (let second = 0; second < 30; second++)
      reports.dm1(0, second % 2 === 0 ? on : { ...lamps, codes: [] }, 1000 * second);
    expect(told).toEqual([
      ['obd', 0, ['P0301', 'P0420']],
      ['obd', 2, []],
      ['obd', 3, []],
      ['j1939', 0, ['SPN 110 FMI 0']],
      ['j1939', 11_000, []],
      ['j1939', 22_000, ['SPN 110 FMI 0']],
    ]);
    expect(reports.skipped).toBeGreaterThan(0);
  });
});
