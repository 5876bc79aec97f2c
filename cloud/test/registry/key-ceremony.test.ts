import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Metadata, Root, Targets } from '@tufjs/models';
import { afterEach, expect, test } from 'vitest';
import { World } from '../../../agent/test/updater/car-fixture.ts';
import { initTrust, readInForce, rotate, signFile } from '../../src/registry/key-ceremony.ts';
import { KeyFolder, keysByRole, publicKeyFrom, publicPem } from '../../src/registry/tuf-keys.ts';
import { holdMetadata, rootWith } from '../../src/registry/tuf-metadata.ts';
import type { Waiting } from '../../src/registry/tuf-repository.ts';
import { TUF_ROLES, type TufRole } from '../../src/registry/tuf-roles.ts';
import { RegistryClient } from '../../src/registry-client.ts';
import { COLUMNS, publish, testModel } from './model-fixture.ts';
import type { TestRegistry } from './registry-fixture.ts';

/**
 * Ceremonies with keys in the folders of two people, Ben and Anna, on a real registry; and a car that must be able to follow
 * each of them with nothing but the root of the factory.
 */

const world = new World();
afterEach(() => world.close());
const clock = Date.now;

class Person {
  readonly keys: KeyFolder;

  constructor(dir: string, passphrase?: string) {
    this.keys = new KeyFolder(dir, passphrase);
  }

  /** Signs what waits with the keys of this person, as long as there is something. */
  async signs(client: RegistryClient): Promise<string[]> {
    const done: string[] = [];
    for (;;) {
      const mine = await this.keys.load();
      const next = (await client.waiting()).find(({ missing }) =>
        mine.some(({ publicKey }) => missing.includes(publicKey.keyID)),
      );
      if (next === undefined) return done;
      await this.signsFile(client, next);
      done.push(next.file);
    }
  }

  async signsFile(client: RegistryClient, { file }: Pick<Waiting, 'file'>): Promise<void> {
    const { held } = await signFile(file, await client.waitingFile(file), this.keys);
    await client.bringSignatures(file, held.bytes);
  }
}

interface Scene {
  registry: TestRegistry;
  client: RegistryClient;
  ben: Person;
  anna: Person;
  serviceKeys: KeyFolder;
}

/** A registry with snapshot and timestamp keys only. Ben has root, root-3, targets and the first keys, Anna the second ones. */
async function scene(options: { clock?: () => number } = {}): Promise<Scene> {
  const dir = world.dir();
  const [ben, anna] = [new Person(join(dir, 'ben')), new Person(join(dir, 'anna'))];
  const given = new Map<string, ReturnType<typeof publicKeyFrom>>();
  for (const name of ['root-2', 'models-2', 'campaigns-2']) {
    const { publicKey } = await anna.keys.make(name);
    given.set(name, publicKeyFrom(publicPem(publicKey), name));
  }
  const files = await initTrust({ keys: ben.keys, given, registryDir: join(dir, 'registry'), clock });
  expect(files.map(({ signatures, threshold }) => `${signatures} of ${threshold}`)).toEqual([
    '2 of 2',
    '1 of 1',
    '1 of 2',
    '1 of 2',
  ]);
  const registry = await world.registry({ dir, ...options });
  const serviceKeys = new KeyFolder(join(dir, 'registry', 'keys'));
  return { registry, client: new RegistryClient(registry.url), ben, anna, serviceKeys };
}

async function carOf({ registry }: Scene, polls = true) {
  const { rootPath, url } = registry;
  return world.car({ dir: world.dir(), rootPath, url, polls });
}

async function waitingFor(client: RegistryClient): Promise<string[]> {
  return (await client.waiting()).map(
    ({ file, signatures, threshold }) => `${file} ${signatures}/${threshold}`,
  );
}

test('a model reaches a car when two people have signed it, and not before', async () => {
  const it = await scene();
  expect(await waitingFor(it.client)).toEqual(['1.models.json 1/2', '1.campaigns.json 1/2']);
  expect(await it.anna.signs(it.client)).toEqual(['1.models.json', '1.campaigns.json']);

  await publish(it.registry.url, testModel('1'));
  expect(await waitingFor(it.client)).toEqual(['2.models.json 0/2']);
  const desired = async () =>
    (await (
      await fetch(`${it.registry.url}/v1/vehicles/car-1/desired?signalSet=${COLUMNS.id}`)
    ).json()) as object;
  expect(await desired()).toMatchObject({ active: null });
  await it.ben.signs(it.client);
  expect(await waitingFor(it.client)).toEqual(['2.models.json 1/2']);
  expect(await desired()).toMatchObject({ active: null });
  await it.anna.signs(it.client);
  expect(await waitingFor(it.client)).toEqual([]);
  expect(await desired()).toMatchObject({ active: { name: 'anomaly', version: '1' } });

  const car = await carOf(it);
  expect(await car.reported(({ active }) => active?.version === '1')).toMatchObject({
    phase: 'idle',
    error: null,
  });
});

test('what waits outlives a restart, and a newer publication takes its place', async () => {
  const it = await scene();
  await it.anna.signs(it.client);
  await publish(it.registry.url, testModel('1'));
  const [{ file = '' } = {}] = await it.client.waiting();
  await it.ben.signs(it.client);
  const old = (await signFile(file, await it.client.waitingFile(file), it.anna.keys)).held;
  await it.registry.close();
  const again = await world.registry({ dir: it.registry.dir });
  const client = new RegistryClient(again.url);
  expect(await waitingFor(client)).toEqual(['2.models.json 1/2']);
  await publish(again.url, testModel('2'));
  expect(await waitingFor(client)).toEqual(['2.models.json 0/2']);
  await expect(client.bringSignatures(file, old.bytes)).rejects.toThrow('SIGNING_UNKNOWN');
});

const ROTATIONS: Record<TufRole, 'root' | 'targets'> = {
  root: 'root',
  targets: 'root',
  snapshot: 'root',
  timestamp: 'root',
  models: 'targets',
  campaigns: 'targets',
};

for (const role of TUF_ROLES)
  test(`the keys of ${role} are rotated, and a car follows`, async () => {
    const it = await scene();
    await it.anna.signs(it.client);
    await publish(it.registry.url, testModel('1'));
    await it.ben.signs(it.client);
    await it.anna.signs(it.client);
    const car = await carOf(it, false);
    car.hint(1);
    expect(await car.done(1)).toMatchObject({ active: { version: '1' }, error: null });

    const inForce = await readInForce((file) => it.client.metadata(file));
    const isOnline = role === 'snapshot' || role === 'timestamp';
    const folder = isOnline ? it.serviceKeys : it.ben.keys;
    const { file, held } = await rotate({
      role,
      inForce,
      drop: [],
      given: [],
      keys: it.ben.keys,
      folder,
      clock,
    });
    expect(file).toBe(`2.${ROTATIONS[role]}.json`);
    await it.client.bringSignatures(file, held.bytes);
    await it.ben.signs(it.client);
    await it.anna.signs(it.client);
    expect(await waitingFor(it.client)).toEqual([]);
    const after = await readInForce((name) => it.client.metadata(name));
    expect(after[ROTATIONS[role]].metadata.signed.version).toBe(2);

    await publish(it.registry.url, testModel('2'));
    await it.ben.signs(it.client);
    await it.anna.signs(it.client);
    car.hint(2);
    expect(await car.done(2)).toMatchObject({ active: { version: '2' }, error: null });
  });

test('one of three root keys is lost: the other two replace it', async () => {
  const it = await scene();
  await it.anna.signs(it.client);
  const inForce = await readInForce((file) => it.client.metadata(file));
  const lost = (await it.ben.keys.load()).find(({ name }) => name === 'root-3')!.publicKey.keyID;
  rmSync(join(it.ben.keys.dir, 'root-3.pem'));
  const { keys } = it.ben;
  const { file, held, made } = await rotate({
    role: 'root',
    inForce,
    drop: [lost],
    given: [],
    keys,
    folder: keys,
    clock,
  });
  // Ben alone has one of the old ones; the new one that he has made is none of them.
  await it.client.bringSignatures(file, held.bytes);
  expect(await it.client.metadata('2.root.json')).toBeUndefined();
  await it.anna.signs(it.client);
  const { root } = await readInForce((name) => it.client.metadata(name));
  const ids = root.metadata.signed.roles.root!.keyIDs;
  expect(ids).toHaveLength(3);
  expect(ids).toContain(made[0]!.publicKey.keyID);
  expect(ids).not.toContain(lost);
});

test('an online key is lost: the service does not start, until the root names another one', async () => {
  const it = await scene();
  await it.anna.signs(it.client);
  const inForce = await readInForce((file) => it.client.metadata(file));
  await it.registry.close();
  const { dir } = it.registry;
  renameSync(join(dir, 'registry', 'keys', 'snapshot.pem'), join(dir, 'lost'));
  await expect(world.registry({ dir })).rejects.toMatchObject({ code: 'TUF_SIGNATURE' });
  const { file, held } = await rotate({
    role: 'snapshot',
    inForce,
    drop: [],
    given: [],
    keys: it.ben.keys,
    folder: it.serviceKeys,
    clock,
  });
  writeFileSync(join(dir, 'registry', 'tuf', file), held.bytes);
  const again = await world.registry({ dir });
  const { root } = await readInForce((name) => new RegistryClient(again.url).metadata(name));
  expect(root.metadata.signed.version).toBe(2);
});

test('a stolen key of models signs nothing alone, and nothing at all once it is replaced', async () => {
  const it = await scene();
  await it.anna.signs(it.client);
  await publish(it.registry.url, testModel('1'));
  const stolen = (await it.anna.keys.load()).find(({ name }) => name === 'models-2')!;
  // The thief has one of two.
  await it.client.bringSignatures(
    '2.models.json',
    (await signFile('2.models.json', await it.client.waitingFile('2.models.json'), it.anna.keys)).held.bytes,
  );
  expect(await it.client.metadata('2.models.json')).toBeUndefined();

  const inForce = await readInForce((file) => it.client.metadata(file));
  const { keys } = it.ben;
  const { file, held } = await rotate({
    role: 'models',
    inForce,
    drop: [stolen.publicKey.keyID],
    given: [],
    keys,
    folder: keys,
    clock,
  });
  await it.client.bringSignatures(file, held.bytes);
  // Ben has both of those that are in force now.
  await it.ben.signs(it.client);
  expect(await waitingFor(it.client)).toEqual([]);
  expect(await it.client.metadata('2.models.json')).toBeDefined();
  await publish(it.registry.url, testModel('2'));
  const thief = await signFile('3.models.json', await it.client.waitingFile('3.models.json'), it.anna.keys);
  await expect(it.client.bringSignatures('3.models.json', thief.held.bytes)).rejects.toThrow(
    'SIGNATURE_REFUSED',
  );
});

test('a stranger cannot propose a root, nor one with a version that is not the next', async () => {
  const it = await scene();
  const stranger = new Person(world.dir());
  await stranger.keys.makeMissing();
  const all = await stranger.keys.load();
  const propose = (version: number, by = all) => {
    const common = { specVersion: '1.0.31', version, expires: '2099-01-01T00:00:00Z' };
    const metadata = new Metadata(rootWith(common, keysByRole(all)));
    for (const key of by) metadata.sign((bytes) => key.sign(bytes));
    return it.client.bringSignatures(`${version}.root.json`, holdMetadata(metadata as never).bytes);
  };
  await expect(propose(2)).rejects.toThrow('SIGNATURE_REFUSED');
  await expect(propose(3, [...all, ...(await it.ben.keys.load())])).rejects.toThrow('its version must be 2');
  expect((await it.client.waiting()).map(({ role }) => role)).toEqual(['models', 'campaigns']);
});

test('a registry that had one key per role moves on by itself, and its cars follow', async () => {
  const dir = world.dir();
  const tuf = join(dir, 'registry', 'tuf');
  mkdirSync(tuf, { recursive: true });
  // As the first version wrote it: 1.root.json with four keys, all targets in targets.json.
  const keys = new KeyFolder(join(dir, 'registry', 'keys'));
  const expires = new Date(Math.floor(Date.now() / 1000) * 1000 + 300 * 86_400_000)
    .toISOString()
    .replace('.000Z', 'Z');
  const common = { specVersion: '1.0.31', version: 1, expires };
  const root = new Root({ ...common, consistentSnapshot: true });
  for (const role of ['root', 'targets', 'snapshot', 'timestamp'] as const)
    root.addKey((await keys.make(role)).publicKey, role);
  const write = async (name: string, metadata: Metadata<Root> | Metadata<Targets>, role: string) => {
    const key = (await keys.load()).find((one) => one.name === role)!;
    metadata.sign((bytes) => key.sign(bytes));
    writeFileSync(join(tuf, name), JSON.stringify(metadata.toJSON()));
  };
  await write('1.root.json', new Metadata(root), 'root');
  await write('1.targets.json', new Metadata(new Targets(common)), 'targets');

  const registry = await world.registry({ dir });
  await publish(registry.url, testModel('1'));
  const car = await world.car({
    dir: world.dir(),
    rootPath: registry.rootPath,
    url: registry.url,
    polls: true,
  });
  expect(await car.reported(({ active }) => active?.version === '1')).toMatchObject({ error: null });
  const moved = await readInForce((file) => new RegistryClient(registry.url).metadata(file));
  expect(moved.root.metadata.signed).toMatchObject({ version: 2 });
  expect(moved.root.metadata.signed.roles.root).toMatchObject({ threshold: 2 });
  expect(Object.keys(moved.targets.metadata.signed.delegations?.roles ?? {})).toEqual([
    'models',
    'campaigns',
  ]);
  expect(registry.problems.filter((problem) => !String(problem).includes('MQTT'))).toEqual([]);
});

test('keys can be encrypted, are for their owner only, and never overwritten', async () => {
  const dir = world.dir();
  const folder = new KeyFolder(dir, 'correct horse');
  await folder.make('models');
  expect(readFileSync(join(dir, 'models.pem'), 'utf8')).toContain('BEGIN ENCRYPTED PRIVATE KEY');
  expect(statSync(join(dir, 'models.pem')).mode & 0o777).toBe(0o600);
  expect(await new KeyFolder(dir, 'correct horse').load()).toHaveLength(1);
  for (const wrong of [undefined, 'wrong'])
    await expect(new KeyFolder(dir, wrong).load()).rejects.toMatchObject({ code: 'KEY_INVALID' });
  await expect(folder.make('models')).rejects.toMatchObject({ code: 'USAGE' });
  writeFileSync(join(dir, 'other.pem'), 'no key');
  await expect(folder.load()).rejects.toMatchObject({ code: 'KEY_INVALID' });
});

test('signatures and snapshot are renewed by the service alone while other keys are away', async () => {
  let now = Date.now();
  const it = await scene({ clock: () => now });
  await it.anna.signs(it.client);
  const version = async () =>
    (JSON.parse((await it.client.metadata('timestamp.json'))!.toString()) as { signed: { version: number } })
      .signed.version;
  const before = await version();
  await it.registry.close();
  now += 86_400_000;
  const again = await world.registry({ dir: it.registry.dir, clock: () => now });
  const client = new RegistryClient(again.url);
  const after = JSON.parse((await client.metadata('timestamp.json'))!.toString()) as {
    signed: { version: number; issued: string };
  };
  expect(after.signed.version).toBe(before + 1);
  expect(Date.parse(after.signed.issued)).toBe(Math.floor(now / 1000) * 1000);
  expect(await waitingFor(client)).toEqual([]);
});
