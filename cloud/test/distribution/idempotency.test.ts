import { afterEach, expect, test } from 'vitest';
import { tempDir, closeRegistries, openRegistry } from '../registry/registry-fixture.ts';

afterEach(closeRegistries);

function training(url: string, key: string, reason = 'drift', token?: string): Promise<Response> {
  return fetch(`${url}/v1/trainings`, {
    method: 'POST',
    body: JSON.stringify({ reason }),
    headers: {
      'content-type': 'application/json',
      'idempotency-key': key,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
  });
}

test('a request that comes again with its key is done once, also after a restart', async () => {
  const dir = tempDir();
  const before = await openRegistry({ dir });
  const first = await training(before.url, 'key-1');
  expect([first.status, first.headers.get('idempotency-replayed')]).toEqual([202, null]);
  const answer: unknown = await first.json();
  const again = await training(before.url, 'key-1');
  expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([202, 'true']);
  expect(await again.json()).toEqual(answer);
  await before.close();

  const after = await openRegistry({ dir });
  expect(await (await training(after.url, 'key-1')).json()).toEqual(answer);
  expect(await (await training(after.url, 'key-2')).json()).not.toEqual(answer);
  let records = 0;
  for await (const batch of after.log.read('models', { from: 'earliest', to: 'latest' }))
    records += batch.records.length;
  expect(records).toBe(2);
});

test('a key with another request is refused', async () => {
  const { url } = await openRegistry({});
  expect((await training(url, 'key')).status).toBe(202);
  const other = await training(url, 'key', 'another reason');
  expect([other.status, await other.json()]).toEqual([
    422,
    expect.objectContaining({ code: 'IDEMPOTENCY_KEY_REUSED' }),
  ]);
  expect((await training(url, 'x'.repeat(256))).status).toBe(400);
});

test('of requests at the same moment one is done, the others get its answer or wait', async () => {
  const { url, log } = await openRegistry({});
  const statuses = (await Promise.all(Array.from({ length: 8 }, () => training(url, 'key')))).map(
    ({ status }) => status,
  );
  expect(statuses.filter((status) => status === 202).length).toBeGreaterThan(0);
  expect(statuses.filter((status) => status !== 202 && status !== 409)).toEqual([]);
  let records = 0;
  for await (const batch of log.read('models', { from: 'earliest', to: 'latest' }))
    records += batch.records.length;
  expect(records).toBe(1);
});

test('a failure is not kept: nothing was done, so it can be done again', async () => {
  const { url } = await openRegistry({});
  const post = (body: string) =>
    fetch(`${url}/v1/campaigns`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', 'idempotency-key': 'key' },
    });
  expect((await post('{}')).status).toBe(422);
  const again = await post('{}');
  expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([422, null]);
});

test('an answer is kept for a day', async () => {
  let now = Date.UTC(2026, 0, 1);
  const { url } = await openRegistry({ clock: () => now });
  const first: unknown = await (await training(url, 'key')).json();
  now += 23 * 3_600_000;
  expect(await (await training(url, 'key')).json()).toEqual(first);
  now += 2 * 3_600_000;
  expect(await (await training(url, 'key', 'another reason')).json()).not.toEqual(first);
});
