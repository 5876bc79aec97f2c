import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeTelemetry, type CardanError, type TelemetryBatch } from '@cardan/shared';
import type { Outbox, OutboxOptions } from '../../src/outbox.ts';
import { Uplink, type UplinkOptions } from '../../src/uplink.ts';
import { addAlarm, addBoot, addRows, context, FakeClock, openOutbox } from '../outbox/fixture.ts';
import { Cloud } from './fixture.ts';

const DAY_MS = 24 * 3_600_000;
let cloud: Cloud;
let clock: FakeClock;
let outbox: Outbox;
let uplink: Uplink | undefined;
let problems: CardanError[];
const codes = () => problems.map(({ code }) => code);

beforeEach(async () => {
  problems = [];
  clock = new FakeClock();
  cloud = await Cloud.open(['telemetry', 'event']);
  open();
});
afterEach(async () => {
  await stop();
  await cloud.close();
});

function open(options: Partial<OutboxOptions> = {}) {
  outbox = openOutbox(cloud.dir, { clock, ...options });
}
function start(options: Partial<UplinkOptions> = {}): Uplink {
  uplink = new Uplink({
    url: cloud.url,
    vehicle: 'a',
    outbox,
    clock,
    batchRows: 10,
    batchMs: 1,
    backlogBatchRows: 100,
    ackTimeoutMs: 600_000,
    onDesired: () => undefined,
    onProblem: (error) => problems.push(error),
    ...options,
  });
  return uplink;
}
async function stop() {
  await uplink?.close();
  uplink = undefined;
  outbox.close();
}
async function rows(): Promise<TelemetryBatch> {
  const { channel, payload } = await cloud.next();
  expect(channel).toBe('telemetry');
  return decodeTelemetry(payload);
}
/** The sequence number of the next event. */
async function event(): Promise<number> {
  const { channel, payload } = await cloud.next();
  expect(channel).toBe('event');
  return Number((JSON.parse(payload.toString('utf8')) as { sequence: string }).sequence);
}
const ackRows = (...range: [number, number]) => cloud.acknowledge({ epoch: outbox.epoch, rows: [range] });
const ackEvent = (sequence: number, rows: [number, number][] = []) =>
  cloud.acknowledge({ epoch: outbox.epoch, events: [[sequence, sequence]], rows });

describe('a backlog', () => {
  it('goes up at its rate on average, and events do not wait for it', async () => {
    addRows(outbox, 0, 300);
    for (let time = 0; time < 4; time++) addBoot(outbox, time);
    start({ backlogRowsPerSecond: 10 });
    expect(await event()).toBe(1);
    expect((await rows()).times.length).toBe(100);
    // 100 rows are paid for by ten seconds. Everything is sent over one connection, so rows would be there before the events.
    await ackEvent(1, [[1, 100]]);
    expect(await event()).toBe(2);
    await ackEvent(2);
    expect(await event()).toBe(3);
    clock.pass(9_999);
    await ackEvent(3);
    expect(await event()).toBe(4);
    expect(cloud.seen).toEqual(['event', 'telemetry', 'event', 'event', 'event']);
    clock.pass(1);
    await ackEvent(4);
    expect((await rows()).firstSequence).toBe(101);
  });

  it('goes up without a pace when the agent stops', async () => {
    addRows(outbox, 0, 300);
    const drained = start({ backlogRowsPerSecond: 0.001 }).drain();
    for (const first of [1, 101, 201]) {
      expect((await rows()).firstSequence).toBe(first);
      await ackRows(first, first + 99);
    }
    await drained;
    expect(problems).toEqual([]);
  });

  it('goes up in batches of so many bytes', async () => {
    const values = new Float32Array(98);
    for (let time = 0; time < 90; time++) outbox.addRow(time, values, undefined, context);
    outbox.flush();
    start({ batchBytes: 10_000, backlogRowsPerSecond: Number.POSITIVE_INFINITY });
    const batch = await rows();
    expect(batch.times.length).toBe(25);
    await ackRows(1, 25);
    expect((await rows()).firstSequence).toBe(26);
  });
});

it('sends alarms of weeks offline newest first, after the events, and before the rows', async () => {
  addAlarm(outbox, 1);
  addBoot(outbox, 2);
  addAlarm(outbox, 3);
  addBoot(outbox, 4);
  addAlarm(outbox, 5);
  addRows(outbox, 0, 50);
  const drained = start().drain();
  const order: number[] = [];
  for (let count = 0; count < 5; count++) {
    let sequence: number;
    const { channel, payload } = await cloud.next();
    if (channel === 'telemetry') {
      // The events are in order of their own; rows come between, but not before the alarms.
      await ackRows(1, decodeTelemetry(payload).times.length);
      sequence = await event();
    } else sequence = Number((JSON.parse(payload.toString('utf8')) as { sequence: string }).sequence);
    order.push(sequence);
    await ackEvent(sequence);
  }
  expect(order).toEqual([2, 4, 5, 3, 1]);
  if (outbox.pendingRows > 0) await ackRows(1, 50);
  await drained;
});

describe('a metered link', () => {
  it('sends so many bytes a day, over restarts too, and goes on the day after', async () => {
    let arrived = 0;
    cloud.answer = ({ channel, payload }) => {
      if (channel === 'event') return;
      const { firstSequence, times } = decodeTelemetry(payload);
      arrived += times.length;
      void ackRows(firstSequence, firstSequence + times.length - 1);
    };
    addRows(outbox, 0, 1000);
    await start({ dayBytesMax: 2000 }).drain();
    const spent = uplink!.bytesToday;
    expect(spent).toBeGreaterThan(1800);
    expect(spent).toBeLessThanOrEqual(2000);
    expect(outbox.pendingRows).toBe(1000 - arrived);
    await stop();

    open();
    const again = start({ dayBytesMax: 2000 });
    expect(again.bytesToday).toBe(spent);
    const before = arrived;
    await again.drain();
    // What says hello costs a little, too.
    expect(arrived).toBe(before);

    clock.pass(DAY_MS);
    expect(again.bytesToday).toBe(0);
    await again.drain();
    expect(arrived).toBeGreaterThan(1.8 * before);
    expect(outbox.pendingRows).toBe(1000 - arrived);
    expect(new Set(codes())).toEqual(new Set(['UPLINK_BUDGET']));
  });

  it('sends a part of a batch when a whole one is too much, down to one row', async () => {
    const values = new Float32Array(100).fill(1);
    for (let time = 0; time < 10; time++) outbox.addRow(time, values, undefined, context);
    outbox.flush();
    // What one row costs on its way: 400 bytes of values, a few of names and numbers, 100 of the message, its topic.
    const uplink = start({ dayBytesMax: 1700 });
    const first = (await rows()).times.length;
    expect(first).toBe(3);
    const drained = uplink.drain();
    await ackRows(1, 3);
    await drained;
    expect(outbox.pendingRows).toBe(7);
    expect(uplink.bytesToday).toBeLessThanOrEqual(1700);
    expect(problems.at(-1)?.message).toContain('7 rows wait until tomorrow');
  });

  it('does not hang, and does not go round its budget, when the agent stops and not one row may go', async () => {
    addRows(outbox, 0, 10);
    addBoot(outbox, 0);
    const drained = start({ dayBytesMax: 100 }).drain();
    expect(await event()).toBe(1);
    await ackEvent(1);
    await drained;
    expect(cloud.seen).toEqual(['event']);
    expect(outbox.pendingRows).toBe(10);
    expect(codes()).toContain('UPLINK_BUDGET');
  });

  it('sends rows compressed where it pays, as the campaign or the link says', async () => {
    addRows(outbox, 0, 1000, { campaign: 'small', compression: 'gzip' });
    addRows(outbox, 0, 1000, { campaign: 'plain', compression: 'none' });
    addRows(outbox, 0, 1000);
    addRows(outbox, 0, 3, { campaign: 'few' });
    const drained = start({ compression: 'gzip', backlogBatchRows: 1000, backlogRowsPerSecond: 1e9 }).drain();
    const kinds: string[] = [];
    for (let i = 0; i < 4; i++) {
      const { payload } = await cloud.next();
      const zipped = payload.readUInt16BE(0) === 0x1f8b;
      const batch = decodeTelemetry(zipped ? gunzipSync(payload) : payload);
      kinds.push(`${batch.campaign ?? ''} ${zipped}`);
      await ackRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
    }
    await drained;
    expect(kinds).toEqual(['small true', 'plain false', ' true', 'few false']);
  });
});

describe('a clock that is not set', () => {
  it('lets rows wait, says so, and does not keep the agent from stopping', async () => {
    await stop();
    clock.isKnown = false;
    clock.wall = 5000;
    open();
    addRows(outbox, 0, 10);
    await start().drain();
    expect(codes()).toEqual(['CLOCK_UNKNOWN', 'CLOCK_UNKNOWN']);
    expect(outbox.pendingRows).toBe(10);
    clock.wall = Date.UTC(2026, 5, 1);
    clock.isKnown = true;
    outbox.flush();
    expect((await rows()).times.length).toBe(10);
  });
});
