import { describe, expect, test } from 'vitest';
import {
  cloudEvent,
  type EventData,
  type EventType,
  Moments,
  QuantileSketch,
  type RolloutGates,
  type VehicleReported,
} from '@cardan/shared';
import { Evidence, type EvidenceSums } from '../../src/rollout/evidence.ts';
import { type Census, judge, LOOKS, Verdict } from '../../src/rollout/gates.ts';
import { DEFAULT_GATES } from '../../src/rollout/plan.ts';
import { CHAMPION, MODEL, NOON } from './rollout-fixture.ts';

const SUMS: EvidenceSums = {
  vehicles: 20,
  vehicleHours: 100,
  alarms: 5,
  championAlarms: 5,
  championVehicles: 20,
  championVehicleHours: 100,
  records: 1000,
  hardStopped: 0,
  failed: 0,
  alarmed: 0,
  championAlarmed: 0,
  shift: { n: 20, mean: 0.02, variance: 0.01 },
  latency: { rows: 100_000, p99: 50 },
};
const CENSUS: Census = { target: 40, reached: 20, silent: 2, others: 20, othersSilent: 2 };
const MINIMUM = { vehicles: 10, vehicleHours: 24 };

function verdicts(
  sums: Partial<EvidenceSums>,
  census: Partial<Census> = {},
  gates: Partial<RolloutGates> = {},
) {
  const findings = judge(
    { gates: { ...DEFAULT_GATES, ...gates }, minimum: MINIMUM },
    { ...SUMS, ...sums },
    { ...CENSUS, ...census },
  );
  return Object.fromEntries(
    findings
      .filter(({ verdict }) => verdict !== 'pass')
      .map(({ gate, verdict, hard }) => [gate, hard ? 'hard' : verdict]),
  );
}

test.each<[string, Partial<EvidenceSums>, Partial<Census>, Record<string, string>]>([
  ['all is well', {}, {}, {}],
  ['too few vehicles', { vehicles: 9 }, {}, { evidence: 'wait' }],
  ['too few hours', { vehicleHours: 23 }, {}, { evidence: 'wait', alarms: 'wait' }],
  ['a stage of four vehicles needs all four', { vehicles: 4 }, { reached: 4, silent: 0 }, {}],
  ['nobody in the stage', { vehicles: 0, vehicleHours: 0 }, { reached: 0 }, {}],
  [
    'no vehicle at all',
    { vehicles: 0, vehicleHours: 0, alarms: 0, shift: { n: 0, mean: 0, variance: 0 } },
    { target: 0, reached: 0, others: 0 },
    { evidence: 'wait', alarmed: 'wait', alarms: 'wait', score: 'wait' },
  ],
  ['many more alarms', { alarms: 80 }, {}, { alarms: 'fail' }],
  ['more alarms, within the margin as far as one can tell', { alarms: 25 }, {}, { alarms: 'wait' }],
  ['no alarms on either side', { alarms: 0, championAlarms: 0 }, {}, {}],
  ['alarms that stand nearly everywhere', { alarmed: 15 }, {}, { alarmed: 'hard' }],
  ['alarms that stand everywhere, with the champion, too', { alarmed: 15, championAlarmed: 15 }, {}, {}],
  ['one vehicle stopped it for NaN', { hardStopped: 1, failed: 1 }, {}, { failures: 'hard' }],
  ['one of five thousand did', { hardStopped: 1, failed: 1 }, { reached: 5000 }, {}],
  ['one vehicle could not install it', { failed: 1 }, {}, {}],
  ['three could not', { failed: 3 }, {}, { failures: 'wait' }],
  ['eight could not', { failed: 8 }, {}, { failures: 'fail' }],
  ['slow', { latency: { rows: 100_000, p99: 6000 } }, {}, { latency: 'fail' }],
  ['slow in a few rows', { latency: { rows: 100, p99: 6000 } }, {}, { latency: 'wait' }],
  ['scores far above', { shift: { n: 20, mean: 0.8, variance: 0.01 } }, {}, { score: 'fail' }],
  ['scores far below', { shift: { n: 20, mean: -0.8, variance: 0.01 } }, {}, { score: 'fail' }],
  ['silent, and the others are not', {}, { silent: 18 }, { silence: 'fail' }],
  ['silent, as all are at night', {}, { silent: 18, othersSilent: 18 }, {}],
])('%s', (_, sums, census, expected) => {
  expect(verdicts(sums, census)).toEqual(expected);
});

test('a first stage without vehicles is not left out', () => {
  const [finding] = judge({ gates: DEFAULT_GATES, minimum: MINIMUM }, SUMS, { ...CENSUS, reached: 0 }, true);
  expect(finding?.verdict).toBe('wait');
});

test('a gate that is null is not judged', () => {
  expect(verdicts({ alarms: 80 }, {}, { alarmIncrease: null })).toEqual({});
});

describe('one verdict of all', () => {
  const of = (sums: Partial<EvidenceSums>) =>
    judge({ gates: DEFAULT_GATES, minimum: MINIMUM }, { ...SUMS, ...sums }, CENSUS);

  test('a gate must fail several times in succession, each on new evidence', () => {
    const verdict = new Verdict();
    const [bad, good] = [of({ alarms: 80 }), of({})];
    for (let look = 1; look < LOOKS; look++) expect(verdict.of(bad, look)).toBe('wait');
    // The same evidence once more is no new look; one that passes begins the count anew.
    expect(verdict.of(bad, LOOKS - 1)).toBe('wait');
    expect(verdict.of(good, 10)).toBe('pass');
    for (let look = 11; look < 10 + LOOKS; look++) expect(verdict.of(bad, look)).toBe('wait');
    expect(verdict.of(bad, 20)).toBe('fail');
  });

  test('a hard failure acts at the first look', () => {
    expect(new Verdict().of(of({ hardStopped: 2 }), 1)).toBe('fail');
  });
});

describe('evidence', () => {
  const evidence = (kind: 'shadow' | 'group') =>
    new Evidence({
      subject: MODEL,
      champion: CHAMPION,
      kind,
      threshold: 4,
      isTarget: (car) => car !== 'foreign',
    });
  const SUBJECT = MODEL.kind === 'model' ? MODEL.model : CHAMPION;
  let sequence = 0;
  function event<K extends EventType>(type: K, data: EventData[K], minute: number) {
    const time = NOON + minute * 60_000;
    return {
      ...cloudEvent(type, { source: '/vehicles/x', id: `1-${++sequence}`, time }, data),
      outboxepoch: '1',
      sequence: `${sequence}`,
    };
  }
  const alarm = (model: typeof SUBJECT, minute: number) =>
    event(
      'io.cardan.vehicle.anomaly',
      { state: 'raised', alarm: `${minute}`, model, score: 9, threshold: 4, signals: [] },
      minute,
    );
  function report(minute: number, rows: number, change: Partial<VehicleReported> = {}) {
    const agent = {
      version: '',
      outboxRows: 0,
      dropped: { rows: 0, events: 0 },
      rows,
      frames: { received: 0, unknown: 0, malformed: 0 },
    };
    const time = new Date(NOON + minute * 60_000).toISOString();
    return event(
      'io.cardan.vehicle.reported',
      {
        time,
        observedGeneration: 1,
        active: CHAMPION,
        phase: 'idle',
        error: null,
        signalSet: '',
        agent,
        ...change,
      },
      minute,
    );
  }
  function period(fromMinute: number, minutes: number, { score = 1, alarms = 0, active = CHAMPION } = {}) {
    const rows = minutes * 60;
    const [moments, sketch, latency] = [new Moments(), new QuantileSketch(), new QuantileSketch()];
    for (let i = 0; i < rows; i++) [moments, sketch, latency].forEach((sum) => sum.push(score));
    const iso = (ms: number) => new Date(NOON + ms).toISOString();
    return event(
      'io.cardan.vehicle.shadow',
      {
        model: SUBJECT,
        active,
        from: iso(fromMinute * 60_000),
        to: iso((fromMinute + minutes) * 60_000 - 1000),
        rows,
        nan: 0,
        score: { ...moments.data, sketch: sketch.data },
        difference: { n: rows, mean: 0.4, variance: 0 },
        alarms,
        latency: { p50: score, p99: score, sketch: latency.data },
      },
      fromMinute + minutes,
    );
  }

  test('in the shadow alarms of both are those of the same rows', () => {
    const shadow = evidence('shadow');
    shadow.take('a', alarm(CHAMPION, -1)); // before the period
    shadow.take('a', alarm(CHAMPION, 2));
    shadow.take('a', period(0, 5, { alarms: 3 }));
    shadow.take('b', alarm(CHAMPION, 2)); // another car, without a period
    // Beside another model it says nothing of the champion.
    shadow.take('c', period(0, 5, { alarms: 9, active: { name: 'anomaly', version: '0' } }));
    expect(shadow.sums()).toMatchObject({ alarms: 3, championAlarms: 1, vehicles: 1 });
    expect(shadow.sums().vehicleHours).toBeCloseTo(5 / 60, 6);
    expect(shadow.sums().shift).toMatchObject({ n: 1, mean: 0.1 });
    expect(shadow.sums().latency.rows).toBe(600);
  });

  test('an event that comes twice counts once', () => {
    const shadow = evidence('shadow');
    const once = period(0, 5, { alarms: 3 });
    shadow.take('a', once);
    shadow.take('a', once);
    expect(shadow.sums()).toMatchObject({ alarms: 3, records: 1 });
  });

  test('a car most of whose scores are over the threshold counts as alarmed', () => {
    const shadow = evidence('shadow');
    shadow.take('a', period(0, 5, { score: 6 }));
    shadow.take('b', period(0, 5, { score: 3 }));
    expect(shadow.sums().alarmed).toBe(1);
  });

  test('hours are those of driving, of each model', () => {
    const group = evidence('group');
    const has = { active: SUBJECT };
    for (const [minute, rows] of [
      [0, 0],
      [10, 600],
      [20, 1200],
      [30, 1200],
      [300, 2000],
    ] as const) {
      group.take('a', report(minute, rows, has));
      group.take('b', report(minute, rows));
      group.take('foreign', report(minute, rows));
    }
    // Ten minutes stood still, and what is longer apart was no driving.
    const sums = group.sums();
    expect([sums.vehicles, sums.championVehicles]).toEqual([1, 1]);
    expect(sums.vehicleHours).toBeCloseTo(1 / 3, 6);
    expect(sums.championVehicleHours).toBeCloseTo(1 / 3, 6);
  });

  test('a car that cannot install it counts as failed, one without a network does not', () => {
    const group = evidence('group');
    const failed = (code: string) => ({ phase: 'failed', error: { code, message: '' } }) as const;
    group.take('a', report(0, 0, failed('TUF_HASH')));
    group.take('b', report(0, 0, failed('HTTP_UNREACHABLE')));
    group.take('c', report(0, 0, failed('MODEL_INVALID')));
    group.take('c', report(1, 0, { active: SUBJECT }));
    expect(group.sums().failed).toBe(1);
  });
});
