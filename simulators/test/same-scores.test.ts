import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { ensureLogTopics, type Model } from '@cardan/shared';
import { SqliteEventLog } from '@cardan/shared/event-log';
import { OnBoardScoring } from '../../agent/src/scoring/on-board-scoring.ts';
import { Predictor } from '../../cloud/src/predictor/predictor.ts';
import { RegistryClient } from '../../cloud/src/registry-client.ts';
import {
  linesOf,
  predictions,
  publish,
  rowCount,
  rows,
  scoringModel,
  telemetry,
} from '../../cloud/test/predictor/predictor-fixture.ts';
import { closeRegistries, openRegistry } from '../../cloud/test/registry/registry-fixture.ts';

afterEach(closeRegistries);

/** Nine hundred rows of a car, with values that were not seen and some that are far off. */
const ROWS = 900;

/** What the agent in the car writes beside its rows. */
function inCar(model: Model): Float32Array {
  const { name, version } = model.manifest;
  const scoring = new OnBoardScoring({
    budgetUs: 1e6,
    clockUs: () => 0,
    goodAfterMs: 1e9,
    shadowPeriodMs: 1e9,
    onAlarm: () => undefined,
    onShadow: () => undefined,
    onCalm: () => undefined,
    onGood: () => undefined,
    onStopped: ({ message }) => {
      throw new Error(message);
    },
  });
  scoring.activate({ ref: { name, version }, address: 'test', model });
  const { times, values } = rows('v1', 1, ROWS);
  return Float32Array.from(times, (time, row) => scoring.push(time, values.subarray(row * 3, row * 3 + 3))!);
}

test('one row has one score: in the car, in the stream and on request, to the bit', async () => {
  const scoring = scoringModel('1');
  const registry = await openRegistry();
  await ensureLogTopics(registry.log);
  await publish(registry.url, scoring);
  const car = Array.from(inCar(scoring.model));
  expect(new Set(car).size).toBeGreaterThan(ROWS - 20);

  const log = await SqliteEventLog.open({ path: join(registry.dir, 'log.db') });
  const predictor = await Predictor.start({ log, registry: new RegistryClient(registry.url) });
  for (let first = 1; first <= ROWS; first += 60)
    await registry.log.append('telemetry', [telemetry('v1', first, 60)]);
  const all = await predictions(registry.log, (batches) => rowCount(batches) === ROWS);
  await predictor.close();
  await log.close();
  expect(linesOf(all, 'v1')).toEqual(car.map((score, row) => `${row + 1} v1 ${score}`));

  const { times, values } = rows('v1', 1, ROWS);
  const number = (value: number) => (Number.isNaN(value) ? null : value);
  const answer = await fetch(`${registry.url}/v1/models/test/predict`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      instances: [
        {
          t: [...times],
          rows: Array.from(times, (_, row) => Array.from(values.subarray(row * 3, row * 3 + 3), number)),
        },
      ],
    }),
  });
  const { predictions: asked } = (await answer.json()) as { predictions: [{ scores: (number | null)[] }] };
  expect(asked[0].scores).toEqual(car.map(number));
});
