import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextLook } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  cloudEvent,
  encodeTelemetry,
  ensureLogTopics,
  eventToRecord,
  isEvent,
  parseManifest,
  recordToEvent,
  signalSet,
  type CloudEvent,
} from '@cardan/shared';
import { SqliteEventLog, type EventLog, type NewRecord } from '@cardan/shared/event-log';
import { startRegistry } from '../../cloud/src/distribution/start-registry.ts';
import type { LoopPolicy } from '../../cloud/src/loop/decide.ts';
import { explainLoop } from '../../cloud/src/loop/explain.ts';
import { LoopService } from '../../cloud/src/loop/loop-service.ts';
import { Predictor } from '../../cloud/src/predictor/predictor.ts';
import { RegistryClient } from '../../cloud/src/registry-client.ts';
import { isHeldBack } from '../../cloud/src/trainer/held-back.ts';
import { Trainer } from '../../cloud/src/trainer/trainer.ts';
import { Random } from '../src/random.ts';

/*
 * The closed loop with all of its services on a real log: only broker and cars are left out, rows go straight to the log.
 * A fleet drives trip after trip; from one on a sensor of some cars shows otherwise.
 */

const SET = signalSet(['speed', 'load', 'air', 'temperature'].map((name) => ({ name, unit: '' })));
const NAME = `anomaly-${SET.id}`;
const CARS = 10;
/** A trip's first two minutes have no score yet. */
const TRIP_ROWS = 400;
const HOUR_MS = 3_600_000;
const START = Date.UTC(2026, 5, 1);

let dir: string;
let log: EventLog;
let now: number;
let trip: number;
let client: RegistryClient;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-closed-loop-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  now = START;
  trip = 0;
  await ensureLogTopics(log);
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await log.close();
  rmSync(dir, { recursive: true, force: true });
});

const fail = (error: Error) => {
  throw error;
};

async function start(policy: Partial<LoopPolicy>): Promise<LoopService> {
  const registry = await startRegistry({
    log,
    mqttUrl: 'mqtt://127.0.0.1:1',
    dir: join(dir, 'registry'),
    host: '127.0.0.1',
    port: 0,
    rollouts: 'staged',
    clock: () => now,
    onProblem: (error) => {
      if (error.code !== 'MQTT_UNREACHABLE') fail(error);
    },
  });
  closing.push(() => registry.close());
  client = new RegistryClient(registry.url);
  const event = cloudEvent('io.cardan.signal-set', { source: '/vehicles/car-0', id: '1', time: START }, SET);
  await log.append('signal-sets', [eventToRecord(SET.id, event)]);
  const common = { log, registry: client, onProblem: fail };
  const trainer = await Trainer.start({
    ...common,
    now: () => now,
    retrain: false,
    rowsPerVehicleMin: 3 * TRIP_ROWS,
  });
  closing.push(() => trainer.close());
  const predictor = await Predictor.start(common);
  closing.push(() => predictor.close());
  const loop = await LoopService.open({
    ...common,
    dir: join(dir, 'loop'),
    policy,
    clock: () => now,
    periodMs: null,
  });
  closing.push(() => loop.close());
  return loop;
}

/** One trip of each car; `drifted` says in which of them the air sensor shows more. */
async function drive(drifted: (car: number) => boolean = () => false): Promise<void> {
  const records: NewRecord[] = [];
  for (let car = 0; car < CARS; car++) records.push(tripOf(car, trip, drifted(car)));
  trip++;
  now += HOUR_MS;
  await log.append('telemetry', records);
  // Until the predictor has scored all of it, once there is a model.
  if ((await events('io.cardan.rollout.decided')).length > 0)
    await until(async () => (await log.lag('predictor')).every(({ lag }) => lag === 0));
}

function tripOf(car: number, number: number, drifted: boolean): NewRecord {
  const random = new Random(car, `trip ${number}`);
  const begin = START + number * HOUR_MS + car * 1000;
  const values = new Float32Array(TRIP_ROWS * 4);
  let [speed, load] = [random.between(20, 80), random.between(0.2, 0.6)];
  for (let row = 0; row < TRIP_ROWS; row++) {
    speed += 0.1 * (50 - speed) + 6 * random.normal();
    load += 0.1 * (0.4 - load) + 0.05 * random.normal();
    const air = 0.3 * speed * (0.5 + load) + 0.2 * random.normal();
    values.set([speed, load, air + (drifted ? 4 : 0), 80 + 10 * load + 0.3 * random.normal()], row * 4);
  }
  const value = encodeTelemetry({
    signalSet: SET.id,
    epoch: 1,
    firstSequence: number * TRIP_ROWS,
    times: Float64Array.from({ length: TRIP_ROWS }, (_, row) => begin + 1000 * row),
    values,
    scores: new Float32Array(0),
    modelName: '',
    modelVersion: '',
  });
  return { key: `car-${car}`, value, timestamp: begin + 1000 * (TRIP_ROWS - 1) };
}

async function events<K extends string>(type: K): Promise<CloudEvent[]> {
  const found: CloudEvent[] = [];
  for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
    for (const record of records) {
      const event = recordToEvent(record);
      if (event.type === type) found.push(event);
    }
  return found;
}

async function until(so: () => Promise<boolean>): Promise<void> {
  while (!(await so())) await nextLook();
}

/** Looks until the proposal goes no further by itself. */
async function settle(loop: LoopService, status: string): Promise<void> {
  await until(async () => {
    await loop.look();
    return (await client.proposals()).at(-1)?.status === status;
  });
}

test(
  'drift of many cars is seen, learned from, judged on cars that were not in the training, and rolled out in the shadow',
  { timeout: 180_000 },
  async () => {
    const loop = await start({ mode: 'auto', coolDownHours: 0, growth: 1000 });
    for (let i = 0; i < 3; i++) await drive();
    await until(async () => (await events('io.cardan.rollout.decided')).length === 1);
    for (let i = 0; i < 8; i++) await drive();
    await loop.look();
    expect(await events('io.cardan.loop.drift-detected')).toEqual([]);
    expect(await events('io.cardan.loop.retraining-proposed')).toEqual([]);

    for (let i = 0; i < 8; i++) await drive((car) => car < 6);
    await settle(loop, 'rolling out');

    const [proposal] = await client.proposals();
    expect(proposal).toMatchObject({
      trigger: 'drift',
      champion: { name: NAME, version: '1' },
      candidate: { name: NAME, version: '2' },
      judged: { verdict: 'good' },
    });
    // It learned from the onset on, without the cars that it was judged on.
    const manifest = parseManifest(await client.manifest({ name: NAME, version: '2' }));
    expect(manifest.lineage.heldBack).toEqual(proposal!.heldBack);
    const cars = Array.from({ length: CARS }, (_, car) => `car-${car}`);
    const out = cars.filter((car) => isHeldBack(car, proposal!.heldBack));
    expect(manifest.lineage.vehicles).toBe(CARS - out.length);
    expect(proposal!.judged!.evidence.vehicles).toBe(out.length);
    // Eleven trips were without.
    const onset = Date.parse(manifest.lineage.span.from);
    expect(Math.abs(onset - (START + 11 * HOUR_MS))).toBeLessThanOrEqual(HOUR_MS);
    const { champion, candidate } = proposal!.judged!.evidence;
    expect(candidate.p95).toBeLessThan(champion.p95);

    const rollout = await client.rollout(proposal!.rollout!);
    expect(rollout.subject).toMatchObject({ kind: 'model', model: { name: NAME, version: '2' } });
    expect(rollout.stages[0]!.kind).toBe('shadow');
    expect((await client.labels(NAME, 'candidate')).version).toBe('2');
    const story = explainLoop(await client.proposalEvents(proposal!.proposal)).join('\n');
    expect(story).toContain('drift of');
    expect(story).toContain('candidate judged: good');
    // A look more changes nothing.
    await loop.look();
    expect(await events('io.cardan.loop.retraining-proposed')).toHaveLength(1);
  },
);

test('one car that drifts is a sensor fault, and nothing is trained', { timeout: 120_000 }, async () => {
  const loop = await start({ mode: 'auto', coolDownHours: 0, growth: 1000 });
  for (let i = 0; i < 3; i++) await drive();
  await until(async () => (await events('io.cardan.rollout.decided')).length === 1);
  for (let i = 0; i < 8; i++) await drive();
  for (let i = 0; i < 8; i++) await drive((car) => car === 3);
  await loop.look();
  await loop.look();
  const suspected = await events('io.cardan.loop.sensor-fault-suspected');
  expect(suspected.map((event) => (event.data as { vehicle: string }).vehicle)).toEqual(['car-3']);
  expect(await events('io.cardan.loop.drift-detected')).toEqual([]);
  expect(await events('io.cardan.training.requested')).toHaveLength(1);
});

test('asked first, it trains and rolls out only when somebody says so', { timeout: 180_000 }, async () => {
  const loop = await start({ mode: 'ask', coolDownHours: 0, growth: 1000 });
  for (let i = 0; i < 3; i++) await drive();
  await until(async () => (await events('io.cardan.rollout.decided')).length === 1);
  for (let i = 0; i < 8; i++) await drive();
  for (let i = 0; i < 8; i++) await drive((car) => car < 6);
  await settle(loop, 'waiting');
  await loop.look();
  const id = (await client.proposals())[0]!.proposal;
  expect(await events('io.cardan.training.requested')).toHaveLength(1);

  await client.commandProposal(id, 'approve', 'it is autumn');
  await settle(loop, 'judged');
  await loop.look();
  expect(await client.rollouts()).toEqual([]);
  expect((await client.loopStatus()).open).toBe(id);

  await client.commandProposal(id, 'approve');
  await settle(loop, 'rolling out');
  expect((await client.rollouts()).map(({ rollout }) => rollout)).toEqual([id]);
  await expect(client.commandProposal(id, 'approve')).rejects.toMatchObject({
    code: 'HTTP_STATUS',
    message: expect.stringContaining('PROPOSAL_STATE') as string,
  });
  const said = (await events('io.cardan.loop.approved')).filter((event) =>
    isEvent(event, 'io.cardan.loop.approved'),
  );
  expect(said.map(({ data }) => data.step)).toEqual(['training', 'rollout']);
});
