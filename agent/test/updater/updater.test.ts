import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { CardanError } from '@cardan/shared';
import { OTHER_COLUMNS, publish, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import { Car, World } from './car-fixture.ts';

const world = new World();
afterEach(() => world.close());

test('a hint leads to a verified, installed and reported model', async () => {
  const { url, rootPath } = await world.registry();
  const model = testModel('1');
  await publish(url, model);
  const car = await world.car({ dir: world.dir(), rootPath, url });
  car.hint(1);
  const ref = { name: 'anomaly', version: '1' };
  expect(await car.done(1)).toEqual({ observedGeneration: 1, active: ref, phase: 'idle', error: null });
  expect(car.installed).toEqual([
    {
      ref,
      address: expect.any(String) as string,
      manifest: model.manifestBytes,
      model: model.modelBytes,
      weights: model.weightsBytes,
    },
  ]);
  expect(car.reports[0]).toMatchObject({ observedGeneration: 1, active: null, phase: 'updating' });
});

test('without a hint the poll finds it', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  const car = await world.car({ dir: world.dir(), rootPath, url, polls: true });
  expect(await car.done(1)).toMatchObject({ active: { version: '1' }, phase: 'idle' });
});

test('old and repeated hints change nothing', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  await publish(url, testModel('2'));
  const car = await world.car({ dir: world.dir(), rootPath, url });
  car.hint(2);
  await car.done(2);
  const reports = car.reports.length;
  car.hint(2);
  car.hint(1);
  await car.updater.settled();
  expect(car.reports).toHaveLength(reports);
  expect(car.active?.version).toBe('2');
});

test('hints during an installation are coalesced to the newest', async () => {
  const registry = await world.registry();
  for (const version of ['1', '2', '3', '4']) await publish(registry.url, testModel(version));
  const middle = await world.middle(() => registry.url);
  const car = await world.car({ dir: world.dir(), rootPath: registry.rootPath, url: middle.url });
  middle.attack = (path) => {
    // In the middle of the first installation.
    if (path.endsWith('weights.bin')) for (const generation of [2, 3, 4]) car.hint(generation);
    return false;
  };
  car.hint(1);
  await car.done(4);
  expect(car.installed.at(-1)?.ref.version).toBe('4');
  expect(car.installed.map(({ ref }) => ref.version)).not.toContain('3');
});

test('a hint that comes while the installed model is handed over is taken after it', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  await publish(url, testModel('2'));
  const options = { dir: world.dir(), rootPath, url };
  const before = await world.car(options);
  before.hint(1);
  await before.done(1);
  await before.updater.stop();
  const car = new Car({
    ...options,
    // Called with version 1, in the middle of the start.
    refuse: () => {
      car.hint(2);
      return undefined;
    },
  });
  await car.updater.start();
  expect(await car.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
  await car.updater.settled();
  expect(car.reports.map(({ observedGeneration, phase }) => [observedGeneration, phase])).toEqual([
    [1, 'idle'],
    [2, 'updating'],
    [2, 'updating'],
    [2, 'idle'],
  ]);
  expect(car.last?.active?.version).toBe('2');
  await car.updater.stop();
});

test('a decision that names an older model again goes back to its bytes, without a download', async () => {
  const registry = await world.registry();
  await publish(registry.url, testModel('1'));
  await publish(registry.url, testModel('2'));
  const middle = await world.middle(() => registry.url);
  const car = await world.car({ dir: world.dir(), rootPath: registry.rootPath, url: middle.url });
  car.hint(1);
  await car.done(1);
  car.hint(2);
  await car.done(2);
  middle.requests.length = 0;
  car.hint(3, '1');
  expect(await car.done(3)).toMatchObject({ active: { version: '1' }, phase: 'idle' });
  car.hint(4, '1'); // and again: it runs already
  await car.done(4);
  expect(car.installed.map(({ ref }) => ref.version)).toEqual(['1', '2', '1']);
  expect(middle.requests.filter((path) => path.includes('/targets/'))).toEqual([]);
});

test('"no model" is observed and leaves the car on what it has', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  const car = await world.car({ dir: world.dir(), rootPath, url });
  car.hint(1);
  await car.done(1);
  car.hint(2, null);
  expect(await car.done(2)).toMatchObject({ active: { version: '1' }, phase: 'idle', error: null });
});

test('a model for other signals is refused before a byte of it is downloaded', async () => {
  const registry = await world.registry();
  await publish(registry.url, testModel('1', { columns: OTHER_COLUMNS }));
  await publish(registry.url, testModel('2'));
  const middle = await world.middle(() => registry.url);
  const car = await world.car({ dir: world.dir(), rootPath: registry.rootPath, url: middle.url });
  car.hint(9, '1');
  const report = await car.done(9);
  expect(report).toMatchObject({ active: null, phase: 'failed', error: { code: 'SIGNAL_SET_MISMATCH' } });
  expect(middle.requests.filter((path) => path.includes('/targets/'))).toEqual([]);
  expect(car.waits).toEqual([]); // trying again would change nothing
  car.hint(2); // the one that is for us, though its number is lower
  expect(await car.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
});

test('a model that does not load is reported; the old one stays, and it is not tried again', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  await publish(url, testModel('2'));
  const dir = world.dir();
  const car = await world.car({ dir, rootPath, url });
  car.refuse = ({ ref }) =>
    ref.version === '2' ? new CardanError('MODEL_INVALID', 'NaN in the weights') : undefined;
  car.hint(1);
  await car.done(1);
  car.hint(2);
  expect(await car.done(2)).toEqual({
    observedGeneration: 2,
    active: { name: 'anomaly', version: '1' },
    phase: 'failed',
    error: { code: 'MODEL_INVALID', message: 'NaN in the weights' },
  });
  car.hint(2);
  await car.updater.settled();
  expect(car.updater.counts).toMatchObject({ installed: 1, failed: 1 });
  await car.updater.stop();
  const again = await world.car({ dir, rootPath, url });
  expect(again.active?.version).toBe('1');
});

test('the installed model is there after a restart without any network', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  const dir = world.dir();
  const car = await world.car({ dir, rootPath, url });
  car.hint(1);
  await car.done(1);
  await car.updater.stop();
  const again = await world.car({ dir, rootPath, url: 'http://127.0.0.1:1' });
  expect(again.installed).toEqual(car.installed);
  expect(again.last).toMatchObject({ observedGeneration: 1, active: { version: '1' }, phase: 'idle' });
});

test('a damaged model gives way to the one before, is reported, and is fetched again', async () => {
  const registry = await world.registry();
  await publish(registry.url, testModel('1'));
  await publish(registry.url, testModel('2'));
  const dir = world.dir();
  const options = { dir, rootPath: registry.rootPath };
  const car = await world.car({ ...options, url: registry.url });
  car.hint(1);
  await car.done(1);
  car.hint(2);
  await car.done(2);
  await car.updater.stop();
  const models = join(dir, 'models');
  expect(readdirSync(models)).toHaveLength(3); // the pointer and two models
  const broken = JSON.stringify({ version: '2' }).slice(1, -1);
  const folder = readdirSync(models).find((name) => name !== 'current.json' && holds(models, name, broken));
  truncateSync(join(models, folder ?? '', 'weights.bin'), 10);

  const offline = await world.car({ ...options, url: 'http://127.0.0.1:1' });
  expect(offline.last).toMatchObject({
    active: { version: '1' },
    phase: 'failed',
    error: { code: 'MODEL_INVALID' },
  });
  await offline.updater.stop();
  const online = await world.car({ ...options, url: registry.url, polls: true });
  expect(await online.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle', error: null });
});

test('an installed model that no longer loads gives way to the one before, and is not tried over and over', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  await publish(url, testModel('2'));
  const dir = world.dir();
  const car = await world.car({ dir, rootPath, url });
  car.hint(1);
  await car.done(1);
  car.hint(2);
  await car.done(2);
  await car.updater.stop();
  const refuse = ({ ref }: { ref: { version: string } }) =>
    ref.version === '2' ? new Error('self-test failed') : undefined;
  const again = await world.car({ dir, rootPath, url, refuse });
  const failed = {
    active: { version: '1' },
    phase: 'failed',
    error: { code: 'MODEL_INVALID', message: 'self-test failed' },
  };
  expect(again.last).toMatchObject(failed);
  again.hint(2);
  expect(await again.done(2)).toMatchObject(failed);
  again.hint(2);
  await again.updater.settled();
  expect(again.waits).toEqual([]);
  expect(again.installed.map(({ ref }) => ref.version)).toEqual(['1']);
});

test('a damaged pointer file is reported, and the model is fetched again', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  const dir = world.dir();
  const car = await world.car({ dir, rootPath, url });
  car.hint(1);
  await car.done(1);
  await car.updater.stop();
  writeFileSync(join(dir, 'models', 'current.json'), '{"current":');
  const again = await world.car({ dir, rootPath, url, polls: true });
  expect(again.reports[0]).toMatchObject({ active: null, phase: 'failed', error: { code: 'MODEL_INVALID' } });
  expect(await again.done(1)).toMatchObject({ active: { version: '1' }, phase: 'idle' });
});

test('while the registry is away it tries again, ever more rarely up to five minutes', async () => {
  const { url, rootPath } = await world.registry();
  await publish(url, testModel('1'));
  const middle = await world.middle(() => url);
  middle.attack = (_path, response) => (response.writeHead(503).end(), true);
  const car = await world.car({ dir: world.dir(), rootPath, url: middle.url, retries: 10 });
  car.hint(1);
  await car.reported(() => car.waits.length === 11);
  expect(car.waits.map((ms) => ms / 1000)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
  expect(car.last).toMatchObject({ phase: 'failed', error: { code: 'HTTP_STATUS' } });
  // A newer hint does not wait.
  await publish(url, testModel('2'));
  middle.attack = () => false;
  car.hint(2);
  expect(await car.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
});

test('a registry that was restarted goes on where it was', async () => {
  const dir = world.dir();
  const first = await world.registry({ dir });
  let url = first.url;
  const middle = await world.middle(() => url);
  await publish(first.url, testModel('1'));
  const car = await world.car({ dir: world.dir(), rootPath: first.rootPath, url: middle.url });
  car.hint(1);
  await car.done(1);
  await first.close();
  const second = await world.registry({ dir });
  url = second.url;
  await publish(second.url, testModel('2'));
  car.hint(2);
  expect(await car.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
});

function holds(models: string, folder: string, text: string): boolean {
  return readFileSync(join(models, folder, 'manifest.json'), 'utf8').includes(text);
}
