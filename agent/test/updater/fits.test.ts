import { afterEach, expect, test } from 'vitest';
import { CardanError, type ModelManifest } from '@cardan/shared';
import { publish, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import { World, type Car } from './car-fixture.ts';

/* What is signed beside a model's files tells a car whether the model is for it. */

const world = new World();
afterEach(() => world.close());

const ABILITIES = { engines: ['dense'], operationsMax: 5000 };

/** A car with version 1, and somebody who notes what is asked for. */
async function carAnd(change: (manifest: ModelManifest) => void) {
  const registry = await world.registry();
  const middle = await world.middle(() => registry.url);
  const rootPath = registry.rootPath;
  const car = await world.car({ dir: world.dir(), rootPath, url: middle.url, abilities: ABILITIES });
  await publish(registry.url, testModel('1'));
  car.hint(1);
  await car.done(1);
  await publish(registry.url, testModel('2', { change }));
  const downloads = () => middle.requests.filter((path) => path.includes('/targets/')).length;
  return { car, downloads };
}
const versions = (car: Car) => car.installed.map(({ ref }) => ref.version);

test.each([
  [
    'an engine that the car does not have',
    'MODEL_ENGINE_UNSUPPORTED',
    (manifest: ModelManifest) => (manifest.engine = 'tfjs'),
  ],
  [
    'more operations than a row has time for',
    'MODEL_TOO_LARGE',
    (manifest: ModelManifest) => (manifest.metrics.multiply_adds = 5001),
  ],
])('%s: refused before a byte of it is downloaded, once, and the old one stays', async (_, code, change) => {
  const { car, downloads } = await carAnd(change);
  const before = downloads();
  car.hint(2);
  expect(await car.done(2)).toMatchObject({
    active: { version: '1' },
    phase: 'failed',
    error: { code },
  });
  expect(downloads()).toBe(before);
  expect(versions(car)).toEqual(['1']);
  expect(car.waits).toEqual([]);
});

test('a model that takes exactly what there is time for is installed', async () => {
  const { car } = await carAnd((manifest) => (manifest.metrics.multiply_adds = 5000));
  car.hint(2);
  expect(await car.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
});

test('one that fails its self-test is not fetched again at the next start, and is told of once', async () => {
  const { car, downloads } = await carAnd(() => undefined);
  const problem = new CardanError('SELF_TEST_FAILED', 'other scores');
  car.refuse = ({ ref }) => (ref.version === '2' ? problem : undefined);
  car.hint(2);
  expect(await car.done(2)).toMatchObject({
    active: { version: '1' },
    phase: 'failed',
    error: { code: 'SELF_TEST_FAILED' },
  });
  const before = downloads();
  car.hint(3, '2');
  expect(await car.done(3)).toMatchObject({ phase: 'failed', error: { code: 'SELF_TEST_FAILED' } });
  expect(downloads()).toBe(before);
  expect(car.stopped).toEqual([
    {
      model: { name: 'anomaly', version: '2' },
      role: 'active',
      code: 'SELF_TEST_FAILED',
      message: 'other scores',
    },
  ]);
});
