import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CardanError } from '@cardan/shared';
import type { Outbox } from '../../src/outbox.ts';
import { addAlarm, addRows, context, openOutbox, takeAll } from './fixture.ts';

let dir: string;
let problems: CardanError[];
const onProblem = (error: CardanError) => problems.push(error);
const codes = () => problems.map(({ code }) => code);
beforeEach(() => {
  problems = [];
  dir = mkdtempSync(join(tmpdir(), 'outbox-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

describe('kill -9', () => {
  it('at any moment loses no row that was written, and leaves no half ones', async () => {
    const script = `
      const { Outbox } = await import(${JSON.stringify(new URL('../../src/outbox.ts', import.meta.url).href)});
      const outbox = new Outbox({ path: ${JSON.stringify(join(dir, 'outbox.db'))}, rowsMax: 1e6, eventsMax: 10, synchronous: 'NORMAL' });
      let time = outbox.nextSequence;
      const context = { signalSet: 'abc', modelName: '', modelVersion: '' };
      for (;;) {
        for (let i = 0; i < 1 + (time % 37); i++, time++) outbox.addRow(time, Float32Array.of(time), undefined, context);
        outbox.flush();
        if (time % 5 === 0) { const batch = outbox.oldestRows(3); outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1); }
        console.log(outbox.nextSequence - 1);
        await new Promise((resolve) => setImmediate(resolve));
      }`;
    for (let round = 0; round < 5; round++) {
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const linesUntilKill = 20 + Math.floor(Math.random() * 200);
      const exited = once(child, 'exit');
      let written = 0;
      let lines = 0;
      for await (const line of createInterface(child.stdout)) {
        written = Number(line);
        if (++lines === linesUntilKill) child.kill('SIGKILL');
      }
      await exited;
      const outbox = openOutbox(dir);
      expect(outbox.nextSequence).toBeGreaterThan(written);
      // Sequence number = time: the rows are the last ones, without a gap.
      const oldest = outbox.oldestRow;
      const pending = outbox.pendingRows;
      expect(oldest + pending, `killed after ${linesUntilKill} lines`).toBeGreaterThan(written);
      const times: number[] = [];
      for (let at = 0; at < pending;) {
        const batch = outbox.oldestRows(1000)!;
        times.push(...batch.times);
        at += batch.times.length;
        outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
      }
      expect(times).toEqual(Array.from({ length: pending }, (_, i) => oldest + i));
      expect([outbox.pendingRows, outbox.pendingBytes]).toEqual([0, 0]);
      outbox.close();
    }
  }, 60_000);
});

describe('a damaged file', () => {
  it('is set aside under its time, a few of them are kept, and a new one begins', () => {
    const epochs = new Set<number>();
    for (let i = 0; i < 6; i++) {
      writeFileSync(join(dir, 'outbox.db'), 'no database '.repeat(500));
      const outbox = openOutbox(dir, { onProblem });
      epochs.add(outbox.epoch);
      addRows(outbox, 0, 5);
      expect(takeAll(outbox)).toEqual([0, 1, 2, 3, 4]);
      outbox.close();
    }
    expect(codes()).toEqual(Array(6).fill('OUTBOX_CORRUPT'));
    expect(epochs.size).toBe(6);
    const kept = readdirSync(dir).filter((name) => name.startsWith('outbox.db.corrupt-'));
    expect(kept).toHaveLength(3);
    expect(problems.at(-1)?.message).toContain('.corrupt-2');
  });

  it('is found while it is read, and new rows go on', () => {
    let outbox = openOutbox(dir);
    addRows(outbox, 0, 5000);
    outbox.close();
    const file = openSync(join(dir, 'outbox.db'), 'r+');
    // The pages of rows behind the first ones.
    writeSync(file, Buffer.alloc(60_000, 0xff), 0, 60_000, 30 * 4096);
    closeSync(file);
    outbox = openOutbox(dir, { onProblem });
    const { epoch } = outbox;
    takeAll(outbox);
    expect(codes()).toEqual(['OUTBOX_CORRUPT']);
    expect(outbox.epoch).not.toBe(epoch);
    addRows(outbox, 9000, 9003);
    expect(takeAll(outbox)).toEqual([9000, 9001, 9002]);
    outbox.close();
  });
});

const mount = mkdtempSync(join(tmpdir(), 'outbox-disk-'));
const mounted =
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'none', mount], { stdio: 'ignore' }).status === 0;
if (!mounted) console.log('a full disk: skipped, since a small tmpfs cannot be mounted here');
afterAll(() => {
  if (mounted) spawnSync('umount', [mount]);
  rmSync(mount, { recursive: true, force: true });
});

describe.skipIf(!mounted)('a full disk', () => {
  const values = new Float32Array(50);
  function fill() {
    const file = openSync(join(mount, 'filler'), 'w');
    try {
      for (;;) writeSync(file, Buffer.alloc(4096));
    } catch {
      closeSync(file);
    }
  }
  function add(outbox: Outbox, from: number, to: number, of = {}) {
    for (let time = from; time < to; time++) {
      outbox.addRow(time, values, undefined, { ...context, ...of });
      outbox.flush();
    }
  }
  afterEach(() => {
    for (const name of readdirSync(mount)) rmSync(join(mount, name));
  });

  it('is never filled by the outbox itself', () => {
    const outbox = openOutbox(mount, { onProblem });
    add(outbox, 0, 10_000);
    expect(outbox.pendingRows + outbox.dropped.rows).toBe(10_000);
    expect(outbox.pendingRows).toBeGreaterThan(1000);
    expect(takeAll(outbox).at(-1)).toBe(9999);
    expect(codes()).toEqual([]);
    outbox.close();
  });

  it('lets rows, alarms and acknowledgements wait in memory, and all come in when there is room', () => {
    const outbox = openOutbox(mount, { memoryRowsMax: 1000, onProblem });
    add(outbox, 0, 10);
    fill();
    add(outbox, 10, 900);
    addAlarm(outbox, 900);
    expect(outbox.inMemory).toBe(true);
    expect(codes()).toEqual(['OUTBOX_FULL']);
    outbox.acknowledgeRows(1, 5);
    expect(outbox.oldestRow).toBe(6);
    rmSync(join(mount, 'filler'));
    outbox.flush();
    expect(outbox.inMemory).toBe(false);
    expect(outbox.dropped).toEqual({ rows: 0, events: 0 });
    expect(outbox.nextEvents(10)).toHaveLength(1);
    expect(takeAll(outbox)).toEqual(Array.from({ length: 895 }, (_, i) => i + 5));
    outbox.close();
    expect(codes()).toEqual(['OUTBOX_FULL']);
  });

  it('bounds what waits in memory: the oldest of the lowest priority go, and are counted', () => {
    const outbox = openOutbox(mount, { memoryRowsMax: 50, onProblem });
    add(outbox, 0, 1);
    fill();
    add(outbox, 1, 1000, { campaign: 'filling' });
    expect(outbox.inMemory).toBe(true);
    add(outbox, 1000, 1030, { campaign: 'high', priority: 8 });
    add(outbox, 1030, 1060, { campaign: 'low', priority: 2 });
    const { high, low } = outbox.droppedBy;
    expect([high, low?.rows]).toEqual([undefined, 30]);
    rmSync(join(mount, 'filler'));
    outbox.flush();
    const times = takeAll(outbox);
    expect(times.length + outbox.dropped.rows).toBe(1060);
    expect(times.slice(-50)).toEqual(Array.from({ length: 50 }, (_, i) => 980 + i));
    outbox.close();
  });

  it('lets it start, and take rows into memory', () => {
    fill();
    const outbox = openOutbox(mount, { onProblem });
    add(outbox, 0, 5);
    addAlarm(outbox, 5);
    expect(outbox.inMemory).toBe(true);
    rmSync(join(mount, 'filler'));
    outbox.flush();
    expect(takeAll(outbox)).toEqual([0, 1, 2, 3, 4]);
    expect(outbox.nextEvents(1)).toHaveLength(1);
    outbox.close();
    expect(codes()).toEqual(['OUTBOX_FULL']);
  });
});
