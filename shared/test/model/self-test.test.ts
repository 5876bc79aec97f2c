import { expect, test } from 'vitest';
import {
  checkSelfTest,
  loadModel,
  parseManifest,
  selfTestOf,
  selfTestRows,
  serializeManifest,
  type Model,
} from '../../src/index.ts';
import { modelFiles } from './model-fixture.ts';

const model = (): Model => loadModel(modelFiles());
const proven = (): Model => {
  const made = model();
  made.manifest.selfTest = selfTestOf(made, 42);
  return made;
};
const failing = (broken: Model) =>
  expect(() => checkSelfTest(broken)).toThrow(expect.objectContaining({ code: 'SELF_TEST_FAILED' }));

test('the rows of a self-test are those of its description', () => {
  const { times, values } = selfTestRows(model().manifest, 42);
  // 4 + 6 − 2 rows that fill the windows, and one per score.
  expect(times).toEqual(Float64Array.from({ length: 16 }, (_, row) => 2500 * row));
  // The generator, with numbers that cannot overflow.
  let x = 42n;
  const centers = [50, 0.5, 88];
  const scales = [20, 0.25, 4];
  const expected = Array.from(values, (_, i) => {
    x = (1664525n * x + 1013904223n) % 2n ** 32n;
    if (x < 2n ** 28n) return Number.NaN;
    return Math.fround(centers[i % 3]! + 3 * scales[i % 3]! * (Number(x) / 2 ** 31 - 1));
  });
  expect([...values]).toEqual(expected);
  expect(expected.some(Number.isNaN)).toBe(true);
});

test('a model gives the scores that it gave where it was made, also after a way through its manifest', () => {
  const made = proven();
  checkSelfTest(made);
  const manifest = parseManifest(serializeManifest(made.manifest));
  expect(manifest.selfTest).toEqual(made.manifest.selfTest);
  checkSelfTest({ ...made, manifest });
});

test('other weights, another score or another window are found out', () => {
  const weights = proven();
  weights.layers[0]!.kernel[0]! += 0.01;
  failing(weights);
  const score = proven();
  score.manifest.selfTest!.scores[3]! += 0.001;
  failing(score);
  const window = proven();
  window.manifest.features.windowRows = 3;
  failing(window);
});

test('scores that are not finite fail, with and without a self-test in the manifest', () => {
  const broken = (made: Model): Model => {
    made.layers.at(-1)!.bias.fill(Infinity);
    return made;
  };
  failing(broken(proven()));
  failing(broken(model()));
  checkSelfTest(model());
});

test('a self-test that is none is refused', () => {
  for (const selfTest of [
    { seed: -1, scores: [1] },
    { seed: 1, scores: [] },
    { seed: 1, scores: ['1'] },
    { seed: 1, scores: [1], rows: 3 },
  ]) {
    const bytes = Buffer.from(JSON.stringify({ ...model().manifest, selfTest }));
    expect(() => parseManifest(bytes)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
  }
});
