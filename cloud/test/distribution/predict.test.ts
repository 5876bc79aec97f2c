import { request } from 'node:http';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Scorer } from '@cardan/shared';
import { publish, rows, scoringModel } from '../predictor/predictor-fixture.ts';
import { closeRegistries, openRegistry, type TestRegistry } from '../registry/registry-fixture.ts';

const SIGNALS = ['Vehicle.Speed', 'Vehicle.Load', 'Vehicle.Temperature'];
const first = scoringModel('1');
const second = scoringModel('2');
let registry: TestRegistry;
beforeEach(async () => {
  registry = await openRegistry();
  await publish(registry.url, first);
});
afterEach(closeRegistries);

interface Prediction {
  scores: (number | null)[];
  threshold: number;
  anomaly: boolean[];
  contributions: { row: number; signals: { signal: string; part: number }[] }[];
}
interface Answer {
  status: number;
  body: {
    model: { name: string; version: string };
    predictions: Prediction[];
    outputs: Record<keyof Prediction, unknown[]>;
    code: string;
    detail: string;
  };
}

async function ask(path: string, body: unknown, type = 'application/json'): Promise<Answer> {
  const answer = await fetch(`${registry.url}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': type },
  });
  return { status: answer.status, body: (await answer.json()) as Answer['body'] };
}

/** Rows as JSON has them. */
function window(count: number, vehicle = 'v1'): { t: number[]; rows: (number | null)[][] } {
  const { times, values } = rows(vehicle, 1, count);
  const number = (value: number) => (Number.isNaN(value) ? null : value);
  return {
    t: [...times],
    rows: [...times].map((_, row) => [...values.subarray(row * 3, row * 3 + 3)].map(number)),
  };
}

function expected({ model } = first, vehicle = 'v1', count = 60): (number | null)[] {
  const { times, values } = rows(vehicle, 1, count);
  return [...new Scorer(model).pushRows(times, values)].map((score) => (Number.isNaN(score) ? null : score));
}

test('a window gives the scores of the engine, in whichever way it is written', async () => {
  const { t, rows: list } = window(60);
  const columns = Object.fromEntries(SIGNALS.map((name, signal) => [name, list.map((row) => row[signal])]));
  const { status, body } = await ask('/v1/models/test/predict', {
    instances: [
      list,
      { t, rows: list },
      { t: t.map((ms) => new Date(ms).toISOString()), ...columns },
      columns,
    ],
  });
  expect(status).toBe(200);
  expect(body.model).toEqual({ name: 'test', version: '1' });
  const [one] = body.predictions;
  expect(body.predictions).toEqual([one, one, one, one]);
  expect(one!.scores).toEqual(expected());
  expect(one!.scores.slice(0, 9)).toEqual([...Array<null>(8).fill(null), expect.any(Number)]);
  expect(one!.threshold).toBe(4);
  expect(one!.anomaly).toEqual(one!.scores.map((score) => (score ?? 0) > 4));
  expect(one!.contributions.map(({ row }) => row)).toEqual(
    one!.scores.flatMap((score, row) => ((score ?? 0) >= 2 ? [row] : [])),
  );
  expect(one!.contributions.length).toBeGreaterThan(0);
  for (const { signals } of one!.contributions)
    expect(signals.reduce((sum, { part }) => sum + part, 0)).toBeCloseTo(1, 5);
});

test('the columnar form gives columns', async () => {
  const [a, b] = [window(20, 'v1').rows, window(20, 'v2').rows];
  const { body } = await ask('/v1/models/test/predict', { inputs: { rows: [a, b] } });
  expect(body.outputs.scores).toEqual([expected(first, 'v1', 20), expected(first, 'v2', 20)]);
  expect(body.outputs.threshold).toEqual([4, 4]);
  expect((await ask('/v1/models/test/predict', { inputs: [a, b] })).body.outputs).toEqual(body.outputs);
});

test('the champion answers unless a version or an alias is named; TensorFlow Serving’s paths work', async () => {
  await publish(registry.url, second);
  await fetch(`${registry.url}/v1/models/test/aliases/champion`, {
    method: 'PUT',
    body: '{"version":"1"}',
    headers: { 'content-type': 'application/json' },
  });
  const instances = [window(30).rows];
  const by = async (path: string) => {
    const { body } = await ask(path, { signature_name: 'serving_default', instances });
    return [body.model.version, body.predictions[0]!.scores];
  };
  const [of1, of2] = [
    ['1', expected(first, 'v1', 30)],
    ['2', expected(second, 'v1', 30)],
  ];
  expect(await by('/v1/models/test/predict')).toEqual(of1);
  expect(await by('/v1/models/test/versions/latest/predict')).toEqual(of2);
  expect(await by('/v1/models/test/versions/2/predict')).toEqual(of2);
  expect(await by('/v1/models/test/versions/champion/predict')).toEqual(of1);
  expect(await by('/v1/models/test:predict')).toEqual(of1);
  expect(await by('/v1/models/test/versions/2:predict')).toEqual(of2);
  expect(await by('/v1/models/test/labels/champion:predict')).toEqual(of1);
});

test('a client of TensorFlow Serving finds the versions where it looks for them', async () => {
  await publish(registry.url, second);
  const answer = await fetch(`${registry.url}/v1/models/test`);
  const state = { state: 'AVAILABLE', status: { error_code: 'OK', error_message: '' } };
  expect(await answer.json()).toMatchObject({
    model_version_status: [
      { version: '1', ...state },
      { version: '2', ...state },
    ],
  });
});

test('what is wrong is said with its place', async () => {
  const [row] = window(1).rows;
  const bad = async (body: unknown, path = '/v1/models/test/predict') => {
    const { status, body: said } = await ask(path, body);
    return `${status} ${said.code} ${said.detail}`;
  };
  expect(await bad({ instances: [[row, [1, 2]]] })).toBe(
    '400 REQUEST_INVALID instances[0][1] has 2 values; this model has 3 signals.',
  );
  expect(await bad({ instances: [[row], [[1, 'x', 3]]] })).toBe(
    '400 REQUEST_INVALID instances[1][0][1] is neither a number nor null.',
  );
  expect(await bad({ instances: [{ 'Vehicle.Sped': [1] }] })).toContain('"Vehicle.Sped", which is no signal');
  expect(await bad({ instances: [{ t: [1, 2], rows: [row] }] })).toContain(
    'instances[0].t has 2 times for 1 rows',
  );
  expect(await bad({ instances: [{ t: ['noon'], rows: [row] }] })).toContain('instances[0].t[0] is no time');
  expect(await bad({ instances: [[]] })).toContain('instances[0] has no rows');
  expect(await bad({ instances: [7] })).toContain('instances[0] is no window');
  expect(await bad({ instances: [] })).toMatch(/^400 REQUEST_INVALID/);
  expect(await bad({})).toMatch(/^400 REQUEST_INVALID/);
  expect(await bad({ instances: [[row]], inputs: [[row]] })).toContain('either "instances" or "inputs"');
  expect(await bad({ inputs: { rows: [[row]], t: [] } })).toContain('inputs.t is no list with 1 entries');
  const many = Array<unknown>(5000).fill(row);
  expect(await bad({ instances: [many, many, many, many, many] })).toMatch(
    /^413 BODY_TOO_LARGE These are 25000/,
  );
  expect(await bad({ instances: [[...many, row]] })).toContain('at most 5000');
  expect(await bad({ instances: [[row]] }, '/v1/models/none/predict')).toMatch(/^404 MODEL_UNKNOWN/);
  expect(await bad({ instances: [[row]] }, '/v1/models/test/versions/9:predict')).toMatch(
    /^404 MODEL_UNKNOWN/,
  );
  expect((await ask('/v1/models/test/predict', 'x', 'text/csv')).status).toBe(415);
  for (const [path, allow] of [
    ['/v1/models/test/predict', 'POST'],
    ['/v1/models/test/versions/1/predict', 'POST'],
  ] as const) {
    const got = await fetch(registry.url + path);
    expect([got.status, got.headers.get('allow')]).toEqual([405, allow]);
  }
  // The verb after a colon makes no other POST of a model's own path.
  expect((await ask('/v1/models/test', {})).status).toBe(405);
});

test('lines are answered one by one, while the next ones are still to come; a wrong one does not end them', async () => {
  const sent = request(`${registry.url}/v1/models/test/predict`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
  });
  sent.write(`${JSON.stringify(window(60))}\n`);
  const [answer] = (await once(sent, 'response')) as [AsyncIterable<Buffer> & { headers: object }];
  expect(answer.headers).toMatchObject({ 'content-type': 'application/x-ndjson' });
  const lines = linesOf(answer);
  // The request has not ended yet.
  expect(((await lines.next()).value as Prediction).scores).toEqual(expected());
  sent.write('{"rows": 7}\nnot json\n\n');
  expect((await lines.next()).value).toEqual({
    error: { code: 'REQUEST_INVALID', detail: 'instance.rows is no list.' },
    line: 2,
  });
  expect((await lines.next()).value).toMatchObject({ line: 3 });
  sent.end(JSON.stringify(window(30, 'v2').rows));
  expect(((await lines.next()).value as Prediction).scores).toEqual(expected(first, 'v2', 30));
  expect((await lines.next()).done).toBe(true);
});

async function* linesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + chunk.toString('utf8')).split('\n');
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line);
  }
}

test('a line without end is given up', async () => {
  const text = `[${' '.repeat(5 * 1024 * 1024)}`;
  const answer = await fetch(`${registry.url}/v1/models/test/predict`, {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/x-ndjson' },
  });
  expect(await answer.json()).toMatchObject({ error: { code: 'BODY_TOO_LARGE' }, line: 1 });
});
