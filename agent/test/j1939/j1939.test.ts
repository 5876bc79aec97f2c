import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { compileDecoder, parseDbc } from '../../src/dbc/index.ts';
import { formatDm1, parseDm1 } from '../../src/j1939/dm1.ts';
import { formatJ1939Id, GLOBAL, isPdu1, parseJ1939Id } from '../../src/j1939/j1939-id.ts';
import { J1939Matcher } from '../../src/j1939/j1939-matcher.ts';
import { type J1939Message, J1939Transport, type J1939TransportOptions } from '../../src/j1939/transport.ts';
import { FakeTimers, settled } from '../fake-timers.ts';

interface Transfer {
  length: number;
  pdu_format: number;
  pdu_specific: number;
  payload: string;
  frames: [id: number, data: string][];
}

const golden = (
  JSON.parse(readFileSync(new URL('../diagnostics/golden.json', import.meta.url), 'utf8')) as {
    j1939: {
      ids: {
        id: number;
        priority: number;
        source: number;
        pdu2: boolean;
        pdu_specific: number;
        raw: number;
      }[];
      dtcs: { spn: number; fmi: number; occurrences: number; bytes: string }[];
      transport: Transfer[];
    };
  }
).j1939;

function transport(options: Partial<J1939TransportOptions> = {}) {
  const timers = new FakeTimers();
  const sent: [id: number, data: string][] = [];
  const messages: J1939Message[] = [];
  const lost: { reason: string; packets: number }[] = [];
  const tp = new J1939Transport({
    timers,
    send: async (frame) => void sent.push([frame.id, hex(frame.data)]),
    onMessage: (message) => messages.push(message),
    onLost: ({ reason, packets }) => lost.push({ reason, packets }),
    ...options,
  });
  const receive = (id: number, data: string) =>
    tp.receive({ id, extended: true, fd: false, time: 0, data: Buffer.from(data, 'hex') });
  return { tp, timers, sent, messages, lost, receive };
}

function hex(data: Uint8Array): string {
  return Buffer.from(data).toString('hex');
}

describe('ids', () => {
  test.each(golden.ids)('$id as can-j1939 reads it', ({ id, priority, source, pdu2, pdu_specific, raw }) => {
    const parsed = parseJ1939Id(id);
    expect(parsed).toEqual({
      priority,
      source,
      pgn: pdu2 ? raw : raw & 0x3ff00,
      destination: pdu2 ? GLOBAL : pdu_specific,
    });
    expect(isPdu1(parsed.pgn)).toBe(!pdu2);
    expect(formatJ1939Id(parsed)).toBe(id);
  });

  test('the example of SAE J1939-21: 0x18FEF100 is PGN 65265 (CCVS) of the engine, priority 6', () => {
    expect(parseJ1939Id(0x18fef100)).toEqual({ priority: 6, pgn: 65_265, source: 0, destination: GLOBAL });
  });
});

describe('a DBC message is found by its parameter group', () => {
  const matcher = (text: string) => new J1939Matcher(compileDecoder(parseDbc(text)));
  const name = (found: ReturnType<J1939Matcher['find']>) => found?.message.name;
  // EEC1 from the engine, CCVS from 0xFE (anybody), TSC1 to 0xFE; a plain 11-bit message.
  const dbc = matcher(`VERSION ""
BO_ 2364540158 EEC1: 8 X
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" X
BO_ 2566844672 CCVS: 8 X
BO_ 2348810494 TSC1: 8 X
BO_ 291 Plain: 8 X
`);

  test('whatever priority, sender and destination the frame has', () => {
    expect(name(dbc.find(0x0cf004fe, true))).toBe('EEC1');
    expect(name(dbc.find(0x18f00427, true))).toBe('EEC1');
    expect(name(dbc.find(0x18fef121, true))).toBe('CCVS');
    expect(name(dbc.find(0x0c00000b, true))).toBe('TSC1');
    expect(name(dbc.find(0x0c00030b, true))).toBe('TSC1');
    expect(name(dbc.find(0x18fef200, true))).toBeUndefined();
    expect(name(dbc.find(0x123, false))).toBeUndefined();
  });

  test("the sender's own message counts before that of another", () => {
    const two = matcher(`VERSION ""
BO_ 2566844672 Engine: 8 X
BO_ 2566844675 Gearbox: 8 X
`);
    expect([0x18fef100, 0x0cfef103, 0x18fef127].map((id) => name(two.find(id, true)))).toEqual([
      'Engine',
      'Gearbox',
      'Engine',
    ]);
  });

  test('and decodes: 0x4E20 eighths are 2500 rpm', () => {
    const decoder = compileDecoder(
      parseDbc('BO_ 2364540158 EEC1: 8 X\n SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" X\n'),
    );
    const message = new J1939Matcher(decoder).find(0x0cf00400, true);
    message?.decode(Buffer.from('ffffff204effffff', 'hex'));
    expect(decoder.values[0]).toBe(2500);
  });
});

describe('the transport protocol, as can-j1939 does it', () => {
  test.each(golden.transport)('$length bytes to PDU format $pdu_format', async (recording) => {
    const { pdu_format, pdu_specific, payload, frames } = recording;
    const pgn = (pdu_format << 8) | (pdu_format < 240 ? 0 : pdu_specific);
    const to = pdu_format < 240 ? pdu_specific : GLOBAL;
    const whole = [{ pgn, source: 0x80, destination: to, payload }];
    const fromSender = frames.filter(([id]) => (id & 0xff) === 0x80);
    const fromReceiver = frames.filter(([id]) => (id & 0xff) === 0x90);
    const short = (messages: J1939Message[]) =>
      messages.map(({ pgn, source, destination, data }) => ({
        pgn,
        source,
        destination,
        payload: hex(data),
      }));

    // Who only listens puts it together.
    const listener = transport();
    for (const [id, data] of frames) listener.receive(id, data);
    expect(short(listener.messages)).toEqual(whole);
    expect([listener.sent, listener.lost, listener.timers.pending]).toEqual([[], [], 0]);

    // Who is addressed answers like can-j1939.
    const receiver = transport({ address: 0x90, packetsAtOnce: 3 });
    for (const [id, data] of fromSender) receiver.receive(id, data);
    await settled();
    expect(short(receiver.messages)).toEqual(whole);
    expect(receiver.sent.map(([id, data]) => [id & 0x3ffffff, data])).toEqual(
      fromReceiver.map(([id, data]) => [id & 0x3ffffff, data]),
    );

    // Who sends, sends the same frames; only the packets that it takes at once differ in RTS.
    const sender = transport({ address: 0x80 });
    const sending = sender.tp.send({ priority: 7, pgn, destination: to }, Buffer.from(payload, 'hex'));
    for (const [id, data] of fromReceiver) {
      await settled();
      sender.receive(id, data);
      await settled();
      await sender.timers.advance(0);
    }
    await sender.timers.advance(60 * 255);
    await sending;
    const withoutLimit = ([id, data]: [number, string]) => [
      id & 0x3ffffff,
      data.startsWith('10') && ((id >> 16) & 0xff) === 0xec ? data.slice(0, 8) + data.slice(10) : data,
    ];
    expect(sender.sent.map(withoutLimit)).toEqual(fromSender.map(withoutLimit));
    expect(sender.timers.pending).toBe(0);
  });
});

describe('a broadcast', () => {
  const BAM = 0x1cecff00;
  const DATA = 0x1cebff00;
  const announce = '20140003ffcafe00'; // 20 bytes in 3 packets of PGN 0xFECA

  test('of several nodes at once arrives from each', () => {
    const { receive, messages } = transport();
    for (const source of [0, 3]) receive(BAM | source, announce);
    for (const number of [1, 2, 3])
      for (const source of [0, 3]) receive(DATA | source, `0${number}` + `0${source}`.repeat(7));
    expect(messages.map(({ source, data }) => [source, hex(data)])).toEqual([
      [0, '00'.repeat(20)],
      [3, '03'.repeat(20)],
    ]);
  });

  test('with a lost packet is lost, and the packet is counted', () => {
    const { tp, receive, messages, lost } = transport();
    receive(BAM, announce);
    receive(DATA, '01aaaaaaaaaaaaaa');
    receive(DATA, '03aaaaaaaaaaaaaa');
    expect([messages, lost]).toEqual([[], [{ reason: 'packets are missing', packets: 1 }]]);
    expect([tp.counters.lostPackets, tp.counters.lostMessages, tp.sessions]).toEqual([1, 1, 0]);
  });

  test('is given up after T1, 750 ms without a packet', async () => {
    const { tp, timers, receive, lost } = transport();
    receive(BAM, announce);
    await timers.advance(700);
    receive(DATA, '01aaaaaaaaaaaaaa');
    await timers.advance(749);
    expect(lost).toEqual([]);
    await timers.advance(1);
    expect([lost[0]?.packets, tp.counters.timeouts]).toEqual([2, 1]);
  });

  test('that another of the same node replaces is lost', () => {
    const { receive, lost } = transport();
    receive(BAM, announce);
    receive(BAM, announce);
    expect(lost).toEqual([{ reason: 'the sender began another message', packets: 3 }]);
  });

  test('more than the bound at once are refused; nonsense is ignored', () => {
    const { tp, receive } = transport({ sessionsMax: 2 });
    for (const source of [1, 2, 3]) receive(BAM | source, announce);
    expect([tp.sessions, tp.counters.refused]).toEqual([2, 1]);
    receive(BAM | 9, '20140004ffcafe00'); // 20 bytes are not 4 packets
    receive(BAM | 9, '20ffffffffcafe00'); // 65,535 bytes
    receive(DATA | 9, '01aaaaaaaaaaaaaa'); // of no message
    receive(DATA | 1, '00aaaaaaaaaaaaaa'); // packets count from 1
    receive(BAM | 9, '2014');
    expect(tp.counters.ignored).toBe(5);
  });
});

describe('a connection', () => {
  const RTS = 0x1cec9080;
  const DATA = 0x1ceb9080;
  const BACK = 0x1cec8090;
  const request = '10140003ff00ef00'; // 20 bytes in 3 packets of PGN 0xEF00

  test('asks again for a packet that was lost, twice, and then aborts', async () => {
    const { receive, sent, messages, lost } = transport({ address: 0x90 });
    receive(RTS, request);
    for (let i = 0; i < 3; i++) {
      receive(DATA, '01aaaaaaaaaaaaaa');
      receive(DATA, '03aaaaaaaaaaaaaa');
    }
    await settled();
    expect(sent[0]).toEqual([BACK, '110301ffff00ef00']);
    expect(sent[1]).toEqual([BACK, '110202ffff00ef00']);
    expect(sent.at(-1)).toEqual([BACK, 'ff05ffffff00ef00']);
    expect([messages, lost]).toEqual([[], [{ reason: 'packets were missing again', packets: 1 }]]);
  });

  test('arrives when the lost packet comes on being asked for', async () => {
    const { receive, sent, messages } = transport({ address: 0x90 });
    receive(RTS, request);
    for (const number of [1, 3, 2, 3]) receive(DATA, `0${number}aaaaaaaaaaaaaa`);
    await settled();
    expect(messages.map(({ data }) => data.length)).toEqual([20]);
    expect(sent.at(-1)).toEqual([BACK, '13140003ff00ef00']);
  });

  test('is aborted after T2, 1250 ms after the CTS', async () => {
    const { timers, receive, sent } = transport({ address: 0x90 });
    receive(RTS, request);
    await timers.advance(1250);
    expect(sent.at(-1)).toEqual([BACK, 'ff03ffffff00ef00']);
  });

  test('that its sender aborts is lost', () => {
    const { tp, receive, lost } = transport({ address: 0x90 });
    receive(RTS, request);
    receive(RTS, 'ff02ffffff00ef00');
    expect([lost.length, tp.counters.aborts, tp.sessions]).toEqual([1, 1, 0]);
  });

  const send = (sender: ReturnType<typeof transport>) =>
    sender.tp.send({ priority: 7, pgn: 0xef00, destination: 0x90 }, new Uint8Array(20));

  test('fails when nobody answers for T3, 1250 ms, and says so to the peer', async () => {
    const sender = transport({ address: 0x80 });
    const failed = expect(send(sender)).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
    await sender.timers.advance(1250);
    await failed;
    expect(sender.sent.at(-1)).toEqual([RTS, 'ff03ffffff00ef00']);
  });

  test('goes on after a CTS that says wait, when the next comes within T4, 1050 ms', async () => {
    const sender = transport({ address: 0x80 });
    const sending = send(sender);
    await settled();
    sender.receive(BACK, '1100ffffff00ef00');
    await sender.timers.advance(1049);
    sender.receive(BACK, '110301ffff00ef00');
    await settled();
    sender.receive(BACK, '13140003ff00ef00');
    await sending;
    expect(sender.sent.length).toBe(4);
  });

  test('fails when T4 is over, or the peer aborts', async () => {
    const sender = transport({ address: 0x80 });
    const late = expect(send(sender)).rejects.toMatchObject({ code: 'DIAGNOSTICS_TIMEOUT' });
    await settled();
    sender.receive(BACK, '1100ffffff00ef00');
    await sender.timers.advance(1050);
    await late;
    const refused = expect(send(sender)).rejects.toMatchObject({ code: 'DIAGNOSTICS_REFUSED' });
    await settled();
    sender.receive(BACK, 'ff01ffffff00ef00');
    await refused;
  });

  test('1786 bytes are too many', async () => {
    const { tp } = transport({ address: 0x80 });
    await expect(
      tp.send({ priority: 7, pgn: 0xef00, destination: 0x90 }, new Uint8Array(1786)),
    ).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('DM1', () => {
  test.each(golden.dtcs)('SPN $spn, FMI $fmi as can-j1939 packs it', ({ spn, fmi, occurrences, bytes }) => {
    const data = Buffer.from('44ff' + bytes + 'ffff', 'hex');
    expect(parseDm1(data)).toEqual({
      malfunction: 'on',
      redStop: 'off',
      amberWarning: 'on',
      protect: 'off',
      codes: [{ spn, fmi, occurrences }],
    });
    expect(hex(formatDm1(parseDm1(data)!))).toBe(hex(data));
  });

  test('without a code', () => {
    const none = parseDm1(Buffer.from('00ff00000000ffff', 'hex'));
    expect(none?.codes).toEqual([]);
    expect(hex(formatDm1(none!))).toBe('00ff00000000ffff');
    expect(parseDm1(Buffer.from('00ff', 'hex'))).toBeNull();
  });
});
