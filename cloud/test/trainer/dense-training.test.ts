import * as tf from '@tensorflow/tfjs';
import { beforeAll, expect, test } from 'vitest';
import { ACTIVATIONS, type Activation, type DenseLayer } from '@cardan/shared';
import { DenseTraining } from '../../src/trainer/dense-training.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
});

function layers(sizes: readonly number[], activations: readonly Activation[], seed = 1): DenseLayer[] {
  const random = new SeededRandom(seed);
  return activations.map((activation, i) => ({
    name: `dense_${i + 1}`,
    inputs: sizes[i]!,
    units: sizes[i + 1]!,
    activation,
    kernel: block(random, sizes[i]! * sizes[i + 1]!, 1 / Math.sqrt(sizes[i]!)),
    bias: block(random, sizes[i + 1]!, 0.1),
  }));
}

function block(random: SeededRandom, length: number, scale = 1): Float32Array {
  return Float32Array.from({ length }, () => scale * random.normal());
}

test.each(ACTIVATIONS)('the gradient is that of finite differences (%s)', (activation) => {
  const random = new SeededRandom(7);
  const sizes = [5, 6, 3, 5];
  // Not a multiple of the four rows that go through the network at a time.
  const rows = 7;
  const net = layers(sizes, [activation, 'tanh', activation]);
  const inputs = block(random, rows * 5);
  const targets = block(random, rows * 5);
  const gradients = new DenseTraining(net).gradient(inputs, targets, rows);
  const lossWith = (change: (net: DenseLayer[]) => void): number => {
    const copy = net.map((layer) => ({ ...layer, kernel: layer.kernel.slice(), bias: layer.bias.slice() }));
    change(copy);
    return new DenseTraining(copy).loss(inputs, targets, rows);
  };
  net.forEach((layer, l) => {
    for (const tensor of ['kernel', 'bias'] as const)
      layer[tensor].forEach((weight, i) => {
        const above = Math.fround(weight + 1e-3);
        const below = Math.fround(weight - 1e-3);
        const difference =
          (lossWith((copy) => (copy[l]![tensor][i] = above)) -
            lossWith((copy) => (copy[l]![tensor][i] = below))) /
          (above - below);
        expect(gradients[l]![tensor][i]).toBeCloseTo(difference, 4);
      });
  });
});

test('from the same weights and batches come the losses and weights of TensorFlow.js', () => {
  const sizes = [18, 14, 7, 7, 14, 18];
  const net = layers(sizes, ['tanh', 'tanh', 'tanh', 'tanh', 'linear']);
  const random = new SeededRandom(3);
  const batches = Array.from({ length: 100 }, () => block(random, 32 * 18));
  const training = new DenseTraining(net, { learningRate: 0.003 });
  const losses = batches.map((batch) => training.step(batch, batch, 32));

  const model = tf.sequential({
    layers: net.map(({ inputs, units, activation }) =>
      tf.layers.dense({ inputShape: [inputs], units, activation }),
    ),
  });
  model.setWeights(
    net.flatMap(({ kernel, bias, inputs, units }) => [
      tf.tensor2d(kernel, [inputs, units]),
      tf.tensor1d(bias),
    ]),
  );
  const optimizer = tf.train.adam(0.003);
  const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const expected = batches.map((batch) => {
    const x = tf.tensor2d(batch, [32, 18]);
    const loss = optimizer.minimize(
      () => tf.losses.meanSquaredError(x, model.apply(x) as tf.Tensor).asScalar(),
      true,
      variables,
    );
    return loss!.dataSync()[0]!;
  });
  losses.forEach((loss, i) => {
    expect(Math.abs(loss - expected[i]!)).toBeLessThan(1e-4);
  });
  const weights = training.snapshot().flatMap(({ kernel, bias }) => [kernel, bias]);
  model.getWeights().forEach((tensor, i) => {
    tensor.dataSync().forEach((value, k) => {
      expect(Math.abs(weights[i]![k]! - value)).toBeLessThan(1e-4);
    });
  });
});

test('a step makes the loss smaller, and rows beyond the batch do not matter', () => {
  const random = new SeededRandom(4);
  const rows = block(random, 10 * 5);
  const one = new DenseTraining(layers([5, 4, 5], ['tanh', 'linear']), { learningRate: 0.01 });
  const other = new DenseTraining(layers([5, 4, 5], ['tanh', 'linear']), { learningRate: 0.01 });
  const before = one.loss(rows, rows, 6);
  expect(one.step(rows, rows, 6)).toBe(before);
  other.step(rows.slice(0, 30), rows.slice(0, 30), 6);
  expect(one.snapshot()).toEqual(other.snapshot());
  expect(one.loss(rows, rows, 6)).toBeLessThan(before);
});

test('a training that is restored from its state goes on with the same bits', () => {
  const random = new SeededRandom(5);
  const net = layers([5, 4, 5], ['tanh', 'linear']);
  const batches = Array.from({ length: 20 }, () => block(random, 12 * 5));
  const training = new DenseTraining(net, { learningRate: 0.01 });
  for (const batch of batches.slice(0, 10)) training.step(batch, batch, 12);
  const state = training.state();
  const rest = batches.slice(10).map((batch) => training.step(batch, batch, 12));

  const resumed = new DenseTraining(net, { learningRate: 0.01 });
  resumed.restore(state);
  // The first training has gone on since: a state is a copy.
  expect(batches.slice(10).map((batch) => resumed.step(batch, batch, 12))).toEqual(rest);
  expect(resumed.state()).toEqual(training.state());
});

test('the state of a training of other layers is refused', () => {
  const training = new DenseTraining(layers([5, 4, 5], ['tanh', 'linear']));
  const { values } = new DenseTraining(layers([5, 3, 5], ['tanh', 'linear'])).state();
  expect(() => training.restore({ steps: 1, values })).toThrow('has 114 values; this network has 147');
});
