import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cloudEvent, type CloudEvent, type EventData, type EventType } from '@cardan/shared';
import { decide, LOOP_POLICY, type Decision, type LoopPolicy, type SetFacts } from '../../src/loop/decide.ts';
import { LoopState } from '../../src/loop/loop-state.ts';
import { COLUMNS, testModel } from '../registry/model-fixture.ts';

const START = Date.UTC(2026, 0, 1);
const HOUR_MS = 3_600_000;
const FIGURES = { falseAlarms: 0, foretold: 0, overThreshold: 0, p95: 0.5, planted: 1 };

/** A log of events, and what it says. */
class History {
  readonly events: CloudEvent[] = [];
  readonly state = new LoopState();
  now = START;

  constructor() {
    const { manifest } = testModel('1');
    const active = { name: 'anomaly', version: '1' };
    this.say('io.cardan.model.published', { manifest, manifestSha256: '0'.repeat(64) });
    this.say('io.cardan.rollout.decided', { generation: 1, signalSet: COLUMNS.id, active });
    this.say('io.cardan.loop.drift-detected', {
      drift: 'drift anomaly 1 scores',
      signalSet: COLUMNS.id,
      model: active,
      cause: 'scores',
      onset: new Date(START - HOUR_MS).toISOString(),
      vehicles: 10,
      drifting: 6,
      trips: 30,
      rows: 30_000,
      findings: [],
    });
  }

  say<K extends EventType>(type: K, data: EventData[K]): void {
    const event = cloudEvent(
      type,
      { source: '/services/loop', id: String(this.events.length), time: this.now },
      data,
    );
    this.events.push(event);
    this.state.take(event);
  }

  /** Does what was decided, as the service would. */
  take(decision: Decision, verdict: 'good' | 'worse'): void {
    const id = decision.proposal.proposal;
    const [champion, candidate] = [decision.proposal.champion, { name: 'anomaly', version: '2' }];
    switch (decision.kind) {
      case 'propose':
        return this.say('io.cardan.loop.retraining-proposed', decision.proposal);
      case 'train':
        return this.say('io.cardan.training.requested', {
          training: id,
          signalSet: COLUMNS.id,
          reason: 'loop',
        });
      case 'judge':
        return this.say('io.cardan.loop.candidate-judged', {
          proposal: id,
          champion,
          candidate,
          verdict,
          findings: [],
          evidence: {
            vehicles: 3,
            vehicleHours: 5,
            rows: 1000,
            offsets: {},
            champion: FIGURES,
            candidate: FIGURES,
            repairs: 0,
          },
        });
      case 'roll-out':
        return this.say('io.cardan.loop.rollout-begun', { proposal: id, candidate, rollout: id });
    }
  }

  trainingEnds(failed: boolean): void {
    const open = this.state.open;
    if (open?.status !== 'training') return;
    const training = open.proposal;
    if (failed)
      this.say('io.cardan.training.failed', { training, model: 'anomaly', code: 'X', message: 'no' });
    else
      this.say('io.cardan.training.completed', {
        training,
        model: 'anomaly',
        version: '2',
        rows: 1,
        threshold: 1,
        seconds: 1,
      });
  }
}

const FACTS: SetFacts[] = [
  {
    signalSet: COLUMNS.id,
    vehicles: Array.from({ length: 10 }, (_, i) => `car-${i}`),
    newest: START,
    growth: 0,
  },
];

/** What happens next: time passes, a training ends, a person says something, the service is started anew. */
const step = fc.record({
  minutes: fc.integer({ min: 1, max: 400 }),
  end: fc.constantFrom('completed', 'failed', 'runs'),
  verdict: fc.constantFrom('good' as const, 'worse' as const),
  person: fc.constantFrom('approve', 'reject', 'nothing'),
  growth: fc.integer({ min: 0, max: 10 }),
});
const policy = fc.record({
  mode: fc.constantFrom('off' as const, 'ask' as const, 'auto' as const),
  coolDownHours: fc.integer({ min: 0, max: 12 }),
  perDay: fc.integer({ min: 0, max: 4 }),
});

describe('whatever happens', () => {
  test('the budget of a day and the cool-down hold, and never are two under way', () => {
    fc.assert(
      fc.property(policy, fc.array(step, { maxLength: 80 }), (given, steps) => {
        const policy: LoopPolicy = { ...LOOP_POLICY, ...given };
        const history = play(policy, steps);
        const at = (type: string) =>
          history.events.filter((event) => event.type === type).map(({ time }) => Date.parse(time));
        const trainings = at('io.cardan.training.requested');
        for (const time of trainings)
          expect(
            trainings.filter((other) => other <= time && other > time - 24 * HOUR_MS).length,
          ).toBeLessThanOrEqual(policy.perDay);
        let isOpen = false;
        let ended = -Infinity;
        for (const { type, time, data } of history.events) {
          if (type === 'io.cardan.loop.retraining-proposed') {
            expect(isOpen).toBe(false);
            expect(Date.parse(time) - ended).toBeGreaterThanOrEqual(policy.coolDownHours * HOUR_MS);
            isOpen = true;
          }
          const isWorse = (data as { verdict?: string }).verdict === 'worse';
          const ends = [
            'io.cardan.training.failed',
            'io.cardan.loop.rejected',
            'io.cardan.loop.rollout-begun',
          ];
          if (ends.includes(type) || isWorse) {
            isOpen = false;
            ended = Date.parse(time);
          }
        }
        if (policy.mode === 'off') expect(at('io.cardan.loop.retraining-proposed')).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  test('the same events give the same decision, and asked first nothing is trained or rolled out unsaid', () => {
    fc.assert(
      fc.property(policy, fc.array(step, { maxLength: 60 }), (given, steps) => {
        const policy: LoopPolicy = { ...LOOP_POLICY, ...given };
        const history = play(policy, steps);
        const again = new LoopState();
        for (const event of history.events) again.take(event);
        // Read twice, as after a crash: events that do not fit are passed over.
        for (const event of history.events.slice(-3)) again.take(event);
        expect([...again.proposals]).toEqual([...history.state.proposals]);
        expect(decide(again, FACTS, policy, history.now)).toEqual(
          decide(history.state, FACTS, policy, history.now),
        );
        if (policy.mode !== 'ask') return;
        const approved = (step: string) =>
          history.events.filter(
            ({ type, data }) =>
              type === 'io.cardan.loop.approved' && (data as { step: string }).step === step,
          ).length;
        const count = (name: string) => history.events.filter(({ type }) => type === name).length;
        expect(count('io.cardan.training.requested')).toBeLessThanOrEqual(approved('training'));
        expect(count('io.cardan.loop.rollout-begun')).toBeLessThanOrEqual(approved('rollout'));
      }),
      { numRuns: 200 },
    );
  });
});

test('after a drift it learns from the onset on, or as far back as the champion saw while that is too little', () => {
  const history = new History();
  const policy: LoopPolicy = { ...LOOP_POLICY, mode: 'auto' };
  const from = (newest: number) => {
    const decision = decide(history.state, [{ ...FACTS[0]!, newest }], policy, history.now);
    if (decision?.kind !== 'propose') throw new Error('It proposes nothing.');
    return decision.proposal.times.from;
  };
  expect(from(START)).toBe(new Date(START - HOUR_MS).toISOString());
  // The champion saw an hour.
  expect(from(START - HOUR_MS + 60_000)).toBe(new Date(START - 2 * HOUR_MS + 60_000).toISOString());
});

test('a fleet of four is too small to hold vehicles back, and nothing is proposed', () => {
  const history = new History();
  const few = [{ ...FACTS[0]!, vehicles: ['a', 'b', 'c', 'd'] }];
  expect(decide(history.state, few, { ...LOOP_POLICY, mode: 'auto' }, history.now)).toBeUndefined();
});

test('what was begun for a drift has a week; then the same champion is looked at again', () => {
  const history = new History();
  const policy: LoopPolicy = { ...LOOP_POLICY, mode: 'auto' };
  for (let i = 0; i < 4; i++) {
    history.trainingEnds(false);
    history.take(decide(history.state, FACTS, policy, history.now)!, 'good');
  }
  expect(history.state.open).toBeUndefined();
  history.now += 6 * 24 * HOUR_MS;
  expect(decide(history.state, FACTS, policy, history.now)).toBeUndefined();
  history.now += 2 * 24 * HOUR_MS;
  expect(decide(history.state, FACTS, policy, history.now)?.kind).toBe('propose');
});

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function play(policy: LoopPolicy, steps: readonly Step[]): History {
  const history = new History();
  for (const { minutes, end, verdict, person, growth } of steps) {
    history.now += minutes * 60_000;
    if (end !== 'runs') history.trainingEnds(end === 'failed');
    const { open } = history.state;
    if (open !== undefined && person === 'reject')
      history.say('io.cardan.loop.rejected', { proposal: open.proposal, by: 'ann', reason: '' });
    if (open !== undefined && person === 'approve') {
      const step = open.status === 'judged' ? 'rollout' : 'training';
      history.say('io.cardan.loop.approved', { proposal: open.proposal, step, by: 'ann', reason: '' });
    }
    const facts = FACTS.map((set) => ({ ...set, growth }));
    const decision = decide(history.state, facts, policy, history.now);
    if (decision !== undefined) history.take(decision, verdict);
  }
  return history;
}
