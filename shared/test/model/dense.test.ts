import { expect, test } from 'vitest';
import { DenseExecutor, tanh } from '../../src/index.ts';
import { randomLayers, randomNumbers, sha256 } from './model-fixture.ts';

test('tanh is right to 3e-7 everywhere', () => {
  let worst = 0;
  for (let x = -20; x <= 20; x += 1e-4) worst = Math.max(worst, Math.abs(tanh(x) - Math.tanh(x)));
  expect(worst).toBeLessThan(3e-7);
  expect(tanh(0)).toBe(0);
  expect(tanh(Infinity)).toBeCloseTo(1, 6);
  expect(tanh(-Infinity)).toBeCloseTo(-1, 6);
  expect(tanh(Number.NaN)).toBeNaN();
});

test('the output has the bits that it has on every other machine', () => {
  const executor = new DenseExecutor(randomLayers([18, 14, 7, 7, 14, 18]));
  const random = randomNumbers(2);
  const outputs = new Float64Array(1000 * 18);
  for (let row = 0; row < 1000; row++)
    outputs.set(executor.run(Float32Array.from({ length: 18 }, () => 4 * random())), row * 18);
  // Made on x64 with Node 20. A car on arm64 has to come to the same.
  expect(sha256(new Uint8Array(outputs.buffer))).toBe(GOLDEN);
});

const GOLDEN = '7c4a42c76427a24843aa78067d38539b05cde0c876d1b0cfe3fe3c52fa46aa07';
