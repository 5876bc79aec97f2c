import { expect, test } from 'vitest';
import { parseTrainConfig } from '../../src/trainer/train-config.ts';

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

test.each([
  ['engine: onnx', /engine is "onnx"; it must be dense or tfjs/],
  ['engine: tfjs', /needs layers/],
  ['layers: [{gru: {units: 6}}]', /layers is for the engine tfjs/],
  ['backend: cpu', /backend is for the engine tfjs/],
  ['engine: tfjs\nlayers: [flatten]\nbackend: gpu', /backend is "gpu"; it must be tensorflow or wasm or cpu/],
  ['engine: tfjs\nlayers: [flatten]\nhidden: [5]', /hidden is for the engine dense/],
  ['engine: tfjs\nlayers: 5', /layers must be a list/],
  [
    'engine: tfjs\nlayers: [flatten]\ninputs: [{signal: a}, {signal: a, statistic: slope}]',
    /inputs\[1\] has a statistic/,
  ],
])('%s is refused', (yaml, message) => {
  const parse = () => parseTrainConfig(yaml, noFile);
  expect(parse).toThrow(message);
  expect(parse).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
