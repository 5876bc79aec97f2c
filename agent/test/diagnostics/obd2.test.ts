import { describe, expect, test } from 'vitest';
import type { CanFrame } from '../../src/can/can-frame.ts';
import { DiagnosticClient, type DiagnosticClientOptions } from '../../src/diagnostics/diagnostic-client.ts';
import { decodePid } from '../../src/diagnostics/obd2-pids.ts';
import { ObdPoller, parseStoredCodes, parseVin, readVin } from '../../src/diagnostics/obd2.ts';
import { troubleCode, troubleCodeBytes } from '../../src/diagnostics/trouble-code.ts';
import { parseDtcs, readDtcs } from '../../src/diagnostics/uds.ts';
import { FakeTimers, settled } from '../fake-timers.ts';

function bytes(hex: string): Uint8Array {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

/** A client, and a hand that plays the control units. */
function client(options: Partial<DiagnosticClientOptions> = {}) {
  const timers = new FakeTimers();
  const sent: string[] = [];
  const diagnostics = new DiagnosticClient({
    timers,
    addressing: '11-bit',
    send: async ({ id, data }: CanFrame) =>
      void sent.push(`${id.toString(16)} ${Buffer.from(data).toString('hex')}`),
    ...options,
  });
  const answer = async (id: number, data: string) => {
    await settled();
    diagnostics.receive({ time: 0, id, extended: id > 0x7ff, fd: false, data: bytes(data) });
    await settled();
  };
  return { diagnostics, timers, sent, answer };
}

describe('published examples', () => {
  test.each([
    [0x05, '7b', 83],
    [0x0c, '1af8', 1726],
    [0x0d, '32', 50],
    [0x04, 'ff', 100],
    [0x06, '80', 0],
    [0x0e, '80', 0],
    [0x10, '0fa0', 40],
    [0x11, '00', 0],
    [0x2f, 'ff', 100],
    [0x3c, '1388', 460],
    [0x42, '3039', 12.345],
    [0x44, '8000', 1],
    [0x32, 'fff0', -4],
    [0x5e, '0190', 20],
    [0xa6, '000f4240', 100_000],
  ])('PID %i with %s is %d', (pid, data, value) => {
    expect(decodePid(pid, bytes(data)).map((one) => one.value)).toEqual([value]);
  });

  test('a PID that is not known, or whose data are short, has no values', () => {
    expect([decodePid(0x1c, bytes('01')), decodePid(0x0c, bytes('1a'))]).toEqual([[], []]);
  });

  test.each([
    [0x01, 0x43, 'P0143'],
    [0x03, 0x01, 'P0301'],
    [0x3f, 0xff, 'P3FFF'],
    [0x52, 0x34, 'C1234'],
    [0x92, 0x34, 'B1234'],
    [0xc1, 0x58, 'U0158'],
  ])('%i %i is the trouble code %s', (high, low, name) => {
    expect(troubleCode(high, low)).toBe(name);
    expect(troubleCodeBytes(name)).toEqual([high, low]);
  });

  test('the VIN of SAE J1979 in three frames', async () => {
    const { diagnostics, timers, sent, answer } = client();
    const vin = readVin(diagnostics);
    await answer(0x7e8, '10 14 49 02 01 31 47 31');
    await answer(0x7e8, '21 4a 43 35 34 34 34 52');
    await answer(0x7e8, '22 37 32 35 32 33 36 37');
    // A broadcast is open until the time for answers is over.
    await timers.advance(250);
    expect(await vin).toBe('1G1JC5444R7252367');
    expect(sent).toEqual(['7df 020902cccccccccc', '7e0 300000cccccccccc']);
  });

  test('ISO 14229-1: codes by status mask', () => {
    expect(parseDtcs(bytes('59 02 7f 0a 9b 17 24 08 05 11 2f'))).toMatchObject([
      { number: 0x0a9b17, code: 'P0A9B-17', status: 0x24, flags: ['pending', 'testFailedSinceLastClear'] },
      { number: 0x080511, code: 'P0805-11', status: 0x2f },
    ]);
  });
});

test('answers that are none are told by their code', () => {
  expect(() => parseVin(bytes('490201 ffffffffffffffffffffffffffffffffff'))).toThrow('is no VIN');
  expect(() => parseDtcs(bytes('5902ff01'))).toThrow('no list of trouble codes');
  expect(parseStoredCodes(bytes('43 02 03 01 00 00 aa aa'))).toEqual(['P0301']);
  expect(parseStoredCodes(bytes('43'))).toEqual([]);
});

describe('a request', () => {
  test('waits on after "response pending" (0x78), five seconds each time, but not for ever', async () => {
    const { diagnostics, timers, answer } = client();
    const codes = readDtcs(diagnostics, 0x7e8);
    for (let i = 0; i < 5; i++) {
      await answer(0x7e8, '03 7f 19 78');
      await timers.advance(4_900);
    }
    await answer(0x7e8, '07 59 02 ff 03 01 00 08');
    expect(await codes).toMatchObject([{ code: 'P0301-00' }]);
    expect(timers.pending).toBe(0);

    const never = expect(readDtcs(diagnostics, 0x7e8)).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
    for (let i = 0; i < 25; i++) {
      await answer(0x7e8, '03 7f 19 78');
      await timers.advance(1_000);
    }
    await never;
  });

  test('is put again to a control unit that is busy, three times', async () => {
    const { diagnostics, timers, sent, answer } = client();
    const refused = expect(readDtcs(diagnostics, 0x7e8)).rejects.toMatchObject({
      code: 'DIAGNOSTICS_REFUSED',
    });
    for (let i = 0; i < 4; i++) {
      await answer(0x7e8, '03 7f 19 21');
      await timers.advance(100);
    }
    await refused;
    expect(sent.length).toBe(4);
  });

  test('does not take the late answer to another one', async () => {
    const { diagnostics, answer } = client();
    const speed = diagnostics.request(0x7e8, bytes('010d'), 1, true);
    await answer(0x7e8, '04 41 0c 1a f8');
    await answer(0x7e9, '03 41 0d 99');
    await answer(0x7e8, '03 41 0d 32');
    expect(Buffer.from(await speed).toString('hex')).toBe('410d32');
    expect(diagnostics.counters.unasked).toBe(2);
  });

  test("of somebody else's tester is left to that one: no flow control is sent", async () => {
    const { diagnostics, sent, answer } = client();
    await answer(0x7e8, '10 14 49 02 01 31 47 31');
    const speed = diagnostics.request(0x7e8, bytes('010d'), 1, true);
    await answer(0x7e9, '10 14 49 02 01 31 47 31');
    await answer(0x7e8, '03 41 0d 32');
    await speed;
    expect(sent).toEqual(['7df 02010dcccccccccc']);
    expect(diagnostics.counters.unasked).toBe(2);
  });

  test('fails when 32 wait already', async () => {
    const { diagnostics, timers } = client();
    const all = Promise.allSettled(
      Array.from({ length: 33 }, () => diagnostics.request(0x7e8, bytes('010d'), 1)),
    );
    await timers.advance(60_000);
    const codes = (await all).map((one) => (one as { reason: { code: string } }).reason.code);
    expect([codes.at(0), codes.at(-1)]).toEqual(['DIAGNOSTICS_TIMEOUT', 'USAGE']);
  });

  test('goes by 29-bit ids where the car has these', async () => {
    const { diagnostics, sent, answer } = client({ addressing: '29-bit' });
    const codes = readDtcs(diagnostics, 0x18da_f110);
    await answer(0x18da_f110, '10 0b 59 02 ff 03 01 00');
    await answer(0x18da_f110, '21 08 04 20 00 08');
    expect((await codes).map(({ code }) => code)).toEqual(['P0301-00', 'P0420-00']);
    expect(sent).toEqual(['18da10f1 0319020ccccccccc', '18da10f1 300000cccccccccc']);
  });
});

describe('polling', () => {
  test('of a car that sleeps goes on more and more slowly, up to once a minute', async () => {
    const { diagnostics, timers, sent } = client();
    const done = new AbortController();
    const poller = new ObdPoller({
      client: diagnostics,
      timers,
      schedule: [{ pid: 0x0c, periodMs: 100 }],
      onValues: () => {},
    });
    const running = poller.run(done.signal);
    await timers.advance(3_600_000);
    // 7 requests in the first 64.5 s, then one in 60.25 s.
    expect(sent.length).toBe(65);
    done.abort();
    await running;
    expect(timers.pending).toBe(0);
  });

  test('leaves out what it is too late for, and counts it', async () => {
    const { diagnostics, timers, sent, answer } = client();
    const done = new AbortController();
    const values: number[] = [];
    const poller = new ObdPoller({
      client: diagnostics,
      timers,
      schedule: [{ pid: 0x0d, periodMs: 50 }],
      onValues: ([value]) => values.push(value!.value),
    });
    const running = poller.run(done.signal);
    await answer(0x7e8, '06 41 00 00 08 00 00');
    await timers.advance(250);
    await timers.advance(220);
    await answer(0x7e8, '03 41 0d 32');
    expect([values, poller.skipped, sent.length]).toEqual([[50], 4, 2]);
    await timers.advance(30);
    expect(sent.length).toBe(3);
    done.abort();
    await timers.advance(250);
    await running;
  });

  test('refuses a PID without a formula, and a period that floods the bus', () => {
    const { diagnostics, timers } = client();
    const make = (pid: number, periodMs: number) => () =>
      new ObdPoller({ client: diagnostics, timers, schedule: [{ pid, periodMs }], onValues: () => {} });
    expect(make(0xff, 1000)).toThrow('no known formula');
    expect(make(0x0c, 1)).toThrow('at least 50 ms');
  });
});
