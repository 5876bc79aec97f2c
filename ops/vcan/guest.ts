/** Runs in the machine: SocketCAN on virtual interfaces, and the packaged agent on them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { CardanError } from '@cardan/shared';
import { kernelFilters } from '../../agent/src/can/kernel-filters.ts';
import { openSource } from '../../agent/src/can/open-source.ts';
import { SocketCanSource, type SocketCanOptions } from '../../agent/src/can/socketcan.ts';
import { parseDbc } from '../../agent/src/dbc/index.ts';
import { addBus, cansend, ip, listeners, play, Reader, running, textOf, until } from './bus.ts';
import { tap } from './tap.ts';

const print = (line: string) => void process.stdout.write(`${line}\n`);
const { test, end } = tap(print, 60_000);
const FD_LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64];
const BURST = 20_000;

const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, '0');

/** Frames of all kinds, each different. */
function someFrames(count: number, fd: boolean): string[] {
  return Array.from({ length: count }, (_, i) => {
    const id = i % 2 === 0 ? hex((i * 7919) % 0x800, 3) : hex((i * 104_729 * 31) % 0x2000_0000, 8);
    const isFd = fd && i % 4 > 1;
    const length = isFd ? FD_LENGTHS[i % 16]! : i % 9;
    const data = Array.from({ length }, (_, k) => hex((i * 31 + k * 7) % 256, 2)).join('');
    return `${id}#${isFd ? '#1' : ''}${data}`;
  });
}

/** A source that is read, when candump listens. */
async function open(name: string, options: Partial<SocketCanOptions> = {}) {
  const source = new SocketCanSource({ interface: name, ...options });
  const reader = new Reader(source);
  await until(() => listeners(name) > 0);
  return { source, reader };
}

async function closed(reader: Reader, name: string): Promise<void> {
  await reader.stop();
  await until(() => listeners(name) === 0);
}

addBus('can0');
addBus('can1');
addBus('fd0', { fd: true });

await test('classic frames, 11 and 29 bits, are equal', async () => {
  const { source, reader } = await open('can0');
  const sent = someFrames(500, false);
  await play('can0', sent);
  await until(() => reader.frames.length >= sent.length);
  await closed(reader, 'can0');
  assert.deepEqual(reader.texts, sent);
  assert.deepEqual([source.malformed, source.dropped, source.remote, source.errors], [0, 0, 0, 0]);
});

await test('CAN FD frames up to 64 bytes are equal, among classic ones', async () => {
  const { source, reader } = await open('fd0');
  const sent = someFrames(500, true);
  await play('fd0', sent);
  await until(() => reader.frames.length >= sent.length);
  await closed(reader, 'fd0');
  assert.deepEqual(reader.texts, sent);
  assert.equal(source.malformed, 0);
  const now = Date.now();
  for (const { time } of reader.frames) assert.ok(Math.abs(now - time) < 60_000, 'the time is the kernel’s');
});

await test('remote frames are counted, not read', async () => {
  const { source, reader } = await open('can0');
  await play('can0', ['123#R', '18FEF100#R4', '123#01']);
  await until(() => reader.frames.length === 1);
  await closed(reader, 'can0');
  assert.deepEqual(reader.texts, ['123#01']);
  assert.equal(source.remote, 2);
});

await test('the kernel lets only the ids of the DBC pass', async () => {
  const dbc = parseDbc(
    Buffer.from(
      `BO_ ${0x123} A: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\nBO_ ${0x98fef100} B: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n`,
    ),
    'test.dbc',
  );
  const { source, reader } = await open('can0', { filters: kernelFilters(dbc) });
  const all = ['124#01', '123#R', '00000123#02', '18FEF101#03', '18FEF100#R', '098FEF10#04', '7FF#05'];
  await play('can0', [...all, '123#AA', ...all, '18FEF100#BB', ...all, '123#CC']);
  await until(() => reader.frames.length === 3);
  await closed(reader, 'can0');
  assert.deepEqual(reader.texts, ['123#AA', '18FEF100#BB', '123#CC']);
  assert.deepEqual([source.remote, source.malformed], [0, 0]);
});

await test('of a DBC with more messages than the kernel has filters, every id passes', async () => {
  const ids = Array.from({ length: 900 }, (_, i) => (i * 104_729 * 31) % 0x2000_0000);
  const messages = ids.map(
    (id, i) => `BO_ ${id + 0x8000_0000} M${i}: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n`,
  );
  const filters = kernelFilters(parseDbc(Buffer.from(messages.join('')), 'test.dbc'));
  const { source, reader } = await open('can0', { filters });
  const sent = ids.map((id) => `${hex(id, 8)}#00`);
  await play('can0', sent);
  await until(() => reader.frames.length === sent.length);
  await closed(reader, 'can0');
  assert.deepEqual(reader.texts, sent);
  assert.equal(source.dropped, 0);
  print(`# 900 ids: ${filters.length} filters`);
});

/** As Linux has it. */
const RMEM_MAX = 212_992;
for (const { what, privileged = false, stalled = false, perSecond, rmemMax = RMEM_MAX } of [
  { what: 'read at once, buffer forced (CAP_NET_ADMIN)', privileged: true },
  { what: 'reader stalled, buffer forced (CAP_NET_ADMIN)', privileged: true, stalled: true },
  { what: 'read at once, rmem_max as Linux has it' },
  { what: 'reader stalled, rmem_max as Linux has it', stalled: true },
  { what: 'at 4,000 a second, rmem_max as Linux has it', perSecond: 4000 },
  { what: 'reader stalled, rmem_max 8 MB', stalled: true, rmemMax: 8_388_608 },
])
  await test(`a burst of ${BURST} frames, ${what}: what is lost is counted`, async () => {
    writeFileSync('/proc/sys/net/core/rmem_max', String(rmemMax));
    const id = privileged ? 0 : 65_534;
    process.seteuid!(id);
    const { source, reader } = await open('can0').finally(() => process.seteuid!(0));
    let resume: () => void = () => undefined;
    if (stalled) reader.pause = new Promise((resolve) => (resume = resolve));
    const sent = Array.from({ length: BURST }, (_, i) => `100#${hex(i, 8)}`);
    await play('can0', sent, perSecond);
    reader.pause = undefined;
    resume();
    // The kernel tells of losses with the next frame.
    let told = 0;
    do {
      await cansend('can0', '7FF#');
      told++;
    } while (reader.frames.length + source.dropped < BURST + told);
    await closed(reader, 'can0');
    const got = reader.frames.filter(({ id }) => id === 0x100).length;
    print(`# ${BURST} frames: ${got} received, ${source.dropped} dropped and counted`);
    assert.equal(reader.frames.length + source.dropped, BURST + told);
    assert.equal(source.malformed, 0);
    const order = reader.texts.filter((text) => text.startsWith('100#'));
    assert.deepEqual(order, [...order].sort());
    if (privileged || rmemMax > RMEM_MAX) assert.equal(source.dropped, 0);
  });

await test('own frames are sent, and seen by itself and by others', async () => {
  const { source, reader } = await open('fd0');
  const other = await open('fd0');
  const frames = [
    { time: 0, id: 0x7df, extended: false, fd: false, data: Buffer.from('0201050000000000', 'hex') },
    { time: 0, id: 0x18db33f1, extended: true, fd: false, data: Buffer.from('020902', 'hex') },
    { time: 0, id: 0x123, extended: false, fd: true, data: Buffer.alloc(64, 0xa5) },
    { time: 0, id: 0x124, extended: false, fd: false, data: Buffer.alloc(0) },
  ];
  await until(() => listeners('fd0') === 2);
  for (const frame of frames) await source.send(frame);
  await until(() => reader.frames.length === 4 && other.reader.frames.length === 4);
  await Promise.all([reader.stop(), other.reader.stop()]);
  // cansend was told no flags for CAN FD; the log has one digit of them, which is not kept.
  assert.deepEqual(reader.texts, frames.map(textOf));
  assert.deepEqual(other.reader.texts, frames.map(textOf));
});

await test('sending on an interface that is down or missing says so', async () => {
  const frame = { time: 0, id: 1, extended: false, fd: false, data: Buffer.of(1) };
  addBus('can5', { up: false });
  for (const name of ['can5', 'nosuch0'])
    await assert.rejects(new SocketCanSource({ interface: name }).send(frame), {
      code: 'CAN_SEND_FAILED',
      message: new RegExp(name),
    });
  ip('link', 'del', 'can5');
});

/** A source whose waiting is in the test's hands. */
function watched(name: string) {
  const problems: CardanError[] = [];
  const waits: { ms: number; go: () => void }[] = [];
  const source = new SocketCanSource({
    interface: name,
    onProblem: (problem) => problems.push(problem),
    sleep: (ms, signal) =>
      new Promise<void>((resolve) => {
        waits.push({ ms, go: resolve });
        signal.addEventListener('abort', () => resolve(), { once: true });
      }),
  });
  return { source, reader: new Reader(source), problems, waits };
}

await test('an interface that goes down is reported, and read again when it is up', async () => {
  addBus('can6', { up: false });
  const { source, reader, problems, waits } = watched('can6');
  // Down before a first frame.
  await until(() => waits.length === 1);
  assert.deepEqual([problems[0]!.code, source.state], ['CAN_BUS_DOWN', 'closed']);
  assert.match(problems[0]!.message, /can6: .*Network is down.*ip link set can6 up/);
  ip('link', 'set', 'can6', 'up');
  waits[0]!.go();
  await until(() => listeners('can6') > 0);
  assert.equal(source.state, 'open');
  await cansend('can6', '123#01');
  await until(() => reader.frames.length === 1);
  // Down in the middle.
  ip('link', 'set', 'can6', 'down');
  await until(() => waits.length === 2);
  assert.deepEqual([problems[1]!.code, source.state], ['CAN_BUS_DOWN', 'closed']);
  ip('link', 'set', 'can6', 'up');
  waits[1]!.go();
  await until(() => listeners('can6') > 0);
  await cansend('can6', '123#02');
  await until(() => reader.frames.length === 2);
  // Unplugged, and plugged in again.
  ip('link', 'del', 'can6');
  await until(() => waits.length === 3);
  assert.equal(problems[2]!.code, 'CAN_BUS_DOWN');
  addBus('can6');
  waits[2]!.go();
  await until(() => listeners('can6') > 0);
  await cansend('can6', '123#03');
  await until(() => reader.frames.length === 3);
  await closed(reader, 'can6');
  assert.deepEqual(reader.texts, ['123#01', '123#02', '123#03']);
  // Frames came in between, so that each wait is the first one again.
  assert.deepEqual(
    waits.map(({ ms }) => ms),
    [1000, 1000, 1000],
  );
  ip('link', 'del', 'can6');
});

await test('an interface that is missing is a clear error, and read when it comes', async () => {
  const { source, reader, problems, waits } = watched('can7');
  await until(() => waits.length === 1);
  assert.deepEqual([problems[0]!.code, source.state], ['CAN_UNAVAILABLE', 'closed']);
  assert.match(problems[0]!.message, /can7: .*No such device.*ip -brief link/);
  print(`# ${problems[0]!.message}`);
  waits[0]!.go();
  await until(() => waits.length === 2);
  assert.equal(waits[1]!.ms, 2000);
  addBus('can7');
  waits[1]!.go();
  await until(() => listeners('can7') > 0);
  await cansend('can7', '123#04');
  await until(() => reader.frames.length === 1);
  await closed(reader, 'can7');
});

await test('several buses at once keep their own counters', async () => {
  const source = openSource(['socketcan:can0', 'socketcan:can1', 'socketcan:fd0'], { speed: 1 });
  const reader = new Reader(source);
  await until(() => ['can0', 'can1', 'fd0'].every((name) => listeners(name) > 0));
  const sent = { can0: someFrames(300, false), can1: someFrames(200, false), fd0: someFrames(100, true) };
  await Promise.all(Object.entries(sent).map(([name, frames]) => play(name, frames)));
  await cansend('can1', '20000040#0000000000000000');
  await until(() => reader.frames.length === 600 && source.counters['socketcan:can1']?.errors === 1);
  const { counters } = source;
  await reader.stop();
  assert.deepEqual([...reader.texts].sort(), Object.values(sent).flat().sort());
  const none = { malformed: 0, dropped: 0, errors: 0 };
  assert.deepEqual(counters, {
    'socketcan:can0': { ...none, state: 'open', received: 300 },
    'socketcan:can1': { ...none, state: 'bus-off', received: 200, errors: 1 },
    'socketcan:fd0': { ...none, state: 'open', received: 100 },
  });
});

await test('error frames tell warning, error-passive, bus-off and restart, whatever the filters', async () => {
  const problems: string[] = [];
  const { source, reader } = await open('can0', {
    filters: [{ id: 0x123, mask: 0xc00007ff }],
    onProblem: ({ code }) => problems.push(code),
  });
  const states: string[] = [];
  for (const frame of [
    '20000004#0008000000006000', // sending: warning
    '20000004#0020000000008800', // sending: passive
    '20000080#0000000000008800', // a single bus error changes nothing
    '20000040#0000000000000000', // bus-off
    '20000100#0000000000000000', // restarted
    '20000004#0010000000008000', // receiving: passive
    '20000004#0040000000000000', // active again
  ]) {
    const before = source.errors;
    await cansend('can0', frame);
    await until(() => source.errors > before);
    states.push(source.state);
  }
  await cansend('can0', '20000040#0000000000000000');
  await cansend('can0', '123#01');
  await until(() => reader.frames.length === 1);
  states.push(source.state);
  await closed(reader, 'can0');
  assert.deepEqual(states, [
    'error-warning',
    'error-passive',
    'error-passive',
    'bus-off',
    'open',
    'error-passive',
    'open',
    'open',
  ]);
  assert.deepEqual(problems, ['CAN_ERROR_PASSIVE', 'CAN_BUS_OFF', 'CAN_ERROR_PASSIVE', 'CAN_BUS_OFF']);
  assert.equal(source.errors, 8);
  assert.equal(source.state, 'closed');
});

writeFileSync('/tmp/car.dbc', 'BO_ 256 Motor: 8 X\n SG_ Speed : 0|16@1+ (0.1,0) [0|0] "rpm" X\n');
function startAgent() {
  const child = spawn(
    process.execPath,
    [
      ...['/agent/lib/cardan-agent.mjs', 'run', '--can', 'socketcan:can0', '--can', 'socketcan:can1'],
      ...['--dbc', '/tmp/car.dbc', '--mqtt', 'mqtt://127.0.0.1:1', '--data', '/tmp/agent'],
      ...['--metrics-port', '9464'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said += text.toString()));
  return { child, gone: once(child, 'close'), said: () => said };
}
const listening = () => listeners('can0') > 0 && listeners('can1') > 0;

await test('the packaged agent reads two buses; metrics and its last line say what each gave', async () => {
  const { child, gone, said } = startAgent();
  await until(() => listening() || child.exitCode !== null);
  assert.equal(child.exitCode, null, said());
  await play('can0', ['100#0A00000000000000', '100#0B00000000000000', '101#00']);
  await play('can1', ['100#0C00000000000000']);
  await cansend('can1', '20000004#0020000000008800');
  const metrics = async () => (await fetch('http://127.0.0.1:9464/metrics')).text();
  let text = await metrics();
  while (!text.includes('state="error-passive"} 1') || !text.includes('frames_total 3\n'))
    text = await metrics();
  assert.match(text, /^cardan_agent_bus_frames_total\{bus="socketcan:can0"\} 2$/m);
  assert.match(text, /^cardan_agent_bus_frames_total\{bus="socketcan:can1"\} 1$/m);
  assert.match(text, /^cardan_agent_bus_errors_total\{bus="socketcan:can1"\} 1$/m);
  assert.match(text, /^cardan_agent_bus_state\{bus="socketcan:can1",state="error-passive"\} 1$/m);
  child.kill('SIGTERM');
  await gone;
  print(`# ${said().trimEnd().split('\n').at(-1)}`);
  assert.match(said(), /CAN_ERROR_PASSIVE: can1 is error-passive/);
  assert.match(said(), /socketcan:can0: 2 frames, 0 lost.*socketcan:can1: 1 frames, 0 lost.*1 error frames/);
  await until(() => running('candump') === 0);
});

await test('kill -9 of the agent leaves no candump behind on a silent bus', async () => {
  const { child, gone } = startAgent();
  await until(listening);
  assert.equal(running('candump'), 2);
  child.kill('SIGKILL');
  await gone;
  await until(() => running('candump') === 0);
  assert.equal(listening(), false);
});

process.exitCode = end() ? 0 : 1;
