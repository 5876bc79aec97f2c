import { Scorer } from '@cardan/shared';
import { expect, test } from 'vitest';
import { drive } from '../../../shared/test/model/model-fixture.ts';
import {
  failingAt,
  overflowingLayers,
  Recorded,
  version,
  WARM_UP_ROWS,
  withEachRow,
} from './scoring-fixture.ts';

const rows = drive(400);
/** What the good model says of every row. */
const right = Array.from({ length: 400 }, () => 0);
{
  const scorer = new Scorer(version('good').model);
  for (let row = 0; row < 400; row++) right[row] = scorer.push(rows.times[row]!, rows.values, row * 3);
}
const broken = () => version('broken', () => ({ layers: overflowingLayers(4) }));

test('without a model nothing is scored; one that comes while the car drives scores from its first row on', () => {
  const car = new Recorded();
  expect(car.drive(rows, 0, 50).every(Number.isNaN)).toBe(true);
  car.scoring.activate(version('good'));
  expect(car.drive(rows, 50)).toEqual(right.slice(50));
  expect(car.good).toEqual(['good']);
  expect(car.stopped).toEqual([]);
});

test('a model that fails on the rows before is refused with the reason, and the old one goes on', () => {
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.drive(rows, 0, 50);
  expect(() => car.scoring.activate(broken())).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FINITE' }));
  expect(car.drive(rows, 50)).toEqual(right.slice(50));
  expect(car.stopped).toEqual([
    {
      model: { name: 'test', version: 'broken' },
      role: 'active',
      code: 'MODEL_NOT_FINITE',
      message: 'Model test broken gave a score that is no finite number.',
      address: 'broken',
      activeAddress: 'good',
    },
  ]);
});

test('when the active model throws, the last good one scores that same row', () => {
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.drive(rows, 0, 20);
  car.scoring.activate(version('bad', failingAt(120)));
  // Its network runs from the fourth row on.
  expect(car.drive(rows, 20, 122)).toEqual(right.slice(20, 122));
  expect(car.stopped).toEqual([]);
  expect(car.drive(rows, 122)).toEqual(right.slice(122));
  expect(car.stopped).toEqual([
    {
      model: { name: 'test', version: 'bad' },
      role: 'active',
      code: 'MODEL_THREW',
      message: 'Model test bad failed: out of memory.',
      address: 'bad',
      activeAddress: 'good',
    },
  ]);
  expect(car.scoring.activeModel).toEqual({ name: 'test', version: 'good' });
  expect(car.good).toEqual(['good', 'bad', 'good']);
});

test('a model that becomes too slow is stopped; one that is slow now and then is not', () => {
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.drive(rows, 0, 20);
  const pause = withEachRow((row) => (car.us += row > 200 ? 1001 : row % 3 === 0 ? 1e6 : 10));
  car.scoring.activate(version('slow', pause));
  expect(car.drive(rows, 20)).toEqual(right.slice(20));
  expect(car.stopped).toMatchObject([
    {
      code: 'MODEL_TOO_SLOW',
      message: 'Model test slow takes more than the 1000 µs that a row may, the last one 1001 µs.',
      address: 'slow',
      activeAddress: 'good',
    },
  ]);
  expect(car.scoring.counts.stopped).toBe(1);
});

test('a score that is not finite stops a model only once its windows are full', () => {
  const car = new Recorded();
  car.scoring.activate(broken());
  expect(car.drive(rows, 0, WARM_UP_ROWS - 1).every(Number.isNaN)).toBe(true);
  expect(car.stopped).toEqual([]);
  expect(car.drive(rows, WARM_UP_ROWS - 1, 60).every(Number.isNaN)).toBe(true);
  expect(car.stopped).toMatchObject([{ code: 'MODEL_NOT_FINITE', activeAddress: null }]);
  expect(car.scoring.activeModel).toBeNull();
  expect(car.good).toEqual([]);
});

test('where the last good one fails too, none is left, and each has said so', () => {
  const car = new Recorded();
  let down = false;
  const fails = withEachRow(() => {
    if (down) throw new RangeError('out of memory');
  });
  car.scoring.activate(version('1', fails));
  car.drive(rows, 0, 20);
  car.scoring.activate(version('2', fails));
  car.drive(rows, 20, 100);
  down = true;
  expect(car.drive(rows, 100, 200).every(Number.isNaN)).toBe(true);
  expect(car.stopped).toMatchObject([
    { address: '1', activeAddress: null },
    { address: '2', activeAddress: null },
  ]);
  car.scoring.activate(version('3'));
  expect(car.drive(rows, 200)).toEqual(right.slice(200));
});

test('a model that failed as the shadow is not gone back to', () => {
  const car = new Recorded();
  let down = false;
  const one = version(
    '1',
    withEachRow(() => {
      if (down) throw new RangeError('out of memory');
    }),
  );
  car.scoring.activate(one);
  car.drive(rows, 0, 20);
  car.scoring.activate(version('2', failingAt(200)));
  car.scoring.shadowWith(one);
  car.drive(rows, 20, 50);
  down = true;
  car.drive(rows, 50, 60);
  down = false;
  expect(car.drive(rows, 60, 300).slice(-50).every(Number.isNaN)).toBe(true);
  expect(car.stopped).toMatchObject([
    { address: '1', role: 'shadow', activeAddress: '2' },
    { address: '2', role: 'active', activeAddress: null },
  ]);
});

test('a shadow that takes over from a stopped model is no shadow any more', () => {
  const car = new Recorded();
  car.scoring.activate(version('1'));
  car.drive(rows, 0, 20);
  car.scoring.activate(version('2', failingAt(200)));
  car.scoring.shadowWith(version('1'));
  expect(car.drive(rows, 20)).toEqual(right.slice(20));
  expect(car.scoring.activeModel).toEqual({ name: 'test', version: '1' });
  expect(car.scoring.shadowModel).toBeNull();
  expect(car.shadows.every(({ active }) => active?.version === '2')).toBe(true);
});

test('the alarm passes on, so that one event stays one alarm', () => {
  const hot = { times: rows.times, values: rows.values.slice() };
  for (let row = 60; row < 400; row++) hot.values[row * 3 + 2]! += 60;
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.drive(hot, 0, 30);
  car.scoring.activate(version('bad', failingAt(200)));
  car.drive(hot, 30, 40);
  const states = () => car.alarms.map(({ state, model }) => `${state} by ${model.version}`);
  car.drive(hot, 40, 150);
  expect(states()).toEqual(['raised by bad']);
  expect(car.alarms[0]!.contributions[2]).toBeGreaterThan(0.9);
  car.drive(hot, 150, 300);
  expect(car.stopped).toMatchObject([{ address: 'bad', activeAddress: 'good' }]);
  expect(car.scoring.alarmActive).toBe(true);
  expect(states()).toEqual(['raised by bad']);
});

test('a shadow raises no alarm and changes no score; when it fails it ends, and the active one goes on', () => {
  const hot = { times: rows.times, values: rows.values.slice() };
  for (let row = 60; row < 400; row++) hot.values[row * 3 + 2]! += 60;
  const alone = new Recorded();
  alone.scoring.activate(version('good'));
  const scores = alone.drive(hot);
  const car = new Recorded();
  car.scoring.activate(version('good'));
  car.scoring.shadowWith(version('shadow', failingAt(250)));
  expect(car.drive(hot)).toEqual(scores);
  expect(car.alarms).toEqual(alone.alarms);
  expect(car.stopped).toMatchObject([
    { address: 'shadow', role: 'shadow', code: 'MODEL_THREW', activeAddress: 'good' },
  ]);
  expect(car.scoring.shadowModel).toBeNull();
  expect(car.scoring.counts).toEqual({ stopped: 1, shadowRows: 252, shadowAlarms: 1 });
});
