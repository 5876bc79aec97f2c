/**
 * Trains from a log again and again, and says in one JSON line per round how fast, and what memory the process has had
 * at most. Started by `bench/train-kafka.ts`: LOG read|epoch|all SIGNALS ROUNDS
 */
import { signalSet, type FeatureSpec } from '@cardan/shared';
import { openEventLog, type EventLog } from '@cardan/shared/event-log';
import { initialLayers } from '../../cloud/src/trainer/initial-layers.ts';
import { DenseTraining } from '../../cloud/src/trainer/dense-training.ts';
import { offsetRanges } from '../../cloud/src/trainer/log-span.ts';
import type { RowQuery } from '../../cloud/src/trainer/log-rows.ts';
import { SeededRandom } from '../../cloud/src/trainer/seeded-random.ts';
import { STREAM_SETTINGS } from '../../cloud/src/trainer/stream-settings.ts';
import { streamedFit } from '../../cloud/src/trainer/streamed-fit.ts';
import { trainingBlocks } from '../../cloud/src/trainer/training-blocks.ts';
import { SIGNAL_SET } from './fleet-messages.ts';

export interface TrainedRows {
  rowsPerSecond: number;
  cpuUs: number;
  rssMb: number;
}

const BATCH_ROWS = 100;
const HIDDEN = [14, 7, 7, 14];

const [url, what, width, rounds] = process.argv.slice(2) as [string, string, string, string];
const signals = Number(width);
const log = await openEventLog(url);
const query: RowQuery = {
  signalSet: SIGNAL_SET,
  offsets: offsetRanges(await log.resolve('telemetry', 'earliest'), await log.resolve('telemetry', 'latest')),
  eventOffsets: {},
};
// One more to warm up.
for (let round = -1; round < Number(rounds); round++) {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  const rows = await (what === 'all' ? wholeTraining(log) : onePass(log, what === 'epoch'));
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const figure: TrainedRows = {
    rowsPerSecond: rows / seconds,
    cpuUs: (user + system) / rows,
    rssMb: process.resourceUsage().maxRSS / 1024,
  };
  if (round >= 0) process.stdout.write(`${JSON.stringify(figure)}\n`);
}
await log.close();

/** One pass with known features, as the article has it: every row once, as it is. */
async function onePass(log: EventLog, train: boolean): Promise<number> {
  const features: FeatureSpec = {
    windowRows: 1,
    gapMs: 5000,
    clip: 5,
    inputs: Array.from({ length: signals }, (_, signal) => ({
      signal,
      statistic: 'mean',
      center: 36,
      scale: 10,
    })),
  };
  const training = new DenseTraining(initialLayers([signals, ...HIDDEN, signals], new SeededRandom(1)));
  const blocks = trainingBlocks(log, {
    query,
    alarms: new Map(),
    part: (rows) => rows,
    signals,
    features,
    batchRows: BATCH_ROWS,
    shuffleRows: STREAM_SETTINGS.shuffleRows,
    seed: 1,
  });
  let count = 0;
  let sum = 0;
  for await (const { values, rows } of blocks) {
    if (train) sum += training.step(values, values, rows);
    count += rows;
  }
  if (!Number.isFinite(sum)) throw new Error('The training has diverged.');
  return count;
}

/** `cardan-cloud train` with one epoch and its own defaults, but for the network. */
async function wholeTraining(log: EventLog): Promise<number> {
  const names = Array.from({ length: signals }, (_, i) => ({ name: `s${i}`, unit: '' }));
  const { data } = await streamedFit(log, {
    signalSet: { ...signalSet(names), id: SIGNAL_SET },
    query,
    seed: 1,
    settings: { ...STREAM_SETTINGS, epochs: 1, hidden: HIDDEN },
  });
  return data.rows;
}
