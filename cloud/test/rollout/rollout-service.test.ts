import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  cloudEvent,
  type EventData,
  type EventType,
  eventToRecord,
  isEvent,
  Moments,
  type ModelRef,
  QuantileSketch,
  recordToEvent,
  type VehicleReported,
} from '@cardan/shared';
import { type EventLog, SqliteEventLog } from '@cardan/shared/event-log';
import { Fleet } from '../../src/fleet/fleet.ts';
import { Registry, type RolloutPolicy } from '../../src/registry/registry.ts';
import { explain } from '../../src/rollout/explain.ts';
import type { RolloutRequest } from '../../src/rollout/plan.ts';
import { RolloutService } from '../../src/rollout/rollout-service.ts';
import { COLUMNS, sha256, testModel } from '../registry/model-fixture.ts';
import { removeTempDirs, tempDir } from '../registry/registry-fixture.ts';
import { NOON } from './rollout-fixture.ts';

/* The service on a real log, a real registry and a real fleet; what cars say is put into the log as the bridge does. */

const V1 = { name: 'anomaly', version: '1' };
const V2 = { name: 'anomaly', version: '2' };
const CARS = Array.from({ length: 12 }, (_, i) => `car-${i}`);
/** Small enough for twelve cars. */
const STAGES: RolloutRequest['stages'] = [
  { name: 'shadow', kind: 'shadow', minimum: { vehicles: 3, vehicleHours: 20 } },
  { name: 'half', percent: 50, minimum: { vehicles: 2, vehicleHours: 20 } },
  { name: 'all', minimum: { vehicles: 3, vehicleHours: 20 } },
];

let dir: string;
let log: EventLog;
let registry: Registry;
let fleet: Fleet;
let rollouts: RolloutService;
let now: number;
let events: number;
let problems: unknown[];

beforeEach(async () => {
  dir = tempDir();
  now = NOON;
  events = 0;
  problems = [];
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  await open('manual');
});
afterEach(async () => {
  await close();
  await log.close();
  removeTempDirs();
  expect(problems).toEqual([]);
});

async function open(policy: RolloutPolicy): Promise<void> {
  const common = { log, clock: () => now, onProblem: (error: unknown) => problems.push(error) };
  registry = await Registry.open({ ...common, dir: join(dir, 'registry'), rollouts: policy });
  fleet = await Fleet.open({ ...common, dir });
  rollouts = await RolloutService.open({ ...common, registry, fleet, policy, periodMs: null });
}

async function close(): Promise<void> {
  await rollouts.close();
  await fleet.close();
  await registry.close();
}

async function publish(version: string): Promise<void> {
  const model = testModel(version);
  for (const bytes of [model.modelBytes, model.weightsBytes])
    await registry.blobs.put(sha256(bytes), [bytes]);
  await registry.publish('anomaly', model.manifestBytes);
}

async function say<K extends EventType>(car: string, type: K, data: EventData[K], time = now): Promise<void> {
  await log.append('vehicle-events', [said(car, type, data, time)]);
}

function said<K extends EventType>(car: string, type: K, data: EventData[K], time = now) {
  return eventToRecord(car, cloudEvent(type, { source: `/vehicles/${car}`, id: `${events++}`, time }, data));
}

/** What each car should have, it says that it has; then it drives for so many hours and says it again. */
async function drive(hours: number, { alarms = 0, except = [] as string[] } = {}): Promise<void> {
  const steps = Math.ceil(hours * 4);
  for (const car of CARS.filter((car) => !except.includes(car))) {
    const { generation, active, candidate } = rollouts.desired(COLUMNS.id, car);
    const records: ReturnType<typeof said>[] = [];
    const report = (rows: number, time: number): VehicleReported => ({
      time: new Date(time).toISOString(),
      observedGeneration: generation,
      active,
      candidate: candidate ?? null,
      phase: 'idle',
      error: null,
      signalSet: COLUMNS.id,
      agent: {
        version: 'test',
        outboxRows: 0,
        dropped: { rows: 0, events: 0 },
        rows,
        alarmActive: false,
        frames: { received: 0, unknown: 0, malformed: 0 },
      },
    });
    for (let step = 0; step <= steps; step++) {
      const time = now + step * 900_000;
      records.push(said(car, 'io.cardan.vehicle.reported', report(step * 900, time), time));
    }
    await log.append('vehicle-events', records);
    if (candidate != null && active !== null) await shadow(car, candidate, active, steps * 900, alarms);
    else if (active?.version === '2') for (let i = 0; i < alarms; i++) await alarm(car, active);
  }
  now += steps * 900_000;
  for (const car of CARS) await say(car, 'io.cardan.vehicle.status', { online: true });
}

async function shadow(
  car: string,
  model: ModelRef,
  active: ModelRef,
  rows: number,
  alarms: number,
): Promise<void> {
  const [score, difference] = [new Moments(), new Moments()];
  const [sketch, latency] = [new QuantileSketch(), new QuantileSketch()];
  for (let i = 0; i < rows; i++) {
    score.push(1);
    sketch.push(1);
    difference.push(0.01);
    latency.push(20);
  }
  await say(car, 'io.cardan.vehicle.shadow', {
    model,
    active,
    from: new Date(now).toISOString(),
    to: new Date(now + (rows - 1) * 1000).toISOString(),
    rows,
    nan: 0,
    score: { ...score.data, sketch: sketch.data },
    difference: difference.data,
    alarms,
    latency: { p50: 20, p99: 20, sketch: latency.data },
  });
}

function alarm(car: string, model: ModelRef): Promise<void> {
  return say(car, 'io.cardan.vehicle.anomaly', {
    state: 'raised',
    alarm: `${car}-${now}`,
    model,
    score: 9,
    threshold: 4,
    signals: [],
  });
}

/** Version 1 is the champion of all cars, and version 2 is there. */
async function withChampion(): Promise<void> {
  await publish('1');
  await drive(0.25);
  await caughtUp();
  await publish('2');
}

/** What the fleet has read is there for a look. */
async function caughtUp(): Promise<void> {
  while (fleet.size < CARS.length) await new Promise((resolve) => setImmediate(resolve));
}

function has(car: string): string {
  const { active, candidate } = rollouts.desired(COLUMNS.id, car);
  return `${active?.version ?? '-'}${candidate == null ? '' : ` shadow ${candidate.version}`}`;
}

function counts(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const car of CARS) counts[has(car)] = (counts[has(car)] ?? 0) + 1;
  return counts;
}

async function story(id: string): Promise<string[]> {
  return (await rollouts.history(id)).map(({ type }) => type.replace('io.cardan.rollout.', ''));
}

test('the first model goes to all at once; the next goes through shadow and half to all, and is the champion then', async () => {
  await withChampion();
  expect(counts()).toEqual({ 1: 12 });
  const { rollout, created } = await rollouts.create({ model: V2, stages: STAGES }, 'token:anna');
  expect([rollout.status, created]).toEqual(['running', true]);
  expect(counts()).toEqual({ '1 shadow 2': 12 });
  await rollouts.look();
  expect(rollouts.get('anomaly-2').stage).toBe(0);

  await drive(3);
  await rollouts.look();
  expect(rollouts.get('anomaly-2').stage).toBe(1);
  const half = counts();
  expect(Object.keys(half).sort()).toEqual(['1', '2']);

  await drive(8);
  await rollouts.look();
  expect(counts()).toEqual({ 2: 12 });
  expect(registry.desired(COLUMNS.id).active).toEqual(V1);
  await drive(6);
  await rollouts.look();
  expect(rollouts.get('anomaly-2').status).toBe('done');
  expect(registry.desired(COLUMNS.id).active).toEqual(V2);
  expect(await story('anomaly-2')).toEqual([
    'created',
    'started',
    'stage-begun',
    'gate-passed',
    'stage-begun',
    'gate-passed',
    'stage-begun',
    'gate-passed',
    'done',
  ]);
});

test('a candidate that alarms is rolled back by itself, with its evidence', async () => {
  await withChampion();
  await rollouts.create({ model: V2, stages: STAGES }, 'token:anna');
  for (let look = 0; look < 3; look++) {
    expect(counts()).toEqual({ '1 shadow 2': 12 });
    await drive(1, { alarms: 3 });
    await rollouts.look();
  }
  expect(rollouts.get('anomaly-2').status).toBe('rolled-back');
  expect(counts()).toEqual({ 1: 12 });
  const told = (await rollouts.history('anomaly-2')).map((event) => ({
    ...event,
    time: new Date(event.time).toISOString(),
  }));
  const lines = explain(told).join('\n');
  expect(lines).toContain('gate of stage shadow FAILS');
  expect(lines).toContain('108 alarms in 36 vehicle-hours, the champion 0 in 36');
});

test('a rollback gives all cars the old bytes under a newer generation', async () => {
  await withChampion();
  await rollouts.create(
    { model: V2, stages: [{ name: 'half', percent: 50 }, { name: 'all' }] },
    'token:anna',
  );
  const canary = CARS.find((car) => has(car) === '2')!;
  const { generation } = rollouts.desired(COLUMNS.id, canary);
  await say(canary, 'io.cardan.vehicle.model-stopped', {
    model: V2,
    role: 'active',
    code: 'MODEL_NOT_FINITE',
    message: 'NaN',
  });
  await rollouts.look();
  expect(rollouts.get('anomaly-2')).toMatchObject({ status: 'rolled-back' });
  const back = rollouts.desired(COLUMNS.id, canary);
  expect(back.active).toEqual(V1);
  expect(back.generation).toBeGreaterThan(generation);
});

test('one that is done can be rolled back, until something came after it', async () => {
  await withChampion();
  const stages = [{ name: 'all', minimum: { vehicles: 3, vehicleHours: 20 } }];
  await rollouts.create({ model: V2, stages }, 'token:anna');
  await drive(6);
  await rollouts.look();
  expect(registry.desired(COLUMNS.id).active).toEqual(V2);
  await rollouts.command('anomaly-2', 'rollback', 'token:anna', 'misses worn bearings');
  expect(registry.desired(COLUMNS.id).active).toEqual(V1);
  expect(counts()).toEqual({ 1: 12 });
});

test('a restart in the middle changes nothing: state, evidence and what each car should have', async () => {
  await withChampion();
  await rollouts.create({ model: V2, stages: STAGES }, 'token:anna');
  await drive(3);
  await rollouts.look();
  await drive(1);
  await rollouts.look();
  const before = [rollouts.list(), CARS.map((car) => rollouts.desired(COLUMNS.id, car))];
  await close();
  await open('manual');
  await rollouts.look();
  expect([rollouts.list(), CARS.map((car) => rollouts.desired(COLUMNS.id, car))]).toEqual(before);
  await drive(8);
  await rollouts.look();
  expect(counts()).toEqual({ 2: 12 });
});

test('pause holds it, resume counts anew, stop sends all back, and nothing moves after that', async () => {
  await withChampion();
  await rollouts.create({ model: V2, stages: STAGES }, 'token:anna');
  await rollouts.command('anomaly-2', 'pause', 'token:anna');
  await drive(3);
  await rollouts.look();
  expect(rollouts.get('anomaly-2')).toMatchObject({ status: 'paused', stage: 0 });
  await rollouts.command('anomaly-2', 'resume', 'token:anna');
  expect(rollouts.get('anomaly-2').now?.findings[0]).toMatchObject({ gate: 'evidence', verdict: 'wait' });
  await rollouts.command('anomaly-2', 'stop', 'token:anna', 'wrong version');
  expect(counts()).toEqual({ 1: 12 });
  await expect(rollouts.command('anomaly-2', 'resume', 'token:anna')).rejects.toMatchObject({
    code: 'ROLLOUT_STATE',
  });
  await drive(3);
  await rollouts.look();
  expect(counts()).toEqual({ 1: 12 });
});

test('a retry gives those that are reached a newer generation, and nobody else', async () => {
  await withChampion();
  await rollouts.create({ model: V2, stages: [{ name: 'half', percent: 50 }, { name: 'all' }] }, 'x');
  const generations = () => CARS.map((car) => rollouts.desired(COLUMNS.id, car).generation);
  const before = generations();
  await rollouts.command('anomaly-2', 'retry', 'x');
  const newer = generations().map((generation, i) => generation > before[i]!);
  expect(newer).toEqual(CARS.map((car) => has(car) === '2'));
});

test('of two rollouts for one car the heavier one has it; a filter leaves the others alone', async () => {
  await withChampion();
  await publish('3');
  await fleet.register([{ id: 'car-0', attributes: { depot: 'Bonn' } }], 'x');
  const all = [{ name: 'all' }];
  await rollouts.create({ model: V2, stages: all }, 'x');
  await rollouts.create(
    { model: { name: 'anomaly', version: '3' }, stages: all, filter: 'depot==B*', weight: 5 },
    'x',
  );
  expect(counts()).toEqual({ 2: 11, 3: 1 });
  expect(has('car-0')).toBe('3');
  // One that joins now is in its group at once.
  expect(rollouts.desired(COLUMNS.id, 'car-new').active).toEqual(V2);
});

test('with the policy staged a new version begins a rollout with the default plan by itself', async () => {
  await close();
  await open('staged');
  await withChampion();
  expect(counts()).toEqual({ 1: 12 });
  await rollouts.look();
  expect(rollouts.get('anomaly-2')).toMatchObject({ status: 'running', stage: 0, by: 'policy staged' });
  expect(counts()['1 shadow 2']).toBeGreaterThan(0);
  await rollouts.command('anomaly-2', 'stop', 'x');
  await rollouts.look();
  expect(rollouts.list()).toHaveLength(1);
});

test('a campaign reaches its cars in groups, and is withdrawn when it is stopped', async () => {
  await withChampion();
  const campaign = {
    schema: 1,
    id: 'engine',
    name: 'Engine',
    version: '1',
    vehicles: 'all',
    signals: ['Vehicle.Speed'],
    collection: { type: 'time', periodMs: 1000 },
  };
  await rollouts.create({ campaign, stages: [{ name: 'half', percent: 50 }, { name: 'all' }] }, 'x');
  const collecting = () => CARS.filter((car) => rollouts.desired(COLUMNS.id, car).campaigns?.length === 1);
  expect(collecting().length).toBeGreaterThan(0);
  expect(collecting().length).toBeLessThan(12);
  await rollouts.command('engine-1', 'stop', 'x');
  expect(collecting()).toEqual([]);
  expect(registry.campaigns.live('engine')).toBeUndefined();
});

test('a campaign for a part of the fleet stays with that part when it is done', async () => {
  await withChampion();
  const campaign = {
    schema: 1,
    id: 'engine',
    name: 'Engine',
    version: '1',
    vehicles: 'all',
    signals: ['Vehicle.Speed'],
    collection: { type: 'time', periodMs: 1000 },
  };
  const gates = { failedShare: null, silentShare: null };
  const stages = [{ name: 'all', minimum: { vehicles: 1, vehicleHours: 0 }, gates }];
  await rollouts.create({ campaign, stages, filter: 'id==car-3' }, 'x');
  const reported = {
    ...(await reportOf('car-3')),
    campaigns: [{ id: 'engine', version: '1', phase: 'active' as const, error: null }],
  };
  await say('car-3', 'io.cardan.vehicle.reported', reported);
  await rollouts.look();
  expect(rollouts.get('engine-1').status).toBe('done');
  const collecting = CARS.filter((car) => (rollouts.desired(COLUMNS.id, car).campaigns ?? []).length > 0);
  expect(collecting).toEqual(['car-3']);
});

/** The last report of a car that is in the log. */
async function reportOf(car: string): Promise<VehicleReported> {
  let last: VehicleReported | undefined;
  for await (const { records } of log.read('vehicle-events', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = recordToEvent(record);
      if (record.key === car && isEvent(event, 'io.cardan.vehicle.reported')) last = event.data;
    }
  return last!;
}

test('what is in the topic twice, or makes no sense, leaves the state alone', async () => {
  await withChampion();
  await rollouts.create({ model: V2, stages: STAGES }, 'x');
  const before = rollouts.get('anomaly-2');
  const records: Parameters<EventLog['append']>[1][number][] = [];
  for await (const batch of log.read('rollouts', { from: 'earliest', to: 'latest' }))
    for (const { key, value, timestamp, headers } of batch.records) {
      expect(recordToEvent({ value, headers }).source).toBe('/services/registry');
      records.push({ key, value, timestamp, headers }, { key, value: Buffer.from('{'), timestamp, headers });
    }
  await log.append('rollouts', records);
  await close();
  await open('manual');
  expect({ ...rollouts.get('anomaly-2'), now: before.now }).toEqual(before);
  expect(rollouts.malformed).toBe(records.length / 2);
});
