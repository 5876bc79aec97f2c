import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCloudEvent } from '@cardan/shared';
import type { Outbox } from '../../src/outbox.ts';
import { addAlarm, addRows, FakeClock, openOutbox, takeAll } from './fixture.ts';

let dir: string;
let outbox: Outbox;
const clock = new FakeClock();
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'outbox-'));
});
afterEach(() => {
  outbox.close();
  rmSync(dir, { recursive: true });
});

describe('a clock that is set while the car drives', () => {
  it('lets rows and alarms of this boot wait until then, and sends them with the right time', () => {
    clock.isKnown = false;
    outbox = openOutbox(dir, { clock });
    addRows(outbox, 100, 103);
    addAlarm(outbox, 102);
    expect(outbox.oldestRows(10)).toBeUndefined();
    expect(outbox.nextEvents(10)).toEqual([]);
    clock.isKnown = true;
    outbox.clockCorrected(1_000_000);
    addRows(outbox, 1_000_103, 1_000_105);
    expect(takeAll(outbox)).toEqual([1_000_100, 1_000_101, 1_000_102, 1_000_103, 1_000_104]);
    const [event] = outbox.nextEvents(10);
    expect(Date.parse(parseCloudEvent(event?.json ?? '').time)).toBe(1_000_102);
  });

  it('corrects rows from before a restart of the agent in this boot, and none of an earlier boot', () => {
    clock.boot = 'one';
    outbox = openOutbox(dir, { clock });
    addRows(outbox, 0, 2);
    outbox.close();
    clock.boot = 'two';
    outbox = openOutbox(dir, { clock });
    addRows(outbox, 10, 12);
    outbox.close();
    outbox = openOutbox(dir, { clock });
    addRows(outbox, 20, 22);
    outbox.clockCorrected(500);
    outbox.clockCorrected(-5);
    expect(takeAll(outbox)).toEqual([0, 1, 505, 506, 515, 516]);
  });

  it('sends what an earlier boot has recorded while this one still waits for the time', () => {
    clock.boot = 'one';
    outbox = openOutbox(dir, { clock });
    addRows(outbox, 0, 2);
    outbox.close();
    clock.boot = 'two';
    clock.isKnown = false;
    outbox = openOutbox(dir, { clock });
    addRows(outbox, 5, 7);
    expect(takeAll(outbox)).toEqual([0, 1]);
    expect(outbox.pendingRows).toBe(2);
    clock.isKnown = true;
  });
});

describe('a clock that is noticed to have been set', () => {
  const RIGHT = Date.UTC(2026, 5, 1);
  /** Rows at the time of the clock, one a second. */
  function drive(clock: FakeClock, seconds: number, of = {}) {
    for (let second = 0; second < seconds; second++) {
      clock.pass(1000);
      addRows(outbox, clock.wall, clock.wall + 1, of);
    }
  }
  function unset(): FakeClock {
    const clock = new FakeClock();
    clock.wall = 20_000;
    clock.isKnown = false;
    return clock;
  }
  const seconds = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + 1000 * i);

  it('gives the rows and events from before their right times, whatever is recorded next', () => {
    const clock = unset();
    outbox = openOutbox(dir, { clock });
    drive(clock, 40);
    addAlarm(outbox, clock.wall);
    drive(clock, 2, { persistence: 'memory' });
    expect(outbox.oldestRows(10)).toBeUndefined();
    expect(outbox.waitsForClock).toBe(true);
    clock.wall = RIGHT + 42_000;
    clock.isKnown = true;
    drive(clock, 3);
    expect(outbox.waitsForClock).toBe(false);
    expect(takeAll(outbox)).toEqual(seconds(RIGHT + 1000, 45));
    expect(parseCloudEvent(outbox.nextEvents(1)[0]!.json).time).toBe(new Date(RIGHT + 40_000).toISOString());
  });

  it('goes back as well as forward', () => {
    const clock = unset();
    clock.wall = Date.UTC(2031, 0, 1); // a battery that was changed
    outbox = openOutbox(dir, { clock });
    drive(clock, 5);
    clock.wall = RIGHT;
    clock.isKnown = true;
    drive(clock, 5);
    expect(takeAll(outbox)).toEqual(seconds(RIGHT - 4000, 10));
  });

  it('gives its right time to a row that was being made then, and not one after the next', () => {
    const clock = unset();
    outbox = openOutbox(dir, { clock });
    drive(clock, 3);
    clock.pass(200);
    const wrong = clock.wall + 800; // the row's end, as it was planned
    clock.wall = RIGHT;
    clock.isKnown = true;
    addRows(outbox, wrong, wrong + 1);
    addRows(outbox, RIGHT + 500, RIGHT + 501);
    expect(takeAll(outbox)).toEqual([RIGHT - 2200, RIGHT - 1200, RIGHT - 200, RIGHT, RIGHT + 500]);
  });

  it('leaves alone what has the time of a recording', () => {
    const clock = unset();
    outbox = openOutbox(dir, { clock });
    const recorded = Date.UTC(2020, 0, 1);
    addRows(outbox, recorded, recorded + 3);
    clock.wall = RIGHT;
    clock.isKnown = true;
    addRows(outbox, recorded + 3, recorded + 5);
    expect(takeAll(outbox)).toEqual([0, 1, 2, 3, 4].map((ms) => recorded + ms));
  });

  it('is noticed when it was set while the agent did not run', () => {
    const clock = unset();
    outbox = openOutbox(dir, { clock });
    drive(clock, 3);
    outbox.close();
    clock.pass(7000);
    clock.wall = RIGHT;
    clock.isKnown = true;
    outbox = openOutbox(dir, { clock });
    drive(clock, 1);
    expect(takeAll(outbox)).toEqual([...seconds(RIGHT - 9000, 3), RIGHT + 1000]);
  });

  it('changes nothing when it was believed: each row keeps the time that it had', () => {
    const clock = new FakeClock();
    outbox = openOutbox(dir, { clock });
    const { wall } = clock;
    drive(clock, 3);
    clock.wall += 3_600_000;
    drive(clock, 2);
    clock.wall -= 7_200_000;
    drive(clock, 2);
    const batches: number[][] = [];
    for (let batch = outbox.oldestRows(100); batch !== undefined; batch = outbox.oldestRows(100)) {
      batches.push([...batch.times].map((time) => time - wall));
      outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
    }
    expect(batches).toEqual([
      [1000, 2000, 3000, 3_604_000, 3_605_000],
      [-3_594_000, -3_593_000],
    ]);
  });

  it('is waited for no longer than a while, if it may be right', () => {
    const clock = new FakeClock();
    clock.isKnown = false;
    outbox = openOutbox(dir, { clock, clockHoldMs: 60_000 });
    addRows(outbox, 0, 2);
    clock.pass(59_999);
    expect(outbox.oldestRows(10)).toBeUndefined();
    clock.pass(1);
    expect(takeAll(outbox)).toEqual([0, 1]);
  });
});
