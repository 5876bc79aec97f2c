import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseDbc, type Message } from '../../src/dbc/index.ts';
import { randomDbc, seeded } from './random-dbc.ts';

const fixture = (name: string) =>
  parseDbc(readFileSync(`${import.meta.dirname}/fixtures/${name}.dbc`), `${name}.dbc`);
const message = (messages: Message[], name: string) => messages.find((m) => m.name === name)!;

describe('a sound DBC file', () => {
  const { messages, warnings } = fixture('vehicle');

  it('gives its messages without warnings', () => {
    expect(warnings).toEqual([]);
    expect(messages.map((m) => [m.name, m.id, m.extended, m.length, m.cycleTimeMs])).toEqual([
      ['EngineData', 256, false, 8, 10],
      ['Wheels', 257, false, 8, null],
      ['J1939Engine', 419351061, true, 8, 100],
      ['Empty', 512, false, 0, null],
    ]);
  });

  it('gives signals with unit, range, value names and comment', () => {
    const [speed, torque, , , running] = message(messages, 'EngineData').signals;
    expect(speed).toMatchObject({
      name: 'EngineSpeed',
      start: 0,
      length: 16,
      byteOrder: 'little',
      type: 'unsigned',
    });
    expect(speed).toMatchObject({
      scale: 0.25,
      offset: 0,
      minimum: 0,
      maximum: 16383.75,
      unit: 'rpm',
      branch: null,
    });
    expect(torque).toMatchObject({
      type: 'signed',
      comment: 'At the "flywheel", not the wheel; see drawing',
    });
    expect([...running!.choices!]).toEqual([
      [1, 'Engine is on'],
      [0, 'Engine is "off"'],
    ]);
  });

  it('takes statements in a comment as text', () => {
    expect(messages.map((m) => m.name)).not.toContain('NotAMessage');
    expect(message(messages, 'EngineData').comment).toBe('He said "fast";\nand went on.');
  });

  it('uses the long names that did not fit into a line', () => {
    const names = message(messages, 'Wheels').signals.map((s) => s.name);
    expect(names).toContain('RearLeftWheelSpeedOverGroundFiltered');
  });

  it('leaves out signals that belong to no message', () => {
    expect(messages.flatMap((m) => m.signals.map((s) => s.name))).not.toContain('Orphan');
  });

  it('knows CAN FD by VFrameFormat, as a name or a number', () => {
    expect(
      fixture('wide')
        .messages.filter((m) => m.fd)
        .map((m) => m.name),
    ).toEqual(['Fd']);
    const numeric =
      'BO_ 1 A: 8 X\nBO_ 2 B: 8 X\nBA_DEF_ BO_ "VFrameFormat" INT 0 15;\nBA_DEF_DEF_ "VFrameFormat" 14;\n' +
      'BA_ "VFrameFormat" BO_ 2 0;';
    expect(parseDbc(numeric).messages.map((m) => m.fd)).toEqual([true, false]);
  });

  it.each(['\n', '\r\n', '\r'])('may end its lines with %j', (end) => {
    const text = 'BO_ 1 A: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n\nCM_ BO_ 1 "a\nb";\n';
    const parsed = parseDbc(text.replaceAll('\n', end));
    expect(parsed.warnings).toEqual([]);
    expect(parsed.messages[0]).toMatchObject({ comment: 'a\nb', signals: [{ name: 'S' }] });
  });

  it('may have no line breaks and comments in the style of C', () => {
    const { messages, warnings } = parseDbc(
      'VERSION "" BO_ 1 A : 8 X SG_ S : 0 | 8 @ 1 + ( 1 , 0 ) [ 0 | 0 ] "" X\n// nothing\nVAL_ 1 S 0 "x" ;',
    );
    expect(warnings).toEqual([]);
    expect(messages[0]).toMatchObject({ signals: [{ name: 'S', choices: new Map([[0, 'x']]) }] });
  });

  it('is UTF-8 where it is valid, else code page 1252', () => {
    const text = 'BO_ 1 A: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "°C €" X\n';
    const cp1252 = Buffer.from(text.replace('€', '\x80'), 'latin1');
    for (const source of [text, Buffer.from(text), Buffer.from(`\ufeff${text}`), cp1252])
      expect(parseDbc(source).messages[0]?.signals[0]?.unit).toBe('°C €');
  });
});

describe('multiplexing', () => {
  const { messages, warnings } = fixture('multiplexed');
  const branches = (name: string) => {
    const { signals } = message(messages, name);
    return Object.fromEntries(
      signals.map((s) => [
        s.name,
        s.branch && [signals[s.branch.selector]!.name, ...s.branch.ranges.map(String)],
      ]),
    );
  };

  it('is simple with one selector', () => {
    expect(warnings).toEqual([]);
    expect(branches('Simple')).toMatchObject({
      Service: null,
      Pid: null,
      Load: ['Pid', '4,4'],
      Rpm: ['Pid', '12,12'],
    });
  });

  it('is extended with SG_MUL_VAL_ and several', () => {
    expect(branches('Cascaded')).toEqual({
      Mode: null,
      SubMode: ['Mode', '1,1'],
      Current: ['SubMode', '1,1'],
      Voltage: ['Mode', '2,2', '4,7'],
      InRange: ['SubMode', '0,0', '3,9'],
      Always: null,
      Deep: ['SubMode', '3,3'],
    });
  });

  it('warns of signals that no frame can have', () => {
    const lines = [
      'BO_ 1 A: 8 X',
      ' SG_ M1 M : 0|4@1+ (1,0) [0|0] "" X',
      ' SG_ M2 m0M : 4|4@1+ (1,0) [0|0] "" X',
      ' SG_ S m0 : 8|8@1+ (1,0) [0|0] "" X',
      'SG_MUL_VAL_ 1 M2 S 0-0;',
      'SG_MUL_VAL_ 1 S M2 0-0;',
    ];
    const parsed = parseDbc(lines.join('\n'));
    expect(parsed.messages[0]?.signals.map((s) => s.name)).toEqual(['M1']);
    expect(parsed.warnings.map((w) => w.line)).toEqual([3, 4]);
  });
});

describe('a broken DBC file', () => {
  const { messages, warnings } = fixture('malformed');

  it('keeps what can be understood', () => {
    expect(messages.map((m) => [m.name, m.signals.map((s) => s.name)])).toEqual([
      ['Good', ['Temp', 'Tabbed', 'Unclosed', 'NoRange', 'OddMarker', 'Beyond', 'Last']],
      ['NoFlag', ['Value']],
      ['First', ['A']],
      ['Second', ['B']],
      ['Twice', ['Same']],
      ['OddFloat', ['Rest']],
      ['AfterAll', ['Z']],
    ]);
    const good = message(messages, 'Good');
    expect(good.signals[0]).toMatchObject({ unit: '°C', comment: '„Grad“' });
    expect(good.signals[1]?.choices?.get(1)).toBe('on');
    expect(good.signals[6]?.comment).toBe('a "bare" quote; and a semicolon');
    expect(good.cycleTimeMs).toBe(50);
    expect(message(messages, 'Second').cycleTimeMs).toBe(20);
    expect(message(messages, 'NoFlag')).toMatchObject({ id: 419361024, extended: true });
    expect(message(messages, 'Twice').signals[0]?.start).toBe(0);
  });

  it('warns of the rest, each with its line', () => {
    const text = readFileSync(`${import.meta.dirname}/fixtures/malformed.dbc`, 'latin1').split('\r\n');
    const begins = warnings.map((w) => text[w.line - 1]?.trim().split(/ : | \(|: /)[0]);
    expect(begins).toEqual([
      'SG_ Broken',
      'SG_ NoBits',
      'SG_ Unclosed',
      'SG_ NoRange',
      'SG_ OddMarker x3',
      'SG_ Beyond',
      'BO_ 101 NoColon 8 Ecu',
      'this line is nothing at all',
      'BO_ 419361024 NoFlag',
      'BO_ 3758096384 TooWide',
      'BO_ 103 Second',
      'SG_ Same',
      'SG_ F',
      'CM_ BO_ 100 "never closed;',
      'BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535',
      'BA_DEF_DEF_ "GenMsgCycleTime" 50',
      'VAL_ 100 Gone 0 "x" 1 "y" ;',
      'VAL_ 100 Tabbed 0 "off" 1 "on"',
    ]);
  });

  it.each([
    ['nothing', ''],
    ['another format', '{"messages": []}\n'],
    ['no message that counts', 'BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 X\nBO_ zero Bad: 8 X\n'],
    ['bytes of no text', Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 37) % 256))],
  ])('of %s is refused', (_, source) => {
    expect(() => parseDbc(source, 'car.dbc')).toThrow(
      expect.objectContaining({
        code: 'DBC_INVALID',
        message: expect.stringContaining('car.dbc has no usable message') as unknown,
      }),
    );
  });

  it('never ends in anything but messages or DBC_INVALID', () => {
    const random = seeded(3);
    const int = (below: number) => Math.floor(random() * below);
    const sound =
      readFileSync(`${import.meta.dirname}/fixtures/vehicle.dbc`, 'utf8') + randomDbc(random).text;
    for (let i = 0; i < 400; i++) {
      let text = sound;
      for (let edits = 1 + int(5); edits > 0; edits--) {
        const at = int(text.length);
        const insert = ['', '"', ';', '\n', '\\', ' SG_ ', 'BO_ '][int(7)]!;
        text = text.slice(0, at) + insert + text.slice(at + int(20));
      }
      try {
        const { messages, warnings } = parseDbc(text);
        expect(messages.length).toBeGreaterThan(0);
        for (const { line } of warnings) expect(line).toBeLessThanOrEqual(text.split('\n').length);
      } catch (error) {
        expect(error).toMatchObject({ code: 'DBC_INVALID' });
      }
    }
  });
});
