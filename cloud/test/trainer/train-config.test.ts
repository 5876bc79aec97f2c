import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { stringify } from 'yaml';
import { CardanError } from '@cardan/shared';
import { parseTrainConfig } from '../../src/trainer/train-config.ts';
import { STREAM_HYPER_PARAMETERS } from '../../src/trainer/stream-settings.ts';

const noFile = (path: string): string => {
  throw new Error(`read ${path}`);
};

test('layers are a list in model.yaml, or a topology file beside it', () => {
  const list = parseTrainConfig('engine: tfjs\nbackend: wasm\nlayers: [{gru: {units: 6}}]', noFile);
  expect(list.settings.network).toEqual({ layers: [{ gru: { units: 6 } }], backend: 'wasm' });
  const file = parseTrainConfig('engine: tfjs\nlayers: net.json', (path) => `text of ${path}`);
  expect(file.settings.network).toEqual({ layers: 'text of net.json' });
  expect(parseTrainConfig('epochs: 2', noFile).settings.network).toBeUndefined();
});

test('an empty model.yaml is all defaults', () => {
  for (const yaml of ['', '\n# nothing\n', '{}'])
    expect(parseTrainConfig(yaml, noFile)).toMatchObject({ seed: undefined, hyperParameters: {} });
});

test.each([
  ['engine: onnx', 'line 1: engine is "onnx"; it must be dense or tfjs'],
  ['engine: tfjs', 'line 1: engine is tfjs, which needs layers'],
  ['layers: [{gru: {units: 6}}]', 'line 1: layers is for the engine tfjs'],
  ['seed: 1\nbackend: cpu', 'line 2: backend is for the engine tfjs'],
  [
    'engine: tfjs\nlayers: [flatten]\nbackend: gpu',
    'line 3: backend is "gpu"; it must be tensorflow or wasm',
  ],
  ['engine: tfjs\nlayers: [flatten]\nhidden: [5]', 'line 3: hidden is for the engine dense'],
  ['engine: tfjs\nlayers: 5', 'line 2: layers must be a list'],
  ['engine: tfjs\nlayers: []', 'line 2: layers is an empty list'],
  [
    'engine: tfjs\nlayers:\n  - flatten\n  - {gruu: {}}',
    'line 4: layers[1] is {"gruu":{}}; expected is a layer',
  ],
  ['engine: tfjs\nlayers:\n  - gru: 5', 'line 3: layers[0] has the settings 5'],
  [
    'engine: tfjs\nlayers: [flatten]\ninputs:\n  - signal: a\n  - signal: a\n    statistic: slope',
    'line 5: inputs[1] has a statistic',
  ],
  ['epochs: 3\n\nepoch: 2', 'line 3: epoch is not known; there are seed, engine'],
  ['# first\nhyperParameters:\n  windowRows: 5\n  clipp: 5\n', 'line 4: hyperParameters.clipp is not known'],
  ['hyperParameters: {windowRows: 5,\n  clip: yes}', 'line 2: hyperParameters.clip is "yes"'],
  ['hidden:\n- 14\n- 7.5', 'line 3: hidden[1] is 7.5; it must be a whole number from 1 to 10000'],
  ['hidden:', 'line 1: hidden must be a list'],
  ['inputs:\n  - statistic: mean', 'line 2: inputs[0].signal must be the name'],
  ['inputs:\n  - signal: a\n    over: b', 'line 2: inputs[0] is wrong: a ratio'],
  ['labels: {topic: cars}', 'line 1: labels.flag must be the name of a field'],
  ['labels:\n  flag: failed\n  time: t', 'line 3: labels.time is for topics other than telemetry'],
  ['labels: {flag: failed, field: f}', 'line 1: labels.field is not known; there are topic, flag'],
  ['- epochs: 3', 'line 1: the file must be names with values'],
  ['epochs: 3\nbatch: [', 'it is no YAML (Flow sequence in block collection must be'],
  ['epochs: 3\nepochs: 4', 'it is no YAML (Map keys must be unique at line 2, column 1)'],
  ['epochs: *three', 'it is no YAML'],
])('%j is refused, naming the place and the line', (yaml, words) => {
  const parse = () => parseTrainConfig(yaml, noFile);
  expect(parse).toThrow(words);
  expect(parse).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }) as Error);
});

describe('the published schema', () => {
  // The validator that fastify brings along.
  const require = createRequire(import.meta.url);
  const { default: Ajv } = createRequire(require.resolve('@fastify/ajv-compiler'))('ajv/dist/2020.js') as {
    default: new (options: object) => { compile: (schema: unknown) => (value: unknown) => boolean };
  };
  const schema = JSON.parse(
    readFileSync(new URL('../../schema/model-yaml.schema.json', import.meta.url), 'utf8'),
  ) as { properties: Record<string, { properties?: Record<string, Bounds> } & Bounds> };
  interface Bounds {
    type?: string;
    minimum?: number;
    maximum?: number;
  }
  const valid = new Ajv({ strict: true, strictRequired: false, allowUnionTypes: true }).compile(schema);

  /** Whether the parser takes it, as YAML. */
  function taken(document: unknown): boolean {
    try {
      parseTrainConfig(stringify(document), () => 'a topology');
      return true;
    } catch (error) {
      if (error instanceof CardanError && error.code === 'CONFIG_INVALID') return false;
      throw error;
    }
  }

  it('has the bounds of the parser, for every number', () => {
    const { hyperParameters, ...others } = schema.properties;
    const inner = Object.entries(hyperParameters!.properties!);
    expect(inner.map(([name]) => name).sort()).toEqual(Object.keys(STREAM_HYPER_PARAMETERS).sort());
    const numbers = [
      ...Object.entries(others)
        .filter(([, { minimum }]) => minimum !== undefined)
        .map(([name, bounds]) => ({ bounds, document: (value: number) => ({ [name]: value }) })),
      ...inner.map(([name, bounds]) => ({
        bounds,
        document: (value: number) => ({ hyperParameters: { [name]: value } }),
      })),
    ];
    expect(numbers.length).toBeGreaterThan(20);
    for (const { bounds, document } of numbers) {
      const { minimum = Number.NaN, maximum = Number.NaN } = bounds;
      for (const value of [minimum, maximum]) expect([value, taken(document(value))]).toEqual([value, true]);
      for (const value of [minimum - 1e-9, maximum * (1 + 1e-9)])
        expect([value, taken(document(value))]).toEqual([value, false]);
      const between = (minimum + Math.min(maximum, 1e6)) / 2 + 0.123;
      if (between <= maximum) expect(taken(document(between))).toBe(bounds.type === 'number');
    }
  });

  it('agrees with the parser on documents that are changed at random', () => {
    const dense = { seed: 1, hidden: [14, 7, 14], inputs: [{ signal: 'a' }], hyperParameters: { clip: 4 } };
    const tfjs = { engine: 'tfjs', backend: 'wasm', layers: ['flatten', { gru: { units: 6 } }] };
    const odd = fc.constantFrom<unknown>(null, true, -1, 0.5, 1e13, '', 'a', [], {}, ['a'], { signal: 'a' });
    const or = (...arbitraries: fc.Arbitrary<unknown>[]) =>
      fc.oneof({ weight: 5, arbitrary: fc.oneof(...arbitraries) }, { weight: 1, arbitrary: odd });
    const some = (fields: Record<string, fc.Arbitrary<unknown>>) => fc.record(fields, { requiredKeys: [] });
    const input = some({
      signal: or(fc.constantFrom('a', 'Vehicle.Speed')),
      statistic: or(fc.constantFrom('mean', 'slope', 'ratio', 'value')),
      over: or(fc.constant('b')),
    });
    const layer = or(
      fc.constantFrom<unknown>('flatten', 'dropout', { gru: { units: 6 } }, { gru: null }),
      fc.constantFrom<unknown>({ gru: 5 }, { conv1d: {}, gru: {} }, { dropout: {} }),
    );
    const fields: Record<string, fc.Arbitrary<unknown>> = {
      seed: or(fc.integer({ min: 0, max: 9 })),
      engine: or(fc.constantFrom('dense', 'tfjs', 'onnx')),
      hidden: or(fc.array(or(fc.integer({ min: 1, max: 20 })), { maxLength: 17 })),
      layers: or(fc.array(layer, { maxLength: 3 }), fc.constant('net.json')),
      backend: or(fc.constantFrom('wasm', 'cpu', 'gpu')),
      normalisation: or(fc.constant('fleet')),
      inputs: or(fc.array(input, { maxLength: 3 })),
      hyperParameters: or(some({ clip: or(fc.constant(5)), clipp: fc.constant(5) })),
      falseAlarmsPer100Hours: or(fc.constant(1)),
      labels: or(
        some({
          topic: or(fc.constantFrom('telemetry', 'cars')),
          flag: or(fc.constant('failed')),
          vehicle: or(fc.constant('car')),
          time: or(fc.constant('at')),
        }),
      ),
      epoch: odd,
    };
    const change = fc.oneof(
      ...Object.entries(fields).map(([name, value]) => fc.record({ name: fc.constant(name), value })),
    );
    const counts = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(
        fc.constantFrom(dense, tfjs),
        fc.array(change, { minLength: 1, maxLength: 2 }),
        (begin, changes) => {
          const document = {
            ...begin,
            ...Object.fromEntries(changes.map(({ name, value }) => [name, value])),
          };
          const expected = valid(document);
          counts[expected ? 'taken' : 'refused']++;
          expect(taken(document)).toBe(expected);
        },
      ),
      { numRuns: 3000 },
    );
    // Otherwise the test would say nothing.
    expect(Math.min(counts.taken, counts.refused)).toBeGreaterThan(300);
  });
});
