/**
 * What the cloud's predictor does with one row, on one core: decode, drop copies, features, network, score, encode. 1,000
 * vehicles in turn, batches of 60 rows of 18 signals, no log: reading and writing it is `event-log` and `loop`. Beside it
 * the network alone, and the scorer row by row, as the car runs it. One JSON line per figure.
 *
 *   node --import tsx bench/predictor.ts
 */
import {
  decodeTelemetry,
  DenseExecutor,
  encodeScores,
  encodeTelemetry,
  type Model,
  type Network,
  Scorer,
  SequenceDeduplicator,
  simdNetwork,
} from '../shared/src/index.ts';
import { VehicleScoring } from '../cloud/src/predictor/vehicle-scoring.ts';
import { predictorModel, SIGNALS_18 } from './parts/predictor-model.ts';
import { median, printFigure } from './parts/figure.ts';

const VEHICLES = 1000;
const BATCH_ROWS = 60;
/** Batches of each vehicle in one round. */
const BATCHES = 4;
const ROUNDS = 5;

let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;

const values = new Float32Array(BATCH_ROWS * SIGNALS_18).map(() => random());
// A signal that is slow: not seen in two rows of three.
for (let row = 0; row < BATCH_ROWS; row++) if (row % 3 > 0) values[row * SIGNALS_18 + 17] = Number.NaN;

const batchOf = (round: number): Buffer[] =>
  Array.from({ length: BATCHES }, (_, k) => {
    const first = (round * BATCHES + k) * BATCH_ROWS;
    return encodeTelemetry({
      signalSet: '0123456789abcdef',
      epoch: 1,
      firstSequence: first,
      times: Float64Array.from({ length: BATCH_ROWS }, (_, row) => 1.7e12 + (first + row) * 1000),
      values,
      scores: new Float32Array(0),
      modelName: '',
      modelVersion: '',
    });
  });

for (const kind of ['default', 'article'] as const) {
  const model = predictorModel(kind);
  pipeline(`predictor_${kind}`, model);
  rowByRow(`predictor_${kind}_scorer_in_car`, { ...model, network: new DenseExecutor(model.layers) });
  networkAlone(`predictor_${kind}_network`, model, simdNetwork(model.layers));
  networkAlone(`predictor_${kind}_network_in_car`, model, new DenseExecutor(model.layers));
}

function pipeline(bench: string, model: Model): void {
  model.network ??= simdNetwork(model.layers);
  const vehicles = Array.from({ length: VEHICLES }, () => new VehicleScoring());
  const seen = new SequenceDeduplicator();
  let bytes = 0;
  measure(bench, VEHICLES * BATCHES * BATCH_ROWS, model, (round) => {
    for (const record of batchOf(round))
      for (let i = 0; i < VEHICLES; i++) {
        const batch = decodeTelemetry(record);
        for (const [from, to] of seen.fresh(`car-${i}`, batch.epoch, batch.firstSequence, batch.times.length))
          for (const scores of vehicles[i]!.score(batch, from, to, model))
            bytes += encodeScores(scores).length;
      }
    return bytes;
  });
}

function rowByRow(bench: string, model: Model): void {
  const scorer = new Scorer(model);
  let time = 0;
  measure(bench, 100_000, model, () => {
    let sum = 0;
    for (let i = 0; i < 100_000; i++)
      sum += scorer.push((time += 1000), values, (i % BATCH_ROWS) * SIGNALS_18) || 0;
    return sum;
  });
}

function networkAlone(bench: string, model: Model, network: Network): void {
  const inputs = network.inputs;
  const rows = Array.from({ length: 64 }, () => Float32Array.from({ length: inputs }, random));
  measure(bench, 200_000, model, () => {
    let sum = 0;
    for (let i = 0; i < 200_000; i++) sum += network.run(rows[i & 63]!)[0]!;
    return sum;
  });
}

/** The median of several rounds behind one to warm up. */
function measure(bench: string, rows: number, model: Model, run: (round: number) => number): void {
  let sum = run(0);
  const rounds = Array.from({ length: ROUNDS }, (_, k) => {
    const cpu = process.cpuUsage();
    const begun = performance.now();
    sum += run(k + 1);
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { value: rows / seconds, cpu_us_per_item: (user + system) / rows };
  });
  if (!Number.isFinite(sum)) throw new Error('not finite');
  const { layers } = model;
  printFigure({
    bench,
    ...median(rounds, ({ value }) => value),
    unit: 'rows/s',
    network: [layers[0]!.inputs, ...layers.map(({ units }) => units)].join('-'),
    multiply_adds: layers.reduce((all, { inputs, units }) => all + inputs * units, 0),
  });
}
