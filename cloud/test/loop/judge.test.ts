import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { encodeTelemetry, ensureLogTopics, type DenseLayer, type Model } from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { judgeCandidate, type JudgeQuery } from '../../src/loop/judge.ts';
import { isHeldBack } from '../../src/trainer/held-back.ts';
import type { Repair } from '../../src/trainer/repairs.ts';
import { COLUMNS, testModel } from '../registry/model-fixture.ts';

const START = Date.UTC(2026, 0, 1);
const HELD_BACK = { seed: 1, part: 0.5 };
const CARS = Array.from({ length: 8 }, (_, i) => `car-${i}`);
const ROWS = 3000;

let dir: string;
let log: EventLog;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cardan-judge-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  await ensureLogTopics(log);
});
afterEach(async () => {
  await log.close();
  rmSync(dir, { recursive: true, force: true });
});

/** Signals around 0 with a spread of 1, in whose middle something happens for 200 rows in every second car. */
async function drive(rows = ROWS): Promise<void> {
  for (const [car, vehicle] of CARS.entries()) {
    const values = new Float32Array(rows * 2);
    for (let i = 0; i < values.length; i++) {
      const row = i >> 1;
      const bump = car % 2 === 0 && row >= rows / 2 && row < rows / 2 + 200 ? 3 : 0;
      values[i] = Math.sin(i * 12.9898 + car) + bump;
    }
    const value = encodeTelemetry({
      signalSet: COLUMNS.id,
      epoch: 1,
      firstSequence: 0,
      times: Float64Array.from({ length: rows }, (_, row) => START + 1000 * row),
      values,
      scores: new Float32Array(0),
      modelName: '',
      modelVersion: '',
    });
    await log.append('telemetry', [{ key: vehicle, value, timestamp: START + 1000 * rows }]);
  }
}

/** Its network gives 0, so the score is the distance from the middle. */
function model(version: string, threshold: number, center = 0): Model {
  const { manifest } = testModel(version, {
    change: ({ alarm, features }) => {
      Object.assign(alarm, { threshold, clearBelow: 0.6 * threshold });
      for (const input of features.inputs) input.center = center;
    },
  });
  const layer: DenseLayer = {
    name: 'dense_1',
    inputs: 2,
    units: 2,
    activation: 'linear',
    kernel: new Float32Array(4),
    bias: new Float32Array(2),
  };
  return { manifest, layers: [layer] };
}

async function judge(candidate: Model, more: Partial<JudgeQuery> = {}) {
  const offsets = Object.fromEntries(
    (await log.offsets('telemetry')).map(({ partition, latest }) => [partition, { from: 0, to: latest }]),
  );
  const common = { champion: model('1', 4), heldBack: HELD_BACK, offsets, from: START, repairs: new Map() };
  return judgeCandidate(log, { ...common, candidate, ...more });
}

function bad({ findings }: Awaited<ReturnType<typeof judge>>, what: string) {
  return findings.find((finding) => finding.what.startsWith(what));
}

test('one that is as good is good; it is judged on the vehicles that were held back, and on no others', async () => {
  await drive();
  const judgement = await judge(model('2', 3.9));
  expect(judgement.verdict).toBe('good');
  const out = CARS.filter((vehicle) => isHeldBack(vehicle, HELD_BACK));
  expect(judgement.evidence.vehicles).toBe(out.length);
  expect(judgement.evidence.vehicleHours).toBeCloseTo((out.length * (ROWS - 10)) / 3600, 1);
});

test('one that alarms on what the champion takes for normal is worse', async () => {
  await drive();
  const judgement = await judge(model('2', 2));
  expect(judgement.verdict).toBe('worse');
  expect(judgement.evidence.candidate.overThreshold).toBeGreaterThan(0.01);
});

test('one that never alarms is worse: it does not find what is planted', async () => {
  await drive();
  const judgement = await judge(model('2', 1000));
  expect(judgement.verdict).toBe('worse');
  expect(judgement.evidence.champion.planted).toBe(1);
  expect(bad(judgement, 'planted')).toMatchObject({ value: 0, bound: 0.9 });
});

test('one that misses what workshops have repaired is worse, and an alarm before a repair is none too many', async () => {
  await drive();
  const repairs = new Map<string, readonly Repair[]>(
    CARS.map((vehicle) => [vehicle, [{ vehicle, time: START + 3_600_000 } as Repair]]),
  );
  const champion = model('1', 2);
  const judgement = await judge(model('2', 4), { champion, repairs });
  expect(judgement.evidence.champion.foretold).toBeGreaterThan(0);
  expect(judgement.evidence.champion.falseAlarms).toBe(0);
  expect(judgement.evidence.candidate.foretold).toBe(0);
  expect(judgement.verdict).toBe('worse');
});

test('some minutes of driving are not enough evidence', async () => {
  await drive(200);
  expect((await judge(model('2', 3.9))).verdict).toBe('not enough evidence');
});
