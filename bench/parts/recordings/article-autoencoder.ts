import { DenseExecutor, type Activation, type SignalSet } from '@cardan/shared';
import { DenseTraining } from '../../../cloud/src/trainer/dense-training.ts';
import { initialLayers } from '../../../cloud/src/trainer/initial-layers.ts';
import { SeededRandom } from '../../../cloud/src/trainer/seeded-random.ts';
import type { Detector } from './judge.ts';
import type { VehicleRows } from '../../../cloud/src/trainer/training-data.ts';

/** 18-14-7-7-18, of Keras: tanh, relu, tanh and, at its output, relu. */
const SIZES = [14, 7, 7];
const ACTIVATIONS: readonly Activation[] = ['tanh', 'relu', 'tanh', 'relu'];
const EPOCHS: Readonly<Record<ArticleScaling, number>> = { own: 20, standardised: 200 };
const BATCH_ROWS = 100;

/** What is taken to −1 … 1, by the beginning of a sensor's name. Four sensors have no range, and are set to 0. */
const RANGES: readonly (readonly [name: string, min: number, max: number])[] = [
  ['intake_air_temp', 15, 40],
  ['battery_percentage', 0, 100],
  ['speed', 0, 50],
  ['engine_vibration_amplitude', 0, 7500],
  ['throttle_pos', 0, 1],
  ['tire_pressure', 20, 35],
  ['accelerometer', 0, 7],
  ['control_unit_firmware', 1000, 2000],
];

/** How its inputs are scaled: as in the article, or standardised, with the same four columns at 0. */
export type ArticleScaling = 'own' | 'standardised';

/**
 * The network of the article's own car demo, with its scaling, optimizer (Adam) and epochs, on rows of normal driving in the
 * order in which they came; its penalty of 1e-7 on the first layer is left out. What it gives cannot be negative, though
 * most of its inputs are; standardised ones, and ten times the epochs, help it. A score is the mean squared difference
 * between input and output.
 */
export function articleAutoencoder(
  { signals }: SignalSet,
  training: readonly VehicleRows[],
  { seed, scaling }: { seed: number; scaling: ArticleScaling },
): Detector {
  const ranges = signals.map(({ name }) => RANGES.find(([begin]) => name.startsWith(begin)));
  const width = signals.length;
  const rows: Float32Array[] = training
    .flatMap(({ times, values }) =>
      [...times].map((time, row) => ({ time, row: values.subarray(row * width, (row + 1) * width) })),
    )
    .sort((a, b) => a.time - b.time)
    .map(({ row }) => row);
  const moments = signals.map((_, i) => {
    const mean = rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length;
    return [
      mean,
      Math.sqrt(rows.reduce((sum, row) => sum + (row[i]! - mean) ** 2, 0) / rows.length),
    ] as const;
  });
  const scaled = (row: Float32Array) =>
    row.map((value, i) => {
      const range = ranges[i];
      if (range === undefined) return 0;
      const [, min, max] = range;
      const [mean, deviation] = moments[i]!;
      return scaling === 'own' ? (2 * (value - min)) / (max - min) - 1 : (value - mean) / deviation;
    });
  const layers = initialLayers([width, ...SIZES, width], new SeededRandom(seed)).map((layer, i) => ({
    ...layer,
    activation: ACTIVATIONS[i]!,
  }));
  const network = new DenseTraining(layers);
  const inputs = rows.map(scaled);
  for (let epoch = 0; epoch < EPOCHS[scaling]; epoch++)
    for (let from = 0; from < inputs.length; from += BATCH_ROWS) {
      const batch = inputs.slice(from, from + BATCH_ROWS);
      const block = Float32Array.from(batch.flatMap((row) => [...row]));
      network.step(block, block, batch.length);
    }
  const executor = new DenseExecutor(network.snapshot());
  const scoreOf = (row: Float32Array) => {
    const input = scaled(row);
    return executor.run(input).reduce((sum, value, i) => sum + (value - input[i]!) ** 2 / width, 0);
  };
  return {
    name: `the article’s autoencoder, inputs ${scaling}`,
    scores: ({ times, values }) =>
      Float64Array.from(times, (_, row) => scoreOf(values.subarray(row * width, (row + 1) * width))),
  };
}
