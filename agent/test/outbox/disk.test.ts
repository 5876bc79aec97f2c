import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CardanError } from '@cardan/shared';
import type { Outbox } from '../../src/outbox.ts';
import { addAlarm, addBoot, addRows, context, openOutbox, takeAll } from './fixture.ts';

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

describe('a power cut', () => {
  /** What is on the disk at this moment, which is what a cut may leave later: the last commits need not be there. */
  function snapshot(): () => void {
    const kept = mkdtempSync(join(tmpdir(), 'outbox-cut-'));
    for (const name of readdirSync(dir)) copyFileSync(join(dir, name), join(kept, name));
    return () => {
      for (const name of readdirSync(dir)) rmSync(join(dir, name));
      for (const name of readdirSync(kept))
        if (!name.endsWith('-shm')) copyFileSync(join(kept, name), join(dir, name));
      rmSync(kept, { recursive: true });
    };
  }
  /** Numbers of rows and events that have gone up, as a bridge sees them. */
  function send(outbox: Outbox): string[] {
    const sent: string[] = [];
    for (let batch = outbox.oldestRows(100); batch !== undefined; batch = outbox.oldestRows(100)) {
      const last = batch.firstSequence + batch.times.length - 1;
      for (let row = batch.firstSequence; row <= last; row++) sent.push(`row ${batch.epoch} ${row}`);
      outbox.acknowledgeRows(batch.firstSequence, last);
    }
    for (let [event] = outbox.nextEvents(1); event !== undefined; [event] = outbox.nextEvents(1)) {
      sent.push(`event ${outbox.epoch} ${event.sequence}`);
      outbox.acknowledgeEvents(event.sequence, event.sequence);
    }
    return sent;
  }
  function drive(outbox: Outbox, from: number, of = {}): string[] {
    addRows(outbox, from, from + 10, of);
    addAlarm(outbox, from);
    return send(outbox);
  }

  it('that takes the last commits never makes a number be used twice', () => {
    const sent: string[] = [];
    let outbox = openOutbox(dir);
    const { epoch } = outbox;
    sent.push(...drive(outbox, 0));
    for (let cut = 1; cut <= 3; cut++) {
      const restore = snapshot();
      sent.push(...drive(outbox, 100 * cut), ...drive(outbox, 100 * cut + 50));
      outbox.close();
      restore();
      outbox = openOutbox(dir);
      sent.push(...drive(outbox, 100 * cut + 70));
    }
    outbox.close();
    expect(sent).toHaveLength(10 * 11);
    expect(new Set(sent).size).toBe(sent.length);
    expect(sent.every((name) => name.split(' ')[1] === String(epoch))).toBe(true);
  });

  it('right after the start leaves the numbers that were left out on the disk', () => {
    const sent: string[] = [];
    let outbox = openOutbox(dir);
    sent.push(...drive(outbox, 0));
    const restore = snapshot();
    outbox.close();
    restore();
    outbox = openOutbox(dir);
    const again = snapshot(); // it has skipped, and sent nothing yet
    sent.push(...drive(outbox, 10));
    outbox.close();
    again();
    outbox = openOutbox(dir);
    sent.push(...drive(outbox, 20));
    outbox.close();
    expect(new Set(sent).size).toBe(33);
  });

  it('takes rows that are never written, and not their numbers', () => {
    const volatile = { persistence: 'memory' } as const;
    const sent: string[] = [];
    let outbox = openOutbox(dir);
    const restore = snapshot();
    sent.push(...drive(outbox, 0, volatile));
    addRows(outbox, 50, 60, volatile);
    outbox.close();
    restore();
    outbox = openOutbox(dir);
    expect(outbox.pendingRows).toBe(0);
    sent.push(...drive(outbox, 100, volatile));
    outbox.close();
    expect(new Set(sent).size).toBe(22);
  });

  it('is told from a clean end, after which numbers go on without a gap', () => {
    let outbox = openOutbox(dir);
    addRows(outbox, 0, 5, { persistence: 'memory' });
    addAlarm(outbox, 0);
    send(outbox);
    outbox.close();
    outbox = openOutbox(dir);
    expect(outbox.nextSequence).toBe(6);
    addAlarm(outbox, 1);
    expect(outbox.nextEvents(1)[0]?.sequence).toBe(2);
    outbox.close();
  });
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

  it('never loses anything while there is a connection, though it never takes anything', () => {
    const outbox = openOutbox(mount, { memoryRowsMax: 100, onProblem });
    add(outbox, 0, 10);
    fill();
    const arrived: number[] = [];
    const alarms = new Set<number>();
    for (let time = 10; time < 3000; time += 10) {
      add(outbox, time, time + 10);
      addAlarm(outbox, time);
      // All that is there goes up: first what is in the file, then what is in memory.
      arrived.push(...takeAll(outbox));
      for (const { sequence } of outbox.nextEvents(10)) {
        alarms.add(sequence);
        outbox.acknowledgeEvents(sequence, sequence);
      }
    }
    expect(outbox.inMemory).toBe(true);
    expect(arrived).toEqual(Array.from({ length: 3000 }, (_, i) => i));
    expect(alarms.size).toBe(299);
    expect([outbox.pendingRows, outbox.pendingEvents]).toEqual([0, 0]);
    expect(outbox.dropped).toEqual({ rows: 0, events: 0 });
    rmSync(join(mount, 'filler'));
    outbox.flush();
    expect([outbox.inMemory, outbox.pendingRows, outbox.pendingEvents]).toEqual([false, 0, 0]);
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

  it('keeps alarms in memory when it drops events', () => {
    const outbox = openOutbox(mount, { memoryEventsMax: 5, onProblem });
    fill();
    for (let time = 0; !outbox.inMemory; time++) add(outbox, time, time + 1);
    addAlarm(outbox, 1);
    for (let time = 0; time < 10; time++) addBoot(outbox, time);
    const events = outbox.nextEvents(10);
    expect(events.map(({ priority }) => priority)).toEqual([5, 5, 5, 5, 9]);
    expect(outbox.dropped.events).toBe(6);
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

describe('a disk that fails', () => {
  it('lets rows wait in memory, and go up from there; all is well when it takes them again', () => {
    // The kernel lets this process write no file beyond 100 kB: a real error of the disk, EFBIG, in the middle of it all.
    const script = `
      const { Outbox } = await import(${JSON.stringify(new URL('../../src/outbox.ts', import.meta.url).href)});
      process.on('SIGXFSZ', () => undefined);
      const outbox = new Outbox({
        path: ${JSON.stringify(join(dir, 'outbox.db'))}, rowsMax: 1e6, eventsMax: 10, memoryRowsMax: 1e5,
        synchronous: 'NORMAL', onProblem: ({ code }) => console.log(code),
      });
      const context = { signalSet: 'abc', modelName: '', modelVersion: '' };
      for (let time = 0; time < 20000; time++) {
        outbox.addRow(time, new Float32Array(10), undefined, context);
        if (time % 100 === 0) outbox.flush();
      }
      outbox.flush();
      console.log(outbox.inMemory, outbox.pendingRows, outbox.dropped.rows);
      let rows = 0;
      for (let batch = outbox.oldestRows(1000); batch !== undefined; batch = outbox.oldestRows(1000)) {
        rows += batch.times.length;
        outbox.acknowledgeRows(batch.firstSequence, batch.firstSequence + batch.times.length - 1);
      }
      console.log(rows, outbox.pendingRows);
      process.exit();`;
    const child = spawnSync(
      'bash',
      [
        '-c',
        'ulimit -f 100; exec "$0" "$@"',
        process.execPath,
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        script,
      ],
      { encoding: 'utf8' },
    );
    const said = child.stdout.trim().split('\n');
    expect(said.slice(-2), child.stderr).toEqual(['true 20000 0', '20000 0']);
    expect(new Set(said.slice(0, -2))).toEqual(new Set(['OUTBOX_IO']));
    // Without the limit the file is whole.
    const outbox = openOutbox(dir, { onProblem });
    addRows(outbox, 0, 3);
    expect(takeAll(outbox).slice(-3)).toEqual([0, 1, 2]);
    outbox.close();
    expect(codes()).toEqual([]);
  }, 30_000);
});
