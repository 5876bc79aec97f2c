import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { canonicalize } from '@tufjs/canonical-json';
import { afterEach, expect, test } from 'vitest';
import { publish, sha256, type TestModel, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import type { TestRegistry } from '../../../cloud/test/registry/registry-fixture.ts';
import { readInForce, rotate } from '../../../cloud/src/registry/key-ceremony.ts';
import { KeyFolder } from '../../../cloud/src/registry/tuf-keys.ts';
import { RegistryClient } from '../../../cloud/src/registry-client.ts';
import { type Attack, type Car, type Middle, World } from './car-fixture.ts';

/**
 * Attacks of the TUF specification (1.5.2) on the real updater, over real HTTP. In each the car must stay on the
 * model that it has, say why, and take the next good one once the attack is over.
 */

const world = new World();
afterEach(() => world.close());

interface Scene {
  registry: TestRegistry;
  middle: Middle;
  car: Car;
  model: TestModel;
}

/** A car on version 1, and version 2 published behind somebody in the middle. */
async function scene(
  options: { clock?: () => number; before2?: (scene: Omit<Scene, 'model'>) => void } = {},
): Promise<Scene> {
  const registry = await world.registry();
  const middle = await world.middle(() => registry.url);
  await publish(registry.url, testModel('1'));
  const { rootPath } = registry;
  const clock = options.clock ?? Date.now;
  const car = await world.car({ dir: world.dir(), rootPath, url: middle.url, clock });
  car.hint(1);
  await car.done(1);
  options.before2?.({ registry, middle, car });
  const model = testModel('2');
  await publish(registry.url, model);
  return { registry, middle, car, model };
}

async function refuses({ car, middle }: Pick<Scene, 'car' | 'middle'>, code: string): Promise<void> {
  car.hint(2);
  expect(await car.done(2)).toMatchObject({ active: { version: '1' }, phase: 'failed', error: { code } });
  expect(car.installed.map(({ ref }) => ref.version)).toEqual(['1']);
  expect(car.waits).toEqual([1000]);
  middle.attack = () => false;
}

async function recovers({ car, registry }: Pick<Scene, 'car' | 'registry'>): Promise<void> {
  await publish(registry.url, testModel('3'));
  car.hint(3);
  expect(await car.done(3)).toMatchObject({ active: { version: '3' }, phase: 'idle', error: null });
}

async function recovers4({ car, middle, registry }: Scene): Promise<void> {
  middle.attack = () => false;
  await publish(registry.url, testModel('4'));
  car.hint(4);
  expect(await car.done(4)).toMatchObject({ active: { version: '4' }, phase: 'idle', error: null });
}

function answer(on: (path: string) => boolean, body: (path: string) => Uint8Array | string): Attack {
  return (path, response) => {
    if (!on(path)) return false;
    response.writeHead(200).end(body(path));
    return true;
  };
}
const target = (file: string) => (path: string) => path.includes('/targets/') && path.endsWith(file);
const metadata = (file: string) => (path: string) => path.endsWith(`/tuf/${file}`);

interface Json {
  signatures: { keyid: string; sig: string }[];
  signed: Record<string, unknown> & { version: number; meta: Record<string, Record<string, unknown>> };
}
function read(registry: TestRegistry, file: string): Json {
  return JSON.parse(readFileSync(join(registry.dir, 'registry', 'tuf', file), 'utf8')) as Json;
}
function newest(registry: TestRegistry, role: string): string {
  const numbers = readdirSync(join(registry.dir, 'registry', 'tuf'))
    .filter((name) => name.endsWith(`.${role}.json`))
    .map((name) => Number.parseInt(name));
  return `${Math.max(...numbers)}.${role}.json`;
}
function keyOf(registry: TestRegistry, role: string): KeyObject {
  return createPrivateKey(readFileSync(join(registry.dir, 'registry', 'keys', `${role}.pem`)));
}
function keyIdOf(key: KeyObject): string {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const keyval = { public: spki.subarray(12).toString('hex') };
  return sha256(Buffer.from(canonicalize({ keytype: 'ed25519', scheme: 'ed25519', keyval })));
}
/** Signed with any keys; those of strangers under the key ids that stand there. */
function signed({ signatures, signed: content }: Json, ...keys: KeyObject[]): string {
  const known = new Set(signatures.map(({ keyid }) => keyid));
  return JSON.stringify({
    signatures: keys.map((key, i) => ({
      keyid: known.has(keyIdOf(key)) ? keyIdOf(key) : signatures[i]?.keyid,
      sig: sign(null, Buffer.from(canonicalize(content)), key).toString('hex'),
    })),
    signed: content,
  });
}
const ROOT_KEYS = ['root', 'root-2'];

test('arbitrary software: a target with one changed byte', async () => {
  const it = await scene();
  const tampered = Buffer.from(it.model.weightsBytes);
  tampered[100] = (tampered[100] ?? 0) ^ 1;
  it.middle.attack = answer(target('weights.bin'), () => tampered);
  await refuses(it, 'TUF_HASH');
  await recovers(it);
});

test('a truncated target', async () => {
  const it = await scene();
  it.middle.attack = answer(target('weights.bin'), () => it.model.weightsBytes.subarray(0, 5000));
  await refuses(it, 'TUF_HASH');
  await recovers(it);
});

test('a connection that is cut in the middle of a target', async () => {
  const it = await scene();
  it.middle.attack = (path, response) => {
    if (!target('weights.bin')(path)) return false;
    response.writeHead(200, { 'content-length': it.model.weightsBytes.length });
    response.write(it.model.weightsBytes.subarray(0, 5000), () => response.destroy());
    return true;
  };
  await refuses(it, 'HTTP_UNREACHABLE');
  await recovers(it);
});

test('a download that was cut goes on where it was, also after a restart of the agent; a wrong beginning goes', async () => {
  for (const damaged of [false, true]) {
    const it = await scene();
    const bytes = it.model.weightsBytes;
    it.middle.attack = (path, response) => {
      if (!target('weights.bin')(path)) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 5000), () => response.destroy());
      return true;
    };
    it.car.hint(2);
    expect(await it.car.done(2)).toMatchObject({ error: { code: 'HTTP_UNREACHABLE' } });
    await it.car.updater.stop();
    const partial = join(it.car.dir, 'metadata', 'partial', sha256(bytes));
    if (damaged) writeFileSync(partial, readFileSync(partial).fill(0));

    const ranges: (string | undefined)[] = [];
    it.middle.attack = (path, response) => {
      if (!target('weights.bin')(path)) return false;
      const { range } = response.req.headers;
      ranges.push(range);
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
      const headers = { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
      response.writeHead(from > 0 ? 206 : 200, from > 0 ? headers : {}).end(bytes.subarray(from));
      return true;
    };
    const { rootPath } = it.registry;
    const again = await world.car({ dir: it.car.dir, rootPath, url: it.middle.url });
    again.hint(3, '2');
    expect(await again.done(3)).toMatchObject({ active: { version: '2' }, error: null });
    expect(ranges).toEqual(damaged ? ['bytes=5000-', undefined] : ['bytes=5000-']);
    expect(readdirSync(join(it.car.dir, 'metadata', 'partial'))).toEqual([]);
  }
});

/** Sends until the other side hangs up; resolves to the bytes that went out. */
function endless(response: ServerResponse): Promise<number> {
  response.writeHead(200);
  let bytes = 0;
  const chunk = Buffer.alloc(1 << 14, 'x');
  const more = () => {
    while (!response.destroyed && response.write(chunk)) bytes += chunk.length;
    if (!response.destroyed) response.once('drain', more);
  };
  return new Promise((resolve) => {
    response.on('close', () => resolve(bytes));
    more();
  });
}

for (const [name, on] of [
  ['target', target('weights.bin')],
  ['timestamp', metadata('timestamp.json')],
  ['root', metadata('2.root.json')],
] as const)
  test(`endless data: a ${name} that never ends is broken off`, async () => {
    const it = await scene();
    let sent: Promise<number> | undefined;
    it.middle.attack = (path, response) => {
      if (!on(path)) return false;
      sent = endless(response);
      return true;
    };
    await refuses(it, 'TUF_HASH');
    // What is over the limit of half a megabyte sits in the buffers of the sockets.
    expect(await sent).toBeLessThan(16_000_000);
    await recovers(it);
  });

test('slow retrieval: a byte now and then does not hold the car', async () => {
  const it = await scene();
  it.middle.attack = (path, response) => {
    if (!target('weights.bin')(path)) return false;
    response.writeHead(200);
    const drip = setInterval(() => response.write('x'), 20);
    response.on('close', () => clearInterval(drip));
    return true;
  };
  await refuses(it, 'HTTP_UNREACHABLE');
  await recovers(it);
});

test('a server that accepts and never answers', async () => {
  const it = await scene();
  it.middle.attack = (path) => metadata('timestamp.json')(path);
  await refuses(it, 'HTTP_UNREACHABLE');
  await recovers(it);
});

for (const role of ['timestamp', 'snapshot', 'targets', 'models'] as const)
  test(`arbitrary software: ${role} metadata signed with a key that is not the role's`, async () => {
    const it = await scene();
    const stranger = generateKeyPairSync('ed25519').privateKey;
    if (role === 'timestamp') {
      const forged = signed(read(it.registry, 'timestamp.json'), stranger);
      it.middle.attack = answer(metadata('timestamp.json'), () => forged);
    } else {
      // Whoever names the file is under the attacker's control, or its hash would already give it away.
      const file = newest(it.registry, role);
      const honest = read(it.registry, file);
      const forged = signed(honest, ...honest.signatures.map(() => stranger));
      const { attack } = forgeChain(it.registry, { [file]: forged });
      it.middle.attack = attack;
    }
    await refuses(it, 'TUF_SIGNATURE');
    await recovers(it);
  });

test('arbitrary software: one online key is not good for another role', async () => {
  const it = await scene();
  const forged = signed(read(it.registry, 'timestamp.json'), keyOf(it.registry, 'snapshot'));
  it.middle.attack = answer(metadata('timestamp.json'), () => forged);
  await refuses(it, 'TUF_SIGNATURE');
  await recovers(it);
});

test('arbitrary software: a new root by strangers, signed as it asks itself, but not by the old one', async () => {
  const it = await scene();
  const stranger = generateKeyPairSync('ed25519');
  const root = read(it.registry, '1.root.json');
  root.signed.version = 2;
  const [{ keyid = '' } = {}] = root.signatures;
  const spki = stranger.publicKey.export({ type: 'spki', format: 'der' });
  const keyval = { public: spki.subarray(12).toString('hex') };
  root.signed.keys = {
    ...(root.signed.keys as object),
    [keyid]: { keytype: 'ed25519', scheme: 'ed25519', keyval },
  };
  root.signed.roles = { ...(root.signed.roles as object), root: { keyids: [keyid], threshold: 1 } };
  const forged = signed(root, stranger.privateKey);
  it.middle.attack = answer(metadata('2.root.json'), () => forged);
  await refuses(it, 'TUF_SIGNATURE');
  await recovers(it);
});

test('arbitrary software: a new root that the old one has signed, but not the keys that it brings', async () => {
  const it = await scene();
  const root = read(it.registry, '1.root.json');
  root.signed.version = 2;
  const { keyids } = (root.signed.roles as { timestamp: { keyids: string[] } }).timestamp;
  root.signed.roles = { ...(root.signed.roles as object), root: { keyids, threshold: 1 } };
  const forged = signed(root, ...ROOT_KEYS.map((name) => keyOf(it.registry, name)));
  it.middle.attack = answer(metadata('2.root.json'), () => forged);
  await refuses(it, 'TUF_SIGNATURE');
  await recovers(it);
});

test('too few signatures: models signed by one of the two that must, and a root by one of its three', async () => {
  const it = await scene();
  const file = newest(it.registry, 'models');
  const forged = signed(read(it.registry, file), keyOf(it.registry, 'models'));
  it.middle.attack = forgeChain(it.registry, { [file]: forged }).attack;
  await refuses(it, 'TUF_SIGNATURE');

  const other = await scene();
  const root = read(other.registry, '1.root.json');
  root.signed.version = 2;
  const alone = signed(root, keyOf(other.registry, 'root'));
  other.middle.attack = answer(metadata('2.root.json'), () => alone);
  await refuses(other, 'TUF_SIGNATURE');
  await recovers(other);
});

test('delegation: the keys of campaigns are good for no model', async () => {
  const it = await scene();
  const file = newest(it.registry, 'campaigns');
  const campaigns = read(it.registry, file);
  campaigns.signed.targets = read(it.registry, newest(it.registry, 'models')).signed.targets;
  const models = read(it.registry, newest(it.registry, 'models'));
  models.signed.targets = {};
  const sign2 = (json: Json, role: string) =>
    signed(json, ...[role, `${role}-2`].map((name) => keyOf(it.registry, name)));
  it.middle.attack = forgeChain(it.registry, {
    [file]: sign2(campaigns, 'campaigns'),
    [newest(it.registry, 'models')]: sign2(models, 'models'),
  }).attack;
  await refuses(it, 'TUF_TARGET_UNKNOWN');

  const other = await scene();
  const models2 = newest(other.registry, 'models');
  const byCampaigns = ['campaigns', 'campaigns-2'].map((name) => keyOf(other.registry, name));
  const forged = signed(read(other.registry, models2), ...byCampaigns);
  other.middle.attack = forgeChain(other.registry, { [models2]: forged }).attack;
  await refuses(other, 'TUF_SIGNATURE');
});

test('freeze: models metadata that has expired, under a fresh timestamp', async () => {
  const it = await scene();
  const file = newest(it.registry, 'models');
  const models = read(it.registry, file);
  models.signed.expires = new Date(Date.now() - 60_000).toISOString().replace(/\.\d+Z$/, 'Z');
  const forged = signed(models, ...['models', 'models-2'].map((name) => keyOf(it.registry, name)));
  it.middle.attack = forgeChain(it.registry, { [file]: forged }).attack;
  await refuses(it, 'TUF_EXPIRED');
});

test('freeze: a clock at 1970 does not make old metadata new, neither before the agent was built nor after it has seen newer', async () => {
  const registry = await world.registry({ clock: () => Date.UTC(2024, 0, 1) });
  await publish(registry.url, testModel('1'));
  const { rootPath, url } = registry;
  const early = await world.car({ dir: world.dir(), rootPath, url, clock: () => 0 });
  early.hint(1);
  expect(await early.done(1)).toMatchObject({ active: null, error: { code: 'TUF_EXPIRED' } });

  const it = await scene({ clock: () => 0 });
  await seesMetadata(it);
  const issued = Date.parse(String(read(it.registry, 'timestamp.json').signed.issued));
  const timestamp = read(it.registry, 'timestamp.json');
  timestamp.signed.version += 1;
  // Not expired since the agent was built, but since the last timestamp.
  timestamp.signed.expires = new Date(issued - 1000).toISOString().replace(/\.\d+Z$/, 'Z');
  delete timestamp.signed.issued;
  const forged = signed(timestamp, keyOf(it.registry, 'timestamp'));
  it.middle.attack = answer(metadata('timestamp.json'), () => forged);
  it.car.hint(3);
  expect(await it.car.done(3)).toMatchObject({ active: { version: '1' }, error: { code: 'TUF_EXPIRED' } });
  await recovers4(it);
});

test('fast-forward: versions near the end are forgotten with the keys that have signed them', async () => {
  const it = await scene();
  const file = newest(it.registry, 'snapshot');
  const snapshot = read(it.registry, file);
  snapshot.signed.version = 2 ** 50;
  const forgedSnapshot = signed(snapshot, keyOf(it.registry, 'snapshot'));
  const timestamp = read(it.registry, 'timestamp.json');
  timestamp.signed.version = 2 ** 50;
  timestamp.signed.meta = { 'snapshot.json': { version: 2 ** 50 } };
  const forged = signed(timestamp, keyOf(it.registry, 'timestamp'));
  it.middle.attack = (path, response) =>
    answer(metadata('timestamp.json'), () => forged)(path, response) ||
    answer(metadata(`${2 ** 50}.snapshot.json`), () => forgedSnapshot)(path, response);
  it.car.hint(2);
  expect(await it.car.done(2)).toMatchObject({ active: { version: '2' }, error: null });
  it.middle.attack = () => false;
  await publish(it.registry.url, testModel('3'));
  it.car.hint(3);
  expect(await it.car.done(3)).toMatchObject({ active: { version: '2' }, error: { code: 'TUF_VERSION' } });

  const client = new RegistryClient(it.registry.url);
  const keys = new KeyFolder(join(it.registry.dir, 'registry', 'keys'));
  for (const role of ['timestamp', 'snapshot'] as const) {
    const inForce = await readInForce((name) => client.metadata(name));
    const next = await rotate({ role, inForce, drop: [], given: [], keys, folder: keys, clock: Date.now });
    await client.bringSignatures(next.file, next.held.bytes);
  }
  await recovers4(it);
});

test('rollback: the root of yesterday under the name of tomorrow', async () => {
  const it = await scene();
  const old = JSON.stringify(read(it.registry, '1.root.json'));
  it.middle.attack = answer(metadata('2.root.json'), () => old);
  await refuses(it, 'TUF_VERSION');
  await recovers(it);
});

/** Lets the car see the newest metadata, though not the model that it names. */
async function seesMetadata({ car, middle }: Scene): Promise<void> {
  middle.attack = (path, response) => target('weights.bin')(path) && (response.writeHead(503).end(), true);
  car.hint(2);
  expect(await car.done(2)).toMatchObject({ error: { code: 'HTTP_STATUS' } });
}

test('rollback: an older timestamp', async () => {
  let old = '';
  const it = await scene({
    before2: ({ registry }) => {
      old = JSON.stringify(read(registry, 'timestamp.json'));
    },
  });
  await seesMetadata(it);
  it.middle.attack = answer(metadata('timestamp.json'), () => old);
  it.car.hint(3);
  expect(await it.car.done(3)).toMatchObject({ active: { version: '1' }, error: { code: 'TUF_VERSION' } });
  await recovers4(it);
});

test('rollback: an older timestamp that names the same snapshot', async () => {
  const it = await scene();
  await seesMetadata(it);
  const timestamp = read(it.registry, 'timestamp.json');
  timestamp.signed.version -= 1;
  const forged = signed(timestamp, keyOf(it.registry, 'timestamp'));
  it.middle.attack = answer(metadata('timestamp.json'), () => forged);
  it.car.hint(3);
  expect(await it.car.done(3)).toMatchObject({ active: { version: '1' }, error: { code: 'TUF_VERSION' } });
});

test('rollback: a new timestamp that names an older snapshot', async () => {
  const it = await scene();
  const timestamp = read(it.registry, 'timestamp.json');
  timestamp.signed.version += 1;
  timestamp.signed.meta = { 'snapshot.json': { version: 1 } };
  const forged = signed(timestamp, keyOf(it.registry, 'timestamp'));
  it.middle.attack = answer(metadata('timestamp.json'), () => forged);
  await refuses(it, 'TUF_VERSION');
  await recovers(it);
});

test('rollback: a new snapshot that names older targets, or none', async () => {
  for (const older of [{ 'models.json': { version: 1 } }, { 'models.json': undefined }]) {
    const it = await scene();
    const file = newest(it.registry, 'snapshot');
    const snapshot = read(it.registry, file);
    snapshot.signed.meta = JSON.parse(
      JSON.stringify({ ...snapshot.signed.meta, ...older }),
    ) as Json['signed']['meta'];
    const { attack } = forgeChain(it.registry, { [file]: signed(snapshot, keyOf(it.registry, 'snapshot')) });
    it.middle.attack = attack;
    await refuses(it, 'TUF_VERSION');
  }
});

test('freeze: an expired timestamp is refused by the clock that the car was given', async () => {
  let now = Date.now();
  const it = await scene({ clock: () => now });
  // A day from now, not from when the scene began: what it signed meanwhile would still be good.
  now = Date.now() + 86_400_000 + 1000;
  await refuses(it, 'TUF_EXPIRED');
  now -= 86_400_000;
  await recovers(it);
});

test('freeze: a timestamp without a readable expiry is not valid for ever', async () => {
  const it = await scene();
  const timestamp = read(it.registry, 'timestamp.json');
  timestamp.signed.version += 1;
  timestamp.signed.expires = 'never';
  const forged = signed(timestamp, keyOf(it.registry, 'timestamp'));
  it.middle.attack = answer(metadata('timestamp.json'), () => forged);
  await refuses(it, 'TUF_MALFORMED');
  await recovers(it);
});

test('mix and match: a snapshot or targets file of another time', async () => {
  for (const role of ['snapshot', 'models']) {
    let old = '';
    const it = await scene({
      before2: ({ registry }) => {
        old = JSON.stringify(read(registry, newest(registry, role)));
      },
    });
    it.middle.attack = answer(metadata(newest(it.registry, role)), () => old);
    await refuses(it, 'TUF_HASH');
    await recovers(it);
  }
});

test('mix and match: without hashes the version gives it away', async () => {
  const it = await scene();
  const file = newest(it.registry, 'snapshot');
  const timestamp = read(it.registry, 'timestamp.json');
  timestamp.signed.version += 1;
  timestamp.signed.meta = { 'snapshot.json': { version: Number.parseInt(file) + 1 } };
  const forged = signed(timestamp, keyOf(it.registry, 'timestamp'));
  const snapshot = JSON.stringify(read(it.registry, file));
  it.middle.attack = (path, response) =>
    answer(metadata('timestamp.json'), () => forged)(path, response) ||
    answer(
      (name) => name.endsWith('.snapshot.json'),
      () => snapshot,
    )(path, response);
  await refuses(it, 'TUF_VERSION');
});

test('metadata that is no metadata', async () => {
  for (const body of ['', '{}', '[]', 'null', '<html>', '{"signed":{"_type":"root"},"signatures":[]}']) {
    const it = await scene();
    it.middle.attack = answer(metadata('timestamp.json'), () => body);
    await refuses(it, 'TUF_MALFORMED');
    await recovers(it);
  }
});

test('a model that was never signed cannot be asked for', async () => {
  const it = await scene();
  it.car.hint(7, '../../etc/passwd');
  expect(await it.car.done(7)).toMatchObject({
    active: { version: '1' },
    error: { code: 'TUF_TARGET_UNKNOWN' },
  });
});

test('truncated and garbled files of its own are fetched again, whichever they are', async () => {
  const it = await scene();
  const dir = join(it.car.dir, 'metadata');
  const files = readdirSync(dir).filter((name) => name.endsWith('.json'));
  expect(files.sort()).toEqual([
    'models.json',
    'root.json',
    'snapshot.json',
    'targets.json',
    'timestamp.json',
  ]);
  let generation = 2;
  for (const file of files)
    for (const damage of [
      (path: string) => truncateSync(path, 50),
      (path: string) => writeFileSync(path, ''),
    ]) {
      damage(join(dir, file));
      it.car.hint(generation, String(generation));
      expect(await it.car.done(generation)).toMatchObject({ phase: 'idle', error: null });
      generation += 1;
      await publish(it.registry.url, testModel(String(generation)));
    }
});

test('a chain of roots is walked from the factory root, also when the car was away, and when its copies are damaged', async () => {
  let now = Date.now();
  const dir = world.dir();
  const registry = await world.registry({ dir, clock: () => now });
  const { rootPath } = registry;
  await publish(registry.url, testModel('1'));
  await registry.close();
  // Two years of renewals: roots 2, 3 and 4.
  for (let halfYear = 1; halfYear <= 3; halfYear++) {
    now += 183 * 86_400_000;
    const later = await world.registry({ dir, clock: () => now });
    await publish(later.url, testModel(String(halfYear + 1)));
    await later.close();
  }
  const { url } = await world.registry({ dir, clock: () => now });
  const carDir = world.dir();
  const first = await world.car({ dir: carDir, rootPath, url, clock: () => now });
  first.hint(4);
  expect(await first.done(4)).toMatchObject({ active: { version: '4' }, phase: 'idle' });
  await first.updater.stop();
  const metadataDir = join(carDir, 'metadata');
  expect(readdirSync(join(metadataDir, 'roots'))).toEqual(['2.root.json', '3.root.json', '4.root.json']);
  truncateSync(join(metadataDir, 'roots', '3.root.json'), 200);
  await publish(url, testModel('5'));
  const again = await world.car({ dir: carDir, rootPath, url, clock: () => now });
  again.hint(5);
  expect(await again.done(5)).toMatchObject({ active: { version: '5' }, phase: 'idle' });
  expect(JSON.parse(readFileSync(join(metadataDir, 'roots', '3.root.json'), 'utf8'))).toMatchObject({
    signed: { version: 3 },
  });
});

test('without a factory root nothing is trusted, and the report says what to do', async () => {
  const { url } = await world.registry();
  await publish(url, testModel('1'));
  const car = await world.car({ dir: world.dir(), rootPath: join(world.dir(), 'none.json'), url });
  car.hint(1);
  expect(await car.done(1)).toMatchObject({
    active: null,
    phase: 'failed',
    error: { code: 'FILE_NOT_FOUND' },
  });
});

/**
 * Serves forged files, with the metadata above them signed anew by the real keys so that it names them: what an
 * attacker could do who holds the keys above.
 */
function forgeChain(registry: TestRegistry, forged: Record<string, string>): { attack: Attack } {
  const files = { ...forged };
  const name = (role: string) => ({ version: Number.parseInt(newest(registry, role)) });
  const meta = (role: string, text: string) => ({
    ...name(role),
    length: Buffer.byteLength(text),
    hashes: { sha256: sha256(Buffer.from(text)) },
  });
  const snapshotFile = newest(registry, 'snapshot');
  const below = ['targets', 'models', 'campaigns'].filter(
    (role) => files[newest(registry, role)] !== undefined,
  );
  if (below.length > 0) {
    const snapshot = read(registry, snapshotFile);
    for (const role of below)
      snapshot.signed.meta[`${role}.json`] = meta(role, files[newest(registry, role)] ?? '');
    files[snapshotFile] = signed(snapshot, keyOf(registry, 'snapshot'));
  }
  const timestamp = read(registry, 'timestamp.json');
  timestamp.signed.meta = { 'snapshot.json': meta('snapshot', files[snapshotFile] ?? '') };
  files['timestamp.json'] = signed(timestamp, keyOf(registry, 'timestamp'));
  return {
    attack: answer(
      (path) => files[path.split('/').at(-1) ?? ''] !== undefined,
      (path) => files[path.split('/').at(-1) ?? ''] ?? '',
    ),
  };
}
