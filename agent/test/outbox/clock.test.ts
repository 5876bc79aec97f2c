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
