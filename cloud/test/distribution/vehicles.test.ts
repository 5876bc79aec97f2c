import { createHash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { recordToEvent } from '@cardan/shared';
import { COLUMNS, publish, testModel } from '../registry/model-fixture.ts';
import { closeRegistries, openRegistry } from '../registry/registry-fixture.ts';

afterEach(closeRegistries);

interface ListedVehicle {
  id: string;
  lastSeen: string | null;
  attributes: Record<string, string>;
}

function send(url: string, method: string, body: unknown, headers: Record<string, string> = {}) {
  return fetch(url, {
    method,
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  });
}
function sendLines(url: string, lines: string) {
  return fetch(`${url}/v1/vehicles`, {
    method: 'POST',
    body: lines,
    headers: { 'content-type': 'application/x-ndjson' },
  });
}
async function list(url: string, query = ''): Promise<{ vehicles: ListedVehicle[]; next: string | null }> {
  const answer = await fetch(`${url}/v1/vehicles${query}`);
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()) as { vehicles: ListedVehicle[]; next: string | null };
}

test('vehicles are registered one by one, as a list, or as lines', async () => {
  const { url } = await openRegistry();
  const one = await send(`${url}/v1/vehicles`, 'POST', { id: 'car-1', attributes: { region: 'north' } });
  expect([one.status, await one.json()]).toEqual([201, { created: 1, changed: 0, unchanged: 0 }]);
  const again = await send(`${url}/v1/vehicles`, 'POST', [
    { id: 'car-1', attributes: { region: 'north' } },
    { id: 'car-2' },
  ]);
  expect(await again.json()).toEqual({ created: 1, changed: 0, unchanged: 1 });
  const lines = await sendLines(url, '{"id":"car-2","attributes":{"a":"ü"}}\n\n{"id":"car-3"}');
  expect([lines.status, await lines.json()]).toEqual([201, { created: 1, changed: 1, unchanged: 0 }]);
  expect((await list(url)).vehicles.map(({ id, attributes }) => [id, attributes])).toEqual([
    ['car-1', { region: 'north' }],
    ['car-2', { a: 'ü' }],
    ['car-3', {}],
  ]);
  const wrong = await sendLines(url, '{"id":"car-4"}\n{"id":');
  expect(wrong.status).toBe(422);
  expect(await wrong.json()).toMatchObject({ code: 'VEHICLE_INVALID', detail: 'Line 2 is not JSON.' });
  expect((await send(`${url}/v1/vehicles`, 'POST', { id: 'a b' })).status).toBeGreaterThanOrEqual(400);
});

test('the list is filtered, comes in pages, or as a stream of all', async () => {
  const { url } = await openRegistry();
  const lines = Array.from({ length: 2345 }, (_, i) =>
    JSON.stringify({ id: `car-${String(i).padStart(4, '0')}`, attributes: { even: String(i % 2 === 0) } }),
  );
  await sendLines(url, lines.join('\n'));
  const filter = encodeURIComponent('even==true;id=gt=car-1000');
  const seen: string[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const page = await list(url, `?filter=${filter}&limit=300${cursor === '' ? '' : `&cursor=${cursor}`}`);
    seen.push(...page.vehicles.map(({ id }) => id));
    expect(page.vehicles.length).toBeLessThanOrEqual(300);
    cursor = page.next;
  }
  expect(seen.length).toBe(672);
  expect(new Set(seen).size).toBe(672);
  const stream = await fetch(`${url}/v1/vehicles?filter=${filter}`, {
    headers: { accept: 'application/x-ndjson' },
  });
  const streamed = (await stream.text()).trim().split('\n');
  expect(streamed.map((line) => (JSON.parse(line) as ListedVehicle).id)).toEqual(seen);
  const bad = await fetch(`${url}/v1/vehicles?filter=${encodeURIComponent('even==')}`);
  expect([bad.status, ((await bad.json()) as { code: string }).code]).toEqual([422, 'FILTER_INVALID']);
  expect((await fetch(`${url}/v1/vehicles?cursor=nonsense`)).status).toBe(400);
});

test('a vehicle is shown, changed and forgotten', async () => {
  const { url } = await openRegistry();
  await send(`${url}/v1/vehicles`, 'POST', { id: 'car-1', attributes: { a: '1', b: '2' } });
  const changed = await send(`${url}/v1/vehicles/car-1`, 'PATCH', { attributes: { a: null, c: '3' } });
  expect(await changed.json()).toMatchObject({ id: 'car-1', attributes: { b: '2', c: '3' } });
  expect((await fetch(`${url}/v1/vehicles/car-1`)).status).toBe(200);
  expect((await fetch(`${url}/v1/vehicles/car-1`, { method: 'DELETE' })).status).toBe(204);
  for (const method of ['GET', 'DELETE'])
    expect((await fetch(`${url}/v1/vehicles/car-1`, { method })).status).toBe(404);
});

test('a poll is answered once per generation, and says that the car is there', async () => {
  const now = Date.parse('2026-03-01T12:00:00Z');
  const { url } = await openRegistry({ clock: () => now });
  await publish(url, testModel('1'));
  await send(`${url}/v1/vehicles`, 'POST', { id: 'car-1', signalSet: COLUMNS.id });
  const poll = (vehicle: string, headers: Record<string, string> = {}) =>
    fetch(`${url}/v1/vehicles/${vehicle}/desired`, { headers });
  const first = await poll('car-1');
  expect(await first.json()).toEqual({ generation: 1, active: { name: 'anomaly', version: '1' } });
  expect(first.headers.get('content-type')).toContain('application/json');
  const etag = first.headers.get('etag')!;
  expect((await poll('car-1', { 'if-none-match': etag, 'cache-control': 'max-age=0' })).status).toBe(304);
  expect((await poll('stranger')).status).toBe(200);
  await expect
    .poll(async () => (await list(url)).vehicles.map(({ id, lastSeen }) => [id, lastSeen]))
    .toEqual([['car-1', '2026-03-01T12:00:00.000Z']]);
});

test('a car with a token must show it, and sees only what is its own', async () => {
  const { url } = await openRegistry();
  const tokenSha256 = createHash('sha256').update('secret').digest('hex');
  await send(`${url}/v1/vehicles`, 'POST', [{ id: 'car-1', tokenSha256 }, { id: 'car-2' }]);
  const poll = (vehicle: string, token?: string) =>
    fetch(`${url}/v1/vehicles/${vehicle}/desired`, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
  expect((await poll('car-1', 'secret')).status).toBe(200);
  expect((await poll('car-1', 'wrong')).status).toBe(401);
  expect((await poll('car-1')).status).toBe(401);
  expect((await poll('car-2')).status).toBe(200);
  const text = JSON.stringify((await list(url)).vehicles);
  expect(text).not.toContain(tokenSha256);
});

test('what a car says over HTTP is the event that it would be over MQTT', async () => {
  const { url, log } = await openRegistry();
  const report = {
    time: '2026-03-01T11:00:00.000Z',
    observedGeneration: 4,
    active: { name: 'anomaly', version: '1' },
    phase: 'failed',
    error: { code: 'TUF_EXPIRED', message: 'too old' },
    signalSet: COLUMNS.id,
    agent: { version: '0.1.0', outboxRows: 3, dropped: { rows: 0, events: 0 } },
  };
  for (let time = 0; time < 2; time++)
    expect((await send(`${url}/v1/vehicles/car-1/feedback`, 'POST', report)).status).toBe(204);
  const events = [];
  for await (const { records } of log.read('vehicle-events', { from: 'earliest', to: 'latest' }))
    events.push(...records.map((record) => ({ key: record.key, event: recordToEvent(record) })));
  const id = createHash('sha256').update(JSON.stringify(report)).digest('hex').slice(0, 32);
  expect(events).toHaveLength(2);
  for (const { key, event } of events) {
    expect(key).toBe('car-1');
    expect(event).toMatchObject({ type: 'io.cardan.vehicle.reported', id, time: report.time, data: report });
  }
  await expect
    .poll(async () => (await fetch(`${url}/v1/vehicles/car-1`)).json())
    .toMatchObject({ signalSet: COLUMNS.id, reported: { phase: 'failed', error: { code: 'TUF_EXPIRED' } } });
  expect((await send(`${url}/v1/vehicles/car-1/feedback`, 'POST', { phase: 'idle' })).status).toBe(400);
});
