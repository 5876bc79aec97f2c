import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { encodeTelemetry, recordToEvent } from '@cardan/shared';
import { openEventLog, type EventLog, type NewRecord } from '@cardan/shared/event-log';
import { Learner } from '../../src/learner/learner.ts';

const PREFIX = `learner-${randomUUID().slice(0, 8)}.`;
let dir: string;
let log: EventLog;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-learner-'));
  log = await openEventLog(`kafka:${inject('kafkaBrokers')}`, { topicPrefix: PREFIX });
});
afterAll(async () => {
  await log.close();
  rmSync(dir, { recursive: true });
});

/** A minute of four cars: the even ones stand, the others drive, and they change over every ten minutes. */
function minute(number: number): NewRecord[] {
  return [0, 1, 2, 3].map((car) => {
    const moving = (car + Math.floor(number / 10)) % 2;
    const times = Float64Array.from({ length: 60 }, (_, row) => (number * 60 + row) * 1000);
    return {
      key: `car-${car}`,
      timestamp: number * 60_000,
      value: encodeTelemetry({
        signalSet: 'kafka',
        epoch: 1,
        firstSequence: number * 60,
        times,
        values: Float32Array.from(
          { length: 120 },
          (_, i) => (i % 2 === 0 ? 80 * moving : 20) + ((i + car) % 7),
        ),
        scores: new Float32Array(0),
        modelName: '',
        modelVersion: '',
      }),
    };
  });
}

it('learns from Kafka, and goes on from the offsets in its own file after a stop', async () => {
  const path = join(dir, 'learner.db');
  const start = () => Learner.start({ log, path, states: { firstWindows: 20, states: 2 } });
  let learner = await start();
  for (let number = 0; number < 60; number++) await log.append('telemetry', minute(number));
  await learner.caughtUp();
  await learner.close();
  for (let number = 60; number < 120; number++) await log.append('telemetry', minute(number));
  learner = await start();
  await learner.caughtUp();
  await learner.close();

  const lags = await log.lag('learner');
  expect(lags.reduce((sum, { lag }) => sum + lag, 0)).toBe(0);
  let windows = 0;
  let speeds: number[] = [];
  for await (const { records } of log.read('clusters', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const { type, data } = recordToEvent(record);
      if (type !== 'io.cardan.clusters.learned') continue;
      const { states } = data as { states: { center: number[]; windows: number }[] };
      windows = states.reduce((sum, state) => sum + state.windows, 0);
      speeds = states.map(({ center }) => center[0]!).sort((a, b) => a - b);
    }
  expect(speeds[0]).toBeLessThan(10);
  expect(speeds[1]).toBeGreaterThan(75);
  // 480 minutes, each once, old ones counted a little less; the last ones may not have been looked at.
  expect(windows).toBeGreaterThan(380);
  expect(windows).toBeLessThanOrEqual(480);
}, 120_000);
