import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  cloudEvent,
  DenseExecutor,
  type DenseLayer,
  type EventData,
  type EventType,
  eventToRecord,
  type Model,
  type ModelRef,
  type VehicleDesired,
} from '@cardan/shared';
import { type NewRecord, SqliteEventLog } from '@cardan/shared/event-log';
import { overflowingLayers } from '../../agent/test/scoring/scoring-fixture.ts';
import { OnBoardScoring } from '../../agent/src/scoring/on-board-scoring.ts';
import { Fleet } from '../../cloud/src/fleet/fleet.ts';
import { Registry } from '../../cloud/src/registry/registry.ts';
import type { RolloutRequest } from '../../cloud/src/rollout/plan.ts';
import { Membership } from '../../cloud/src/rollout/reach.ts';
import { RolloutService, type RolloutView } from '../../cloud/src/rollout/rollout-service.ts';
import { COLUMNS, sha256, testModel } from '../../cloud/test/registry/model-fixture.ts';

/*
 * A fleet in one process: the real scoring of the car, the real events, the real registry and rollout service on a real
 * log; only frames, network and time are left out. A row is ten seconds.
 */

const CARS = 20;
const ROW_MS = 10_000;
/** Between two looks; the service looks every 30 s, and cars drive by real time there. */
const LOOK_MS = 1_800_000;
const LOOKS_MAX = 60;
/** The car's own budget; the gate's bound is 5 ms. */
const BUDGET_US = 20_000;
const START = Date.UTC(2026, 5, 1);

/** What a candidate is; `layers` of a network that gives 0, unless it says otherwise. */
interface Candidate {
  threshold: number;
  layers?: DenseLayer[];
  /** What a row takes, microseconds. */
  us?: number;
}

// Scores are the distance from the middle: 0.3 when nothing happens, 2.3 over a rough road, 6 with a fault.
const CHAMPION: Candidate = { threshold: 4 };
const BAD: Record<string, Candidate> = {
  'alarms on everything': { threshold: 0.05 },
  'gives no number as soon as something happens': { threshold: 4, layers: fragile() },
  'takes longer than a row may': { threshold: 4, us: 50_000 },
  'is slow, within the budget of the car': { threshold: 4, us: 8000 },
  'is plausible but worse: it alarms on rough roads, too': { threshold: 1.8 },
};
const GOOD: Candidate = { threshold: 3.8 };

const minimum = { vehicles: 3, vehicleHours: 20 };
const PLANS: Record<string, RolloutRequest['stages']> = {
  'shadow first': [
    { name: 'shadow', kind: 'shadow', percent: 50, minimum },
    { name: 'canary', percent: 25, minimum },
    { name: 'all', minimum },
  ],
  'canary first': [
    { name: 'canary', percent: 40, minimum },
    { name: 'all', minimum },
  ],
};

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

describe.each(Object.keys(PLANS))('%s', (plan) => {
  // In a car only the budget stops what is slow: without a shadow nobody sends how long a row takes.
  const bad = Object.entries(BAD).filter(([, { us = 0 }]) => plan === 'shadow first' || us !== 8000);
  test.each(bad)(
    'a candidate that %s is stopped before the groups, every time',
    { timeout: 120_000 },
    async (_, candidate) => {
      for (const seed of [1, 2, 3, 4]) {
        const { rollout, activeOutside } = await rollOut(candidate, PLANS[plan], seed);
        expect(rollout.status).toBe('rolled-back');
        expect(rollout.stages[rollout.stage]!.name).not.toBe('all');
        expect(activeOutside).toBe(0);
      }
    },
  );

  test('a good candidate goes through, every time', { timeout: 120_000 }, async () => {
    for (const seed of [1, 2, 3, 4]) {
      const { rollout, desired } = await rollOut(GOOD, PLANS[plan], seed);
      expect(rollout.status).toBe('done');
      expect(desired.every(({ active }) => active?.version === '2')).toBe(true);
    }
  });
});

async function rollOut(
  candidate: Candidate,
  stages: RolloutRequest['stages'],
  seed: number,
): Promise<{ rollout: RolloutView; desired: VehicleDesired[]; activeOutside: number }> {
  const dir = mkdtempSync(join(tmpdir(), 'cardan-rollout-'));
  closing.push(async () => rmSync(dir, { recursive: true, force: true }));
  let now = START;
  const log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  closing.push(() => log.close());
  const common = {
    log,
    clock: () => now,
    onProblem: (error: Error) => {
      throw error;
    },
  };
  const registry = await Registry.open({ ...common, dir: join(dir, 'registry'), rollouts: 'manual' });
  closing.push(() => registry.close());
  const fleet = await Fleet.open({ ...common, dir });
  closing.push(() => fleet.close());
  const rollouts = await RolloutService.open({
    ...common,
    registry,
    fleet,
    policy: 'manual',
    periodMs: null,
  });
  closing.push(() => rollouts.close());

  const models = new Map<string, { model: Model; us: number }>();
  for (const [version, what] of [
    ['1', CHAMPION],
    ['2', candidate],
  ] as const) {
    const published = testModel(version);
    const { threshold } = what;
    Object.assign(published.manifest.alarm, { threshold, clearBelow: threshold * 0.6 });
    published.manifest.features.gapMs = 3 * ROW_MS;
    for (const bytes of [published.modelBytes, published.weightsBytes])
      await registry.blobs.put(sha256(bytes), [bytes]);
    await registry.publish('anomaly', Buffer.from(JSON.stringify(published.manifest)));
    const layers = what.layers ?? nothing();
    models.set(version, { model: { manifest: published.manifest, layers }, us: what.us ?? 20 });
  }

  const records: NewRecord[] = [];
  const cars = Array.from(
    { length: CARS },
    (_, i) => new SimulatedCar(`car-${i}`, seed * 1000 + i, models, records),
  );
  const drive = async () => {
    for (const car of cars) {
      car.want(rollouts.desired(COLUMNS.id, car.id));
      for (let time = now; time < now + LOOK_MS; time += ROW_MS) car.row(time);
    }
    now += LOOK_MS;
    await log.append('vehicle-events', records.splice(0));
    await fleetKnows(fleet, now);
    await rollouts.look();
  };
  await drive();
  await rollouts.create({ id: `r${seed}`, model: { name: 'anomaly', version: '2' }, stages }, 'test');
  let activeOutside = 0;
  for (let look = 0; look < LOOKS_MAX; look++) {
    const running = rollouts.get(`r${seed}`);
    if (running.status !== 'running') break;
    const membership = new Membership(running);
    activeOutside += cars.filter(
      ({ id, activeVersion }) => activeVersion === '2' && membership.place(id, {})!.group > running.stage,
    ).length;
    await drive();
  }
  const rollout = rollouts.get(`r${seed}`);
  const desired = cars.map(({ id }) => rollouts.desired(COLUMNS.id, id));
  for (const close of closing.splice(0).reverse()) await close();
  return { rollout, desired, activeOutside };
}

/** Resolves when the fleet has read what cars said until now. */
async function fleetKnows(fleet: Fleet, until: number): Promise<void> {
  for (let i = 0; i < CARS; i++)
    while ((fleet.polling(`car-${i}`) && Date.parse(fleet.vehicle(`car-${i}`).lastSeen ?? '')) !== until)
      await new Promise((resolve) => setImmediate(resolve));
}

/** A car without a bus: rows come from a dice, and what it says goes into the log. */
class SimulatedCar {
  readonly id: string;
  private readonly scoring: OnBoardScoring;
  private readonly models: Map<string, { model: Model; us: number }>;
  private readonly records: NewRecord[];
  private readonly random: () => number;
  private readonly refused = new Set<string>();
  private us = 0;
  private rows = 0;
  private events = 0;
  private desired: VehicleDesired = { generation: 0, active: null };
  /** A rough road, or a fault that comes and goes, until this time. */
  private until = 0;
  private amplitude = 0;
  private alarm = '';

  constructor(
    id: string,
    seed: number,
    models: Map<string, { model: Model; us: number }>,
    records: NewRecord[],
  ) {
    this.id = id;
    this.models = models;
    this.records = records;
    this.random = dice(seed);
    this.scoring = new OnBoardScoring({
      budgetUs: BUDGET_US,
      shadowPeriodMs: 300_000,
      clockUs: () => this.us,
      onAlarm: ({ state, model, score, threshold }, time) => {
        if (state === 'raised') this.alarm = `${this.id}-${time}`;
        this.say(
          'io.cardan.vehicle.anomaly',
          { state, alarm: this.alarm, model, score, threshold, signals: [] },
          time,
        );
      },
      onShadow: (statistics, time) => this.say('io.cardan.vehicle.shadow', statistics, time),
      goodAfterMs: 60_000,
      onCalm: () => {},
      onGood: () => {},
      onStopped: ({ model, role, code, message, address }) => {
        this.refused.add(address);
        this.say(
          'io.cardan.vehicle.model-stopped',
          { model, role, code, message },
          START + this.rows * ROW_MS,
        );
      },
    });
  }

  get activeVersion(): string | undefined {
    return this.scoring.activeModel?.version;
  }

  /** What the updater does, without files. */
  want(desired: VehicleDesired): void {
    if (desired.generation <= this.desired.generation) return;
    this.desired = desired;
    const { active, candidate = null } = desired;
    const loads = (ref: ModelRef | null) => ref !== null && !this.refused.has(ref.version);
    try {
      if (loads(active) && this.activeVersion !== active!.version) this.scoring.activate(this.load(active!));
      if (candidate === null) this.scoring.endShadow();
      else if (loads(candidate)) this.scoring.shadowWith(this.load(candidate));
    } catch {
      // It has told so itself.
    }
  }

  row(time: number): void {
    if (time >= this.until) {
      const what = this.random();
      // Per row of ten seconds: a rough road twice an hour, a fault once in fifty hours, for three minutes.
      this.amplitude = what < 1 / 18_000 ? 6 : what < 1 / 180 ? 2.3 : 0;
      if (this.amplitude > 0) this.until = time + 180_000;
    }
    this.scoring.push(time, Float32Array.of(this.amplitude + this.noise(), this.amplitude + this.noise()));
    if (++this.rows % 90 === 0) this.report(time + ROW_MS);
  }

  private report(time: number): void {
    this.say(
      'io.cardan.vehicle.reported',
      {
        time: new Date(time).toISOString(),
        observedGeneration: this.desired.generation,
        active: this.scoring.activeModel,
        candidate: this.scoring.shadowModel,
        phase: 'idle',
        error: null,
        signalSet: COLUMNS.id,
        agent: {
          version: 'test',
          outboxRows: 0,
          dropped: { rows: 0, events: 0 },
          rows: this.rows,
          alarmActive: this.scoring.alarmActive,
          frames: { received: 0, unknown: 0, malformed: 0 },
        },
      },
      time,
    );
  }

  private load(ref: ModelRef) {
    const { model, us } = this.models.get(ref.version)!;
    const executor = new DenseExecutor(model.layers);
    const run = (input: ArrayLike<number>) => {
      this.us += us;
      return executor.run(input);
    };
    return {
      ref,
      address: ref.version,
      model: { ...model, network: { inputs: executor.inputs, outputs: executor.outputs, run } },
    };
  }

  private say<K extends EventType>(type: K, data: EventData[K], time: number): void {
    const id = `1-${++this.events}`;
    this.records.push(
      eventToRecord(this.id, cloudEvent(type, { source: `/vehicles/${this.id}`, id, time }, data)),
    );
  }

  /** About a normal distribution. */
  private noise(): number {
    return 3 * (this.random() + this.random() + this.random() + this.random() - 2) * 0.58;
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A network that gives 0, so that the score is the distance from the middle. */
function nothing(): DenseLayer[] {
  const kernel = new Float32Array(4);
  return [{ name: 'dense_1', inputs: 2, units: 2, activation: 'linear', kernel, bias: new Float32Array(2) }];
}

/** The same, and infinite as soon as something happens. */
function fragile(): DenseLayer[] {
  const [first, ...others] = overflowingLayers(2);
  const gate: DenseLayer = {
    name: 'gate',
    inputs: 2,
    units: 2,
    activation: 'relu',
    kernel: Float32Array.of(1, 0, 0, 1),
    // Over what noise gives: the mean of five rows.
    bias: new Float32Array(2).fill(-2),
  };
  return [gate, first!, ...others].map((layer) =>
    layer === gate ? layer : { ...layer, bias: layer.bias.map(() => 0) },
  );
}
