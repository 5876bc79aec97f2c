/**
 * How well the fleet's model finds what breaks: 200 simulated cars, each with every kind of fault at moderate severity
 * from the same moment on, and without one for the false alarms. The model is made by the real trainer of other
 * cars; scorer and alarm are those of the car. No broker. One JSON line per figure.
 *
 *   node --import tsx bench/quality.ts [--cars N] [--hours H] [--fleet N] [--rows N] [--seed N] [--table]
 *
 * --hours is what each car drives without a fault; --fleet and --rows are the cars that the model is trained on and the
 * rows (seconds) of each; --table prints the tables of docs/quality.md instead.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { printFigure } from './parts/figure.ts';
import { trainFleetModel } from './parts/quality/fleet-model.ts';
import { printTables } from './parts/quality/tables.ts';
import { tally } from './parts/quality/tally.ts';
import { CASES, type CarOutcome } from './parts/quality/trial.ts';
import type { Work } from './parts/quality/worker.ts';

const WORKER = fileURLToPath(new URL('parts/quality/worker.ts', import.meta.url));

const { values } = parseArgs({
  options: {
    cars: { type: 'string', default: '200' },
    hours: { type: 'string', default: '2.5' },
    fleet: { type: 'string', default: '60' },
    rows: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    table: { type: 'boolean', default: false },
    outcomes: { type: 'boolean', default: false },
  },
});
const count = (name: 'cars' | 'fleet' | 'rows' | 'seed') => {
  const given = Number(values[name]);
  if (!Number.isInteger(given) || given < 1)
    throw new RangeError(`--${name} must be a whole number from 1 on.`);
  return given;
};

const seed = count('seed');
const begun = performance.now();
const { files, metrics } = await trainFleetModel({ cars: count('fleet'), rowsPerCar: count('rows'), seed });
const trained = performance.now();
const seeds = Array.from({ length: count('cars') }, (_, i) => 1000 * seed + i);
const processes = Math.min(seeds.length, availableParallelism());
const outcomes = (
  await Promise.all(
    Array.from({ length: processes }, (_, i) => tryCars(seeds.filter((_, at) => at % processes === i))),
  )
).flat();
outcomes.sort((a, b) => a.seed - b.seed);
const result = tally(outcomes);

if (values.outcomes) for (const outcome of outcomes) process.stdout.write(`${JSON.stringify(outcome)}\n`);
if (values.table) printTables(result, outcomes);
else {
  for (const fault of result.faults) {
    const bench = `quality ${fault.of}`;
    printFigure({
      bench,
      value: (100 * fault.early) / fault.cars,
      unit: '% of cars alarmed before half of the growth',
      cars: fault.cars,
      late: fault.late,
      missed: fault.missed,
      alarmed_before: fault.alarmedBefore,
      delay_s_p10: fault.delayS.p10,
      delay_s_p50: fault.delayS.p50,
      delay_s_p90: fault.delayS.p90,
      delay_s_p95: fault.delayS.p95,
      blamed: JSON.stringify(Object.fromEntries(fault.blamed)),
    });
    printFigure({
      bench: `${bench}, blame`,
      value: (100 * fault.right) / Math.max(1, fault.early + fault.late),
      unit: '% of alarms blame the broken part',
    });
  }
  printFigure({
    bench: 'quality false alarms',
    value: result.falseAlarmRate,
    unit: 'per 100 vehicle-hours',
    at_most_with_95_percent_confidence: result.falseAlarmRateMost,
    false_alarms: result.falseAlarms,
    vehicle_hours: result.vehicleHours,
  });
}
const seconds = (performance.now() - trained) / 1000;
process.stderr.write(
  `${CASES.length} faults in ${outcomes.length} cars: trained in ${((trained - begun) / 1000).toFixed(0)} s on ` +
    `${metrics.training_rows} rows, judged in ${seconds.toFixed(0)} s\n`,
);

/** The outcome of each car, from a process of its own. */
async function tryCars(seeds: number[]): Promise<CarOutcome[]> {
  const worker = fork(WORKER, [], { execArgv: ['--import', 'tsx'] });
  const outcomes: CarOutcome[] = [];
  worker.on('message', (outcome: CarOutcome) => outcomes.push(outcome));
  const [manifest, model, weights] = [files.manifest, files.model, files.weights].map((bytes) =>
    Buffer.from(bytes).toString('base64'),
  ) as [string, string, string];
  const work: Work = {
    files: { manifest, model, weights },
    seeds,
    healthyS: Math.round(Number(values.hours) * 3600),
  };
  worker.send(work);
  const [status] = (await once(worker, 'exit')) as [number | null];
  if (status !== 0 || outcomes.length < seeds.length) throw new Error('A process of the bench has failed.');
  return outcomes;
}
