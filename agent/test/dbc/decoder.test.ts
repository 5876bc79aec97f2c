import { describe, expect, it } from 'vitest';
import { compileDecoder, type Decoder, parseDbc } from '../../src/dbc/index.ts';

const MULTIPLEXED = parseDbc(`
BO_ 16 Car: 4 X
 SG_ Speed : 0|8@1+ (2,0) [0|0] "" X
 SG_ Kind M : 8|8@1+ (1,0) [0|0] "" X
 SG_ One m1 : 16|8@1+ (1,0) [0|0] "" X
 SG_ Two m2 : 16|16@1+ (1,0) [0|0] "" X
BO_ 2147483664 Same: 1 X
 SG_ Other : 0|8@1- (1,0) [0|0] "" X
`);

function decoded(decoder: Decoder, id: number, extended: boolean, hex: string): Record<string, number> {
  const message = decoder.find(id, extended)!;
  message.decode(Buffer.from(hex, 'hex'));
  const slots = Array.from({ length: message.count }, (_, i) => message.first + i);
  return Object.fromEntries(
    slots.filter((s) => decoder.present[s]).map((s) => [message.signalAt(s).name, decoder.values[s]!]),
  );
}

describe('a decoder', () => {
  it('tells 11-bit from 29-bit ids', () => {
    const decoder = compileDecoder(MULTIPLEXED);
    expect(decoder.find(16, false)?.message.name).toBe('Car');
    expect(decoder.find(16, true)?.message.name).toBe('Same');
    expect(decoder.find(17, false)).toBeUndefined();
    expect(decoder.find(17, true)).toBeUndefined();
  });

  it('gives each signal of each message a slot of its own', () => {
    const decoder = compileDecoder(MULTIPLEXED);
    expect(decoder.values).toHaveLength(5);
    expect(decoded(decoder, 16, true, 'ff')).toEqual({ Other: -1 });
    expect(decoded(decoder, 16, false, '0301ff00')).toEqual({ Speed: 6, Kind: 1, One: 255 });
    expect(decoder.values[decoder.find(16, true)!.first]).toBe(-1);
    expect(() => decoder.find(16, true)!.signalAt(0)).toThrow(RangeError);
  });

  it('follows the selector from frame to frame', () => {
    const decoder = compileDecoder(MULTIPLEXED);
    expect(decoded(decoder, 16, false, '0301ff00')).toEqual({ Speed: 6, Kind: 1, One: 255 });
    expect(decoded(decoder, 16, false, '0302ff01')).toEqual({ Speed: 6, Kind: 2, Two: 511 });
    expect(decoded(decoder, 16, false, '0309ff01')).toEqual({ Speed: 6, Kind: 9 });
  });

  it('gives what a short frame has, and counts it', () => {
    const decoder = compileDecoder(MULTIPLEXED);
    expect(decoded(decoder, 16, false, '0302ff')).toEqual({ Speed: 6, Kind: 2 });
    expect(decoded(decoder, 16, false, '0301ff')).toEqual({ Speed: 6, Kind: 1, One: 255 });
    expect(decoded(decoder, 16, false, '03')).toEqual({ Speed: 6 });
    expect(decoded(decoder, 16, false, '')).toEqual({});
    expect(decoder.shortFrames).toBe(4);
    expect(decoded(decoder, 16, false, '0301ff00')).toEqual({ Speed: 6, Kind: 1, One: 255 });
    expect(decoder.shortFrames).toBe(4);
  });

  it('ignores bytes beyond the message', () => {
    const decoder = compileDecoder(MULTIPLEXED);
    expect(decoded(decoder, 16, false, '0301ff00ffffffff')).toEqual({ Speed: 6, Kind: 1, One: 255 });
    expect(decoder.shortFrames).toBe(0);
  });

  it('decodes a signal beyond the length of its message where the frame has it', () => {
    const decoder = compileDecoder(parseDbc('BO_ 1 A: 1 X\n SG_ S : 8|8@1+ (1,0) [0|0] "" X'));
    expect(decoded(decoder, 1, false, '00')).toEqual({});
    expect(decoded(decoder, 1, false, '0007')).toEqual({ S: 7 });
    expect(decoder.shortFrames).toBe(0);
  });

  it('decodes overlapping signals each by itself', () => {
    const lines = [
      'BO_ 1 A: 2 X',
      ' SG_ All : 0|16@1+ (1,0) [0|0] "" X',
      ' SG_ Low : 4|8@1+ (1,0) [0|0] "" X',
    ];
    expect(decoded(compileDecoder(parseDbc(lines.join('\n'))), 1, false, '3412')).toEqual({
      All: 0x1234,
      Low: 0x23,
    });
  });

  it('gives integers beyond 2^53 exactly on request', () => {
    const decoder = compileDecoder(parseDbc('BO_ 1 A: 8 X\n SG_ S : 0|64@1+ (1,0) [0|0] "" X'));
    const data = Buffer.alloc(8, 0xff);
    const message = decoder.find(1, false)!;
    message.decode(data);
    expect(decoder.values[0]).toBe(2 ** 64);
    expect(message.exact(0, data)).toBe(2n ** 64n - 1n);
  });

  it('keeps a message with thousands of branches right', () => {
    const lines = ['BO_ 1 A: 8 X', ' SG_ M M : 0|16@1+ (1,0) [0|0] "" X'];
    for (let i = 0; i < 2000; i++) lines.push(` SG_ S${i} m${i} : 16|16@1+ (1,${i}) [0|0] "" X`);
    const decoder = compileDecoder(parseDbc(lines.join('\n')));
    for (const i of [0, 127, 128, 1999, 5]) {
      const data = Buffer.alloc(8);
      data.writeUInt16LE(i);
      expect(decoded(decoder, 1, false, data.toString('hex'))).toEqual({ M: i, [`S${i}`]: i });
    }
  });
});
