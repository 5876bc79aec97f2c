import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadModel, parseManifest } from '@cardan/shared';
import { modelCard } from '../../src/models/model-card.ts';
import { TRIVIAL } from '../../src/trainer/trivial-detectors.ts';
import { csv, FLOW, pump, slice, throttled, timeText, type Recording } from './machines.ts';

/** `cardan-cloud score` and `fit`, as anybody runs them. */
const CLOUD = resolve(import.meta.dirname, '../../bin/cardan-cloud.js');
const HEAD = 400;
const TAIL = 700;
const [FROM, TO] = [250, 550];

let dir: string;
let head: Recording;
let tail: Recording;
const at = (name: string) => join(dir, name);
const write = (name: string, text: string) => {
  writeFileSync(at(name), text);
  return at(name);
};

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'csv-'));
  const all = pump(HEAD + TAIL, 1);
  head = slice(all, 0, HEAD);
  tail = throttled(slice(all, HEAD), FROM, TO);
  write('head.csv', csv(head));
  write('tail.csv', csv(tail, { first: HEAD }));
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});

/** Exit code, and what was said. */
function run(...args: string[]): Promise<{ code: number; said: string }> {
  return new Promise((done) => {
    execFile(process.execPath, [CLOUD, ...args], (error, stdout, stderr) => {
      done({ code: error === null ? 0 : Number(error.code), said: stdout + stderr });
    });
  });
}

interface Scored {
  header: string;
  times: string[];
  scores: number[];
  threshold: number;
  predictions: number[];
}

function scored(name: string): Scored {
  const [header, ...lines] = readFileSync(at(name), 'utf8').trimEnd().split('\n');
  const cells = lines.map((line) => line.split(','));
  const thresholds = new Set(cells.map(([, , threshold]) => Number(threshold)));
  expect(thresholds.size).toBe(1);
  return {
    header: header!,
    times: cells.map(([time]) => time!),
    scores: cells.map(([, score]) => Number(score)),
    threshold: [...thresholds][0]!,
    predictions: cells.map(([, , , prediction]) => Number(prediction)),
  };
}

/** Scores by the head; resolves to what was written. */
async function score(input: string, out: string): Promise<Scored> {
  const { code, said } = await run('score', '--train', at('head.csv'), '--input', input, '--out', at(out));
  expect(said).not.toMatch(/^error/m);
  expect(code).toBe(0);
  return scored(out);
}

/** A recording of which all but two rows are empty. */
const twoRows = () =>
  csv(head)
    .split('\n')
    .map((line, row) => (row === 0 || row === 7 || row === 8 ? line : line.replaceAll(/,[^,]*/g, ',')))
    .join('\n');

const share = (predictions: readonly number[]) =>
  predictions.reduce((sum, prediction) => sum + prediction, 0) / predictions.length;

describe('score --train', () => {
  let whole: Scored;
  beforeAll(async () => {
    whole = await score(at('tail.csv'), 'scores.csv');
  });

  test('writes one line per row, with the time as it stands there', () => {
    expect(whole.header).toBe('datetime,score,threshold,prediction');
    expect(whole.times).toEqual(Array.from({ length: TAIL }, (_, row) => timeText(HEAD + row)));
    expect(whole.scores.every((value) => Number.isFinite(value) && value >= 0)).toBe(true);
    expect(whole.predictions).toEqual(whole.scores.map((value) => Number(value > whole.threshold)));
  });

  test('finds what has changed, and not what has not', () => {
    expect(share(whole.predictions.slice(0, FROM))).toBeLessThan(0.1);
    expect(share(whole.predictions.slice(FROM + 20, TO))).toBeGreaterThan(0.95);
    // It recovers as soon as the averages have.
    expect(share(whole.predictions.slice(TO + 30))).toBeLessThan(0.1);
  });

  test('scores a row from the rows up to it, and the same way each time', async () => {
    const cut = await score(write('cut.csv', csv(slice(tail, 0, 333), { first: HEAD })), 'cut.out.csv');
    expect(cut.scores).toEqual(whole.scores.slice(0, 333));
    expect(cut.threshold).toBe(whole.threshold);
  });

  test.each<[string, () => string]>([
    [
      'columns in another order, with one more',
      () => {
        const order = [3, 5, 0, 2, 4, 1];
        return csv(
          {
            names: [...order.map((k) => tail.names[k]!), 'Humidity'],
            rows: tail.rows.map((row) => [...order.map((k) => row[k]!), 1]),
          },
          { first: HEAD },
        );
      },
    ],
    [
      'semicolons, CRLF and a byte order mark',
      () => `\ufeff${csv(tail, { first: HEAD, separator: ';', lineEnd: '\r\n' })}`,
    ],
    ['quoted cells', () => csv(tail, { first: HEAD }).replaceAll(/[^,\n]+/g, '"$&"')],
  ])('reads %s', async (_, text) => {
    const other = await score(write('other.csv', text()), 'other.out.csv');
    expect(other.scores).toEqual(whole.scores);
    expect(other.times).toEqual(whole.times);
  });

  test('names the first column as it was named', async () => {
    const other = await score(write('t.csv', csv(tail, { first: HEAD, time: 't' })), 't.out.csv');
    expect(other.header).toBe('t,score,threshold,prediction');
  });

  test('cells that are empty or no number are not seen: rows are scored by the rest', async () => {
    const lines = csv(slice(tail, 0, 200), { first: HEAD }).split('\n');
    const holed = lines.map((line, i) => {
      const cells = line.split(',');
      if (i > 0 && i % 3 === 0 && cells.length > 1) cells[1 + (i % 6)] = i % 2 === 0 ? '' : 'NaN';
      return cells.join(',');
    });
    const other = await score(write('holed.csv', holed.join('\n')), 'holed.out.csv');
    expect(other.scores.every(Number.isFinite)).toBe(true);
    expect(share(other.predictions)).toBeLessThan(0.1);
  });
});

describe('fit, then score --model', () => {
  let said: string;
  beforeAll(async () => {
    mkdirSync(at('trips'));
    for (let trip = 0; trip < 6; trip++) write(`trips/${trip}.csv`, csv(pump(700, 100 + trip)));
    ({ said } = await run('fit', '--train', at('trips'), '--model', at('model')));
  });

  test('a model is one like any other, within 5,000 weights, and says what it was made of', () => {
    expect(said).toContain('4200 rows of 6 sensors');
    expect(readdirSync(at('model')).sort()).toEqual(['manifest.json', 'model.json', 'weights.bin']);
    const model = loadModel({
      manifest: readFileSync(at('model/manifest.json')),
      model: readFileSync(at('model/model.json')),
      weights: readFileSync(at('model/weights.bin')),
    });
    expect(model.manifest.lineage).toMatchObject({ rows: 4200, vehicles: 6 });
    expect(readFileSync(at('model/weights.bin')).length / 4).toBeLessThanOrEqual(5000);
  });

  test('the same trips give the same bytes', async () => {
    await run('fit', '--train', at('trips'), '--model', at('again'));
    for (const file of readdirSync(at('model')))
      expect(readFileSync(at(join('again', file)))).toEqual(readFileSync(at(join('model', file))));
  });

  test('a model.yaml sets the hyper-parameters, and the simpler detectors are told of', async () => {
    const config = write('short.yaml', 'hyperParameters: {windowRows: 2, smoothingRows: 7}');
    const { said } = await run('fit', '--train', at('trips'), '--model', at('short'), '--config', config);
    expect(said).toMatch(/max \|z\| [\d.]+ %, Mahalanobis [\d.]+ %, T²\+Q [\d.]+ % of the held-back rows/);
    const manifest = parseManifest(readFileSync(at('short/manifest.json')));
    expect(modelCard(manifest)).toMatch(/\| mahalanobis_alarm_rate \| [\d.]+ \| Mahalanobis distance/);
    const { features, score, metrics } = manifest;
    expect([features.windowRows, score.smoothingRows]).toEqual([2, 7]);
    for (const name of TRIVIAL) expect(metrics[`${name}_alarm_rate`]).toBeLessThan(0.2);
  });

  test('a model.yaml bounds the false alarms, and it is said that a few trips do not show it', async () => {
    const config = write('bound.yaml', 'falseAlarmsPer100Hours: 1\n');
    const { code, said } = await run(
      ...['fit', '--train', at('trips'), '--model', at('bounded'), '--config', config],
    );
    expect([code, said]).toEqual([0, expect.stringMatching(/at most 1 false alarm .* is NOT shown/)]);
    const manifestIn = (folder: string) => parseManifest(readFileSync(at(join(folder, 'manifest.json'))));
    const [bounded, plain] = [manifestIn('bounded'), manifestIn('model')];
    expect(bounded.alarm.threshold).toBeGreaterThanOrEqual(plain.alarm.threshold);
    expect(bounded.metrics.false_alarm_hours).toBeGreaterThan(0);
    expect(modelCard(bounded)).toContain('is NOT shown');
  });

  test('a normal trip has no alarm, and one in which a signal no longer fits the others has', async () => {
    const trip = pump(900, 200);
    const other = pump(900, 201);
    write('clean.csv', csv(trip));
    write(
      'swapped.csv',
      csv({
        names: trip.names,
        rows: trip.rows.map((row, i) => row.with(FLOW, (i < 400 ? row : other.rows[i]!)[FLOW]!)),
      }),
    );
    for (const name of ['clean', 'swapped'])
      await run(
        'score',
        '--model',
        at('model'),
        '--input',
        at(`${name}.csv`),
        '--out',
        at(`${name}.out.csv`),
      );
    expect(share(scored('clean.out.csv').predictions)).toBe(0);
    const { predictions } = scored('swapped.out.csv');
    expect(share(predictions.slice(0, 400))).toBe(0);
    expect(share(predictions.slice(400))).toBeGreaterThan(0.3);
  });

  test('many recordings, each shorter than the longest average, make a model as well', async () => {
    mkdirSync(at('short-trips'));
    for (let trip = 0; trip < 40; trip++) write(`short-trips/${trip}.csv`, csv(pump(80, 400 + trip)));
    const { code, said } = await run('fit', '--train', at('short-trips'), '--model', at('of-short'));
    expect([code, said]).toEqual([0, expect.stringContaining('3200 rows of 6 sensors')]);
    const { score } = parseManifest(readFileSync(at('of-short/manifest.json')));
    expect(score.smoothingRows).toBe(16);
  });

  test('a sensor that is missing is told, and the rest is scored', async () => {
    const trip = pump(300, 300);
    const less = { names: trip.names.slice(0, 5), rows: trip.rows.map((row) => row.slice(0, 5)) };
    write('less.csv', csv(less));
    const { code, said } = await run(
      'score',
      '--model',
      at('model'),
      '--input',
      at('less.csv'),
      '--out',
      at('less.out.csv'),
    );
    expect([code, said]).toEqual([0, expect.stringContaining('Voltage')]);
    expect(share(scored('less.out.csv').predictions)).toBe(0);
  });
});

test.each<[string, () => string[], string]>([
  ['neither head nor model', () => ['score', '--input', at('tail.csv')], 'USAGE'],
  [
    'a head that is not there',
    () => ['score', '--train', at('none.csv'), '--input', at('tail.csv')],
    'FILE_NOT_FOUND',
  ],
  [
    'a head that is too short',
    () => ['score', '--train', write('short.csv', csv(slice(head, 0, 40))), '--input', at('tail.csv')],
    'TRAINING_DATA_INSUFFICIENT',
  ],
  [
    'none of the sensors of the head',
    () => ['score', '--train', at('head.csv'), '--input', write('a.csv', 't,a\n1,2\n')],
    'SIGNAL_SET_MISMATCH',
  ],
  [
    'an input without a usable row',
    () => [
      'score',
      '--train',
      at('head.csv'),
      '--input',
      write('text.csv', csv(head).replaceAll(/,-?[\d.]+/g, ',x')),
    ],
    'CSV_INVALID: .*text.csv cannot be scored: none of its 400 rows has a number',
  ],
  [
    'a head with two usable rows',
    () => ['score', '--train', write('two.csv', twoRows()), '--input', at('tail.csv')],
    'TRAINING_DATA_INSUFFICIENT: 2 of the 400 rows to learn from have a number',
  ],
  ['a folder without a model', () => ['score', '--model', dir, '--input', at('tail.csv')], 'FILE_NOT_FOUND'],
])('says what is wrong with %s, and writes nothing', async (_, args, code) => {
  const out = at('never.csv');
  const result = await run(...args(), '--out', out);
  expect(result.code).not.toBe(0);
  expect(result.said).toMatch(new RegExp(`^error ${code}`, 'm'));
  expect(existsSync(out)).toBe(false);
});

test('an input with two usable rows is scored, and it is said that this says little', async () => {
  const input = write('two-rows.csv', twoRows());
  const model = write('head-only.csv', csv(head));
  await run('fit', '--train', model, '--model', at('of-head'));
  const out = at('two-rows.out.csv');
  const { code, said } = await run('score', '--model', at('of-head'), '--input', input, '--out', out);
  expect([code, said]).toEqual([0, expect.stringContaining('only 2 of 400 rows have a number')]);
  expect(scored('two-rows.out.csv').scores).toHaveLength(HEAD);
});

test('says that a folder to be learned from has no CSV file', async () => {
  mkdirSync(at('nothing'));
  const { code, said } = await run('fit', '--train', at('nothing'), '--model', at('m'));
  expect(code).not.toBe(0);
  expect(said).toContain('error TRAINING_DATA_INSUFFICIENT: ');
  expect(existsSync(at('m'))).toBe(false);
});

test.each([
  ['heldBack: 0.3', 'heldBack is for training from the log'],
  ['hyperParameters: {windowRows: 0}', 'line 1: hyperParameters.windowRows is 0'],
])('says what a model.yaml has that fit cannot follow: %s', async (yaml, why) => {
  const config = write('model.yaml', yaml);
  const { code, said } = await run('fit', '--train', at('trips'), '--model', at('m'), '--config', config);
  expect(code).not.toBe(0);
  expect(said).toContain('error CONFIG_INVALID: ');
  expect(said).toContain(why);
});
