import { describe, expect, it } from 'vitest';
import { compileEncoder, parseDbc } from '../../src/dbc/index.ts';

const encoder = compileEncoder(
  parseDbc(`
BO_ 1 Plain: 4 X
 SG_ Temp : 0|8@1+ (0.5,-40) [0|10] "" X
 SG_ Signed : 15|12@0- (1,0) [0|0] "" X
BO_ 2 Muxed: 3 X
 SG_ Kind M : 0|8@1+ (1,0) [0|0] "" X
 SG_ One m1 : 8|8@1+ (1,0) [0|0] "" X
 SG_ Two m2 : 15|16@0+ (1,0) [0|0] "" X
BO_ 3 Floats: 8 X
 SG_ F32 : 0|32@1- (1,0) [0|0] "" X
 SG_ F16 : 32|16@1- (1,0) [0|0] "" X
BO_ 4 Wide: 8 X
 SG_ S64 : 7|64@0- (1,0) [0|0] "" X
BO_ 5 Short: 1 X
 SG_ In : 0|8@1+ (1,0) [0|0] "" X
 SG_ Beyond : 8|8@1+ (1,0) [0|0] "" X
VAL_ 2 Kind 7 "nothing more" ;
SIG_VALTYPE_ 3 F32 : 1;
SIG_VALTYPE_ 3 F16 : 1;
`),
);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const encode = (message: string, values: Record<string, number | bigint | string>) =>
  hex(encoder.message(message).encode(values));
const refusal = (message: RegExp): unknown =>
  expect.objectContaining({ code: 'DBC_ENCODE', message: expect.stringMatching(message) as unknown });

describe('an encoder', () => {
  it('writes values in the order of the signals, and zeroes the other bits', () => {
    const out = new Uint8Array(6).fill(0xaa);
    encoder.message('Plain').encode(Float64Array.of(-30, -2), out);
    expect(hex(out)).toBe('14ffe000aaaa');
    expect(encode('Plain', { Signed: -2, Temp: -30 })).toBe('14ffe000');
  });

  it('rounds to the nearest raw value, ties to even', () => {
    expect(encode('Plain', { Temp: -39.75, Signed: 0.5 })).toBe('00000000');
    expect(encode('Plain', { Temp: -39.25, Signed: 1.5 })).toBe('02002000');
  });

  it('does not apply minimum and maximum', () => {
    expect(encode('Plain', { Temp: 87.5, Signed: 0 })).toBe('ff000000');
  });

  it.each([
    [{ Temp: 88, Signed: 0 }, /Temp of Plain cannot carry 88: its 8 bits hold -40 to 87.5/],
    [{ Temp: 0, Signed: 2048 }, /Signed of Plain cannot carry 2048/],
    [{ Temp: 0, Signed: -2049 }, /Signed of Plain cannot carry -2049/],
    [{ Temp: NaN, Signed: 0 }, /Plain needs a value for Temp/],
    [{ Temp: 0 }, /Plain needs a value for Signed/],
    [{ Temp: 0, Signed: 0, Typo: 1 }, /Plain has no signal Typo/],
  ])('refuses %j', (values, message) => {
    expect(() => encode('Plain', values as Record<string, number>)).toThrow(refusal(message));
  });

  it('refuses a message that it does not know, and too short an array', () => {
    expect(() => encoder.message('Typo')).toThrow(refusal(/no message Typo/));
    expect(() => encoder.message('Plain').encode([0, 0], new Uint8Array(3))).toThrow(
      refusal(/needs 4 bytes/),
    );
  });

  it('encodes the active branch only', () => {
    expect(encode('Muxed', { Kind: 1, One: 5 })).toBe('010500');
    expect(encode('Muxed', { Kind: 2, Two: 0x1234, One: 9999 })).toBe('021234');
    expect(encode('Muxed', { Kind: 7 })).toBe('070000');
    expect(() => encode('Muxed', { Kind: 1, Two: 1 })).toThrow(refusal(/needs a value for One/));
    expect(() => encode('Muxed', { Kind: 3 })).toThrow(refusal(/no signals for Kind = 3/));
  });

  it('writes floats, and refuses what they cannot carry', () => {
    expect(encode('Floats', { F32: -1.5, F16: 65504 })).toBe('0000c0bfff7b0000');
    expect(encode('Floats', { F32: Infinity, F16: -Infinity })).toBe('0000807f00fc0000');
    expect(encode('Floats', { F32: NaN, F16: 2 ** -24 })).toBe('0000c07f01000000');
    expect(() => encode('Floats', { F32: 1e39, F16: 0 })).toThrow(refusal(/F32 of Floats cannot carry/));
    expect(() => encode('Floats', { F32: 0, F16: 65520 })).toThrow(refusal(/F16 of Floats cannot carry/));
    expect(() => encode('Floats', { F32: 0 })).toThrow(refusal(/needs a value for F16/));
  });

  it('writes 64 bits', () => {
    expect(encode('Wide', { S64: -1 })).toBe('ffffffffffffffff');
    expect(encode('Wide', { S64: -(2 ** 63) })).toBe('8000000000000000');
    expect(encode('Wide', { S64: 2 ** 53 + 2 })).toBe('0020000000000002');
    expect(() => encode('Wide', { S64: 2 ** 63 })).toThrow(refusal(/cannot carry/));
  });

  it('writes a bigint with all digits, and refuses one that does not fit', () => {
    expect(encode('Wide', { S64: 2n ** 63n - 1n })).toBe('7fffffffffffffff');
    expect(encode('Wide', { S64: -(2n ** 63n) })).toBe('8000000000000000');
    expect(() => encode('Wide', { S64: 2n ** 63n })).toThrow(refusal(/S64 of Wide cannot carry 92233720/));
    expect(encode('Plain', { Temp: -30n, Signed: -2n })).toBe('14ffe000');
  });

  it('takes the names of values', () => {
    expect(encode('Muxed', { Kind: 'nothing more' })).toBe('070000');
    expect(() => encode('Muxed', { Kind: 'typo' })).toThrow(refusal(/has no value named "typo"/));
    expect(() => encode('Plain', { Temp: 'on', Signed: 0 })).toThrow(refusal(/no value named "on"/));
  });

  it('refuses a value for a signal beyond its message, which would be lost', () => {
    expect(encode('Short', { In: 7 })).toBe('07');
    expect(() => encode('Short', { In: 7, Beyond: 1 })).toThrow(refusal(/Beyond is beyond the 1 bytes/));
  });

  it('finds a message by its id', () => {
    expect(encoder.find(4, false)?.message.name).toBe('Wide');
    expect(encoder.find(4, true)).toBeUndefined();
  });
});
