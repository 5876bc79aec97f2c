import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeCommand } from '../src/decode.ts';
import { encodeCommand, type EncodeOptions } from '../src/encode.ts';
import { hasCantools } from './dbc/cantools.ts';
import { randomDbc, seeded } from './dbc/random-dbc.ts';

const DBC = `
BO_ 256 Car: 2 X
 SG_ Speed : 0|8@1+ (0.5,0) [0|0] "" X
 SG_ Gear : 8|8@1+ (2,1) [0|0] "" X
BO_ 2147483904 Extended: 1 X
 SG_ Value : 0|8@1- (1,0) [0|0] "" X
BO_ 3 Float: 4 X
 SG_ F : 0|32@1- (1,0) [0|0] "" X
BO_ 4 Wide: 16 X
 SG_ U64 : 0|64@1+ (1,0) [0|0] "" X
 SG_ S64 : 71|64@0- (-2,6) [0|0] "" X
BO_ 5 Muxed: 9 X
 SG_ Kind M : 0|8@1+ (1,0) [0|0] "" X
 SG_ Big m1 : 8|64@1+ (1,0) [0|0] "" X
 SG_ Small m2 : 8|8@1+ (1,0) [0|0] "" X
BO_ 6 TooLong: 65 X
VAL_ 256 Gear 7 "Reverse" 3 "4" ;
VAL_ 5 Kind 1 "big" 2 "small" ;
SIG_VALTYPE_ 3 F : 1;
`;

class Collector extends Writable {
  text = '';
  override _write(chunk: Buffer, _: unknown, done: () => void): void {
    this.text += chunk.toString();
    setImmediate(done); // a reader that takes its time
  }
}

describe('cardan-agent encode', () => {
  let folder: string;
  let dbcPath: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'cardan-encode-'));
    dbcPath = join(folder, 'car.dbc');
    writeFileSync(dbcPath, DBC);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  async function encode(input: string, options: Partial<EncodeOptions> = {}) {
    const out = new Collector();
    const err = new Collector();
    const stdin = Readable.from([Buffer.from(input)]);
    const summary = await encodeCommand({ dbcPath, inPath: '-', stdin, out, err, ...options });
    return { summary, lines: out.text.split('\n').slice(0, -1), err: err.text.split('\n').slice(0, -1) };
  }
  const frame = (id: number, values: object, fields: object = {}) =>
    `${JSON.stringify({ id, is_extended: false, is_fd: false, values, ...fields })}\n`;
  const hexOf = (lines: string[]) => lines.map((line) => (JSON.parse(line) as { data_hex: string }).data_hex);

  it('prints one JSON object per frame', async () => {
    const { lines, err } = await encode(
      frame(256, { Speed: 4, Gear: 1 }) +
        frame(256, { Value: -1 }, { ts: 12.25, is_extended: true, is_fd: true }) +
        '\n{"id":4,"values":{"U64":0,"S64":6}}\r\n',
    );
    expect(lines).toEqual([
      '{"id":256,"is_extended":false,"is_fd":false,"data_hex":"0800"}',
      '{"ts":12.25,"id":256,"is_extended":true,"is_fd":true,"data_hex":"ff"}',
      `{"id":4,"is_extended":false,"is_fd":true,"data_hex":"${'00'.repeat(16)}"}`,
    ]);
    expect(err).toEqual([
      '3 frames encoded; left out: 0 of unknown id, 0 with values that do not fit, 0 malformed lines',
    ]);
  });

  it('takes numbers that JSON lacks, and names of values', async () => {
    const { lines, err } = await encode(
      frame(3, { F: 'NaN' }) +
        frame(3, { F: 'Infinity' }) +
        frame(3, { F: '-Infinity' }) +
        frame(256, { Speed: '4', Gear: 'Reverse' }) +
        frame(256, { Speed: 4, Gear: '4' }) +
        frame(5, { Kind: 'small', Small: 5 }) +
        frame(5, { Kind: 'big', Big: '1' }),
    );
    expect(hexOf(lines)).toEqual([
      '0000c07f',
      '0000807f',
      '000080ff',
      '0807',
      '0803',
      '020500000000000000',
      '010100000000000000',
    ]);
    expect(err).toHaveLength(1);
  });

  it('keeps all digits of integers beyond 2^53, with quotes or without', async () => {
    const max = 2n ** 64n - 1n;
    const low = -2n * (2n ** 63n - 1n) + 6n;
    const { lines } = await encode(
      `{"id":4,"values":{"U64":${max},"S64":${low}}}\n` +
        frame(4, { U64: String(max), S64: String(low) }) +
        frame(4, { U64: 0, S64: String(2n ** 64n + 6n) }) +
        frame(5, { Kind: 1, Big: String(2n ** 53n + 1n) }) +
        frame(5, { Kind: 2, Small: 7, Big: String(max) }),
    );
    expect(hexOf(lines)).toEqual([
      'ffffffffffffffff7fffffffffffffff',
      'ffffffffffffffff7fffffffffffffff',
      '00000000000000008000000000000000',
      '010100000000002000',
      '020700000000000000',
    ]);
  });

  it('reports lines that cannot be encoded with their number, counts them, and goes on', async () => {
    const lines = [
      frame(256, { Speed: 4, Gear: 1 }),
      'no json\n',
      '[]\n',
      '{"id":256}\n',
      frame(256, { Speed: true, Gear: 1 }),
      frame(2048, {}),
      frame(7, {}),
      frame(256, { Speed: 128, Gear: 1 }),
      frame(256, { Speed: 4 }),
      frame(256, { Speed: 4, Gear: 1, Typo: 1 }),
      frame(256, { Speed: 4, Gear: 'Neutral' }),
      frame(4, { U64: String(2n ** 64n), S64: 6 }),
      frame(5, { Kind: 3 }),
      frame(6, {}),
      `${'x'.repeat(70_000)}\n`,
      frame(256, { Speed: 4, Gear: 1 }),
    ];
    const { summary, err, lines: encoded } = await encode(lines.join(''));
    expect(encoded).toHaveLength(2);
    expect(summary).toEqual({ frames: 2, unknown: 1, refused: 7, malformed: 6, outClosed: false });
    expect(err.slice(0, -1).map((line) => Number(/^line (\d+): ./.exec(line)?.[1]))).toEqual(
      lines.map((_, i) => i + 1).slice(1, -1),
    );
    expect(err[6]).toContain('Speed of Car cannot carry 128: its 8 bits hold 0 to 127.5');
    expect(err.at(-1)).toBe(
      '2 frames encoded; left out: 1 of unknown id, 7 with values that do not fit, 6 malformed lines',
    );
  });

  it('names a file that it cannot read', async () => {
    const code = (text: string): unknown => expect.objectContaining({ code: text });
    await expect(encode('', { dbcPath: join(folder, 'none') })).rejects.toEqual(code('FILE_NOT_FOUND'));
    await expect(encode('', { inPath: join(folder, 'none') })).rejects.toEqual(code('FILE_NOT_FOUND'));
  });

  it.skipIf(!hasCantools())('gives the same bytes as cantools, and what decode reads', async () => {
    const random = seeded(77);
    const cases: { text: string; path: string; input: string; values: string[] }[] = [];
    for (let n = 0; n < 25; n++) {
      const { text, frames } = randomDbc(random);
      const path = join(folder, `random-${n}.dbc`);
      writeFileSync(path, text);
      const raw = frames.map((f) => JSON.stringify({ id: f.id, is_extended: f.extended, data_hex: f.data }));
      const input = (await decode(path, raw.join('\n')))
        .map((line) => line.replace('"extended"', '"is_extended"').replace('"signals"', '"values"'))
        .map((line) => line.replace(/"ts":null,|"fd":false,|"message":"\w+",/g, ''));
      cases.push({ text, path, input: input.join('\n'), values: input });
    }
    const expected = askCantools(cases);
    let compared = 0;
    for (const [n, { path, input, values }] of cases.entries()) {
      const { lines, err } = await encode(input, { dbcPath: path });
      const left = new Set(err.map((line) => Number(/^line (\d+):/.exec(line)?.[1])));
      const encoded = values.map((_, i) => (left.has(i + 1) ? null : hexOf([lines.shift()!])[0]!));
      const kept: { line: string; again: string }[] = [];
      encoded.forEach((hex, i) => {
        // A NaN has many bit patterns; which one is encoded says nothing.
        if (!values[i]!.includes('"NaN"')) expect(hex, values[i]).toBe(expected[n]![i]);
        if (hex === null) return;
        const { id, is_extended } = JSON.parse(values[i]!) as { id: number; is_extended: boolean };
        kept.push({ line: values[i]!, again: JSON.stringify({ id, is_extended, data_hex: hex }) });
        compared++;
      });
      const again = await decode(path, kept.map((k) => k.again).join('\n'));
      expect(again).toHaveLength(kept.length);
    }
    expect(compared).toBeGreaterThan(500);
  });

  async function decode(path: string, input: string): Promise<string[]> {
    const out = new Collector();
    const stdin = Readable.from([Buffer.from(input)]);
    await decodeCommand({ dbcPath: path, inPath: '-', format: 'jsonl', stdin, out, err: new Collector() });
    return out.text.split('\n').slice(0, -1);
  }
});

function askCantools(cases: { text: string; values: string[] }[]): (string | null)[][] {
  // Put together by hand: JSON.stringify would round the long integers.
  const input = cases.map(
    ({ text, values }) => `{"text":${JSON.stringify(text)},"lines":[${values.join(',')}]}`,
  );
  const python = spawnSync('python3', [`${import.meta.dirname}/dbc/encode-oracle.py`], {
    input: `[${input.join(',')}]`,
    maxBuffer: 2 ** 28,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  if (python.status !== 0) throw new Error(python.stderr.toString());
  return JSON.parse(python.stdout.toString()) as (string | null)[][];
}
