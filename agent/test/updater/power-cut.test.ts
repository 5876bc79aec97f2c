import { cpSync, existsSync, truncateSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { join, relative } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { publish, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import { World, type Car } from './car-fixture.ts';

/*
 * What is on the disk just before each file operation of an installation is what a kill at that moment leaves. A power
 * cut also takes what was written and not flushed yet: `lost` are the same folders without these bytes.
 */

const fs = createRequire(import.meta.url)('node:fs/promises') as Record<string, unknown> & {
  open: (path: string, flags?: string) => Promise<FileHandle>;
  rename: (from: string, to: string) => Promise<void>;
};
const WRITING = ['write', 'writeFile', 'appendFile', 'writev', 'truncate'] as const;
type AnyMethod = (...args: unknown[]) => unknown;

const world = new World();
const undo: (() => void)[] = [];
afterEach(async () => {
  stopCopying();
  await world.close();
});

function stopCopying(): void {
  for (const restore of undo.splice(0).reverse()) restore();
  syncBuiltinESMExports();
}

function replace(object: object, name: string, change: (original: AnyMethod) => AnyMethod): void {
  const methods = object as Record<string, AnyMethod>;
  const original = methods[name]!;
  methods[name] = change(original);
  undo.push(() => (methods[name] = original));
}

/** From now on copies the folder before each file operation; returns the copies. */
async function copyAtEachStep(dir: string): Promise<{ killed: string[]; lost: string[] }> {
  const copies = { killed: [] as string[], lost: [] as string[] };
  const paths = new WeakMap<object, string>();
  const unflushed = new Set<string>();
  const into = world.dir();
  const copy = () => {
    const to = join(into, String(copies.killed.length));
    cpSync(dir, join(to, 'killed'), { recursive: true });
    cpSync(dir, join(to, 'lost'), { recursive: true });
    for (const path of unflushed) {
      const there = join(to, 'lost', relative(dir, path));
      if (existsSync(there)) truncateSync(there);
    }
    copies.killed.push(join(to, 'killed'));
    copies.lost.push(join(to, 'lost'));
  };

  const probe = await fs.open(join(into, 'probe'), 'w');
  const handles = Object.getPrototypeOf(probe) as object;
  await probe.close();
  for (const name of WRITING)
    replace(
      handles,
      name,
      (original) =>
        function (this: object, ...args: unknown[]) {
          copy();
          const path = paths.get(this);
          if (path !== undefined) unflushed.add(path);
          return original.apply(this, args);
        },
    );
  replace(
    handles,
    'sync',
    (original) =>
      async function (this: object, ...args: unknown[]) {
        copy();
        await original.apply(this, args);
        unflushed.delete(paths.get(this) ?? '');
      },
  );
  replace(fs, 'open', (original) => async (...args) => {
    if (args[1] !== undefined && args[1] !== 'r') copy();
    const handle = (await original(...args)) as object;
    paths.set(handle, String(args[0]));
    return handle;
  });
  replace(fs, 'rename', (original) => async (...args) => {
    copy();
    await original(...args);
    const [from, to] = args.map(String) as [string, string];
    for (const path of [...unflushed])
      if (path === from || path.startsWith(`${from}/`)) {
        unflushed.delete(path);
        unflushed.add(to + path.slice(from.length));
      }
  });
  for (const name of ['mkdir', 'rm', 'unlink', 'writeFile'])
    replace(fs, name, (original) => (...args) => {
      copy();
      return original(...args);
    });
  syncBuiltinESMExports();
  return copies;
}

const versions = (car: Car) => car.installed.map(({ ref }) => ref.version);

test('whenever the power goes in an installation, the car starts with the old model or the new one, and ends with the new one', async () => {
  const registry = await world.registry();
  const { rootPath, url } = registry;
  const car = await world.car({ dir: join(world.dir(), 'car'), rootPath, url, bootId: 'boot-1' });
  await publish(url, testModel('1'));
  car.hint(1);
  await car.done(1);
  car.updater.modelIsGood(car.installed[0]!.address);
  await car.updater.settled();
  await publish(url, testModel('2'));

  const { killed, lost } = await copyAtEachStep(car.dir);
  car.hint(2);
  expect(await car.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle' });
  car.updater.modelIsCalm(car.installed[1]!.address);
  car.updater.modelIsGood(car.installed[1]!.address);
  await car.updater.settled();
  stopCopying();
  await car.updater.stop();
  // Metadata, the three files, their folder, the trial, the pointer: each is written, flushed and renamed.
  expect(killed.length).toBeGreaterThan(30);

  const begunWith: string[] = [];
  for (const dir of [...killed, ...lost]) {
    // Without a network: nothing listens on port 1.
    const alone = await world.car({ dir, rootPath, url: 'http://127.0.0.1:1', bootId: 'boot-2' });
    expect(alone.stopped).toEqual([]);
    expect(alone.last).toMatchObject({ phase: 'idle', error: null });
    begunWith.push(versions(alone).join());
    await alone.updater.stop();

    const again = await world.car({ dir, rootPath, url, bootId: 'boot-3' });
    again.hint(2);
    expect(await again.done(2)).toMatchObject({ active: { version: '2' }, phase: 'idle', error: null });
    await again.updater.stop();
  }
  // The old one at first, the new one from the moment that the pointer has its name.
  for (const half of [begunWith.slice(0, killed.length), begunWith.slice(killed.length)]) {
    expect(half[0]).toBe('1');
    expect(half.at(-1)).toBe('2');
    expect(half.toSorted()).toEqual(half);
  }
});

test('whenever the power goes while a model is given up, the car starts with one of the two', async () => {
  const registry = await world.registry();
  const { rootPath, url } = registry;
  const car = await world.car({ dir: join(world.dir(), 'car'), rootPath, url, bootId: 'boot-1' });
  for (const version of ['1', '2']) {
    await publish(url, testModel(version));
    car.hint(Number(version));
    await car.done(Number(version));
    car.updater.modelIsGood(car.installed.at(-1)!.address);
    await car.updater.settled();
  }
  const [first, second] = car.installed;
  const { killed, lost } = await copyAtEachStep(car.dir);
  const problem = { code: 'MODEL_NOT_FINITE', message: 'NaN' } as const;
  car.updater.modelStopped(second!.address, problem, first!.address);
  await car.updater.settled();
  stopCopying();
  await car.updater.stop();
  for (const dir of [...killed, ...lost, car.dir]) {
    const alone = await world.car({ dir, rootPath, url: 'http://127.0.0.1:1', bootId: 'boot-2' });
    expect(['1', '2']).toContain(versions(alone).join());
    if (dir === car.dir) expect(versions(alone)).toEqual(['1']);
    await alone.updater.stop();
  }
});
