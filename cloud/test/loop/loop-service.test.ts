import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ensureLogTopics, recordToEvent } from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { LoopFile } from '../../src/loop/loop-file.ts';
import { LoopService } from '../../src/loop/loop-service.ts';
import { RegistryClient } from '../../src/registry-client.ts';
import { COLUMNS } from '../registry/model-fixture.ts';
import { appendChampion, scoresOfTrip, telemetryOfTrip } from './loop-fixture.ts';

const CHILD = fileURLToPath(new URL('loop-child.ts', import.meta.url));
const CARS = [0, 1, 2, 3, 4, 5, 6, 7];

let dir: string;
let log: EventLog;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-loop-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  await ensureLogTopics(log);
  await log.append(
    'telemetry',
    CARS.flatMap((car) => [telemetryOfTrip(car, 0), telemetryOfTrip(car, 1)]),
  );
  await appendChampion(log);
});
afterEach(async () => {
  await log.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A trip of each car, told twice, as the bridge may. */
async function drive(trip: number, drifted: readonly number[] = []) {
  for (const car of CARS) {
    const telemetry = telemetryOfTrip(car, trip, drifted.includes(car) ? 3 : 0);
    const scores = scoresOfTrip(car, trip, drifted.includes(car) ? 0.8 : 0.3);
    await log.append('telemetry', [telemetry, telemetry]);
    await log.append('predictions', [scores, scores]);
  }
}

async function events(): Promise<string[]> {
  const all: string[] = [];
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const { type, data } = recordToEvent(record);
      if (type.startsWith('io.cardan.loop.')) all.push(`${type} ${JSON.stringify(data)}`);
    }
  return all;
}

async function look(folder: string): Promise<void> {
  const loop = await LoopService.open({
    log,
    registry: new RegistryClient('http://127.0.0.1:1'),
    dir: join(dir, folder),
    policy: { mode: 'off' },
    periodMs: null,
    onProblem: (error) => {
      throw error;
    },
  });
  await loop.look();
  await loop.close();
}

async function tripsOf(folder: string) {
  const file = await LoopFile.open({ path: join(dir, folder, 'loop.db'), log });
  const trips = {
    scores: file.scoreTrips(COLUMNS.id, { name: 'anomaly', version: '1' }),
    signals: file.signalTrips(COLUMNS.id),
    positions: [file.position('telemetry'), file.position('predictions')],
  };
  file.close();
  return trips;
}

test(
  'killed again and again, it has the same trips as one that never was, and says everything once',
  { timeout: 120_000 },
  async () => {
    let trip = 2;
    for (let kill = 0; kill < 4; kill++) {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', CHILD, join(dir, 'log.db'), join(dir, 'killed')],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      const exit = once(child, 'exit');
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      await lines.next();
      // It is killed in the middle of what it takes in, or of what it says.
      for (let i = 0; i < 3; i++) await drive(trip++, kill >= 2 ? [0, 1, 2, 3, 4] : []);
      if (kill % 2 === 1) await lines.next();
      child.kill('SIGKILL');
      await exit;
    }
    await look('killed');
    await look('undisturbed');
    const [killed, undisturbed] = [await tripsOf('killed'), await tripsOf('undisturbed')];
    expect(killed.scores).toHaveLength((trip - 3) * CARS.length);
    expect(killed.scores).toEqual(undisturbed.scores);
    expect(killed.signals).toEqual(undisturbed.signals);
    expect(killed.positions).toEqual(undisturbed.positions);
    const said = await events();
    expect(new Set(said).size).toBe(said.length);
    for (const type of ['drift-detected', 'retraining-proposed'])
      expect(said.filter((event) => event.startsWith(`io.cardan.loop.${type} `)).length).toBeGreaterThan(0);
    expect(said.filter((event) => event.startsWith('io.cardan.loop.retraining-proposed'))).toHaveLength(1);
  },
);

test('switched off it tells of drift, and proposes nothing', async () => {
  for (let trip = 2; trip < 8; trip++) await drive(trip);
  for (let trip = 8; trip < 14; trip++) await drive(trip, [0, 1, 2, 3, 4]);
  await look('off');
  await look('off');
  const said = (await events()).map((event) => event.split(' ')[0]);
  expect(said.filter((type) => type === 'io.cardan.loop.drift-detected').length).toBeGreaterThan(0);
  expect(new Set(said)).toEqual(new Set(['io.cardan.loop.drift-detected']));
});

test('a fleet that goes on as before, and one car that does not', async () => {
  for (let trip = 2; trip < 14; trip++) await drive(trip);
  await look('loop');
  expect(await events()).toEqual([]);
  for (let trip = 14; trip < 20; trip++) await drive(trip, [5]);
  await look('loop');
  const said = await events();
  expect(said).toHaveLength(1);
  expect(said[0]).toContain('io.cardan.loop.sensor-fault-suspected {"vehicle":"car-5"');
});
