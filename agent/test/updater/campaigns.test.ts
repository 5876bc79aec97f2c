import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, posix } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { CardanError, type Campaign, type CampaignReport } from '@cardan/shared';
import { KeyFolder } from '../../../cloud/src/registry/tuf-keys.ts';
import { TufRepository } from '../../../cloud/src/registry/tuf-repository.ts';
import {
  campaignDocument,
  publishCampaign,
  withdrawCampaign,
} from '../../../cloud/test/registry/campaign-fixture.ts';
import { COLUMNS, publish, testModel } from '../../../cloud/test/registry/model-fixture.ts';
import { parseDesired } from '../../src/updater/desired.ts';
import { Updater, type UpdaterOptions, type UpdateReport } from '../../src/updater/updater.ts';
import { World } from './car-fixture.ts';

const world = new World();
const updaters: Updater[] = [];
const servers: Server[] = [];
afterEach(async () => {
  for (const updater of updaters.splice(0)) await updater.stop();
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
  await world.close();
});

/** A car's updater with what it collects, on a real registry. */
class CollectingCar {
  readonly given: string[][] = [];
  trouble: readonly CampaignReport[] = [];
  readonly reports: UpdateReport[] = [];
  readonly updater: Updater;
  readonly dir: string;
  /** Set to have the car take no more than so many. */
  campaignsMax = Number.POSITIVE_INFINITY;
  private readonly waits: (() => void)[] = [];
  private waiting = new Set<() => void>();

  constructor(options: Pick<UpdaterOptions, 'dir' | 'rootPath' | 'baseUrl'>) {
    this.dir = options.dir;
    this.updater = new Updater({
      ...options,
      vehicle: 'car-1',
      signalSet: COLUMNS.id,
      random: () => 0,
      stallMs: 300,
      // A wait ends when the test or a new hint says so.
      delay: (ms, signal) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => resolve(), { once: true });
          if (signal.aborted) return resolve();
          if (ms === 60_000) return;
          this.waits.push(resolve);
          for (const seen of this.waiting) seen();
        }),
      onInstalled: async () => {},
      onCandidate: async () => {},
      onReport: (report) => this.reports.push(report),
      onCampaigns: (campaigns) => {
        if (campaigns.length > this.campaignsMax) throw new CardanError('CAMPAIGN_INVALID', 'too many');
        this.given.push(campaigns.map(({ id, version }: Campaign) => `${id} ${version}`));
      },
      onCampaignTrouble: (trouble) => (this.trouble = trouble),
    });
    updaters.push(this.updater);
  }

  static async start(options: ConstructorParameters<typeof CollectingCar>[0]): Promise<CollectingCar> {
    const car = new CollectingCar(options);
    await car.updater.start();
    return car;
  }

  get collects(): string[] {
    return [...(this.given.at(-1) ?? [])].sort();
  }

  /** Asks the cloud, and does what it says. */
  async poll(): Promise<void> {
    await this.updater.poll();
    await this.updater.settled();
  }

  /** Asks the cloud, and comes to where it waits for another try. */
  async pollInVain(): Promise<void> {
    const waits = new Promise<void>((resolve) => this.waiting.add(resolve));
    await this.updater.poll();
    await waits;
  }

  /** Ends the waits, and does what is left. */
  async tryAgain(): Promise<void> {
    for (const end of this.waits.splice(0)) end();
    await this.updater.settled();
  }
}

test('a campaign runs from its publication on, gives way to its next version, and ends when it is withdrawn', async () => {
  const { url: baseUrl, rootPath } = await world.registry();
  const car = await CollectingCar.start({ dir: world.dir(), rootPath, baseUrl });
  await publishCampaign(baseUrl, campaignDocument());
  await car.poll();
  expect(car.collects).toEqual(['speed 1']);
  await publishCampaign(baseUrl, campaignDocument({ id: 'other' }));
  await publishCampaign(baseUrl, campaignDocument({ version: '2' }));
  await car.poll();
  expect(car.collects).toEqual(['other 1', 'speed 2']);
  await withdrawCampaign(baseUrl, 'speed');
  await car.poll();
  expect(car.collects).toEqual(['other 1']);
  await withdrawCampaign(baseUrl, 'other');
  await car.poll();
  expect(car.collects).toEqual([]);
  expect(car.trouble).toEqual([]);
  expect(readdirSync(join(car.dir, 'campaigns'))).toEqual(['current.json']);
});

test('a restart without a network goes on with the campaigns of before', async () => {
  const { url: baseUrl, rootPath } = await world.registry();
  const dir = world.dir();
  const car = await CollectingCar.start({ dir, rootPath, baseUrl });
  await publishCampaign(baseUrl, campaignDocument());
  await publishCampaign(baseUrl, campaignDocument({ id: 'other' }));
  await car.poll();
  await car.updater.stop();
  const again = await CollectingCar.start({ dir, rootPath, baseUrl: 'http://127.0.0.1:1' });
  await again.poll();
  expect(again.given).toEqual([['speed 1', 'other 1']]);
  expect(again.trouble).toEqual([]);
});

test('a hint alone neither starts nor stops anything', async () => {
  const { url: baseUrl, rootPath } = await world.registry();
  const car = await CollectingCar.start({ dir: world.dir(), rootPath, baseUrl });
  await publishCampaign(baseUrl, campaignDocument());
  await car.poll();
  car.updater.hint({ generation: 1000, active: null, campaigns: [{ id: 'spy', version: '1' }] });
  await expect
    .poll(() => car.trouble)
    .toMatchObject([
      { id: 'speed', version: '1', phase: 'failed', error: { code: 'TUF_VERSION' } },
      { id: 'spy', version: '1', phase: 'failed', error: { code: 'TUF_TARGET_UNKNOWN' } },
    ]);
  expect(car.collects).toEqual(['speed 1']);
});

test('a document that was changed on the way is refused; what runs goes on, and the right one comes later', async () => {
  const registry = await world.registry();
  const middle = await world.middle(() => registry.url);
  const car = await CollectingCar.start({
    dir: world.dir(),
    rootPath: registry.rootPath,
    baseUrl: middle.url,
  });
  await publishCampaign(registry.url, campaignDocument());
  await publishCampaign(registry.url, campaignDocument({ id: 'other' }));
  await car.poll();
  await publishCampaign(registry.url, campaignDocument({ version: '2' }));
  await publishCampaign(registry.url, campaignDocument({ id: 'third' }));
  middle.attack = (path, response) => {
    if (!path.includes('targets/campaigns/speed')) return false;
    response.end(JSON.stringify(campaignDocument({ version: '2', signals: ['Spied'] })));
    return true;
  };
  await car.pollInVain();
  expect(car.trouble).toMatchObject([
    { id: 'speed', version: '2', phase: 'failed', error: { code: 'TUF_HASH' } },
  ]);
  expect(car.collects).toEqual(['other 1', 'speed 1', 'third 1']);
  middle.attack = () => false;
  await car.tryAgain();
  expect(car.collects).toEqual(['other 1', 'speed 2', 'third 1']);
  expect(car.trouble).toEqual([]);
});

test('what is damaged on the disk does not run, is reported, and is fetched again', async () => {
  const { url: baseUrl, rootPath } = await world.registry();
  const dir = world.dir();
  const car = await CollectingCar.start({ dir, rootPath, baseUrl });
  await publishCampaign(baseUrl, campaignDocument());
  await publishCampaign(baseUrl, campaignDocument({ id: 'other' }));
  await car.poll();
  await car.updater.stop();
  const folder = join(dir, 'campaigns');
  for (const name of readdirSync(folder)) {
    const text = readFileSync(join(folder, name), 'utf8');
    if (name !== 'current.json' && text.includes('"id":"speed"'))
      writeFileSync(join(folder, name), text.replace('Speed', 'Spied'));
  }
  const offline = await CollectingCar.start({ dir, rootPath, baseUrl: 'http://127.0.0.1:1' });
  expect(offline.collects).toEqual(['other 1']);
  expect(offline.trouble).toMatchObject([{ id: 'speed', version: '1', error: { code: 'CAMPAIGN_INVALID' } }]);
  await offline.updater.stop();
  const online = await CollectingCar.start({ dir, rootPath, baseUrl });
  await online.poll();
  expect(online.collects).toEqual(['other 1', 'speed 1']);
  expect(online.trouble).toEqual([]);
  await online.updater.stop();
  writeFileSync(join(folder, 'current.json'), '{"generation":');
  const lost = await CollectingCar.start({ dir, rootPath, baseUrl });
  expect(lost.trouble).toMatchObject([{ id: '*', phase: 'failed' }]);
  await lost.poll();
  expect(lost.collects).toEqual(['other 1', 'speed 1']);
});

test('one that the car cannot take is refused and not tried again; the others run', async () => {
  const { url: baseUrl, rootPath } = await world.registry();
  const dir = world.dir();
  const car = await CollectingCar.start({ dir, rootPath, baseUrl });
  car.campaignsMax = 2;
  await publishCampaign(baseUrl, campaignDocument());
  await car.poll();
  await publishCampaign(baseUrl, campaignDocument({ id: 'second' }));
  await publishCampaign(baseUrl, campaignDocument({ id: 'third' }));
  await car.poll();
  expect(car.collects).toEqual(['second 1', 'speed 1']);
  const refusal = { id: 'third', version: '1', phase: 'refused', error: { code: 'CAMPAIGN_INVALID' } };
  expect(car.trouble).toMatchObject([refusal]);
  await car.updater.stop();
  const again = await CollectingCar.start({ dir, rootPath, baseUrl });
  expect(again.trouble).toMatchObject([refusal]);
  // Where another one leaves there is room.
  await withdrawCampaign(baseUrl, 'second');
  await again.poll();
  expect(again.collects).toEqual(['speed 1', 'third 1']);
  expect(again.trouble).toEqual([]);
});

test('a model that cannot be had keeps no campaign out, and a campaign no model', async () => {
  const registry = await world.registry();
  const middle = await world.middle(() => registry.url);
  const car = await CollectingCar.start({
    dir: world.dir(),
    rootPath: registry.rootPath,
    baseUrl: middle.url,
  });
  await publish(registry.url, testModel('1'));
  await publishCampaign(registry.url, campaignDocument());
  const broken = (part: string) => {
    middle.attack = (path, response) => {
      if (!path.includes(`/targets/${part}`)) return false;
      response.writeHead(503).end();
      return true;
    };
  };
  broken('models');
  await car.updater.poll();
  await expect.poll(() => car.collects).toEqual(['speed 1']);
  await expect.poll(() => car.reports.at(-1)).toMatchObject({ active: null, phase: 'failed' });
  broken('campaigns');
  await publishCampaign(registry.url, campaignDocument({ version: '2' }));
  await car.updater.poll();
  await expect
    .poll(() => car.reports.at(-1))
    .toMatchObject({ active: { version: '1' }, phase: 'idle', error: null });
  await expect
    .poll(() => car.trouble)
    .toMatchObject([{ id: 'speed', version: '2', error: { code: 'HTTP_STATUS' } }]);
  expect(car.collects).toEqual(['speed 1']);
});

test('a registry that says nothing of campaigns is none that ends them', async () => {
  const { url: baseUrl, rootPath } = await world.registry();
  const car = await CollectingCar.start({ dir: world.dir(), rootPath, baseUrl });
  car.updater.hint({ generation: 1, active: null });
  await car.updater.settled();
  expect(existsSync(join(car.dir, 'campaigns'))).toBe(false); // nothing to do, nothing written
  await publishCampaign(baseUrl, campaignDocument());
  await publishCampaign(baseUrl, campaignDocument({ version: '2' }));
  await car.poll();
  expect(car.collects).toEqual(['speed 2']);
  car.updater.hint({ generation: 3, active: null });
  await expect.poll(() => car.trouble).toMatchObject([{ id: 'speed', error: { code: 'TUF_VERSION' } }]);
  expect(car.collects).toEqual(['speed 2']);
});

/** Signed files of any content, over real HTTP: a registry of another version, or one that was tricked. */
async function signedFiles(files: { path: string; custom: object; text: string }[]) {
  const dir = world.dir();
  const keys = new KeyFolder(join(dir, 'keys'));
  const repository = await TufRepository.open({ dir: join(dir, 'tuf'), keys, clock: Date.now });
  const targets = files.map(({ path, custom, text }) => ({
    path,
    length: text.length,
    sha256: createHash('sha256').update(text).digest('hex'),
    custom: custom as { id: string; version: string },
    text,
  }));
  await repository.publish(targets);
  const served = new Map(
    targets.map(({ path, sha256, text }) => [
      `${posix.dirname(path)}/${sha256}.${posix.basename(path)}`,
      text,
    ]),
  );
  const server = createServer((request, response) => {
    const url = request.url ?? '';
    const tuf = join(dir, 'tuf', posix.basename(url));
    const body = url.startsWith('/v1/tuf/')
      ? existsSync(tuf) && readFileSync(tuf)
      : served.get(url.slice('/v1/targets/'.length));
    response.writeHead(body ? 200 : 404).end(body || undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return {
    rootPath: repository.rootPath,
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
  };
}

test('what is signed and yet cannot be used is refused with the reason, and the others run', async () => {
  const file = (id: string, document: object, custom: object = { id, version: '1' }) => ({
    path: `campaigns/${id}/1.json`,
    custom,
    text: JSON.stringify(document),
  });
  const signed = await signedFiles([
    file('good', campaignDocument({ id: 'good' })),
    file('later', campaignDocument({ id: 'later', gearbox: 'only a newer agent knows this' })),
    file('swapped', campaignDocument({ id: 'good' })),
    file('mislabelled', campaignDocument({ id: 'mislabelled' }), { id: 'good', version: '1' }),
    file('large', campaignDocument({ id: 'large', name: 'x'.repeat(70_000) })),
  ]);
  const dir = world.dir();
  const car = await CollectingCar.start({ dir, ...signed });
  const ids = ['later', 'swapped', 'good', 'mislabelled', 'large'];
  const campaigns = ids.map((id) => ({ id, version: '1' }));
  car.updater.hint({ generation: 1, active: null, campaigns });
  await car.updater.settled();
  expect(car.collects).toEqual(['good 1']);
  const reasons = new Map(
    car.trouble.map(({ id, phase, error }) => [id, `${phase} ${error?.code}: ${error?.message}`]),
  );
  const refused = (reason: string) =>
    expect.stringMatching(`^refused CAMPAIGN_INVALID: .*${reason}`) as string;
  expect(Object.fromEntries(reasons)).toEqual({
    later: refused('gearbox'),
    swapped: refused('this is good 1'),
    mislabelled: refused('for another campaign'),
    large: refused('bytes'),
  });
  // They are remembered, so that a start without a network still says so.
  await car.updater.stop();
  const again = await CollectingCar.start({ dir, rootPath: signed.rootPath, baseUrl: 'http://127.0.0.1:1' });
  expect(again.collects).toEqual(['good 1']);
  expect(again.trouble).toEqual(car.trouble);
});

test('a list of campaigns that is none keeps no model out', () => {
  const active = { name: 'anomaly', version: '1' };
  const parsed = (campaigns: unknown) =>
    parseDesired(Buffer.from(JSON.stringify({ generation: 3, active, campaigns })));
  expect(parsed('all')).toEqual({ generation: 3, active });
  expect(parsed([null, 7, { id: 'a' }, { id: 'speed', version: '1', more: true }])).toEqual({
    generation: 3,
    active,
    campaigns: [{ id: 'speed', version: '1' }],
  });
  const endless = Array.from({ length: 10_000 }, (_, i) => ({ id: `c${i}`, version: '1' }));
  expect(parsed(endless).campaigns).toHaveLength(256);
});
