import { expect, test } from 'vitest';
import { begun, crashLoop, ended, judged, type Trial } from '../../src/updater/trials.ts';

const model = (version: string, role: Trial['role'] = 'active', bootId = 'boot-1') => ({
  ref: { name: 'anomaly', version },
  address: version,
  role,
  bootId,
});

/** Starts that each end without a word; the boot id of each, and what ran before its end. */
function ends(trials: Trial[], boots: string[], meanwhile: (trials: Trial[]) => Trial[] = (same) => same) {
  const looped: (string | undefined)[] = [];
  for (const bootId of boots) {
    const judgement = judged(trials, bootId);
    looped.push(judgement.looped?.address);
    trials = judgement.trials;
    for (const { ref, address, role } of trials) trials = begun(trials, { ref, address, role, bootId });
    trials = meanwhile(trials);
  }
  return { trials, looped };
}

test('three ends of the process alone are a crash loop', () => {
  const { looped, trials } = ends(begun([], model('2')), ['boot-1', 'boot-1', 'boot-1']);
  expect(looped).toEqual([undefined, undefined, '2']);
  expect(crashLoop(trials[0]!)).toEqual({
    code: 'MODEL_CRASH_LOOP',
    message: 'Model anomaly 2 is given up: the agent died 3 times while it was on trial.',
  });
});

test('a computer that goes down is not the model’s doing, unless it does so again and again in the first minute', () => {
  const boots = Array.from({ length: 12 }, (_, i) => `boot-${i + 2}`);
  const calm = (trials: Trial[]) => trials.map((trial) => ({ ...trial, calm: true }));
  expect(ends(calm(begun([], model('2'))), boots, calm).looped).toEqual(boots.map(() => undefined));
  const { looped } = ends(begun([], model('2')), boots);
  expect(looped.slice(0, 9)).toEqual(Array.from({ length: 9 }));
  expect(looped[9]).toBe('2');
});

test('an end as it should be takes back what was counted', () => {
  let { trials } = ends(begun([], model('2')), ['boot-1', 'boot-1']);
  trials = ended(trials);
  expect(trials).toMatchObject([{ running: false, deaths: 0 }]);
  // It does not run, so nothing is counted.
  expect(judged(trials, 'boot-1').trials).toEqual(trials);
});

test('of an active model and a candidate on trial the newer one is blamed, also after restarts', () => {
  const both = begun(begun([], model('2')), model('3', 'shadow'));
  expect(ends(both, ['boot-1', 'boot-1', 'boot-1']).looped).toEqual([undefined, undefined, '3']);
});

test('a model that takes the place of another ends the trial of that one', () => {
  const trials = begun(begun([], model('2')), model('3'));
  expect(trials.map(({ running }) => running)).toEqual([false, true]);
  expect(judged(trials, 'boot-1').trials.map(({ deaths }) => deaths)).toEqual([0, 1]);
});

test('no more trials are kept than models can have begun', () => {
  let trials: Trial[] = [];
  for (let version = 1; version <= 20; version++) trials = begun(trials, model(String(version)));
  expect(trials.map(({ address }) => address)).toEqual(['17', '18', '19', '20']);
});
