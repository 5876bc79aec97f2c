import {
  type CanBus,
  DiagnosticClient,
  type Dm1,
  J1939Transport,
  ObdPoller,
  type ObdValue,
  parseDm1,
  readDtcs,
  readStoredCodes,
  readVin,
  supportedPids,
  systemTimers,
} from '@cardan/agent';
import { afterEach, expect, test } from 'vitest';
import { type EcuOptions, EcuSimulator, type EcuState } from '../src/ecu.ts';
import { MemoryBus } from './memory-bus.ts';

const stop: AbortController[] = [];
afterEach(() => {
  for (const controller of stop.splice(0)) controller.abort();
});

function aborter(): AbortSignal {
  const controller = new AbortController();
  stop.push(controller);
  return controller.signal;
}

function state(): EcuState {
  return {
    vin: 'WVWZZZ1JZ3W386752',
    pids: new Map([
      [0x05, Uint8Array.of(0x7b)],
      [0x0c, Uint8Array.of(0x1a, 0xf8)],
      [0x0d, Uint8Array.of(0x32)],
      [0x42, Uint8Array.of(0x36, 0xb0)],
    ]),
    storedCodes: ['P0301', 'P0420', 'C1234', 'U0100'],
    dtcs: [
      { number: 0x030100, status: 0x2f },
      { number: 0xd00116, status: 0x08 },
      { number: 0x042000, status: 0x50 },
    ],
    dm1: { malfunction: 'on', redStop: 'off', amberWarning: 'on', protect: 'off', codes: [] },
  };
}

function start(options: Partial<EcuOptions> = {}, bus = new MemoryBus()) {
  const ecu = new EcuSimulator({ bus: bus.connect(), state: state(), dm1PeriodMs: Infinity, ...options });
  void ecu.run(aborter());
  return { bus, ecu };
}

function client(bus: MemoryBus): DiagnosticClient {
  const node = bus.connect();
  const diagnostics = new DiagnosticClient({
    send: (frame) => node.send(frame),
    timers: systemTimers,
    addressing: '11-bit',
  });
  void feed(node, (frame) => diagnostics.receive(frame));
  return diagnostics;
}

async function feed(
  node: CanBus,
  take: (frame: Parameters<DiagnosticClient['receive']>[0]) => void,
): Promise<void> {
  for await (const frames of node.frames(aborter())) for (const frame of frames) take(frame);
}

test('VIN and trouble codes come from a control unit that is asked by OBD-II', async () => {
  const { bus } = start();
  const diagnostics = client(bus);
  expect(await readVin(diagnostics)).toBe('WVWZZZ1JZ3W386752');
  expect(await readStoredCodes(diagnostics)).toEqual(
    new Map([[0x7e8, ['P0301', 'P0420', 'C1234', 'U0100']]]),
  );
  expect(bus.log[0]).toMatchObject({ id: 0x7df, extended: false });
});

test('each control unit says which PIDs it supports', async () => {
  const { bus } = start();
  start({ requestId: 0x7e1, state: { ...state(), pids: new Map([[0x5c, Uint8Array.of(130)]]) } }, bus);
  expect(await supportedPids(client(bus))).toEqual(
    new Map([
      [0x7e8, new Set([0x05, 0x0c, 0x0d, 0x20, 0x40, 0x42])],
      [0x7e9, new Set([0x20, 0x40, 0x5c])],
    ]),
  );
});

test('PIDs are polled of the control unit that has them, each on its schedule', async () => {
  const { bus } = start();
  start({ requestId: 0x7e1, state: { ...state(), pids: new Map([[0x5c, Uint8Array.of(130)]]) } }, bus);
  const seen = new Map<string, ObdValue & { from: number }>();
  const done = new AbortController();
  stop.push(done);
  const poller = new ObdPoller({
    client: client(bus),
    timers: systemTimers,
    schedule: [0x0c, 0x05, 0x0d, 0x42, 0x5c, 0x2f].map((pid) => ({ pid, periodMs: 50 })),
    onValues: (values, _pid, unit) => {
      for (const value of values) seen.set(value.name, { ...value, from: unit });
      if (seen.size === 5) done.abort();
    },
  });
  await poller.run(done.signal);
  expect([...seen.values()].map(({ name, value, from }) => [name, value, from])).toEqual([
    ['EngineSpeed', 1726, 0x7e8],
    ['EngineCoolantTemperature', 83, 0x7e8],
    ['VehicleSpeed', 50, 0x7e8],
    ['ControlModuleVoltage', 14, 0x7e8],
    ['EngineOilTemperature', 90, 0x7e9],
  ]);
  expect([poller.unsupported, poller.failed]).toEqual([[0x2f], 0]);
});

test('trouble codes of UDS come by status, also after "response pending"', async () => {
  const { bus } = start({ pendingResponses: 3 });
  const diagnostics = client(bus);
  expect(await readDtcs(diagnostics, 0x7e8, 0x08)).toEqual([
    {
      code: 'P0301-00',
      number: 0x030100,
      status: 0x2f,
      flags: [
        'testFailed',
        'testFailedThisOperationCycle',
        'pending',
        'confirmed',
        'testFailedSinceLastClear',
      ],
    },
    { code: 'U1001-16', number: 0xd00116, status: 0x08, flags: ['confirmed'] },
  ]);
  expect((await readDtcs(diagnostics, 0x7e8, 0xff)).length).toBe(3);
  expect(await readDtcs(diagnostics, 0x7e8, 0x80)).toEqual([]);
});

test('a service that it does not have is refused with the reason, one that nobody has gets no answer', async () => {
  const { bus } = start();
  const diagnostics = client(bus);
  await expect(diagnostics.request(0x7e8, Uint8Array.of(0x22, 0xf1, 0x90), 2)).rejects.toMatchObject({
    code: 'DIAGNOSTICS_REFUSED',
    message: 'Control unit 0x7E8 refuses service 0x22: service not supported (0x11).',
  });
  await expect(readDtcs(diagnostics, 0x7ef)).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
  expect(await diagnostics.broadcast(Uint8Array.of(0x0a), 0)).toEqual(new Map());
});

test('DM1 comes in one frame, and with more codes by BAM', async () => {
  const dm1: Dm1 = {
    ...state().dm1,
    codes: [
      { spn: 110, fmi: 0, occurrences: 3 },
      { spn: 520_192, fmi: 31, occurrences: 126 },
      { spn: 100, fmi: 1, occurrences: null },
    ],
  };
  const bus = new MemoryBus();
  const { ecu } = start({ state: { ...state(), dm1 } }, bus);
  const node = bus.connect();
  const got = new Promise<Dm1 | null>((resolve) => {
    const transport = new J1939Transport({
      timers: systemTimers,
      onMessage: ({ pgn, source, data }) => {
        if (pgn === 0xfeca && source === 0) resolve(parseDm1(data));
      },
    });
    void feed(node, (frame) => transport.receive(frame));
  });
  await ecu.sendDm1();
  expect(await got).toEqual(dm1);
  const { ecu: healthy, bus: other } = start();
  await healthy.sendDm1();
  expect(other.log.map(({ id, data }) => [id, Buffer.from(data).toString('hex')])).toEqual([
    [0x18feca00, '44ff00000000ffff'],
  ]);
});
