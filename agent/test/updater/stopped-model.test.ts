import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { replaceFile } from '@cardan/shared';
import {
  OTHER_COLUMNS,
  publish,
  testModel,
  type TestModel,
} from '../../../cloud/test/registry/model-fixture.ts';
import { World, type Car } from './car-fixture.ts';

const world = new World();
afterEach(() => world.close());

const TOO_SLOW = { code: 'MODEL_TOO_SLOW', message: 'too slow' } as const;

/** A car that has installed the versions 1, 2, … in this order, and a registry that has them all. */
async function carWith(versions: number): Promise<{
  car: Car;
  dir: string;
  rootPath: string;
  /** Through somebody who notes what is asked for. */
  url: string;
  publish: (model: TestModel) => Promise<number>;
  downloads: () => string[];
}> {
  const registry = await world.registry();
  const middle = await world.middle(() => registry.url);
  const dir = world.dir();
  const car = await world.car({ dir, rootPath: registry.rootPath, url: middle.url });
  for (let version = 1; version <= versions; version++) {
    await publish(registry.url, testModel(String(version)));
    car.hint(version);
    await car.done(version);
    car.updater.modelIsGood(car.installed.at(-1)!.address);
  }
  await car.updater.settled();
  const downloads = () => middle.requests.filter((path) => path.includes('/targets/'));
  return {
    car,
    dir,
    rootPath: registry.rootPath,
    url: middle.url,
    publish: (model) => publish(registry.url, model),
    downloads,
  };
}

const versions = (car: Car) => car.installed.map(({ ref }) => ref.version);

test('the model before takes the place of a stopped one, also after a restart, and the same decision brings nothing', async () => {
  const { car, dir, rootPath, url, downloads } = await carWith(2);
  const [first, second] = car.installed;
  car.updater.modelStopped(second!.address, TOO_SLOW, first!.address);
  await car.updater.settled();
  const failed = { active: { version: '1' }, phase: 'failed', error: TOO_SLOW };
  expect(car.last).toMatchObject(failed);
  // The car had the model before in memory, so there was nothing to hand over.
  expect(versions(car)).toEqual(['1', '2']);
  car.hint(2);
  await car.updater.settled();
  expect(versions(car)).toEqual(['1', '2']);
  await car.updater.stop();

  const again = await world.car({ dir, rootPath, url });
  expect(versions(again)).toEqual(['1']);
  const before = downloads().length;
  again.hint(2);
  expect(await again.done(2)).toMatchObject(failed);
  // A new decision for the same bytes does not change what they are.
  again.hint(3, '2');
  expect(await again.done(3)).toMatchObject(failed);
  expect(versions(again)).toEqual(['1']);
  expect(downloads()).toHaveLength(before);
  expect(again.waits).toEqual([]);
});

test('a car that has only the stopped model in memory is handed the one before from the disk', async () => {
  const { car, dir, rootPath, url } = await carWith(2);
  await car.updater.stop();
  const again = await world.car({ dir, rootPath, url });
  expect(versions(again)).toEqual(['2']);
  again.updater.modelStopped(again.installed[0]!.address, TOO_SLOW, null);
  await again.updater.settled();
  expect(versions(again)).toEqual(['2', '1']);
  expect(again.last).toMatchObject({ active: { version: '1' }, phase: 'failed', error: TOO_SLOW });
});

test('a model that was stopped while it was handed over never becomes the current one', async () => {
  const { car, publish, dir, rootPath, url } = await carWith(1);
  await publish(testModel('2'));
  const first = car.installed[0]!;
  car.refuse = (model) => {
    car.updater.modelStopped(model.address, TOO_SLOW, first.address);
    return undefined;
  };
  car.hint(2);
  await car.done(2);
  await car.updater.settled();
  expect(car.last).toMatchObject({ active: { version: '1' }, phase: 'failed', error: TOO_SLOW });
  await car.updater.stop();
  expect(versions(await world.car({ dir, rootPath, url }))).toEqual(['1']);
});

test('a model that never scored does not push out the one that is good', async () => {
  const { car, publish, dir, rootPath, url } = await carWith(1);
  for (const version of ['2', '3']) {
    await publish(testModel(version));
    car.hint(Number(version));
    await car.done(Number(version));
  }
  const [first, , third] = car.installed;
  car.updater.modelStopped(third!.address, TOO_SLOW, first!.address);
  await car.updater.settled();
  expect(car.last).toMatchObject({ active: { version: '1' } });
  await car.updater.stop();
  expect(versions(await world.car({ dir, rootPath, url }))).toEqual(['1']);
});

test('another version of the agent may try a stopped model again', async () => {
  const { car, dir, rootPath, url } = await carWith(2);
  const [first, second] = car.installed;
  car.updater.modelStopped(second!.address, TOO_SLOW, first!.address);
  await car.updater.settled();
  await car.updater.stop();
  const pointer = join(dir, 'models', 'current.json');
  await replaceFile(pointer, readFileSync(pointer, 'utf8').replace(/"agent":"[^"]*"/, '"agent":"0.0.1"'));
  const again = await world.car({ dir, rootPath, url });
  again.hint(2);
  expect(await again.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle', error: null });
});

test('a candidate is verified, handed over and there after a restart; as the active one it is not fetched again', async () => {
  const { car, publish, dir, rootPath, url, downloads } = await carWith(1);
  await publish(testModel('2'));
  car.hint(2, '1', '2');
  expect(await car.done(2)).toMatchObject({ active: { version: '1' }, phase: 'idle', error: null });
  expect(car.candidates.map((model) => model?.ref.version)).toEqual(['2']);
  expect(versions(car)).toEqual(['1']);
  await car.updater.stop();

  const again = await world.car({ dir, rootPath, url });
  expect(versions(again)).toEqual(['1']);
  expect(again.candidates).toEqual(car.candidates);
  const before = downloads().length;
  again.hint(3, '2');
  expect(await again.done(3)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
  expect(versions(again)).toEqual(['1', '2']);
  expect(again.candidates.at(-1)).toBeNull();
  expect(downloads()).toHaveLength(before);
});

test('no candidate, null or absent, ends the shadow; the active model beside itself is none', async () => {
  const { car, publish } = await carWith(1);
  await publish(testModel('2'));
  car.hint(2, '1', '2');
  await car.done(2);
  car.hint(3, '1');
  await car.done(3);
  car.hint(4, '1', '2');
  await car.done(4);
  car.hint(5, '1', null);
  await car.done(5);
  car.hint(6, '1', '1');
  await car.done(6);
  expect(car.candidates.map((model) => model?.ref.version)).toEqual(['2', undefined, '2', undefined]);
});

test('a candidate that is refused leaves the active model alone, and is reported', async () => {
  const { car, publish } = await carWith(1);
  await publish(testModel('9', { columns: OTHER_COLUMNS }));
  car.hint(2, '1', '9');
  expect(await car.done(2)).toMatchObject({
    active: { version: '1' },
    phase: 'failed',
    error: { code: 'SIGNAL_SET_MISMATCH' },
  });
  await publish(testModel('2'));
  car.hint(3, '1', '2');
  await car.done(3);
  car.updater.modelStopped(car.candidates.at(-1)!.address, TOO_SLOW, car.installed[0]!.address);
  await car.updater.settled();
  expect(car.last).toMatchObject({ active: { version: '1' }, phase: 'failed', error: TOO_SLOW });
  // It is no better as the active one.
  car.hint(4, '2');
  expect(await car.done(4)).toMatchObject({ active: { version: '1' }, phase: 'failed', error: TOO_SLOW });
});
