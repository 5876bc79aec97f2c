import { expect, test } from 'vitest';
import { parseManifest, SCORE_ROWS_MAX, serializeManifest, type ModelManifest } from '../../src/index.ts';
import { changedJson, modelFiles } from './model-fixture.ts';

const bytes = modelFiles().manifest;

test('what is written is read, and written again to the same bytes', () => {
  const manifest = parseManifest(bytes);
  expect(manifest.lineage.offsets['11']).toEqual({ from: 3, to: 3 });
  expect(serializeManifest(manifest)).toEqual(bytes);
});

test('the order of fields does not change the bytes', () => {
  const reversed = (value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .reverse()
            .map(([key, entry]) => [key, reversed(entry)]),
        )
      : value;
  const other = reversed(JSON.parse(bytes.toString())) as ModelManifest;
  expect(Object.keys(other)[0]).toBe('metrics');
  expect(serializeManifest(other)).toEqual(bytes);
});

test.each<[string, string, unknown, RegExp]>([
  ['another schema', 'schema', 2, /manifest\.schema is 2; known are: 1/],
  ['a path as the name', 'name', '../root', /manifest\.name is "\.\.\/root"/],
  ['an unknown engine', 'engine', 'onnx', /manifest\.engine is "onnx"; known are: dense, tfjs/],
  ['a missing field', 'lineage.offsets', undefined, /manifest\.lineage\.offsets is missing/],
  ['an unknown field', 'score.exponent', 8, /manifest\.score\.exponent is not known/],
  [
    'a signal that is not there',
    'features.inputs.2.signal',
    3,
    /inputs\[2\]\.signal is 3; it must be 0 to 2/,
  ],
  ['an unknown statistic', 'features.inputs.0.statistic', 'mode', /statistic is "mode"/],
  ['a lag of a whole window', 'features.inputs.0.lag', 2, /inputs\[0\] has a lag, and is the mean/],
  ['a lag beyond the window', 'features.inputs.0.lag', 4, /inputs\[0\]\.lag is 4; it must be 0 to 3/],
  ['a scale of 0', 'features.inputs.0.scale', 0, /inputs\[0\]\.scale is 0/],
  [
    'too few residual scales',
    'score.residualScale',
    [1, 1, 1],
    /residualScale has 3 entries; 4 are expected/,
  ],
  ['a scale that is no number', 'score.residualScale.1', null, /residualScale\[1\] is not a finite number/],
  [
    'more rows than cars keep',
    'score.smoothingRows',
    SCORE_ROWS_MAX,
    /smoothingRows is 256; it must be 1 to 253/,
  ],
  ['an alarm that clears above the threshold', 'alarm.clearBelow', 5, /clearBelow is 5/],
  ['half a row', 'alarm.raiseAfterRows', 0.5, /raiseAfterRows is 0\.5/],
  [
    'an unknown kind of finding',
    'lineage.findings',
    [{ signal: 'Load', kind: 'odd', value: 1 }],
    /findings\[0\]\.kind is "odd"/,
  ],
  [
    'a finding without a number',
    'lineage.findings',
    [{ signal: 'Load', kind: 'stuck', value: null }],
    /findings\[0\]\.value is not a finite/,
  ],
  ['a file too few', 'files', {}, /manifest\.files\.model\.json is missing/],
  [
    'a signal set with another id',
    'signalSet.id',
    '0000000000000000',
    /signalSet: Not a signal set: its id should/,
  ],
  ['a day that does not exist', 'createdAt', '2026-13-40T00:00:00Z', /createdAt/],
  ['offsets that go back', 'lineage.offsets.0.to', -1, /offsets\.0\.to is -1/],
  ['a list where an object should be', 'alarm', [], /manifest\.alarm is not an object/],
])('refuses %s, and says where', (_, path, value, message) => {
  const parse = () => parseManifest(changedJson(bytes, path, value));
  expect(parse).toThrow(message);
  expect(parse).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
});

test.each([
  ['no JSON', Buffer.from('{"schema":1')],
  ['no text', Buffer.from([0xff, 0xfe, 0x7b])],
  ['nothing', Buffer.alloc(0)],
])('refuses %s', (_, garbage) => {
  expect(() => parseManifest(garbage)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
});

test('a figure that JSON cannot carry is not written', () => {
  const manifest = parseManifest(bytes);
  manifest.metrics.loss = Number.NaN;
  expect(() => serializeManifest(manifest)).toThrow(/manifest\.metrics\.loss is not a finite number/);
});
