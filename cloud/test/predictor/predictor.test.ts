import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type CardanError, encodeTelemetry, ensureLogTopics, Scorer } from '@cardan/shared';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { Predictor } from '../../src/predictor/predictor.ts';
import { RegistryClient } from '../../src/registry-client.ts';
import { closeRegistries, openRegistry, type TestRegistry } from '../registry/registry-fixture.ts';
import {
  linesOf,
  predictions,
  publish,
  rowCount,
  rows,
  scoringModel,
  type ScoringModel,
  telemetry,
} from './predictor-fixture.ts';

const CLOUD = fileURLToPath(new URL('../../bin/cardan-cloud.js', import.meta.url));
/** windowRows + smoothingRows − 1 of the fixture's models, less the row that has the first score. */
const WARM_UP = 8;

let registry: TestRegistry;
const closing: (() => unknown)[] = [];
let problems: CardanError[] = [];
beforeEach(async () => {
  problems = [];
  registry = await openRegistry();
  await ensureLogTopics(registry.log);
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await closeRegistries();
});

async function predictor(group?: string): Promise<Predictor> {
  // A log of its own, as another process has.
  const log = await SqliteEventLog.open({ path: join(registry.dir, 'log.db') });
  const started = await Predictor.start({
    log,
    registry: new RegistryClient(registry.url),
    ...(group === undefined ? {} : { group }),
    onProblem: (error) => problems.push(error),
  });
  const stop = started.close.bind(started);
  let closed: Promise<void> | undefined;
  const close = () => (closed ??= stop().then(() => log.close()));
  closing.push(close);
  started.close = close;
  return started;
}

/** What one scorer says of all rows of a vehicle, without any service. */
function expected({ model }: ScoringModel, vehicle: string, first: number, count: number): string[] {
  const { times, values } = rows(vehicle, first, count);
  const scores = new Scorer(model).pushRows(times, values);
  return Array.from(scores, (score, i) => `${first + i} v${model.manifest.version} ${score}`);
}

test('rows get the scores of the car’s engine, with the threshold and what high ones are made of', async () => {
  const scoring = scoringModel('1');
  await publish(registry.url, scoring);
  await predictor();
  await registry.log.append('telemetry', [telemetry('v1', 1, 60), telemetry('v1', 61, 60)]);
  const all = await predictions(registry.log, (batches) => rowCount(batches) === 120);
  expect(linesOf(all, 'v1')).toEqual(expected(scoring, 'v1', 1, 120));
  const scorer = new Scorer(scoring.model);
  let explained = 0;
  for (const { threshold, scores, contributions, firstSequence, modelName, signalSet } of all) {
    expect([threshold, modelName, signalSet]).toEqual([4, 'test', scoring.model.manifest.signalSet.id]);
    const { times, values } = rows('v1', firstSequence, scores.length);
    for (let row = 0; row < scores.length; row++) {
      scorer.push(times[row]!, values, row * 3);
      const at = contributions?.rows.indexOf(row) ?? -1;
      expect(at >= 0, `row ${row} has ${scores[row]}`).toBe(scores[row]! >= 2);
      if (at < 0) continue;
      explained++;
      const parts = [...scorer.contributions()].map((part, signal) => ({ part, signal }));
      parts.sort((a, b) => b.part - a.part);
      expect([...contributions!.parts.subarray(at * 3, at * 3 + 3)]).toEqual(parts.map(({ part }) => part));
      expect(contributions!.signals[at * 3]).toBe(parts[0]!.signal);
    }
  }
  expect(explained).toBeGreaterThan(10);
});

test('a new model takes over at once from the rows that are kept; no row goes unscored', async () => {
  const [first, second] = [scoringModel('1'), scoringModel('2')];
  await publish(registry.url, first);
  const running = await predictor();
  await registry.log.append('telemetry', [telemetry('v1', 1, 30)]);
  await predictions(registry.log, (all) => rowCount(all) === 30);
  await publish(registry.url, second);
  // The predictor hears of it while rows go on coming.
  let sent = 30;
  const all = await predictions(registry.log, (batches) => {
    const done = rowCount(batches) === sent;
    if (done && batches.at(-1)!.modelVersion === '1') {
      void registry.log.append('telemetry', [telemetry('v1', sent + 1, 5)]);
      sent += 5;
      return false;
    }
    return done;
  });
  await running.close();
  const from = all.find(({ modelVersion }) => modelVersion === '2')!.firstSequence;
  expect(linesOf(all, 'v1')).toEqual([
    ...expected(first, 'v1', 1, sent).slice(0, from - 1),
    ...expected(second, 'v1', 1, sent).slice(from - 1),
  ]);
});

test('a new model with longer windows than rows are kept waits, and the one before goes on scoring', async () => {
  const [first, second] = [
    scoringModel('1'),
    scoringModel('2', (manifest) => {
      manifest.score.smoothingRows = 40;
    }),
  ];
  await publish(registry.url, first);
  const running = await predictor();
  await registry.log.append('telemetry', [telemetry('v1', 1, 20)]);
  await predictions(registry.log, (all) => rowCount(all) === 20);
  await publish(registry.url, second);
  let sent = 20;
  const all = await predictions(registry.log, (batches) => {
    if (rowCount(batches) < sent) return false;
    if (sent >= 100) return true;
    void registry.log.append('telemetry', [telemetry('v1', sent + 1, 16)]);
    sent += 16;
    return false;
  });
  await running.close();
  const lines = linesOf(all, 'v1');
  const change = lines.findIndex((line) => line.includes('v2'));
  // In the middle of a batch: its 43rd row is the first one whose windows are full.
  expect(change).toBeGreaterThanOrEqual(42);
  expect(lines).toEqual([
    ...expected(first, 'v1', 1, sent).slice(0, change),
    ...expected(second, 'v1', 1, sent).slice(change),
  ]);
  expect(lines.slice(WARM_UP).filter((line) => line.endsWith('NaN'))).toEqual([]);
});

test('a predictor that is started again goes on with the same bits, and predicts no row twice', async () => {
  const scoring = scoringModel('1');
  await publish(registry.url, scoring);
  const vehicles = ['v1', 'v2', 'v3'];
  let sent = 0;
  for (let round = 1; round <= 4; round++) {
    const running = await predictor();
    for (let k = 0; k < 3; k++) {
      // Copies come, too: those of the time before the restart are known as such.
      const again = Math.max(1, sent - 4);
      for (const vehicle of vehicles)
        await registry.log.append('telemetry', [
          telemetry(vehicle, sent + 1, 7),
          telemetry(vehicle, again, sent + 7 - again),
        ]);
      sent += 7;
    }
    await predictions(registry.log, (all) => rowCount(all) === sent * vehicles.length);
    await running.close();
  }
  const all = await predictions(registry.log, (batches) => rowCount(batches) === sent * vehicles.length);
  for (const vehicle of vehicles) expect(linesOf(all, vehicle)).toEqual(expected(scoring, vehicle, 1, sent));
});

test('what was predicted and not committed, as by one that died in between, is not predicted again', async () => {
  const scoring = scoringModel('1');
  await publish(registry.url, scoring);
  // To the group that comes second it looks as if its member before had written these and died.
  const before = await predictor('before');
  await registry.log.append('telemetry', [telemetry('v1', 1, 25), telemetry('v2', 1, 25)]);
  await predictions(registry.log, (all) => rowCount(all) === 50);
  await before.close();
  await predictor();
  await registry.log.append('telemetry', [telemetry('v1', 11, 40)]);
  const all = await predictions(registry.log, (batches) => batches.at(-1)!.firstSequence > 1);
  expect(linesOf(all, 'v1')).toEqual(expected(scoring, 'v1', 1, 50));
  expect(linesOf(all, 'v2')).toEqual(expected(scoring, 'v2', 1, 25));
});

test('two predictors share the partitions; when one leaves or comes, scores go on as if there were one', async () => {
  const scoring = scoringModel('1');
  await publish(registry.url, scoring);
  const vehicles = Array.from({ length: 12 }, (_, i) => `car-${i}`);
  let sent = 0;
  const drive = async () => {
    for (const vehicle of vehicles)
      await registry.log.append('telemetry', [telemetry(vehicle, sent + 1, 10)]);
    sent += 10;
    return predictions(registry.log, (all) => rowCount(all) >= sent * vehicles.length);
  };
  const first = await predictor();
  await drive();
  const second = await predictor();
  await drive();
  await drive();
  await first.close();
  await drive();
  const third = await predictor();
  await drive();
  await second.close();
  await third.close();
  const fourth = await predictor();
  const all = await drive();
  await fourth.close();
  for (const vehicle of vehicles) expect(linesOf(all, vehicle)).toEqual(expected(scoring, vehicle, 1, sent));
});

test(
  'after kill -9, again and again, every row has one prediction, in order and with the same bits',
  { timeout: 120_000 },
  async () => {
    const scoring = scoringModel('1');
    await publish(registry.url, scoring);
    const vehicles = ['v1', 'v2', 'v3', 'v4'];
    const rounds = 2;
    const count = 120 * rounds;
    for (let first = 1; first <= count; first += 12)
      for (const vehicle of vehicles) await registry.log.append('telemetry', [telemetry(vehicle, first, 12)]);
    for (let round = 1; round <= rounds; round++) {
      const child = await start();
      const exit = once(child, 'exit');
      await predictions(
        registry.log,
        (all) => rowCount(all) >= (vehicles.length * count * round) / rounds / 2,
      );
      child.kill('SIGKILL');
      await exit;
      // Whoever is dead must be gone from the group before its partitions go to another one: the test need not wait, as
      // the next one does.
      for (const vehicle of vehicles)
        await registry.log.append('telemetry', [telemetry(vehicle, count + 1 + (round - 1) * 12, 12)]);
    }
    await start();
    const total = count + rounds * 12;
    const all = await predictions(registry.log, (batches) => rowCount(batches) >= vehicles.length * total);
    for (const vehicle of vehicles)
      expect(linesOf(all, vehicle)).toEqual(expected(scoring, vehicle, 1, total));
  },
);

/** A predictor in a process of its own that has begun. */
async function start(): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    [
      CLOUD,
      'predictor',
      '--log',
      `sqlite:${join(registry.dir, 'log.db')}`,
      '--registry',
      registry.url,
      '--data',
      join(registry.dir, 'predictor'),
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  });
  for await (const line of createInterface({ input: child.stderr }))
    if (line.startsWith('predictor: scoring')) return child;
  throw new Error('the predictor has ended');
}

test('a backlog is scored wholly and in order, whatever came late or twice in it', async () => {
  const scoring = scoringModel('1');
  await publish(registry.url, scoring);
  const records = [];
  for (let first = 1; first <= 3000; first += 30) {
    records.push(telemetry('v1', first, 30), telemetry('v2', first, 30));
    if (first % 300 === 1) records.push(telemetry('v1', first, 30));
  }
  await registry.log.append('telemetry', records);
  await predictor();
  const all = await predictions(registry.log, (batches) => rowCount(batches) === 6000);
  expect(linesOf(all, 'v1')).toEqual(expected(scoring, 'v1', 1, 3000));
  expect(linesOf(all, 'v2')).toEqual(expected(scoring, 'v2', 1, 3000));
});

test('a model that is unfit is told of once; the one before scores, also after a restart', async () => {
  const good = scoringModel('1');
  await publish(registry.url, good);
  const broken = scoringModel('2', (manifest) => {
    manifest.engine = 'tfjs';
  });
  // TensorFlow.js can read dense layers, too: its self-test is what fails here.
  broken.model.manifest.selfTest = { seed: 1, scores: [1e6] };
  broken.files.manifest = Buffer.from(JSON.stringify(broken.model.manifest));
  await publish(registry.url, broken);
  const running = await predictor();
  await registry.log.append('telemetry', [telemetry('v1', 1, 30)]);
  await predictions(registry.log, (all) => rowCount(all) === 30);
  await registry.log.append('telemetry', [telemetry('v1', 31, 30)]);
  const all = await predictions(registry.log, (batches) => rowCount(batches) === 60);
  expect(linesOf(all, 'v1')).toEqual(expected(good, 'v1', 1, 60));
  expect(problems.map(({ code }) => code)).toEqual(['SELF_TEST_FAILED']);
  await running.close();
});

test('rows of a campaign, of unknown columns and nonsense are passed over', async () => {
  const scoring = scoringModel('1');
  await publish(registry.url, scoring);
  await predictor();
  const plain = rows('v1', 11, 10);
  await registry.log.append('telemetry', [
    telemetry('v1', 1, 10),
    { key: 'v1', value: encodeTelemetry({ ...plain, campaign: 'brakes' }), timestamp: 0 },
    { key: 'v9', value: encodeTelemetry({ ...plain, signalSet: '0000000000000000' }), timestamp: 0 },
    { key: 'v1', value: Buffer.from('nonsense'), timestamp: 0 },
    telemetry('v1', 21, 10),
  ]);
  const all = await predictions(registry.log, (batches) => rowCount(batches) === 20);
  expect(linesOf(all, 'v9')).toEqual([]);
  expect(all.map(({ firstSequence }) => firstSequence)).toEqual([1, 21]);
  expect(problems.map(({ code }) => code)).toEqual(['TELEMETRY_MALFORMED']);
});
