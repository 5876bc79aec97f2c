import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cloudEvent } from '@cardan/shared';
import type { Outbox } from '../../src/outbox.ts';
import { addAlarm, addBoot, addRows, context, FakeClock, openOutbox, takeAll } from './fixture.ts';

let dir: string;
let outbox: Outbox;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'outbox-'));
});
afterEach(() => {
  outbox.close();
  rmSync(dir, { recursive: true });
});

const low = { campaign: 'low', priority: 1 };
const high = { campaign: 'high', priority: 8 };

describe('a full outbox', () => {
  it('drops the oldest of the lowest priority first, and counts them by campaign for good', () => {
    outbox = openOutbox(dir, { rowsMax: 10 });
    addRows(outbox, 0, 3, high);
    addRows(outbox, 3, 6, low);
    addRows(outbox, 6, 9);
    addRows(outbox, 9, 14, high);
    expect(outbox.droppedBy).toEqual({ low: { rows: 3, events: 0 }, '': { rows: 1, events: 0 } });
    outbox.close();
    outbox = openOutbox(dir, { rowsMax: 10 });
    expect(outbox.droppedBy).toEqual({ low: { rows: 3, events: 0 }, '': { rows: 1, events: 0 } });
    expect(outbox.dropped).toEqual({ rows: 4, events: 0 });
    expect(takeAll(outbox)).toEqual([0, 1, 2, 7, 8, 9, 10, 11, 12, 13]);
  });

  it('keeps to its bytes, and so does its file', () => {
    const bytesMax = 1_000_000;
    outbox = openOutbox(dir, { bytesMax });
    const values = new Float32Array(50);
    for (let time = 0; time < 20_000; time++) {
      outbox.addRow(time, values, undefined, context);
      if (time % 100 === 99) outbox.flush();
    }
    expect(outbox.pendingBytes).toBeLessThanOrEqual(bytesMax);
    expect(outbox.pendingBytes).toBeGreaterThan(bytesMax * 0.99);
    expect(outbox.pendingRows + outbox.dropped.rows).toBe(20_000);
    expect(statSync(join(dir, 'outbox.db')).size).toBeLessThan(1.5 * bytesMax);
    expect(takeAll(outbox).at(-1)).toBe(19_999);
    expect(outbox.pendingBytes).toBe(0);
  });

  it('keeps alarms when it drops events', () => {
    outbox = openOutbox(dir, { eventsMax: 3 });
    addAlarm(outbox, 1);
    for (let time = 2; time < 6; time++) addBoot(outbox, time);
    addAlarm(outbox, 6);
    expect(outbox.nextEvents(10).map(({ sequence }) => sequence)).toEqual([5, 6, 1]);
    expect(outbox.dropped.events).toBe(3);
  });
});

describe('rows of a campaign that are not kept on the disk', () => {
  const volatile = { campaign: 'volatile', persistence: 'memory' } as const;

  it('go up between the others by their numbers, and are gone with the process', () => {
    outbox = openOutbox(dir);
    addRows(outbox, 0, 3);
    addRows(outbox, 3, 6, volatile);
    addRows(outbox, 6, 9);
    const first = outbox.oldestRows(100)!;
    outbox.acknowledgeRows(1, 3);
    const second = outbox.oldestRows(100)!;
    expect([first.campaign, first.times.length]).toEqual([undefined, 3]);
    expect([second.campaign, second.firstSequence, [...second.times]]).toEqual(['volatile', 4, [3, 4, 5]]);
    outbox.acknowledgeRows(4, 5);
    expect([outbox.pendingRows, outbox.oldestRow]).toEqual([4, 6]);
    outbox.close();
    outbox = openOutbox(dir);
    expect(takeAll(outbox)).toEqual([6, 7, 8]);
    expect(outbox.droppedBy).toEqual({ volatile: { rows: 1, events: 0 } });
  });

  it('are bounded: the oldest go, and are counted', () => {
    outbox = openOutbox(dir, { memoryRowsMax: 10 });
    addRows(outbox, 0, 25, volatile);
    addRows(outbox, 25, 50);
    expect(outbox.droppedBy).toEqual({ volatile: { rows: 15, events: 0 } });
    expect(takeAll(outbox)).toEqual(Array.from({ length: 35 }, (_, i) => 15 + i));
  });
});

it('counts lost events by campaign', () => {
  outbox = openOutbox(dir, { eventsMax: 2 });
  addAlarm(outbox, 0);
  for (const campaign of ['frames', 'frames', 'other'])
    outbox.addEvent(
      ({ epoch, sequence }) =>
        cloudEvent(
          'io.cardan.vehicle.status',
          { source: '/vehicles/a', id: `${epoch}-${sequence}`, time: 0 },
          { online: true },
        ),
      { priority: campaign === 'other' ? 6 : 2, campaign },
    );
  expect(outbox.droppedBy).toEqual({ frames: { rows: 0, events: 2 } });
  expect(outbox.nextEvents(5).map(({ sequence }) => sequence)).toEqual([4, 1]);
});

it('keeps how the rows of a campaign go up', () => {
  outbox = openOutbox(dir);
  addRows(outbox, 0, 1, { campaign: 'a', compression: 'zstd' });
  addRows(outbox, 1, 2, { campaign: 'a', compression: 'none' });
  addRows(outbox, 2, 3, { campaign: 'a' });
  outbox.close();
  outbox = openOutbox(dir);
  const ways: unknown[] = [];
  for (let batch = outbox.oldestRows(9); batch !== undefined; batch = outbox.oldestRows(9)) {
    ways.push(batch.compression);
    outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence);
  }
  expect(ways).toEqual(['zstd', 'none', undefined]);
});

it('takes over an outbox of version 2', () => {
  outbox = openOutbox(dir);
  addRows(outbox, 0, 3, low);
  addAlarm(outbox, 0);
  const { epoch } = outbox;
  outbox.close();
  const old = new Database(join(dir, 'outbox.db'));
  old.exec('ALTER TABLE contexts DROP COLUMN compression; ALTER TABLE events DROP COLUMN campaign');
  old.pragma('user_version = 2');
  old.close();
  outbox = openOutbox(dir);
  expect(outbox.epoch).toBe(epoch);
  expect(outbox.nextEvents(5)).toHaveLength(1);
  addRows(outbox, 3, 4, { ...low, compression: 'gzip' });
  expect(takeAll(outbox)).toEqual([0, 1, 2, 3]);
});

describe('rows that wait for too long', () => {
  const ageMaxMs = 3_600_000;

  it('go, whatever time they were measured at, and are counted', () => {
    const clock = new FakeClock();
    outbox = openOutbox(dir, { ageMaxMs, clock });
    addRows(outbox, 0, 1500, low);
    clock.pass(ageMaxMs - 1);
    addRows(outbox, 1500, 1510);
    expect(outbox.pendingRows).toBe(1510);
    clock.pass(120_000);
    addRows(outbox, 1510, 1511);
    expect(outbox.droppedBy).toEqual({ low: { rows: 1500, events: 0 } });
    expect(outbox.pendingRows).toBe(11);
  });

  it('go also when nothing new comes: before they would be sent, and at the start', () => {
    const clock = new FakeClock();
    outbox = openOutbox(dir, { ageMaxMs, clock });
    addRows(outbox, 0, 5, low);
    addAlarm(outbox, 0);
    addRows(outbox, 0, 2, { persistence: 'memory', campaign: 'volatile' });
    clock.pass(ageMaxMs + 60_000);
    expect(outbox.oldestRows(10)).toBeUndefined();
    expect(outbox.nextEvents(10)).toEqual([]);
    expect(outbox.droppedBy).toEqual({
      low: { rows: 5, events: 0 },
      volatile: { rows: 2, events: 0 },
      '': { rows: 0, events: 1 },
    });
    addRows(outbox, 5, 10, low);
    outbox.close();
    clock.pass(ageMaxMs + 60_000);
    outbox = openOutbox(dir, { ageMaxMs, clock });
    expect(outbox.pendingRows).toBe(0);
    expect(outbox.droppedBy.low).toEqual({ rows: 10, events: 0 });
  });

  it('do not go when the clock jumps', () => {
    const clock = new FakeClock();
    outbox = openOutbox(dir, { ageMaxMs, clock });
    addRows(outbox, 0, 10);
    clock.wall += 100 * ageMaxMs;
    clock.monotonic += 120_000;
    addRows(outbox, 10, 11);
    expect(outbox.pendingRows).toBe(11);
  });

  it('have their age counted over a restart of the computer, if its clock was known', () => {
    const clock = new FakeClock();
    for (const [boot, known] of [
      ['boot-1', true],
      ['boot-2', false],
    ] as const) {
      clock.boot = boot;
      clock.isKnown = known;
      outbox = openOutbox(dir, { ageMaxMs, clock });
      addRows(outbox, 0, 10, { campaign: boot });
      outbox.close();
    }
    clock.pass(2 * ageMaxMs);
    clock.boot = 'boot-3';
    clock.monotonic = 5;
    clock.isKnown = true;
    outbox = openOutbox(dir, { ageMaxMs, clock });
    addRows(outbox, 0, 1);
    expect(outbox.droppedBy).toEqual({ 'boot-1': { rows: 10, events: 0 } });
  });
});

it('takes over an outbox of version 1, with its epoch, numbers, rows, events and losses', () => {
  const old = new Database(join(dir, 'outbox.db'));
  old.pragma('journal_mode = WAL');
  old.exec(`
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE contexts (
      id INTEGER PRIMARY KEY, signal_set TEXT NOT NULL, model_name TEXT NOT NULL, model_version TEXT NOT NULL);
    CREATE TABLE rows (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      time INTEGER NOT NULL, "values" BLOB NOT NULL, score REAL, context INTEGER NOT NULL);
    CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, json TEXT NOT NULL);
    INSERT INTO meta VALUES ('epoch', 77), ('dropped_rows', 4), ('dropped_events', 1);
    INSERT INTO contexts VALUES (1, 'abc', '', '');
    INSERT INTO rows (time, "values", context) VALUES (10, x'00000000', 1), (11, x'00000000', 1), (12, x'00000000', 1);
    DELETE FROM rows WHERE sequence = 3;
    INSERT INTO events (json) VALUES ('{}');
    PRAGMA application_id = ${0x4372644f};
    PRAGMA user_version = 1;
  `);
  old.close();
  outbox = openOutbox(dir);
  expect(outbox.epoch).toBe(77);
  // It did not say whether it was closed, so some numbers are left out.
  expect(outbox.nextSequence).toBeGreaterThan(4);
  expect(outbox.droppedBy).toEqual({ '': { rows: 4, events: 1 } });
  expect(outbox.nextEvents(5)).toMatchObject([{ sequence: 1, json: '{}' }]);
  addRows(outbox, 13, 14);
  expect(takeAll(outbox)).toEqual([10, 11, 13]);
  expect(outbox.pendingBytes).toBe(0);
});
