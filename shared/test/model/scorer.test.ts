import { expect, test } from 'vitest';
import {
  DenseExecutor,
  FeatureExtractor,
  loadModel,
  Scorer,
  type ModelManifest,
  type ScoreOrder,
} from '../../src/index.ts';
import { drive, modelFiles, randomLayers } from './model-fixture.ts';

const WARM_UP_ROWS = 4 + 6 - 1;
const model = loadModel(modelFiles());

test.each<[number, ScoreOrder | undefined]>([
  [4, undefined],
  [4, 4],
  [8, 8],
])('scores follow the formula that stands above the scorer, order %i (%s)', (order, said) => {
  const model = loadModel(
    modelFiles((manifest) => {
      if (said !== undefined) manifest.score.order = said;
    }),
  );
  const { times, values } = drive(60);
  const scorer = new Scorer(model);
  const { features, score } = model.manifest;
  const extractor = new FeatureExtractor(features);
  const executor = new DenseExecutor(model.layers);
  const residuals: number[][] = [];
  for (let row = 0; row < 60; row++) {
    const scored = scorer.push(times[row]!, values, row * 3);
    if (!extractor.push(times[row]!, values, row * 3)) continue;
    const output = executor.run(extractor.clipped);
    residuals.push([...extractor.clipped].map((value, i) => value - output[i]!));
    const last = residuals.slice(-6);
    if (last.length < 6) continue;
    const powers = score.residualScale.map((scale, i) => {
      const limited = last.map((r) => Math.max(-12 * scale, Math.min(12 * scale, r[i]!)));
      return ((limited.reduce((a, b) => a + b) / 6 - score.residualCenter[i]!) / scale) ** order;
    });
    expect(scored).toBeCloseTo((powers.reduce((a, b) => a + b) / 4) ** (1 / order), 8);
    expect(scorer.contributions()[1]).toBeCloseTo(powers[2]! / powers.reduce((a, b) => a + b), 5);
  }
});

test('car and cloud agree bit by bit once both have the same rows of the windows', () => {
  const { times, values } = drive(400);
  const car = new Scorer(model).pushRows(times, values);
  for (const from of [1, 77, 250]) {
    const cloud = new Scorer(model).pushRows(times.subarray(from), values.subarray(from * 3));
    expect(cloud.subarray(0, WARM_UP_ROWS - 1).every(Number.isNaN)).toBe(true);
    expect(cloud.subarray(WARM_UP_ROWS - 1)).toEqual(car.subarray(from + WARM_UP_ROWS - 1));
  }
});

test('after a gap the score is NaN until the windows are full again', () => {
  const { times, values } = drive(60);
  for (let row = 30; row < 60; row++) times[row]! += 60_000;
  const scores = new Scorer(model).pushRows(times, values);
  const expected = (row: number) => (row >= WARM_UP_ROWS - 1 && row < 30) || row >= 30 + WARM_UP_ROWS - 1;
  scores.forEach((score, row) => {
    expect(Number.isFinite(score)).toBe(expected(row));
  });
});

test('contributions add up to 1, and name the signal that is off', () => {
  const { times, values } = drive(60);
  for (let row = 30; row < 60; row++) values[row * 3 + 2]! += 60;
  const scorer = new Scorer(model);
  expect([...scorer.contributions()]).toEqual([0, 0, 0]);
  const scores = scorer.pushRows(times, values);
  const parts = scorer.contributions();
  expect(parts.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
  expect(parts[2]).toBeGreaterThan(0.8);
  expect(scores[59]).toBeGreaterThan(scores[29]!);
  scorer.push(times[59]! + 60_000, values);
  expect([...scorer.contributions()]).toEqual([0, 0, 0]);
});

/** What each of three signals adds, where the first and the last are expected to be as the second, which is expected at 0. */
function blamed(...row: [number, number, number]): number[] {
  const model = loadModel(
    modelFiles(({ features, score }) => {
      for (const input of features.inputs) Object.assign(input, { center: 0, scale: 1 });
      score.order = 8;
      score.residualCenter = [0, 0, 0, 0];
      score.residualScale = [0.1, 1, 1, 0.1];
      score.shift = { smoothingRows: 6, center: [0, 0, 0, 0], scale: [100, 100, 100, 100], weight: 1 };
    }),
  );
  const run = ([, deviation, second]: ArrayLike<number> & Iterable<number>) =>
    Float32Array.of(second!, deviation!, 0, second!);
  const scorer = new Scorer({ ...model, network: { inputs: 4, outputs: 4, run } });
  for (let i = 0; i < WARM_UP_ROWS; i++) scorer.push(i * 1000, Float32Array.from(row));
  return [...scorer.contributions()];
}

test('a signal that makes others look odd is blamed, though they are further off; but not while they explain enough', () => {
  // The first is 5.5 spreads off, the last one 5. As the second expects, and without it nearly nothing remains.
  expect(blamed(0.05, -0.5, 0)[1]).toBeGreaterThan(0.99);
  // The first is 7 spreads off: without it the last one's 5 remain, and it may well be that these two are off.
  expect(blamed(0.2, -0.5, 0)[0]).toBeGreaterThan(0.9);
});

test('a signal that falls silent is no anomaly, and is not blamed', () => {
  const { times, values } = drive(60);
  for (let row = 20; row < 60; row++) values[row * 3 + 2] = Number.NaN;
  const scorer = new Scorer(model);
  const scores = scorer.pushRows(times, values);
  expect(Number.isFinite(scores[59]!)).toBe(true);
  expect(scorer.contributions()[2]).toBe(0);
});

test('one wild value weighs no more than its share of the window', () => {
  const { times, values } = drive(60);
  const calm = new Scorer(model).pushRows(times, values);
  values[30 * 3 + 2] = 3e38;
  const wild = new Scorer(model).pushRows(times, values);
  // It is in 4 windows; 4 of 6 residuals at 12 spreads, fused over 4 inputs.
  const most = (12 * 4) / 6 / Math.SQRT2;
  expect(Math.max(...wild.subarray(WARM_UP_ROWS - 1))).toBeLessThan(
    most + Math.max(...calm.subarray(WARM_UP_ROWS - 1)),
  );
  expect(wild.subarray(45)).toEqual(calm.subarray(45));
});

test.each<[string, (files: ReturnType<typeof modelFiles>) => void, RegExp]>([
  ['weights with a flipped bit', (f) => (f.weights[5]! ^= 1), /weights\.bin has the SHA-256/],
  [
    'a cut-off model.json',
    (f) => (f.model = f.model.subarray(1)),
    /model\.json has \d+ bytes, the manifest says/,
  ],
  ['a manifest that is none', (f) => (f.manifest = Buffer.from('[]')), /manifest is not an object/],
])('a model is refused with %s', (_, change, message) => {
  const files = modelFiles();
  files.weights = Buffer.from(files.weights);
  change(files);
  expect(() => loadModel(files)).toThrow(message);
  expect(() => loadModel(files)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
});

test('a model is refused when network and manifest differ in width', () => {
  const files = modelFiles((manifest: ModelManifest) => {
    manifest.features.inputs.pop();
    manifest.score.residualCenter.pop();
    manifest.score.residualScale.pop();
  });
  expect(() => loadModel(files)).toThrow(
    /the manifest has 3 inputs; layer "dense_1" takes 4 and layer "dense_2" gives 4/,
  );
});

test('a loaded model has the layers that were written', () => {
  expect(model.layers).toEqual(randomLayers([4, 3, 4]));
  expect(model.manifest.name).toBe('test');
});

test('a network that gives what is not finite has an infinite score, never a calm one', () => {
  const { times, values } = drive(60);
  for (const wrong of [Number.NaN, Infinity, -Infinity]) {
    let row = 0;
    const executor = new DenseExecutor(model.layers);
    const network = {
      inputs: 4,
      outputs: 4,
      run: (input: ArrayLike<number>) => {
        const output = executor.run(input);
        // Feature rows begin with the fourth row.
        if (++row === 27) output[1] = wrong;
        return output;
      },
    };
    const scorer = new Scorer({ ...model, network });
    const expected = new Scorer(model);
    for (let i = 0; i < 60; i++) {
      const score = scorer.push(times[i]!, values, i * 3);
      expect(scorer.ready).toBe(i >= WARM_UP_ROWS - 1);
      const right = expected.push(times[i]!, values, i * 3);
      // For as long as that row is among the six that are averaged.
      expect(score).toEqual(i >= 29 && i < 35 ? Infinity : right);
    }
    expect([...scorer.contributions()].every(Number.isFinite)).toBe(true);
  }
});
