import { createHash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { cloudEvent, eventToRecord, recordToEvent } from '@cardan/shared';
import type { LogRecord } from '@cardan/shared/event-log';
import { CampaignProjection } from '../../src/registry/campaign-projection.ts';
import { campaignDocument, publishCampaign, withdrawCampaign } from './campaign-fixture.ts';
import { COLUMNS, publish, testModel } from './model-fixture.ts';
import { tempDir, closeRegistries, openRegistry } from './registry-fixture.ts';

afterEach(closeRegistries);

async function json(url: string): Promise<unknown> {
  return (await fetch(url)).json();
}
const desired = (url: string, vehicle: string) =>
  json(`${url}/v1/vehicles/${vehicle}/desired?signalSet=${COLUMNS.id}`);

interface SignedTarget {
  length: number;
  hashes: { sha256: string };
  custom: object;
}

/** The newest signed targets of models and of campaigns. */
async function targets(url: string): Promise<Record<string, SignedTarget>> {
  type Signed = { meta: Record<string, { version: number }>; targets: Record<string, SignedTarget> };
  const signed = async (file: string) => ((await json(`${url}/v1/tuf/${file}`)) as { signed: Signed }).signed;
  const timestamp = await signed('timestamp.json');
  const { meta } = await signed(`${timestamp.meta['snapshot.json']!.version}.snapshot.json`);
  const of = async (role: string) => (await signed(`${meta[`${role}.json`]!.version}.${role}.json`)).targets;
  return { ...(await of('models')), ...(await of('campaigns')) };
}

test('a published campaign is signed, served and desired by the vehicles that it names', async () => {
  const { url, log } = await openRegistry();
  const document = campaignDocument({ vehicles: { ids: ['van-*'] } });
  expect(await publishCampaign(url, document)).toBe(201);
  const bytes = Buffer.from(JSON.stringify(document));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  expect(await targets(url)).toEqual({
    'campaigns/speed/1.json': {
      length: bytes.length,
      hashes: { sha256 },
      custom: { id: 'speed', version: '1' },
    },
  });
  for (const path of [
    `targets/campaigns/speed/${sha256}.1.json`,
    'campaigns/speed/1',
    'campaigns/speed/latest',
  ])
    expect(await json(`${url}/v1/${path}`)).toEqual(document);
  expect(await desired(url, 'van-1')).toEqual({
    generation: 1,
    active: null,
    campaigns: [{ id: 'speed', version: '1' }],
  });
  expect(await desired(url, 'car-1')).toEqual({ generation: 0, active: null });
  expect(await json(`${url}/v1/campaigns`)).toMatchObject({
    campaigns: [
      { id: 'speed', live: '1', versions: [{ version: '1', name: 'Speed, ten times a second', sha256 }] },
    ],
  });
  const records: LogRecord[] = [];
  for await (const batch of log.read('campaigns', { from: 'earliest', to: 'latest' }))
    records.push(...batch.records);
  expect(records.map((record) => [record.key, recordToEvent(record).type])).toEqual([
    ['speed', 'io.cardan.campaign.published'],
  ]);
});

test('a version never changes; the same one again is fine', async () => {
  const { url } = await openRegistry();
  expect(await publishCampaign(url, campaignDocument())).toBe(201);
  expect(await publishCampaign(url, campaignDocument())).toBe(200);
  expect(await publishCampaign(url, campaignDocument({ name: 'Other' }))).toBe(409);
  expect(await desired(url, 'car-1')).toMatchObject({ generation: 1 });
});

test('a new version takes the place of the old one, and an old one may come back', async () => {
  const { url } = await openRegistry();
  await publishCampaign(url, campaignDocument());
  await publishCampaign(url, campaignDocument({ version: '2' }));
  expect(Object.keys(await targets(url))).toEqual(['campaigns/speed/2.json']);
  expect(await desired(url, 'car-1')).toMatchObject({ generation: 2, campaigns: [{ version: '2' }] });
  expect(await publishCampaign(url, campaignDocument())).toBe(200);
  expect(Object.keys(await targets(url))).toEqual(['campaigns/speed/1.json']);
  expect(await desired(url, 'car-1')).toMatchObject({ generation: 3, campaigns: [{ version: '1' }] });
});

test('a withdrawn campaign is neither desired nor signed nor served to cars, but can still be read', async () => {
  const { url } = await openRegistry();
  await publishCampaign(url, campaignDocument());
  const { sha256 } = (await targets(url))['campaigns/speed/1.json']!.hashes;
  expect(await withdrawCampaign(url, 'speed')).toBe(204);
  expect(await withdrawCampaign(url, 'speed')).toBe(204);
  expect(await desired(url, 'car-1')).toEqual({ generation: 2, active: null, campaigns: [] });
  expect(await targets(url)).toEqual({});
  expect((await fetch(`${url}/v1/targets/campaigns/speed/${sha256}.1.json`)).status).toBe(404);
  expect(await json(`${url}/v1/campaigns/speed/latest`)).toEqual(campaignDocument());
  expect(await json(`${url}/v1/campaigns`)).toMatchObject({ campaigns: [{ id: 'speed', live: null }] });
  expect(await withdrawCampaign(url, 'other')).toBe(404);
});

test('only the vehicles that a change concerns are told of it', async () => {
  const { url } = await openRegistry();
  await publishCampaign(url, campaignDocument({ vehicles: { ids: ['van-*'] } }));
  await publishCampaign(url, campaignDocument({ version: '2', vehicles: { ids: ['car-*'] } }));
  expect(await desired(url, 'van-1')).toEqual({ generation: 2, active: null, campaigns: [] });
  expect(await desired(url, 'car-1')).toMatchObject({ generation: 2, campaigns: [{ version: '2' }] });
  await publishCampaign(url, campaignDocument({ version: '3', vehicles: { ids: ['car-7'] } }));
  await withdrawCampaign(url, 'speed');
  expect(await desired(url, 'car-1')).toEqual({ generation: 3, active: null, campaigns: [] });
  expect(await desired(url, 'car-7')).toEqual({ generation: 4, active: null, campaigns: [] });
  expect(await desired(url, 'van-1')).toEqual({ generation: 2, active: null, campaigns: [] });
});

test('decisions on models and campaigns count in one generation', async () => {
  const { url } = await openRegistry();
  await publishCampaign(url, campaignDocument());
  await publish(url, testModel('1'));
  expect(await desired(url, 'car-1')).toEqual({
    generation: 2,
    active: { name: 'anomaly', version: '1' },
    campaigns: [{ id: 'speed', version: '1' }],
  });
  await withdrawCampaign(url, 'speed');
  expect(await desired(url, 'car-1')).toMatchObject({
    generation: 3,
    active: { version: '1' },
    campaigns: [],
  });
});

test('models and campaigns that are published at the same moment are all signed in the end', async () => {
  const { url } = await openRegistry();
  const ids = ['a', 'b', 'c', 'd'];
  await Promise.all(
    ids.flatMap((id, i) => [
      publishCampaign(url, campaignDocument({ id })),
      publish(url, testModel(String(i + 1))),
    ]),
  );
  const paths = Object.keys(await targets(url));
  expect(paths.filter((path) => path.startsWith('campaigns/')).sort()).toEqual(
    ids.map((id) => `campaigns/${id}/1.json`),
  );
  expect(paths.filter((path) => path.endsWith('manifest.json'))).toHaveLength(4);
  const { generation } = (await desired(url, 'car-1')) as { generation: number };
  expect(generation).toBe(8); // each decision has a number of its own
});

test('a fleet has a bounded number of campaigns at once', async () => {
  const dir = tempDir();
  const first = await openRegistry({ dir });
  const events = Array.from({ length: 1000 }, (_, i) =>
    eventToRecord(
      `c${i}`,
      cloudEvent(
        'io.cardan.campaign.published',
        { source: '/services/registry', id: `published-${i}`, time: 0 },
        { generation: i + 1, document: campaignDocument({ id: `c${i}` }) },
      ),
    ),
  );
  await first.log.append('campaigns', events);
  await expect.poll(() => json(`${first.url}/health`)).toMatchObject({ campaigns: 1000 });
  expect(await publishCampaign(first.url, campaignDocument())).toBe(422);
  expect(await publishCampaign(first.url, campaignDocument({ id: 'c7', version: '2' }))).toBe(201);
  await withdrawCampaign(first.url, 'c7');
  expect(await publishCampaign(first.url, campaignDocument())).toBe(201);
});

test('after a restart everything is as before, and nothing is signed anew', async () => {
  const dir = tempDir();
  const first = await openRegistry({ dir });
  await publish(first.url, testModel('1'));
  await publishCampaign(first.url, campaignDocument());
  await publishCampaign(first.url, campaignDocument({ id: 'gone' }));
  await withdrawCampaign(first.url, 'gone');
  const [list, signed] = [
    await json(`${first.url}/v1/campaigns`),
    await json(`${first.url}/v1/tuf/timestamp.json`),
  ];
  await first.close();
  const { url } = await openRegistry({ dir });
  expect(await json(`${url}/v1/campaigns`)).toEqual(list);
  expect(await json(`${url}/v1/tuf/timestamp.json`)).toEqual(signed);
  await publishCampaign(url, campaignDocument({ version: '2' }));
  expect(await desired(url, 'car-1')).toMatchObject({ generation: 5, campaigns: [{ version: '2' }] });
});

test.each([
  [
    'an expression that does not parse',
    { collection: { type: 'condition', when: 'Speed >' } },
    'when, character',
  ],
  ['a field that nobody knows', { colour: 'red' }, 'campaign.colour'],
  [
    'more than cars take',
    { signals: Array.from({ length: 800 }, (_, i) => `${'s'.repeat(100)}${i}`) },
    'bytes',
  ],
])('%s is refused, with the place', async (_what, changes, place) => {
  const { url } = await openRegistry();
  const answer = await fetch(`${url}/v1/campaigns`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(campaignDocument(changes)),
  });
  expect(answer.headers.get('content-type')).toContain('application/problem+json');
  expect(await answer.json()).toMatchObject({
    status: 422,
    code: 'CAMPAIGN_INVALID',
    detail: expect.stringContaining(place) as string,
  });
  expect(await json(`${url}/v1/campaigns`)).toEqual({ campaigns: [], next: null });
});

test('publishing and withdrawing need the token', async () => {
  const { url } = await openRegistry({ token: 'secret' });
  expect(await publishCampaign(url, campaignDocument())).toBe(401);
  expect(await withdrawCampaign(url, 'speed')).toBe(401);
});

test('a record that is no campaign is counted and passed over', async () => {
  const { url, log } = await openRegistry();
  await log.append('campaigns', [{ key: 'x', value: Buffer.from('{'), timestamp: 0, headers: {} }]);
  await publishCampaign(url, campaignDocument());
  expect(await json(`${url}/health`)).toMatchObject({ campaigns: 1, malformedRecords: 1 });
});

test('what concerns a vehicle stays bounded, however often a campaign comes and goes', () => {
  const projection = new CampaignProjection();
  const record = (generation: number, type: string, data: object): LogRecord => ({
    offset: generation,
    timestamp: 0,
    key: 'speed',
    value: Buffer.from(JSON.stringify({ generation, ...data })),
    headers: {
      ce_specversion: '1.0',
      ce_type: type,
      ce_source: '/test',
      ce_id: String(generation),
      ce_time: '',
    },
  });
  for (let generation = 1; generation <= 20; generation += 2) {
    projection.apply(record(generation, 'io.cardan.campaign.published', { document: campaignDocument() }));
    const withdrawn = record(generation + 1, 'io.cardan.campaign.withdrawn', { id: 'speed' });
    expect(projection.apply(withdrawn)).toBe(true);
    expect(projection.apply(withdrawn)).toBe(false);
  }
  expect(projection.desired('car-1')).toEqual({ generation: 20, campaigns: [] });
});
