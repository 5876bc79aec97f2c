import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CardanError, type RolloutCreated, type RolloutJudged } from '@cardan/shared';
import { Membership, generationOf } from '../../src/rollout/reach.ts';
import {
  apply,
  decide,
  isOver,
  reachOf,
  type RolloutCommand,
  type RolloutEvent,
  type RolloutState,
} from '../../src/rollout/state.ts';
import { CHAMPION, moment, NOON, plan } from './rollout-fixture.ts';

const VEHICLES = Array.from({ length: 60 }, (_, i) => `car-${i}`);
const NO_EVIDENCE = {
  reached: 0,
  vehicles: 0,
  vehicleHours: 0,
  alarms: 0,
  championAlarms: 0,
  championVehicles: 0,
  championVehicleHours: 0,
  records: 0,
};

function judged(stage: number, why = 'too many alarms'): RolloutJudged {
  const finding = { gate: 'alarms', hard: false, value: null, low: null, high: null, bound: null } as const;
  return { rollout: 'r1', stage, findings: [{ ...finding, verdict: 'fail', why }], evidence: NO_EVIDENCE };
}

/** A rollout with its history, moved by commands as the service moves it. */
class Moved {
  state: RolloutState;
  readonly events: RolloutEvent[] = [];
  now = NOON;
  generation = 0;

  constructor(spec: RolloutCreated) {
    const created: RolloutEvent = { type: 'io.cardan.rollout.created', time: this.now, data: spec };
    this.state = apply(undefined, created)!;
    this.events.push(created);
  }

  command(command: RolloutCommand): RolloutEvent[] {
    const now = this.now;
    const events = decide(this.state, command, moment({ now, generation: this.generation + 1 }));
    this.take(events);
    return events;
  }

  evaluate(verdict: 'pass' | 'fail' | 'wait' = 'wait', minutes = 1): string[] {
    this.now += minutes * 60_000;
    const { stage } = this.state;
    const events = this.command({ type: 'evaluate', verdict, judged: stage < 0 ? undefined : judged(stage) });
    return events.map(({ type }) => type.replace('io.cardan.rollout.', ''));
  }

  do(type: Exclude<RolloutCommand['type'], 'evaluate'>): void {
    this.command({ type, by: 'test', reason: 'because' });
  }

  private take(events: readonly RolloutEvent[]): void {
    for (const event of events) {
      this.state = apply(this.state, event)!;
      this.events.push(event);
      if ('generation' in event.data) this.generation = Math.max(this.generation, event.data.generation);
    }
  }
}

test('a rollout goes through its stages, one for each gate that passes', () => {
  const moved = new Moved(plan());
  expect(moved.evaluate()).toEqual(['started', 'stage-begun']);
  expect(moved.state).toMatchObject({ status: 'running', stage: 0, part: 1, champion: CHAMPION });
  expect(moved.evaluate('wait')).toEqual([]);
  for (const stage of [1, 2, 3]) {
    expect(moved.evaluate('pass')).toEqual(['gate-passed', 'stage-begun']);
    expect(moved.state.stage).toBe(stage);
  }
  expect(moved.evaluate('pass')).toEqual(['gate-passed', 'done']);
  expect(moved.evaluate('pass')).toEqual([]);
});

test('a gate that fails rolls back, or pauses where that is asked for', () => {
  const back = new Moved(plan());
  back.evaluate();
  expect(back.evaluate('fail')).toEqual(['gate-failed', 'rolled-back']);
  expect(back.state).toMatchObject({
    status: 'rolled-back',
    reason: 'gate of stage shadow: too many alarms',
  });

  const paused = new Moved(plan({ onFail: 'pause' }));
  paused.evaluate();
  expect(paused.evaluate('fail')).toEqual(['gate-failed', 'paused']);
  expect(paused.evaluate('fail')).toEqual([]);
  paused.do('resume');
  expect(paused.state.status).toBe('running');
});

test('one that is paused by a person is still rolled back when its gate fails', () => {
  const moved = new Moved(plan());
  moved.evaluate();
  moved.do('pause');
  expect(moved.evaluate('pass')).toEqual([]);
  expect(moved.evaluate('fail')).toEqual(['gate-failed', 'rolled-back']);
});

test('nothing starts before it is approved and its time has come', () => {
  const notBefore = new Date(NOON + 10 * 60_000).toISOString();
  const moved = new Moved(plan({ approval: true, schedule: { notBefore } }));
  expect(moved.evaluate()).toEqual([]);
  moved.do('approve');
  expect(() => moved.do('approve')).toThrow('The rollout r1 is approved; approve is for');
  expect(moved.evaluate()).toEqual([]);
  expect(moved.evaluate('wait', 10)).toEqual(['started', 'stage-begun']);
});

test('outside of the window nobody new is reached, and a gate that fails acts', () => {
  // From Monday 22:00 over midnight.
  const window = { from: '22:00', to: '02:00', days: [1] };
  const moved = new Moved(plan({ schedule: { window } }));
  expect(moved.evaluate()).toEqual([]);
  expect(moved.evaluate('wait', 13 * 60)).toEqual(['started', 'stage-begun']);
  expect(moved.evaluate('wait', 120)).toEqual([]);
  expect(moved.evaluate('pass')).toEqual([]);
  expect(moved.evaluate('fail')).toEqual(['gate-failed', 'rolled-back']);
});

test('a rate lets vehicles in minute by minute, and twice as fast after each doubling', () => {
  const stage = (doublingMinutes: number | null) =>
    new Moved(plan({ stages: [{ name: 'all', rate: { perMinute: 2, doublingMinutes } }] }));
  const linear = stage(null);
  linear.evaluate();
  const parts = Array.from({ length: 10 }, () => (linear.evaluate('pass'), linear.state.part));
  expect(parts.map((part) => Math.round(part * 100))).toEqual([4, 6, 8, 10, 12, 14, 16, 18, 20, 22]);
  expect(linear.state.status).toBe('running');

  const doubling = stage(1);
  doubling.evaluate();
  let minutes = 0;
  for (; doubling.state.part < 1; minutes++) doubling.evaluate('pass');
  // n' = 2 + n · ln 2 from n = 2 on: the hundredth vehicle comes at minute 4.4.
  expect(minutes).toBe(5);
});

test('after a day of pause an exponential rate has not run away', () => {
  const moved = new Moved(plan({ stages: [{ name: 'all', rate: { perMinute: 1, doublingMinutes: 5 } }] }));
  moved.evaluate();
  moved.do('pause');
  moved.now += 86_400_000;
  moved.do('resume');
  moved.evaluate();
  expect(moved.state.part).toBeLessThan(0.03);
});

const PLANS: RolloutCreated[] = [
  plan(),
  plan({ approval: true, onFail: 'pause' }),
  plan({ stages: [{ name: 'all', rate: { perMinute: 7, doublingMinutes: 2 } }] }),
  plan({
    filter: 'id=out=(car-1,car-2)',
    schedule: { window: { from: '08:00', to: '18:00', days: [1, 2, 3, 4, 5] } },
    stages: [
      { name: 'shadow', kind: 'shadow', percent: 30, rate: { perMinute: 10 } },
      { name: 'canary', percent: 10, filter: 'id==car-*' },
      { name: 'half', percent: 50, rate: { perMinute: 10 } },
      { name: 'all' },
    ],
  }),
];

const command = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('evaluate'),
      verdict: fc.constantFrom('pass', 'fail', 'wait'),
      minutes: fc.integer({ min: 0, max: 700 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('evaluate'),
      verdict: fc.constantFrom('pass', 'wait'),
      minutes: fc.integer({ min: 1, max: 30 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constantFrom('approve', 'pause', 'resume', 'retry') }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constantFrom('stop', 'rollback') }) },
) as fc.Arbitrary<
  | { type: 'evaluate'; verdict: 'pass' | 'fail' | 'wait'; minutes: number }
  | { type: Exclude<RolloutCommand['type'], 'evaluate'> }
>;

function roles(membership: Membership, state: RolloutState) {
  return VEHICLES.map((id) => {
    const place = membership.place(id, { id });
    return place === undefined
      ? { place, role: undefined, generation: 0 }
      : {
          place,
          role: membership.role(place, reachOf(state)),
          generation: generationOf(state.moves, membership, place),
        };
  });
}

test('any order of commands: no stage reaches further than it should, and what is over never moves', () => {
  fc.assert(
    fc.property(fc.constantFrom(...PLANS), fc.array(command, { maxLength: 40 }), (spec, commands) => {
      const moved = new Moved(spec);
      const membership = new Membership(spec);
      let before = roles(membership, moved.state);
      for (const next of commands) {
        const was = moved.state;
        try {
          if (next.type === 'evaluate') moved.evaluate(next.verdict, next.minutes);
          else moved.do(next.type);
        } catch (error) {
          expect((error as CardanError).code).toBe('ROLLOUT_STATE');
          expect(moved.state).toBe(was);
        }
        const { state } = moved;
        const now = roles(membership, state);
        now.forEach(({ place, role, generation }, i) => {
          // What it is not for has nothing of it, ever.
          if (place === undefined) expect(role).toBeUndefined();
          else if (state.stage < 0 || state.status === 'stopped' || state.status === 'rolled-back')
            expect(role).toBeUndefined();
          else if (spec.stages[state.stage]!.kind === 'shadow') expect(role).not.toBe('active');
          else if (place.group > state.stage) expect(role).toBeUndefined();
          else if (place.group < state.stage) expect(role).toBe('active');
          // Who is reached stays reached until it is over.
          if (before[i]!.role === 'active' && (!isOver(state) || state.status === 'done'))
            expect(role).toBe('active');
          // A car acts on newer generations only.
          if (role !== before[i]!.role) expect(generation).toBeGreaterThan(before[i]!.generation);
          expect(generation).toBeGreaterThanOrEqual(before[i]!.generation);
        });
        if (was.status === 'stopped' || was.status === 'rolled-back') expect(state).toBe(was);
        if (was.status === 'done') expect(['done', 'rolled-back']).toContain(state.status);
        if (was.status === 'created' && spec.approval) expect(state.stage).toBe(-1);
        if (state.stage > was.stage) expect(state.stage).toBe(was.stage + 1);
        before = now;
      }
      const replayed = moved.events.reduce<RolloutState | undefined>(apply, undefined);
      expect(replayed).toEqual(moved.state);
      // A record that is read twice changes nothing that it has not changed before.
      const steps = Math.max(
        ...spec.stages.map((_, i) => moved.state.moves.filter(({ reach }) => reach?.stage === i).length),
      );
      expect(steps).toBeLessThanOrEqual(102 + commands.length);
    }),
    { numRuns: 200 },
  );
});

test('any order of events, also of those that no decision gives: never active where a stage does not reach', () => {
  const said = { rollout: 'r1', by: 'x', reason: 'y' };
  const generation = fc.integer({ min: 1, max: 50 });
  const part = fc.double({ min: -1, max: 2, noNaN: true });
  const event = fc.oneof(
    fc.constantFrom('approved', 'started', 'paused').map((type) => ({ type, data: said })),
    fc.record({ type: fc.constant('resumed'), data: fc.constant({ ...said, evidenceFrom: {} }) }),
    fc.record({
      type: fc.constantFrom('retried', 'stopped', 'rolled-back', 'done'),
      data: generation.map((generation) => ({ ...said, generation })),
    }),
    fc.record({
      type: fc.constant('widened'),
      data: fc.record({ rollout: fc.constantFrom('r1', 'r1', 'r2'), part, generation }),
    }),
    fc.record({
      type: fc.constant('stage-begun'),
      data: fc.record({
        rollout: fc.constant('r1'),
        stage: fc.integer({ min: -1, max: 5 }),
        part: fc.constantFrom(1, 0.5),
        generation,
        champion: fc.constant(CHAMPION),
        evidenceFrom: fc.constant({}),
      }),
    }),
  );
  fc.assert(
    fc.property(fc.constantFrom(...PLANS), fc.array(event, { maxLength: 40 }), (spec, events) => {
      const membership = new Membership(spec);
      let state = apply(undefined, { type: 'io.cardan.rollout.created', time: NOON, data: spec })!;
      for (const { type, data } of events) {
        const was = state;
        state = apply(state, { type: `io.cardan.rollout.${type}`, time: NOON, data } as RolloutEvent)!;
        if (was.status === 'stopped' || was.status === 'rolled-back') expect(state).toBe(was);
        expect(state.stage).toBeLessThanOrEqual(was.stage + 1);
        expect(state.stage).toBeLessThan(spec.stages.length);
        if (spec.approval && !events.some(({ type }) => type === 'approved')) expect(state.stage).toBe(-1);
        for (const { place, role } of roles(membership, state)) {
          if (role === 'active') expect(place.group).toBeLessThanOrEqual(state.stage);
          if (role !== undefined) expect(place).toBeDefined();
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('places do not move when vehicles come and go, and hold the asked part of the fleet', () => {
  const membership = new Membership(plan());
  const fleet = Array.from({ length: 20_000 }, (_, i) => membership.place(`v${i}`, { id: `v${i}` })!);
  const share = (fits: (place: (typeof fleet)[number]) => boolean) =>
    fleet.filter(fits).length / fleet.length;
  expect(share(({ group }) => group === 1)).toBeCloseTo(0.05, 1.7);
  expect(share(({ group }) => group === 2)).toBeCloseTo(0.2, 1.7);
  expect(share(({ group }) => group === 3)).toBeCloseTo(0.75, 1.7);
  expect(share(({ turn }) => turn < 0.5)).toBeCloseTo(0.5, 1);
  // Other canaries in the next rollout.
  const next = new Membership({ ...plan(), rollout: 'r2' });
  const canaries = fleet.flatMap(({ group }, i) => (group === 1 ? [next.place(`v${i}`, {})!.group] : []));
  expect(canaries.filter((group) => group === 1).length / canaries.length).toBeLessThan(0.1);
});
