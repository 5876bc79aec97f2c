/**
 * How often the closed loop sees drift where there is none, and how soon where there is: fleets of simulated cars, drawn
 * from a pool, each car driving trip after trip. The model is made by the real trainer of other cars.
 * Planted from the middle on: a sensor that shows otherwise, in 60 % of the cars and in one. One JSON line per figure.
 *
 *   node --import tsx bench/drift.ts [--cars N] [--trips N] [--fleets N] [--size N] [--seed N]
 */
import { parseArgs } from 'node:util';
import { loadModel, Scorer } from '@cardan/shared';
import { scoreDrift, sensorFaults } from '../cloud/src/loop/drift.ts';
import { SignalDrift } from '../cloud/src/loop/signal-drift.ts';
import { binsOf, countRow, type ScoreTrip, type SignalTrip } from '../cloud/src/loop/trips.ts';
import { quantileEdges } from '../cloud/src/learner/psi.ts';
import { Car } from '../simulators/src/car.ts';
import { Random } from '../simulators/src/random.ts';
import { printFigure } from './parts/figure.ts';
import { CAR_COLUMNS, recordCar, type CarRows } from './parts/quality/car-rows.ts';
import { START, trainFleetModel } from './parts/quality/fleet-model.ts';

const { values } = parseArgs({
  options: {
    cars: { type: 'string', default: '60' },
    trips: { type: 'string', default: '16' },
    fleets: { type: 'string', default: '100' },
    size: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
  },
});
const [cars, tripsEach, fleets, size, seed] = (['cars', 'trips', 'fleets', 'size', 'seed'] as const).map(
  (name) => Number(values[name]),
) as [number, number, number, number, number];

const TRIP_S = 600;
const TRAINING_CARS = 60;

/** What is planted: the column, and what the sensor then shows. */
const PLANTED = {
  none: undefined,
  'mass air flow × 1.2': { signal: 'MassAirFlow', change: (value: number) => 1.2 * value },
  'mass air flow × 1.5': { signal: 'MassAirFlow', change: (value: number) => 1.5 * value },
  'ambient temperature − 15 °C': { signal: 'Ambient', change: (value: number) => value - 15 },
} as const;
type Planted = keyof typeof PLANTED;

interface Seen {
  level: number;
  alarmed: number;
  counts: Uint32Array;
}

const { files } = await trainFleetModel({ cars: TRAINING_CARS, rowsPerCar: 1000, seed });
const model = loadModel(files);
const { threshold } = model.manifest.alarm;
const signals = CAR_COLUMNS.set.signals.length;

const training = Array.from({ length: TRAINING_CARS }, (_, i) => {
  const vehicle = `training-${i}`;
  const car = new Car({ id: vehicle, seed: seed * 1_000_000 + i, startTime: START });
  return { vehicle, ...recordCar(car, START, START + 1000 * TRIP_S) };
});
const edges = Array.from({ length: signals }, (_, signal) =>
  quantileEdges(
    Float64Array.from(
      training.flatMap(({ times, values }) =>
        Array.from(times, (_, row) => values[row * signals + signal]!).filter(
          (value) => !Number.isNaN(value),
        ),
      ),
    ),
    10,
  ).filter((edge) => Number.isFinite(edge)),
);
const counted = ({ times, values }: CarRows) => {
  const counts = new Uint32Array(edges.reduce((sum, ends) => sum + binsOf(ends), 0));
  for (let row = 0; row < times.length; row++) countRow(counts, edges, values, row * signals);
  return counts;
};
const signalDrift = new SignalDrift({
  edges,
  pieces: training.map((rows) => ({ vehicle: rows.vehicle, counts: counted(rows) })),
});

const begun = performance.now();
const pool = Array.from({ length: cars }, (_, i) => {
  const car = new Car({ id: `car-${i}`, seed: seed * 1000 + i, startTime: START });
  return Array.from({ length: tripsEach }, (_, trip) => {
    const from = START + trip * TRIP_S * 1000;
    const rows = recordCar(car, from, from + TRIP_S * 1000);
    return Object.fromEntries(
      (Object.keys(PLANTED) as Planted[]).map((planted) => [planted, seen(rows, planted)]),
    ) as Record<Planted, Seen>;
  });
});
process.stderr.write(
  `${cars * tripsEach} trips of ${TRIP_S} s driven and scored in ${((performance.now() - begun) / 1000).toFixed(0)} s\n`,
);

for (const [planted, part] of [
  ['none', 0],
  ['mass air flow × 1.2', 0.6],
  ['mass air flow × 1.5', 0.6],
  ['ambient temperature − 15 °C', 0.6],
  ['mass air flow × 1.5', 1 / size],
  ['ambient temperature − 15 °C', 1 / size],
] as [Planted, number][]) {
  const runs = Array.from({ length: fleets }, (_, fleet) => run(planted, part, fleet));
  const count = (of: (outcome: (typeof runs)[number]) => number | undefined) =>
    runs.map(of).filter((at) => at !== undefined);
  const drift = count(
    ({ scores, signals }) => (scores ?? signals) && Math.min(scores ?? Infinity, signals ?? Infinity),
  );
  drift.sort((a, b) => a - b);
  printFigure({
    bench: `drift, ${planted === 'none' ? 'nothing planted' : `${planted} in ${Math.round(part * size)} of ${size} cars`}`,
    value: (100 * drift.length) / fleets,
    unit: '% of fleets with drift',
    by_scores: (100 * count(({ scores }) => scores).length) / fleets,
    by_signals: (100 * count(({ signals }) => signals).length) / fleets,
    trips_per_car_p50: drift[drift.length >> 1],
    trips_per_car_p90: drift[Math.floor(0.9 * drift.length)],
    suspected_right: (100 * runs.filter(({ right }) => right).length) / fleets,
    suspected_wrong_per_fleet: runs.reduce((sum, { wrong }) => sum + wrong, 0) / fleets,
    fleets,
    trips_per_fleet: 2 * tripsEach * size,
  });
}

function seen(rows: CarRows, planted: Planted): Seen {
  const plant = PLANTED[planted];
  const values = rows.values.slice();
  if (plant !== undefined) {
    const column = CAR_COLUMNS.names.findIndex((name) => name.includes(plant.signal));
    if (column < 0) throw new Error(`No column ${plant.signal} among ${CAR_COLUMNS.names.join(', ')}.`);
    for (let at = column; at < values.length; at += signals) values[at] = plant.change(values[at]!);
  }
  const scores = new Scorer(model).pushRows(rows.times, values).filter((score) => !Number.isNaN(score));
  scores.sort();
  return {
    level: scores[Math.floor(0.95 * scores.length)]! / threshold,
    alarmed: scores.filter((score) => score > threshold).length / scores.length,
    counts: counted({ times: rows.times, values }),
  };
}

/** Trips per car after the change until each is seen; a look after each round of trips, as the service looks. */
function run(planted: Planted, part: number, fleet: number) {
  const random = new Random(seed, `fleet ${fleet}`);
  const drawn = pool
    .map((car) => ({ car, at: random.uniform() }))
    .sort((a, b) => a.at - b.at)
    .slice(0, size)
    .map(({ car }) => car);
  const change = tripsEach;
  const scoreTrips: ScoreTrip[] = [];
  const signalTrips: SignalTrip[] = [];
  let [scores, ofSignals]: (number | undefined)[] = [];
  const suspected = new Set<string>();
  for (let round = 0; round < 2 * tripsEach; round++) {
    const order = drawn.map((_, i) => ({ i, at: random.uniform() })).sort((a, b) => a.at - b.at);
    for (const { i } of order) {
      const isPlanted = round >= change && i < part * size;
      const trip = drawn[i]![Math.floor(random.uniform() * tripsEach)]![isPlanted ? planted : 'none'];
      const first = START + round * 3_600_000 + i;
      const extent = { vehicle: `car-${i}`, first, last: first + TRIP_S * 1000, rows: TRIP_S };
      scoreTrips.push({ ...extent, level: trip.level, alarmed: trip.alarmed });
      signalTrips.push({ ...extent, counts: trip.counts });
    }
    const since = Math.max(1, round - change + 1);
    if (scores === undefined && scoreDrift(scoreTrips.slice(-1024)) !== undefined) scores = since;
    if (
      ofSignals === undefined &&
      signalDrift.look(signalTrips.slice(-128), CAR_COLUMNS.set.signals) !== undefined
    )
      ofSignals = since;
    if (scores === undefined)
      for (const { vehicle } of sensorFaults(scoreTrips.slice(-1024))) suspected.add(vehicle);
  }
  const right = [...suspected].filter((vehicle) => Number(vehicle.slice(4)) < part * size).length;
  return { scores, signals: ofSignals, right: right > 0, wrong: suspected.size - right };
}
