import { afterEach, expect, test } from 'vitest';
import { campaignDocument } from '../registry/campaign-fixture.ts';
import { removeTempDirs, type TestRegistry, testRegistry } from '../registry/registry-fixture.ts';

let registry: TestRegistry | undefined;
afterEach(async () => {
  await registry?.close();
  registry = undefined;
  removeTempDirs();
});

interface Page {
  campaigns: { id: string }[];
  next: string | null;
}

async function withCampaigns(ids: string[]): Promise<string> {
  registry = await testRegistry();
  const { url } = registry;
  for (const id of ids) {
    const body = JSON.stringify(campaignDocument({ id }));
    const headers = { 'content-type': 'application/json' };
    expect((await fetch(`${url}/v1/campaigns`, { method: 'POST', body, headers })).status).toBe(201);
  }
  return `${url}/v1/campaigns`;
}

test('a list comes in pages, each with the cursor of the next one', async () => {
  const url = await withCampaigns(['d', 'b', 'e', 'a', 'c']);
  const seen: string[] = [];
  let cursor: string | null = null;
  let pages = 0;
  do {
    const query: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page = (await (await fetch(`${url}?limit=2${query}`)).json()) as Page;
    seen.push(...page.campaigns.map(({ id }) => id));
    cursor = page.next;
    pages++;
  } while (cursor !== null);
  expect([seen, pages]).toEqual([['a', 'b', 'c', 'd', 'e'], 3]);
  // A page that is just filled by the last entry is the last one.
  expect(((await (await fetch(`${url}?limit=5`)).json()) as Page).next).toBeNull();
});

test('what is added behind a cursor is not missed, and nothing comes twice', async () => {
  const url = await withCampaigns(['a', 'b', 'd']);
  const first = (await (await fetch(`${url}?limit=2`)).json()) as Page;
  for (const id of ['aa', 'c'])
    await fetch(url, {
      method: 'POST',
      body: JSON.stringify(campaignDocument({ id })),
      headers: { 'content-type': 'application/json' },
    });
  const second = (await (await fetch(`${url}?cursor=${first.next}`)).json()) as Page;
  expect(second.campaigns.map(({ id }) => id)).toEqual(['c', 'd']);
});

test('all entries come as one JSON line each to who asks for lines', async () => {
  const url = await withCampaigns(['b', 'a', 'c']);
  const lines = async (query = '') => {
    const answer = await fetch(url + query, { headers: { accept: 'application/x-ndjson' } });
    expect(answer.headers.get('content-type')).toBe('application/x-ndjson');
    const text = await answer.text();
    return text.split('\n').flatMap((line) => (line === '' ? [] : [(JSON.parse(line) as { id: string }).id]));
  };
  expect(await lines()).toEqual(['a', 'b', 'c']);
  expect(await lines('?limit=2')).toEqual(['a', 'b']);
});
