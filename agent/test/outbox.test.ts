import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CardanError, cloudEvent, parseCloudEvent } from '@cardan/shared';
import { Outbox, type OutboxOptions } from '../src/outbox.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'outbox-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const context = { signalSet: 'abc', modelName: '', modelVersion: '' };
function open(options: Partial<OutboxOptions> = {}) {
  return new Outbox({
    path: join(dir, 'outbox.db'),
    rowsMax: 1000,
    eventsMax: 100,
    synchronous: 'NORMAL',
    ...options,
  });
}
function add(outbox: Outbox, from: number, to: number, score?: number) {
  for (let time = from; time < to; time++) outbox.addRow(time, Float32Array.of(time, -time), score, context);
  outbox.flush();
}
function boot(outbox: Outbox) {
  outbox.addEvent(({ epoch, sequence }) =>
    cloudEvent(
      'io.cardan.vehicle.boot',
      { source: '/vehicles/a', id: `${epoch}-${sequence}`, time: 0 },
      { agent: '1', signalSet: 'abc' },
    ),
  );
}

describe('Outbox', () => {
  it('hands out the oldest rows as one batch, and again until they are acknowledged', () => {
    const outbox = open();
    add(outbox, 0, 10, 0.5);
    const batch = outbox.oldestRows(4);
    expect(batch).toMatchObject({ firstSequence: 1, signalSet: 'abc', epoch: outbox.epoch });
    expect([...(batch?.times ?? [])]).toEqual([0, 1, 2, 3]);
    expect([...(batch?.values ?? [])]).toEqual([0, -0, 1, -1, 2, -2, 3, -3]);
    expect(outbox.oldestRows(4)?.firstSequence).toBe(1);
    outbox.acknowledgeRows(1, 4);
    expect(outbox.oldestRows(100)?.firstSequence).toBe(5);
    expect(outbox.pendingRows).toBe(6);
    outbox.close();
  });

  it('keeps rows, sequence and epoch over a restart, and never uses a number twice', () => {
    let outbox = open();
    const { epoch } = outbox;
    add(outbox, 0, 5);
    outbox.acknowledgeRows(1, 5);
    outbox.close();
    outbox = open();
    expect(outbox.epoch).toBe(epoch);
    expect(outbox.nextSequence).toBe(6);
    add(outbox, 5, 6);
    expect(outbox.oldestRows(10)?.firstSequence).toBe(6);
    outbox.close();
  });

  it('begins a new epoch when it is created anew', () => {
    const first = open();
    first.close();
    rmSync(join(dir, 'outbox.db'));
    const second = open();
    expect(second.epoch).not.toBe(first.epoch);
    second.close();
  });

  it('ends a batch where the model changes and where the clock goes back', () => {
    const outbox = open();
    add(outbox, 10, 13);
    outbox.addRow(13, Float32Array.of(1, 1), 2, { ...context, modelName: 'm', modelVersion: '1' });
    outbox.addRow(14, Float32Array.of(1, 1), undefined, { ...context, modelName: 'm', modelVersion: '1' });
    outbox.addRow(3, Float32Array.of(1, 1), 2, { ...context, modelName: 'm', modelVersion: '1' });
    outbox.flush();
    const sizes: unknown[] = [];
    for (let batch = outbox.oldestRows(100); batch !== undefined; batch = outbox.oldestRows(100)) {
      sizes.push([batch.times.length, batch.modelVersion, [...batch.scores]]);
      outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
    }
    expect(sizes).toEqual([
      [3, '', []],
      [2, '1', [2, NaN]],
      [1, '1', [2]],
    ]);
    outbox.close();
  });

  it('takes new rows when it is full: the oldest go, and are counted for good', () => {
    let outbox = open({ rowsMax: 10 });
    add(outbox, 0, 25);
    expect(outbox.pendingRows).toBe(10);
    expect(outbox.oldestRows(100)?.firstSequence).toBe(16);
    outbox.close();
    outbox = open({ rowsMax: 10 });
    expect(outbox.dropped).toEqual({ rows: 15, events: 0 });
    outbox.close();
  });

  it('ends a batch at a gap that dropped rows have left', () => {
    const outbox = open();
    add(outbox, 0, 6);
    outbox.acknowledgeRows(3, 4);
    expect(outbox.oldestRows(100)?.times.length).toBe(2);
    outbox.close();
  });

  it('names events by epoch and sequence', () => {
    const outbox = open({ eventsMax: 3 });
    for (let i = 0; i < 5; i++) boot(outbox);
    const events = outbox.nextEvents(10);
    expect(events.map(({ sequence }) => sequence)).toEqual([3, 4, 5]);
    expect(parseCloudEvent(events[0]?.json ?? '')).toMatchObject({
      id: `${outbox.epoch}-3`,
      outboxepoch: String(outbox.epoch),
      sequence: '3',
    });
    expect(outbox.dropped.events).toBe(2);
    outbox.acknowledgeEvents(3, 4);
    expect(outbox.pendingEvents).toBe(1);
    outbox.close();
  });

  it('has every row that it had written when its process is killed', () => {
    const script = `
      const { Outbox } = await import(${JSON.stringify(new URL('../src/outbox.ts', import.meta.url).href)});
      const outbox = new Outbox({ path: ${JSON.stringify(join(dir, 'outbox.db'))}, rowsMax: 1000, eventsMax: 10, synchronous: 'NORMAL' });
      for (let i = 0; i < 100; i++) outbox.addRow(i, Float32Array.of(i), undefined, { signalSet: 's', modelName: '', modelVersion: '' });
      outbox.flush();
      process.kill(process.pid, 'SIGKILL');`;
    const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(child.signal, child.stderr).toBe('SIGKILL');
    const outbox = open();
    expect(outbox.pendingRows).toBe(100);
    outbox.close();
  });

  it.each([
    [
      'another database',
      () => new Database(join(dir, 'outbox.db')).exec('CREATE TABLE t (x)').close(),
      'OUTBOX_VERSION',
    ],
    [
      'an outbox of a later version',
      () => {
        open().close();
        const db = new Database(join(dir, 'outbox.db'));
        db.pragma('user_version = 4');
        db.close();
      },
      'OUTBOX_VERSION',
    ],
  ])('refuses a file that is %s, and says what to do', (_name, make, code) => {
    make();
    expect(open).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining('move') as string }) as CardanError,
    );
  });
});
