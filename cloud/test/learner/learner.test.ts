import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { encodeTelemetry, ensureLogTopics, isEvent, recordToEvent, type CardanError } from '@cardan/shared';
import { SqliteEventLog, type EventLog, type NewRecord } from '@cardan/shared/event-log';
import { Learner } from '../../src/learner/learner.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

const CHILD = fileURLToPath(new URL('learner-child.ts', import.meta.url));
const SET = 'driving';
const NOON = Date.UTC(2026, 0, 1, 12);
/** Rows per record. */
const ROWS = 20;

let dir: string;
let log: SqliteEventLog;
let problems: CardanError[];
const closing: (() => Promise<void>)[] = [];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-learner-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  await ensureLogTopics(log);
  problems = [];
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await log.close();
  rmSync(dir, { recursive: true });
});

async function learner(name = 'learner.db'): Promise<Learner> {
  const started = await Learner.start({
    log,
    path: join(dir, name),
    states: { windowRows: 10 },
    onProblem: (error) => problems.push(error),
  });
  let open = true;
  const stop = started.close.bind(started);
  started.close = async () => {
    if (open) await stop();
    open = false;
  };
  closing.push(() => started.close());
  return started;
}

/** Which of three states a vehicle is in: it stays for a while, some vehicles mostly in the last one. */
function stateOf(vehicle: number, record: number): number {
  const turn = Math.floor(record / 3) + vehicle;
  if (vehicle % 2 === 0) return turn % 3;
  return turn % 4 === 0 ? turn % 3 : 2;
}

/** Records of `vehicles` that take turns; `from` and `to` count the records of each. */
function drives(vehicles: number, from: number, to: number): NewRecord[] {
  return Array.from({ length: to - from }, (_, i) => from + i).flatMap((record) =>
    Array.from({ length: vehicles }, (_, vehicle): NewRecord => {
      const random = new SeededRandom(1000 * vehicle + record);
      const state = stateOf(vehicle, record);
      const times = Float64Array.from({ length: ROWS }, (_, row) => NOON + (record * ROWS + row) * 1000);
      const values = Array.from({ length: ROWS }, () => [
        50 * state + 3 * random.normal(),
        800 + 700 * state + 50 * random.normal(),
        // What tells the cars apart, and says nothing of how they drive.
        220 + 10 * vehicle + random.normal(),
        Number.NaN,
      ]).flat();
      return {
        key: `car-${vehicle}`,
        timestamp: NOON + record * ROWS * 1000,
        value: encodeTelemetry({
          signalSet: SET,
          epoch: 1,
          firstSequence: record * ROWS,
          times,
          values: Float32Array.from(values),
          scores: new Float32Array(0),
          modelName: '',
          modelVersion: '',
        }),
      };
    }),
  );
}

async function said(of: EventLog = log) {
  const events = [];
  for await (const { records } of of.read('clusters', { from: 'earliest', to: 'latest' }))
    events.push(...records.map(recordToEvent));
  return events;
}

/** Everything that was learned, as text: all tables but the outbox. */
function memory(name: string): string[] {
  const db = new Database(join(dir, name), { readonly: true });
  try {
    return ['learners', 'windows', 'seen', 'fleets', 'assigned', 'positions'].flatMap((table) =>
      db
        .prepare(`SELECT * FROM ${table}`)
        .all()
        .map((row) => `${table} ${JSON.stringify(row)}`)
        .sort(),
    );
  } finally {
    db.close();
  }
}

it('finds the driving states of the fleet and the vehicles that drive alike, and says so', async () => {
  const started = await learner();
  await log.append('telemetry', drives(12, 0, 60));
  await started.caughtUp();
  const events = await said();
  const learned = events.findLast((event) => isEvent(event, 'io.cardan.clusters.learned'))!.data;
  expect(learned.signalSet).toBe(SET);
  const speeds = learned.states.map(({ center }) => center[0]!);
  for (const planted of [0, 50, 100])
    expect(Math.min(...speeds.map((speed) => Math.abs(speed - planted)))).toBeLessThan(6);
  expect(learned.clusters.reduce((sum, { vehicles }) => sum + vehicles, 0)).toBe(12);
  const clusterOf = new Map<string, number>();
  for await (const { records } of log.read('clusters', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = recordToEvent(record);
      if (isEvent(event, 'io.cardan.vehicle.cluster-assigned'))
        clusterOf.set(record.key!, event.data.cluster);
    }
  expect(clusterOf.size).toBe(12);
  const of = (parity: number) =>
    new Set(
      [...clusterOf].filter(([id]) => Number(id.slice(4)) % 2 === parity).map(([, cluster]) => cluster),
    );
  // Those that mostly drive fast share no cluster with those that do not.
  expect([...of(1)].filter((cluster) => of(0).has(cluster))).toEqual([]);
  expect(problems).toEqual([]);
});

it('goes on after a stop as if there had been none; copies and unreadable records change nothing', async () => {
  const records = drives(4, 0, 60);
  await log.append('telemetry', records.slice(0, 100));
  let started = await learner('stopped.db');
  await started.caughtUp();
  await started.close();
  await log.append('telemetry', records.slice(50, 100));
  await log.append('telemetry', [{ key: 'car-0', value: Buffer.from('no telemetry'), timestamp: NOON }]);
  await log.append('telemetry', records.slice(100));
  started = await learner('stopped.db');
  await started.caughtUp();
  await started.close();
  expect(problems.map(({ code }) => code)).toEqual(['TELEMETRY_MALFORMED']);

  const again = await learner('whole.db');
  await again.caughtUp();
  await again.close();
  const tables = (name: string) => memory(name).filter((row) => /^(learners|windows|seen)/.test(row));
  expect(tables('stopped.db')).toEqual(tables('whole.db'));
  expect(tables('whole.db').length).toBeGreaterThan(8);
});

it('killed at any moment, it ends with the same bytes as one that ran through', async () => {
  // One partition, so that also the fleet is looked at after the same records.
  const path = join(dir, 'one.db');
  const one = await SqliteEventLog.open({ path });
  closing.push(() => one.close());
  await one.createTopic('telemetry', { partitions: 1 });
  await ensureLogTopics(one);
  await one.append('telemetry', drives(6, 0, 60));
  const run = async (name: string, killAfterMs?: number): Promise<number | null> => {
    const child = fork(CHILD, [path, join(dir, name), '7'], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const ended = once(child, 'exit') as Promise<[number | null]>;
    if (killAfterMs !== undefined) {
      await once(child, 'message');
      setTimeout(() => child.kill('SIGKILL'), killAfterMs);
    }
    return (await ended)[0];
  };
  expect(await run('whole.db')).toBe(0);
  const random = new SeededRandom(5);
  let kills = 0;
  // A millisecond more of time each, so that it comes to an end.
  while (kills < 40 && (await run('killed.db', random.uniform() * (5 + kills))) !== 0) kills++;
  expect(kills).toBeGreaterThan(2);
  if (kills === 40) expect(await run('killed.db')).toBe(0);
  expect(memory('killed.db')).toEqual(memory('whole.db'));
  expect(memory('whole.db').filter((row) => row.startsWith('assigned'))).toHaveLength(6);
  // Both have said the same under the same ids, however often.
  const texts = new Map<string, Set<string>>();
  for (const { id, data } of await said(one))
    texts.set(id, (texts.get(id) ?? new Set()).add(JSON.stringify(data)));
  expect(texts.size).toBeGreaterThan(6);
  for (const different of texts.values()) expect(different.size).toBe(1);
}, 120_000);
