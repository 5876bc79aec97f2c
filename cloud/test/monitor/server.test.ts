import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { LOG_TOPICS, recordToEvent, type LogTopic } from '@cardan/shared';
import type { EventLog, NewRecord } from '@cardan/shared/event-log';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventStream } from '../../src/monitor/event-stream.ts';
import type { Delta, LogState, Snapshot } from '../../src/monitor/messages.ts';
import { startMonitor, type Monitor } from '../../src/monitor/server.ts';
import {
  anomaly,
  event,
  NOON,
  prediction,
  published,
  reported,
  SIGNALS,
  telemetry,
  temporaryLog,
} from './fixtures.ts';

let log: EventLog;
let remove: () => Promise<void>;
let monitor: Monitor | undefined;
const aborting = new Set<AbortController>();

beforeEach(async () => {
  ({ log, remove } = await temporaryLog());
  for (const [topic, config] of Object.entries(LOG_TOPICS)) await log.createTopic(topic, config);
});

afterEach(async () => {
  for (const controller of aborting) controller.abort();
  aborting.clear();
  await monitor?.close();
  monitor = undefined;
  await remove();
});

async function start(): Promise<string> {
  monitor = await startMonitor({ log, host: '127.0.0.1', port: 0, title: 'Test fleet' });
  return monitor.url;
}

async function append(topic: LogTopic, ...records: NewRecord[]): Promise<void> {
  await log.append(topic, records);
}

async function json<T>(url: string): Promise<T> {
  const answer = await fetch(url);
  expect(answer.status).toBe(200);
  return (await answer.json()) as T;
}

/** Asks until the answer is as wanted; the test's own timeout is the bound. */
async function until<T>(ask: () => Promise<T>, wanted: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await ask();
    if (wanted(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

interface ServerSentEvent {
  event: string;
  id: string;
  data: Snapshot & Delta;
}

/** Reads server-sent events as the HTML standard frames them. */
async function* events(url: string, headers: Record<string, string> = {}): AsyncGenerator<ServerSentEvent> {
  const controller = new AbortController();
  aborting.add(controller);
  const answer = await fetch(url, { headers, signal: controller.signal });
  expect(answer.headers.get('content-type')).toMatch(/^text\/event-stream/);
  let text = '';
  for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = Object.fromEntries(
        text
          .slice(0, end)
          .split('\n')
          .map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]),
      );
      text = text.slice(end + 2);
      if (fields.event !== undefined)
        yield {
          event: fields.event,
          id: fields.id ?? '',
          data: JSON.parse(fields.data ?? '') as ServerSentEvent['data'],
        };
    }
  }
}

describe('API of the monitor', () => {
  it('shows what is in the log', async () => {
    await append('signal-sets', event(SIGNALS.id, 'io.cardan.signal-set', SIGNALS));
    await append('models', ...published('1'));
    await append('telemetry', telemetry({ vehicle: 'car-1', scores: [1, 2], version: '1' }));
    await append('predictions', prediction({ vehicle: 'car-1', scores: [1, 2] }));
    await append('vehicle-events', event('car-1', 'io.cardan.vehicle.reported', reported('1')));
    const url = await start();
    const fleet = await until(
      () => json<Pick<Snapshot, 'summary' | 'vehicles'>>(`${url}/api/fleet`),
      ({ summary }) => !summary.catchingUp,
    );
    expect(fleet).toMatchObject({
      summary: { rows: 2, rowsExact: true, vehicles: 1, upToDate: 1, fleetTime: NOON + 1000, problem: null },
      vehicles: [{ id: 'car-1', state: 'healthy', signalSet: SIGNALS.id }],
    });
    expect(await json(`${url}/api/vehicles/car-1`)).toMatchObject({
      rows: { scores: [1, 2], thresholds: [3, 3] },
      cloud: { scores: [1, 2] },
    });
    expect(await json(`${url}/api/vehicles/car-1?rows=1&cloud=2`)).toMatchObject({
      rows: { from: 1, scores: [2] },
      cloud: { from: 2, scores: [] },
    });
    expect(await json(`${url}/api/models`)).toMatchObject({ models: [{ version: '1', active: true }] });
    expect(await json(`${url}/health`)).toEqual({ status: 'ok', problem: null });
  });

  it('answers with problem details', async () => {
    const url = await start();
    const unknown = await fetch(`${url}/api/vehicles/nobody`);
    expect(unknown.status).toBe(404);
    expect(unknown.headers.get('content-type')).toMatch('application/problem+json');
    expect((await fetch(`${url}/api/vehicles/nobody?rows=-1`)).status).toBe(400);
    expect((await fetch(`${url}/..%2f..%2fpackage.json`)).status).toBe(404);
  });

  it('counts records, rates and the lag of groups', async () => {
    await append('telemetry', telemetry({ vehicle: 'car-1' }), telemetry({ vehicle: 'car-1', first: 1 }));
    await append('dead-letters', {
      key: null,
      value: Buffer.of(1),
      timestamp: NOON,
      headers: { 'error-code': 'EVENT_MALFORMED' },
    });
    const reading = new AbortController();
    const group = log.subscribe('slow-reader', ['telemetry'], { recordsMax: 1, signal: reading.signal });
    const iterator = group[Symbol.asyncIterator]();
    await iterator.next();
    await iterator.next(); // The first record is committed, the second is in hand.
    const url = await start();
    const state = await until(
      () => json<LogState>(`${url}/api/log`),
      ({ groups, deadLetters }) => groups.length > 0 && deadLetters.length > 0,
    );
    expect(state.topics.find(({ topic }) => topic === 'telemetry')).toMatchObject({
      records: 2,
      partitions: 6,
    });
    expect(state.groups).toMatchObject([{ group: 'slow-reader', topic: 'telemetry', lag: 1 }]);
    expect(state.deadLetters).toMatchObject([{ code: 'EVENT_MALFORMED' }]);
    reading.abort();
    await iterator.return?.();
  });

  it('asks for a training through the log', async () => {
    const url = await start();
    const answer = await fetch(`${url}/api/trainings`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', origin: url },
      body: JSON.stringify({ reason: 'test' }),
    });
    expect(answer.status).toBe(202);
    const { training } = (await answer.json()) as { training: string };
    for await (const { records } of log.read('models', { from: 'earliest', to: 'latest' }))
      expect(records.map(recordToEvent)).toMatchObject([
        { type: 'io.cardan.training.requested', data: { training, signalSet: null, reason: 'test' } },
      ]);
  });

  it('refuses a training that another site asks for', async () => {
    const url = await start();
    const post = async (headers: Record<string, string>, body = '{}') =>
      (await fetch(`${url}/api/trainings`, { method: 'POST', headers, body })).status;
    const type = { 'content-type': 'application/json' };
    expect(await post({ ...type, origin: 'https://example.org' })).toBe(401);
    expect(await post({ ...type, origin: 'null' })).toBe(401);
    expect(await post({ ...type, 'sec-fetch-site': 'cross-site' })).toBe(401);
    expect(await post({ 'content-type': 'text/plain' })).toBe(415);
    expect(await post({ 'content-type': 'application/x-www-form-urlencoded' }, 'a=b')).toBe(415);
    expect(await post(type, '{"reason":7,"more":1}')).toBe(400);
    const { latest } = (await log.offsets('models'))[0]!;
    expect(latest).toBe(0);
  });

  it('answers to no foreign name on the loopback address', async () => {
    const url = await start();
    const { port } = new URL(url);
    const status = (host: string) =>
      new Promise<string>((resolve, reject) => {
        const socket = connect(Number(port), '127.0.0.1', () =>
          socket.write(`GET /api/fleet HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`),
        );
        socket.once('data', (data) => resolve(data.toString('latin1').split(' ')[1] ?? ''));
        socket.once('error', reject);
      });
    expect(await status('rebound.example.org')).toBe('401');
    expect(await status(`localhost:${port}`)).toBe('200');
    expect(await status(`[::1]:${port}`)).toBe('200');
  });

  it('serves the page under a policy without anything inline or foreign', async () => {
    const url = await start();
    const page = await fetch(url);
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toMatch("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    const html = await page.text();
    const paths = [...html.matchAll(/(?:src|href)="(\.\/[^"]+)"/g)].map(([, path]) => path!);
    expect(paths.length).toBeGreaterThan(4);
    for (const path of [...paths, './vendor/uplot.js'])
      expect((await fetch(new URL(path, url))).status).toBe(200);
    const etag = page.headers.get('etag') ?? '';
    expect((await fetch(url, { headers: { 'if-none-match': etag } })).status).toBe(304);
  });

  it('says which port is taken', async () => {
    const url = await start();
    const port = Number(new URL(url).port);
    await expect(startMonitor({ log, host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
    });
  });
});

describe('server-sent events', () => {
  it('begin with a snapshot, and go on with what changes', async () => {
    await append('telemetry', telemetry({ vehicle: 'car-1' }));
    const url = await start();
    await until(
      () => json<Snapshot>(`${url}/api/fleet`),
      ({ summary }) => summary.vehicles === 1,
    );
    const stream = events(`${url}/events`);
    const { value: first } = (await stream.next()) as { value: ServerSentEvent };
    expect(first).toMatchObject({
      event: 'snapshot',
      data: { title: 'Test fleet', vehicles: [{ id: 'car-1' }] },
    });

    await append('vehicle-events', event('car-1', 'io.cardan.vehicle.anomaly', anomaly('raised', 'x')));
    let id = Number(first.id);
    for await (const { event: kind, id: next, data } of stream) {
      expect(kind).toBe('delta');
      expect(Number(next)).toBeGreaterThan(id);
      id = Number(next);
      if (data.alarms === undefined) continue;
      expect(data.alarms).toMatchObject([{ vehicle: 'car-1', clearedAt: null }]);
      expect(data.vehicles).toMatchObject([{ id: 'car-1', state: 'alarm' }]);
      expect(data.summary.alarms).toBe(1);
      break;
    }
  });

  it('begin anew for a page that comes back', async () => {
    const url = await start();
    const { value } = (await events(`${url}/events`, { 'last-event-id': '3' }).next()) as {
      value: ServerSentEvent;
    };
    expect(value.event).toBe('snapshot');
  });

  it('give a slow page one delta for all that it has missed', async () => {
    let revision = 1;
    const stream = new EventStream(
      {
        revision: () => revision,
        message: (since) => {
          // The snapshot is far more than the buffers of a socket take.
          if (since === 0) return { event: 'snapshot', data: '9'.repeat(30_000_000) };
          revision++;
          return { event: 'delta', data: JSON.stringify({ since, to: revision }) };
        },
      },
      { tickMs: 5, bytesPerSecondMax: Number.POSITIVE_INFINITY },
    );
    const server = createServer((_request, response) => stream.add(response, {}));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const open = () => {
      const socket = connect(port, '127.0.0.1');
      socket.write('GET / HTTP/1.0\r\n\r\n');
      return socket;
    };
    /** Resolves to the deltas when there are so many. */
    const deltas = (socket: Socket, count: number) =>
      new Promise<{ since: number; to: number }[]>((resolve) => {
        let text = '';
        socket.on('data', (data) => {
          text = (text + data.toString('latin1')).replace(/9{20,}/g, '');
          const found = [...text.matchAll(/event: delta\nid: \d+\ndata: (.*)\n\n/g)];
          if (found.length >= count)
            resolve(found.map(([, json]) => JSON.parse(json!) as { since: number; to: number }));
        });
      });
    const slow = open();
    slow.pause();
    await once(server, 'request');
    // The other page goes on; its deltas are the clock.
    const fast = open();
    const missed = (await deltas(fast, 5)).at(-1)!.to;
    const caughtUp = deltas(slow, 1);
    slow.resume();
    const [first] = await caughtUp;
    expect(first?.since).toBe(1);
    expect(first?.to).toBeGreaterThan(missed);
    stream.close();
    slow.destroy();
    fast.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
});
