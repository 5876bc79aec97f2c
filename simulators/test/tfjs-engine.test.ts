import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import {
  cloudEvent,
  encodeTelemetry,
  ensureLogTopics,
  eventToRecord,
  isEvent,
  recordToEvent,
  Scorer,
  type ModelPublished,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { loadOnBoard } from '../../agent/src/scoring/load-on-board.ts';
import { CAR_COLUMNS, recordCar, type CarRows } from '../../bench/parts/quality/car-rows.ts';
import { reproduce } from '../../cloud/src/models/reproduce.ts';
import { Predictor } from '../../cloud/src/predictor/predictor.ts';
import { RegistryClient } from '../../cloud/src/registry-client.ts';
import { linesOf, predictions, rowCount } from '../../cloud/test/predictor/predictor-fixture.ts';
import { closeRegistries, openRegistry } from '../../cloud/test/registry/registry-fixture.ts';
import { runCommand } from '../../cloud/test/run-command.ts';
import { Car } from '../src/car.ts';

afterEach(closeRegistries);

const START = Date.UTC(2026, 0, 1);
const SIGNALS = CAR_COLUMNS.set.signals.length;
const CARS = 4;
const ROWS = 400;
/** Short ones: what counts is that all parts agree on them. */
const LAYERS = {
  conv1d: 'layers:\n  - conv1d: {filters: 8, kernelSize: 3, activation: tanh}',
  gru: 'layers:\n  - gru: {units: 8}',
};

function simulated(seed: number): CarRows {
  const car = new Car({ id: `v${seed}`, seed, startTime: START });
  return recordCar(car, START, START + ROWS * 1000);
}

async function append(log: EventLog, vehicle: string, { times, values }: CarRows): Promise<void> {
  for (let first = 0; first < times.length; first += 50)
    await log.append('telemetry', [
      {
        key: vehicle,
        timestamp: times[Math.min(first + 50, times.length) - 1]!,
        value: encodeTelemetry({
          signalSet: CAR_COLUMNS.set.id,
          epoch: 1,
          firstSequence: first + 1,
          times: times.slice(first, first + 50),
          values: values.slice(first * SIGNALS, (first + 50) * SIGNALS),
          scores: new Float32Array(0),
          modelName: '',
          modelVersion: '',
        }),
      },
    ]);
}

async function published(log: EventLog): Promise<ModelPublished> {
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.model.published')) return event.data;
    }
  throw new Error('No model was published.');
}

test.each(['conv1d', 'gru'] as const)(
  'a %s autoencoder learns from simulated cars in the log, and car and cloud give its scores',
  async (name) => {
    const registry = await openRegistry();
    await ensureLogTopics(registry.log);
    const set = cloudEvent(
      'io.cardan.signal-set',
      { source: '/vehicles/v1', id: '1', time: START },
      CAR_COLUMNS.set,
    );
    await registry.log.append('signal-sets', [eventToRecord(CAR_COLUMNS.set.id, set)]);
    const cars = Array.from({ length: CARS }, (_, i) => simulated(i + 1));
    const total = cars.reduce((sum, { times }) => sum + times.length, 0);
    for (const [i, rows] of cars.entries()) await append(registry.log, `v${i + 1}`, rows);

    const config = join(registry.dir, 'model.yaml');
    writeFileSync(
      config,
      `engine: tfjs\nepochs: 4\nhyperParameters: {windowRows: 8, learningRate: 0.01, thresholdFactor: 1.3}\n${LAYERS[name]}\n`,
    );
    const { code, err } = await runCommand([
      ...['train', '--log', `sqlite:${join(registry.dir, 'log.db')}`, '--registry', registry.url],
      ...['--config', config, '--checkpoint', join(registry.dir, 'checkpoint')],
    ]);
    expect(err).toContain('published');
    expect(code).toBe(0);

    // The car checks the self-test, too.
    const { manifest, manifestSha256 } = await published(registry.log);
    expect([manifest.engine, manifest.features.inputs.length % 8]).toEqual(['tfjs', 0]);
    const client = new RegistryClient(registry.url);
    const files = await client.download(manifest, manifestSha256);
    const ref = { name: manifest.name, version: manifest.version };
    const { model } = await loadOnBoard({ ref, address: 'test', ...files }, CAR_COLUMNS.set.id);
    const scoresOf = ({ times, values }: CarRows) => [...new Scorer(model).pushRows(times, values)];

    // A score depends on its windows and on nothing before.
    const rows = cars[0]!;
    const scores = scoresOf(rows);
    const depends = manifest.features.windowRows + manifest.score.smoothingRows - 1;
    const from = rows.times.length - depends - 5;
    const late = scoresOf({ times: rows.times.subarray(from), values: rows.values.subarray(from * SIGNALS) });
    expect(late.slice(0, depends - 1).every(Number.isNaN)).toBe(true);
    expect(late.slice(depends - 1)).toEqual(scores.slice(from + depends - 1));

    // Stuck from the middle on, while everything else goes on.
    const stuck = { times: rows.times, values: rows.values.slice() };
    const { signal, scale } = manifest.features.inputs[0]!;
    for (let row = ROWS / 2; row < rows.times.length; row++)
      stuck.values[row * SIGNALS + signal]! += 6 * scale;
    const highest = (of: number[]) => of.reduce((most, score) => Math.max(most, score || 0), 0);
    expect(highest(scores)).toBeLessThan(manifest.alarm.threshold);
    expect(highest(scoresOf(stuck))).toBeGreaterThan(manifest.alarm.threshold);

    const log = await SqliteEventLog.open({ path: join(registry.dir, 'log.db') });
    const predictor = await Predictor.start({ log, registry: client });
    const all = await predictions(registry.log, (batches) => rowCount(batches) === total);
    await predictor.close();
    for (const [i, car] of cars.entries())
      expect(linesOf(all, `v${i + 1}`)).toEqual(
        scoresOf(car).map((score, row) => `${row + 1} v${manifest.version} ${Math.fround(score)}`),
      );

    expect(await reproduce(log, files.manifest, manifest)).toMatchObject({ equal: true, reasons: [] });
    await log.close();
  },
  60_000,
);
