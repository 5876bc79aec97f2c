import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DecodeOptions, decodeCommand } from '../src/decode.ts';

const DBC = `
BO_ 256 Car: 2 X
 SG_ Speed : 0|8@1+ (0.5,0) [0|0] "" X
 SG_ Temp : 8|8@1- (1,0) [0|0] "" X
BO_ 2147483904 Extended: 1 X
 SG_ Say"s : 0|8@1+ (1,0) [0|0] "" X
BO_ 3 Float: 4 X
 SG_ F : 0|32@1- (1,0) [0|0] "" X
BO_ 4 Wide: 8 X
 SG_ U64 : 0|64@1+ (1,0) [0|0] "" X
BO_ 5 WideFloat: 8 X
 SG_ U64 : 0|64@1+ (1.5,0) [0|0] "" X
SIG_VALTYPE_ 3 F : 1;
this is nothing
`;

class Collector extends Writable {
  text = '';
  override _write(chunk: Buffer, _: unknown, done: () => void): void {
    this.text += chunk.toString();
    setImmediate(done); // a reader that takes its time
  }
}

describe('cardan-agent decode', () => {
  let folder: string;
  let dbcPath: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'cardan-decode-'));
    dbcPath = join(folder, 'car.dbc');
    writeFileSync(dbcPath, DBC);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  async function decode(input: string, options: Partial<DecodeOptions> = {}) {
    const out = new Collector();
    const err = new Collector();
    const stdin = Readable.from([Buffer.from(input)]);
    const summary = await decodeCommand({
      dbcPath,
      inPath: '-',
      format: 'candump',
      stdin,
      out,
      err,
      ...options,
    });
    return { summary, lines: out.text.split('\n').slice(0, -1), err: err.text.split('\n').slice(0, -1) };
  }

  it('prints one JSON object per frame', async () => {
    const { lines, summary } = await decode(
      '(1700000000.020000) can0 100#08FF\n(0000.5) can0 00000100##10A\n(1) can0 7FF#00\n',
    );
    expect(lines).toEqual([
      '{"ts":1700000000.020000,"id":256,"extended":false,"fd":false,"message":"Car","signals":{"Speed":4,"Temp":-1}}',
      '{"ts":0.5,"id":256,"extended":true,"fd":true,"message":"Extended","signals":{"Say\\"s":10}}',
      '{"ts":1,"id":2047,"extended":false,"fd":false,"message":null,"signals":{}}',
    ]);
    expect(summary).toEqual({
      frames: 3,
      unknown: 1,
      short: 0,
      malformed: 0,
      remote: 0,
      errors: 0,
      outClosed: false,
    });
  });

  it('writes numbers that JSON lacks as strings, and integers with all digits', async () => {
    const { lines } = await decode(
      [
        '003#0000C07F',
        '003#0000807F',
        '003#000080FF',
        '003#00000080',
        '004#FFFFFFFFFFFFFFFF',
        '005#FFFFFFFFFFFFFF7F',
      ]
        .map((frame) => `(1.0) can0 ${frame}\n`)
        .join(''),
    );
    const signals = lines.map((line) => /"signals":(.*)\}$/.exec(line)?.[1]);
    expect(signals).toEqual([
      '{"F":"NaN"}',
      '{"F":"Infinity"}',
      '{"F":"-Infinity"}',
      '{"F":-0.0}',
      '{"U64":18446744073709551615}',
      '{"U64":13835058055282164000.0}',
    ]);
    for (const line of lines) JSON.parse(line);
  });

  it('reads JSON lines', async () => {
    const frame = (fields: object) => `${JSON.stringify(fields)}\r\n`;
    const { lines, summary, err } = await decode(
      frame({ id: 256, is_extended: false, is_fd: false, data_hex: '08FF' }) +
        frame({ ts: 12.25, id: 256, is_extended: true, is_fd: true, data_hex: '07' }) +
        '\n' +
        'no json\n[]\n' +
        frame({ id: '256', is_extended: false, is_fd: false, data_hex: '' }) +
        frame({ id: 2048, is_extended: false, is_fd: false, data_hex: '' }) +
        frame({ id: 1, is_extended: false, is_fd: false, data_hex: '0' }) +
        frame({ id: 1, is_extended: false, is_fd: true, data_hex: '00'.repeat(65) }) +
        frame({ id: 256, is_extended: 1, is_fd: false, data_hex: '' }) +
        frame({ id: 256, is_extended: false, is_fd: false, data_hex: '08' }),
      { format: 'jsonl' },
    );
    expect(lines).toEqual([
      '{"ts":null,"id":256,"extended":false,"fd":false,"message":"Car","signals":{"Speed":4,"Temp":-1}}',
      '{"ts":12.25,"id":256,"extended":true,"fd":true,"message":"Extended","signals":{"Say\\"s":7}}',
      '{"ts":null,"id":256,"extended":false,"fd":false,"message":"Car","signals":{"Speed":4}}',
    ]);
    expect(summary).toMatchObject({ frames: 3, short: 1, malformed: 7 });
    expect(err.filter((line) => line.startsWith('line ')).map((line) => line.split(':')[0])).toEqual(
      [4, 5, 6, 7, 8, 9, 10].map((n) => `line ${n}`),
    );
  });

  it('reports warnings of the DBC, malformed lines and a summary', async () => {
    const { err } = await decode(
      '(1.0) can0 100#08\nx\n(1.0) can0 100#R\n(1.0) can0 20000001#00\n(1.0) can0 001#\n',
    );
    expect(err).toEqual([
      `${dbcPath}:14: "this is nothing" is no DBC statement`,
      'line 2: Not a CAN frame: expected "(seconds) interface ID#DATA", found "x".',
      '2 frames decoded: 1 of unknown id, 1 short; left out: 1 malformed lines, 1 remote and 1 error frames',
    ]);
  });

  it('keeps up with a slow reader and loses nothing', async () => {
    const frames = Array.from(
      { length: 20_000 },
      (_, i) => `(${i}.000000) can0 100#${(i % 256).toString(16).padStart(2, '0')}00\n`,
    );
    const { lines, summary } = await decode(frames.join(''));
    expect(summary.frames).toBe(20_000);
    expect(lines.map((line) => (JSON.parse(line) as { ts: number }).ts)).toEqual(frames.map((_, i) => i));
  });

  it('stops quietly when its reader goes away', async () => {
    const reader = spawn('head', ['-1'], { stdio: ['pipe', 'pipe', 'inherit'] });
    reader.stdout.resume();
    const stdin = Readable.from(
      (function* () {
        for (let i = 0; i < 5000; i++) yield Buffer.from('(1.0) can0 100#0000\n'.repeat(1000));
      })(),
    );
    const { summary } = await decode('', { out: reader.stdin, stdin });
    expect(summary.outClosed).toBe(true);
    expect(summary.frames).toBeLessThan(5_000_000);
    if (reader.exitCode === null) await once(reader, 'exit');
  });

  it('fails with the error of an output that breaks', async () => {
    const out = new PassThrough();
    out.destroy(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
    await expect(decode('(1.0) can0 100#0000\n', { out })).rejects.toMatchObject({ code: 'ENOSPC' });
  });

  it('names a file that it cannot read', async () => {
    await expect(decode('', { dbcPath: join(folder, 'none.dbc') })).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
    });
    await expect(decode('', { inPath: join(folder, 'none.log') })).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
    });
    await expect(decode('', { dbcPath: folder })).rejects.toMatchObject({ code: 'FILE_NOT_READABLE' });
    const broken = join(folder, 'broken.dbc');
    writeFileSync(broken, 'BO_\n');
    await expect(decode('', { dbcPath: broken })).rejects.toMatchObject({ code: 'DBC_INVALID' });
  });

  const trip = `${import.meta.dirname}/../../../shared/data/obd-trip`;
  it.skipIf(!present(`${trip}/obd2.dbc`))('decodes the trip of a real car whole', async () => {
    const { lines, summary } = await decode('', {
      dbcPath: `${trip}/obd2.dbc`,
      inPath: `${trip}/trip.candump.log`,
    });
    expect(summary).toMatchObject({ frames: 39_600, unknown: 0, short: 0, malformed: 0 });
    expect(JSON.parse(lines[1]!)).toMatchObject({
      ts: 1700000000.02,
      message: 'ObdResponse',
      signals: { Pid: 12 },
    });
  });
});

function present(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    console.log(`skipped: ${path} is not here`);
    return false;
  }
}
