import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { cloudEvent, encodeScores, encodeTelemetry, ensureLogTopics, eventToRecord } from '@cardan/shared';
import type { EventLog, NewRecord } from '@cardan/shared/event-log';
import { COLUMNS } from '../predictor/predictor-fixture.ts';
import { closeRegistries, openRegistry, tempDir } from '../registry/registry-fixture.ts';
import { runCommand } from '../run-command.ts';

const BEGIN = Date.UTC(2026, 0, 10);
const HOUR = 3_600_000;
/** Rows of an hour: one every ten seconds. */
const ROWS = 360;
afterEach(closeRegistries);

const timesOf = (hour: number) =>
  Float64Array.from({ length: ROWS }, (_, row) => BEGIN + ((ROWS * hour + row) / ROWS) * HOUR);

/** Scores of twelve hours: from 0.3 thresholds on, with as much more each hour. */
function predictions(vehicle: string, perHour: number): NewRecord[] {
  return Array.from({ length: 12 }, (_, hour) => {
    const times = timesOf(hour);
    const value = encodeScores({
      epoch: 1,
      firstSequence: ROWS * hour,
      times,
      scores: Float32Array.from(times, (time) => {
        const t = (time - BEGIN) / HOUR;
        return 4 * (0.3 + perHour * t + 0.02 * Math.sin(37 * t));
      }),
      modelName: 'test',
      modelVersion: '1',
      threshold: 4,
    });
    return { key: vehicle, value, timestamp: times.at(-1)! };
  });
}

async function pressures(log: EventLog): Promise<void> {
  const event = cloudEvent('io.cardan.signal-set', { source: '/vehicles/slow', id: '1', time: 0 }, COLUMNS);
  await log.append('signal-sets', [eventToRecord(COLUMNS.id, event)]);
  for (let hour = 0; hour < 12; hour++) {
    const times = timesOf(hour);
    const values = new Float32Array(3 * ROWS);
    times.forEach((time, row) =>
      values.set([240 - (2 * (time - BEGIN)) / HOUR + 0.1 * Math.sin(row), 0.5, 88], 3 * row),
    );
    const batch = {
      epoch: 1,
      firstSequence: ROWS * hour,
      scores: new Float32Array(0),
      modelName: '',
      modelVersion: '',
    };
    const value = encodeTelemetry({ ...batch, signalSet: COLUMNS.id, times, values });
    // Twice, as it may come.
    await log.append('telemetry', Array<NewRecord>(2).fill({ key: 'slow', value, timestamp: times.at(-1)! }));
  }
}

test('the API tells where a vehicle’s score is going, also of what has come since it was asked last', async () => {
  const { url, log } = await openRegistry({ clock: () => BEGIN + 24 * HOUR });
  await ensureLogTopics(log);
  await log.append('predictions', [...predictions('sick', 0.02), ...predictions('well', 0)]);
  const trend = async (vehicle: string) => {
    const answer = await fetch(`${url}/v1/vehicles/${vehicle}/trend`);
    const body = (await answer.json()) as { crosses: { at: string } | null };
    return { status: answer.status, ...body };
  };
  const sick = await trend('sick');
  // 0.7 thresholds at 0.02 an hour are 35 hours.
  const at = Date.parse(sick.crosses!.at);
  expect((at - BEGIN) / HOUR).toBeCloseTo(35, 0);
  expect(sick).toMatchObject({
    status: 200,
    vehicle: 'sick',
    of: 'score',
    state: 'towards',
    limit: 1,
    points: 72,
  });
  expect(await trend('well')).toMatchObject({ state: 'none', crosses: null });
  expect(await trend('nobody')).toMatchObject({ status: 404, code: 'VEHICLE_UNKNOWN' });
  await log.append('predictions', predictions('late', 0.04));
  expect(await trend('late')).toMatchObject({ state: 'towards' });
});

test('the command line tells it of the score and of a signal', async () => {
  const { log, dir } = await openRegistry();
  await ensureLogTopics(log);
  await log.append('predictions', predictions('slow', 0.02));
  await pressures(log);
  const run = (...args: string[]) =>
    runCommand(['trend', 'slow', '--log', `sqlite:${join(dir, 'log.db')}`, ...args]);
  const score = await run('--json');
  expect(JSON.parse(score.out)).toMatchObject({ vehicle: 'slow', of: 'score', state: 'towards', limit: 1 });
  const signal = await run('--signal', 'Vehicle.Speed', '--limit', '180');
  expect(signal.out).toContain('it moves towards the limit');
  expect(signal.out).toMatch(/crosses +2026-01-11T0[56]/);
  expect((await run('--signal', 'Vehicle.Wings', '--limit', '1')).err).toContain('SIGNAL_SET_UNKNOWN');
  expect((await run('--signal', 'Vehicle.Speed')).err).toContain('USAGE');
  expect((await run('--from', '2027-01-01T00:00Z')).out).toContain('too little history');
  expect(
    (await runCommand(['trend', 'x', '--log', `sqlite:${join(tempDir(), 'none', 'log.db')}`])).code,
  ).not.toBe(0);
});
