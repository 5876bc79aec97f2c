import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { CardanError } from '@cardan/shared';
import { publish, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import type { Trial } from '../../src/updater/trials.ts';
import { World, type Car } from './car-fixture.ts';

/* What an updater makes of the ones before it. One that was not stopped has died, for all that its successor knows. */

const world = new World();
afterEach(() => world.close());

const versions = (car: Car) => car.installed.map(({ ref }) => ref.version);
const trials = (dir: string) =>
  (JSON.parse(readFileSync(join(dir, 'models', 'current.json'), 'utf8')) as { trials: Trial[] }).trials;

/** A registry with the versions 1 … 3, and a car on which version 1 has proved itself. */
async function fleet() {
  const registry = await world.registry();
  for (const version of ['1', '2', '3']) await publish(registry.url, testModel(version));
  const dir = world.dir();
  const start = (options: Partial<ConstructorParameters<typeof Car>[0]> = {}) =>
    world.car({ dir, rootPath: registry.rootPath, url: registry.url, bootId: 'boot-1', ...options });
  const alone = { url: 'http://127.0.0.1:1' };
  const car = await start();
  car.hint(1, '1');
  await car.done(1);
  car.updater.modelIsGood(car.installed[0]!.address);
  await car.updater.settled();
  return { dir, car, start, alone };
}

test('a candidate with which the agent dies is given up, and the active model stays', async () => {
  const { dir, car, start, alone } = await fleet();
  car.hint(2, '1', '2');
  await car.done(2);
  for (let deaths = 1; deaths <= 2; deaths++) {
    const again = await start(alone);
    expect([versions(again), again.candidates.map((model) => model?.ref.version)]).toEqual([['1'], ['2']]);
    expect(trials(dir)).toMatchObject([{ role: 'shadow', running: true, deaths }]);
  }
  const last = await start(alone);
  expect([versions(last), last.candidates]).toEqual([['1'], []]);
  expect(last.stopped).toMatchObject([{ model: { version: '2' }, role: 'shadow', code: 'MODEL_CRASH_LOOP' }]);
  expect(last.last).toMatchObject({
    active: { version: '1' },
    phase: 'failed',
    error: { code: 'MODEL_CRASH_LOOP' },
  });
  expect(trials(dir)).toEqual([]);
  // Once only.
  expect((await start(alone)).stopped).toEqual([]);
});

test('a model with which the agent dies while it takes over never becomes the current one, and is not tried for ever', async () => {
  const { car, start, ...first } = await fleet();
  let { dir } = first;
  await car.updater.stop();
  for (let deaths = 0; deaths <= 2; deaths++) {
    const again = await start({ dir });
    expect(versions(again)).toEqual(['1']);
    const died = world.dir();
    // What is on the disk in the moment in which the model is handed over.
    again.refuse = () => {
      cpSync(dir, died, { recursive: true });
      return undefined;
    };
    again.hint(2, '2');
    await again.done(2);
    await again.updater.stop();
    dir = died;
    expect(trials(dir)).toMatchObject([{ ref: { version: '2' }, running: true, deaths }]);
  }
  const last = await start({ dir });
  expect(last.stopped).toMatchObject([{ model: { version: '2' }, code: 'MODEL_CRASH_LOOP' }]);
  last.hint(2, '2');
  expect(await last.done(2)).toMatchObject({
    active: { version: '1' },
    phase: 'failed',
    error: { code: 'MODEL_CRASH_LOOP' },
  });
  expect(versions(last)).toEqual(['1']);
});

test('a model that was good as the candidate needs no trial as the active one', async () => {
  const { dir, car } = await fleet();
  car.hint(2, '1', '2');
  await car.done(2);
  car.updater.modelIsGood(car.candidates[0]!.address);
  await car.updater.settled();
  car.hint(3, '2');
  expect(await car.done(3)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
  expect(trials(dir)).toEqual([]);
  car.hint(4, '3');
  await car.done(4);
  expect(trials(dir)).toMatchObject([{ ref: { version: '3' }, role: 'active', running: true }]);
  await car.updater.stop();
  expect(trials(dir)).toMatchObject([{ running: false, deaths: 0 }]);
});

test('a model that no longer passes its self-test, as with a new computer, gives way to the one before, and stays away', async () => {
  const { car, start, alone } = await fleet();
  car.hint(2, '2');
  await car.done(2);
  await car.updater.stop();
  const refuse = ({ ref }: { ref: { version: string } }) =>
    ref.version === '2' ? new CardanError('SELF_TEST_FAILED', 'other scores') : undefined;
  const again = await start({ ...alone, refuse });
  expect(versions(again)).toEqual(['1']);
  expect(again.stopped).toMatchObject([
    { model: { version: '2' }, role: 'active', code: 'SELF_TEST_FAILED' },
  ]);
  expect(again.last).toMatchObject({ phase: 'failed', error: { code: 'SELF_TEST_FAILED' } });
  await again.updater.stop();
  const online = await start();
  online.hint(2, '2');
  expect(await online.done(2)).toMatchObject({
    active: { version: '1' },
    error: { code: 'SELF_TEST_FAILED' },
  });
  expect([versions(online), online.stopped]).toEqual([['1'], []]);
});
