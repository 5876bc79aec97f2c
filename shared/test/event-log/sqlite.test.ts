import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Batch,
  type NewRecord,
  openEventLog,
  SqliteEventLog,
  type SqliteEventLogOptions,
} from '@cardan/shared/event-log';
import { Consumer, Meeting } from './consumer.ts';
import { eventLogContract } from './contract.ts';

const CHILD = fileURLToPath(new URL('child.ts', import.meta.url));
const code = (name: string) => expect.objectContaining({ name: 'CardanError', code: name }) as unknown;

let folder: string;
let path: string;
let logs: SqliteEventLog[];
let children: ChildProcess[];

async function begin(): Promise<void> {
  folder = await mkdtemp(join(tmpdir(), 'cardan-log-'));
  path = join(folder, 'log.db');
  logs = [];
  children = [];
}

async function end(): Promise<void> {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await kill(child);
  await Promise.all(logs.map((log) => log.close()));
  await rm(folder, { recursive: true });
}

async function open(options: Partial<SqliteEventLogOptions> = {}): Promise<SqliteEventLog> {
  const log = await SqliteEventLog.open({ path, ...options });
  logs.push(log);
  return log;
}

function child(...args: (string | number)[]): { process: ChildProcess; lines: AsyncIterator<string> } {
  const process_ = spawn(process.execPath, ['--import', 'tsx', CHILD, ...args.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(process_);
  return { process: process_, lines: createInterface(process_.stdout)[Symbol.asyncIterator]() };
}

async function kill(process_: ChildProcess): Promise<void> {
  const exited = once(process_, 'exit');
  process_.kill('SIGKILL');
  await exited;
}

function numbered(count: number, rest: (i: number) => Partial<NewRecord> = () => ({})): NewRecord[] {
  return Array.from({ length: count }, (_, i) => ({
    key: 'car',
    value: Buffer.from(String(i)),
    timestamp: 1_700_000_000_000 + i,
    ...rest(i),
  }));
}

async function valuesOf(batches: AsyncIterable<Batch>): Promise<string[]> {
  const values: string[] = [];
  for await (const { records } of batches) values.push(...records.map(({ value }) => String(value)));
  return values;
}

const all = { from: 'earliest', to: 'latest' } as const;

eventLogContract('SqliteEventLog', {
  async open() {
    await begin();
    return { log: await open(), another: open, destroy: end };
  },
});

describe('SqliteEventLog', () => {
  beforeEach(begin);
  afterEach(end);

  describe('several processes', () => {
    it('append to one file, and a reader sees every record once and in order', async () => {
      const log = await open();
      await log.createTopic('t', { partitions: 2 });
      const count = 210;
      const writers = ['a', 'b', 'c'].map((key) => child('append', path, 't', key, count).process);
      const exits = Promise.all(writers.map((writer) => once(writer, 'exit')));
      const abort = new AbortController();
      const perKey = new Map<string | null, number[]>(['a', 'b', 'c'].map((key) => [key, []]));
      const next = [0, 0];
      let seen = 0;
      for await (const { partition, records } of log.read('t', { from: 'earliest', signal: abort.signal })) {
        for (const { key, value, offset } of records) {
          expect(offset).toBe(next[partition]);
          next[partition] = offset + 1;
          perKey.get(key)?.push(Number(value));
        }
        seen += records.length;
        if (seen === 3 * count) abort.abort();
      }
      for (const values of perKey.values())
        expect(values).toEqual(Array.from({ length: count }, (_, i) => i));
      expect((await exits).map(([status]) => status as number)).toEqual([0, 0, 0]);
    });

    it('keep what one has confirmed before it was killed, and whole appends only', async () => {
      const log = await open();
      await log.createTopic('t', { partitions: 1 });
      await log.close();
      const { process, lines } = child('append', path, 't', 'a', 7_000_000);
      let confirmed = 0;
      while (confirmed < 7 * 150) confirmed = Number((await lines.next()).value);
      await kill(process);
      for (;;) {
        const line = await lines.next();
        if (line.done) break;
        confirmed = Number(line.value);
      }
      const values = await valuesOf((await open()).read('t', all));
      expect(values.length).toBeGreaterThanOrEqual(confirmed);
      expect(values.length % 7).toBe(0);
      expect(values).toEqual(Array.from({ length: values.length }, (_, i) => String(i)));
    });

    it('take over what a killed member had in hand', async () => {
      const log = await open({ sessionTimeoutMs: 400 });
      await log.createTopic('t', { partitions: 2 });
      await log.append('t', numbered(5));
      const { process, lines } = child('hold', path, 't', 'g', 400);
      expect((await lines.next()).value).toBe('0,1,2,3,4');
      const meeting = new Meeting();
      const consumer = new Consumer(log, 'g', ['t'], meeting);
      await kill(process);
      await meeting.until(() => consumer.values.length > 0);
      await consumer.stop();
      expect(consumer.values).toEqual(['0', '1', '2', '3', '4']);
      expect((await log.lag('g')).map(({ lag }) => lag)).toEqual([0, 0]);
    });

    it('wait for each other without blocking the event loop', async () => {
      const log = await open();
      await log.createTopic('t', { partitions: 1 });
      const holder = new Database(path);
      holder.exec('BEGIN IMMEDIATE');
      let settled = false;
      const append = log.append('t', numbered(3)).finally(() => (settled = true));
      const topic = log.createTopic('u', { partitions: 1 });
      // Many turns of the event loop pass while both wait for the lock.
      for (let turn = 0; turn < 500; turn++) await nextTurn();
      expect(settled).toBe(false);
      expect(await valuesOf(log.read('t', all))).toEqual([]);
      holder.exec('COMMIT');
      holder.close();
      await Promise.all([append, topic]);
      expect(await valuesOf(log.read('t', all))).toHaveLength(3);
    });

    it('may create the same log at the same time', async () => {
      const opened = await Promise.all(Array.from({ length: 5 }, () => open()));
      await Promise.all(opened.map((log) => log.createTopic('t', { partitions: 2 })));
      for (const log of opened) expect(await log.topics()).toHaveLength(1);
    });
  });

  describe('a member of a group', () => {
    it('keeps its partitions while it works on a batch for longer than the session', async () => {
      const session = 400;
      const meeting = new Meeting();
      let beats = 0;
      const slow = await open({ sessionTimeoutMs: session });
      const quick = await open({
        sessionTimeoutMs: session,
        clock: () => {
          beats++;
          meeting.happened();
          return Date.now();
        },
      });
      await slow.createTopic('t', { partitions: 1 });
      await slow.append('t', numbered(4));
      const abort = new AbortController();
      const options = { recordsMax: 2, signal: abort.signal };
      const batches = slow.subscribe('g', ['t'], options)[Symbol.asyncIterator]();
      await batches.next();
      const other = new Consumer(quick, 'g', ['t'], meeting);
      // Three heartbeats are one session: it has looked for dead members over four sessions.
      await meeting.until(() => beats > 12);
      expect(other.values).toEqual([]);
      abort.abort();
      expect((await batches.next()).done).toBe(true);
      await meeting.until(() => other.values.length === 2);
      await other.stop();
      expect(other.values).toEqual(['2', '3']);
    });

    it('cannot commit what another member has taken over', async () => {
      const meeting = new Meeting();
      let ahead = 0;
      const log = await open();
      const other = await open({
        clock: () => {
          const now = Date.now() + ahead;
          ahead = 0;
          return now;
        },
      });
      await log.createTopic('t', { partitions: 1 });
      await log.append('t', numbered(10));
      const abort = new AbortController();
      const options = { recordsMax: 5, signal: abort.signal };
      const fenced = log.subscribe('g', ['t'], options)[Symbol.asyncIterator]();
      await fenced.next();
      // To the other one, the first has been silent for an hour.
      ahead = 3_600_000;
      const consumer = new Consumer(other, 'g', ['t'], meeting, { recordsMax: 5 });
      await meeting.until(() => consumer.values.length === 10);
      await consumer.stop();
      expect((await log.lag('g'))[0]).toMatchObject({ committed: 10, lag: 0 });
      const waiting = fenced.next();
      abort.abort();
      await waiting;
      expect((await log.lag('g'))[0]).toMatchObject({ committed: 10, lag: 0 });
    });

    it('reads on after it was fenced', async () => {
      const log = await open();
      await log.createTopic('t', { partitions: 1 });
      await log.append('t', numbered(4));
      const batches = log.subscribe('g', ['t'], { recordsMax: 2 })[Symbol.asyncIterator]();
      await batches.next();
      // As another member does that thinks this one dead, and then leaves again.
      const db = new Database(path);
      db.exec('DELETE FROM group_members; UPDATE group_partitions SET owner = NULL, committed = 1');
      db.exec('UPDATE groups SET generation = generation + 2');
      db.close();
      const next = (await batches.next()).value as Batch;
      expect(next.records.map(({ offset }) => offset)).toEqual([1, 2]);
      await batches.return?.();
    });

    it('cannot commit what it had before it lost its partition and got it again', async () => {
      const log = await open({ sessionTimeoutMs: 90 });
      await log.createTopic('t', { partitions: 1 });
      await log.append('t', numbered(6));
      const batches = log.subscribe('g', ['t'], { recordsMax: 2 })[Symbol.asyncIterator]();
      await batches.next();
      const db = new Database(path);
      db.exec('DELETE FROM group_members; UPDATE group_partitions SET owner = NULL, committed = 4');
      // Its next heartbeat takes the partition again, under a new epoch.
      const epoch = db.prepare('SELECT epoch FROM group_partitions WHERE owner IS NOT NULL').pluck();
      while (epoch.get() !== 2) await nextTurn();
      db.close();
      const next = (await batches.next()).value as Batch;
      expect(next.records.map(({ offset }) => offset)).toEqual([4, 5]);
      await batches.return?.();
      expect((await log.lag('g'))[0]).toMatchObject({ committed: 4 });
    });

    it('gives back what it is not working on, though its batch takes long', async () => {
      const meeting = new Meeting();
      const log = await open({ sessionTimeoutMs: 600 });
      await log.createTopic('t', { partitions: 4 });
      await log.append(
        't',
        numbered(100, (i) => ({ key: `k${i}` })),
      );
      const batches = log.subscribe('g', ['t'])[Symbol.asyncIterator]();
      const inHand = (await batches.next()).value as Batch;
      // Two of the four are the other's: at least one of them is not in hand.
      const other = new Consumer(await open({ sessionTimeoutMs: 600 }), 'g', ['t'], meeting);
      await meeting.until(() => other.values.length > 0);
      expect(other.partitions.has(inHand.partition)).toBe(false);
      await batches.return?.();
      await meeting.until(() => other.values.length === 100);
      await other.stop();
    });

    it('does not keep the process alive', async () => {
      const log = await open();
      await log.createTopic('t', { partitions: 1 });
      await log.append('t', numbered(1));
      const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
      const before = timers();
      const batches = log.subscribe('g', ['t'])[Symbol.asyncIterator]();
      await batches.next();
      expect(timers()).toBe(before);
      await batches.return?.();
    });
  });

  describe('the file', () => {
    it('finds any time in any order of timestamps', async () => {
      const log = await open();
      let topics = 0;
      const steps = fc.array(fc.integer({ min: -2000, max: 2100 }), { minLength: 1, maxLength: 1800 });
      await fc.assert(
        fc.asyncProperty(steps, fc.array(fc.nat(200_000), { maxLength: 20 }), async (steps, spans) => {
          const topic = `t${topics++}`;
          await log.createTopic(topic, { partitions: 1 });
          let time = 1_000_000;
          const times = steps.map((step) => (time += step));
          // Several appends: the search must not depend on where they begin.
          for (let at = 0; at < times.length; at += 700)
            await log.append(
              topic,
              times.slice(at, at + 700).map((timestamp) => ({ key: null, value: null, timestamp })),
            );
          for (const t of [...spans.map((span) => 900_000 + span), ...times.slice(-5), Math.max(...times)]) {
            const first = times.findIndex((timestamp) => timestamp >= t);
            expect(await log.resolve(topic, new Date(t))).toEqual({ 0: first < 0 ? times.length : first });
          }
        }),
        { numRuns: 40, seed: 5 },
      );
    });

    it('is a log of its own version only', async () => {
      await (await open()).close();
      const db = new Database(path);
      db.pragma('user_version = 99');
      db.close();
      const opening = open();
      await expect(opening).rejects.toEqual(code('LOG_VERSION'));
      await expect(opening).rejects.toThrow('has format 99');
    });

    it('is not taken for a log when it is another database, and stays as it was', async () => {
      const db = new Database(path);
      db.exec('CREATE TABLE mine (x)');
      db.close();
      const before = await readFile(path);
      await expect(open()).rejects.toEqual(code('LOG_CORRUPT'));
      expect(await readFile(path)).toEqual(before);
    });

    it('is not taken for a log when it is no database', async () => {
      await writeFile(path, 'timestamp,value\n'.repeat(1000));
      await expect(open()).rejects.toEqual(code('LOG_CORRUPT'));
      expect((await readFile(path, 'utf8')).startsWith('timestamp,value')).toBe(true);
    });

    it('says so when it is damaged', async () => {
      const log = await open();
      await log.createTopic('t', { partitions: 1 });
      for (let i = 0; i < 20; i++)
        await log.append(
          't',
          numbered(100, () => ({ value: Buffer.alloc(1000) })),
        );
      await log.close();
      const bytes = await readFile(path);
      bytes.fill(0x5a, bytes.length >> 1);
      await writeFile(path, bytes);
      await expect(open().then((opened) => valuesOf(opened.read('t', all)))).rejects.toEqual(
        code('LOG_CORRUPT'),
      );
    });

    it('needs a folder that can be written', async () => {
      await writeFile(join(folder, 'file'), '');
      path = join(folder, 'file', 'log.db');
      await expect(open()).rejects.toEqual(code('DATA_DIR_NOT_WRITABLE'));
      path = folder;
      await expect(open()).rejects.toEqual(code('DATA_DIR_NOT_WRITABLE'));
    });

    it('gets its folder when that is missing', async () => {
      path = join(folder, 'a', 'b', 'log.db');
      await open();
      expect((await stat(path)).isFile()).toBe(true);
    });

    it('is named by a URL', async () => {
      const log = await openEventLog(`sqlite:${path}`);
      await log.createTopic('t', { partitions: 1 });
      await log.close();
      expect(await (await open()).topics()).toHaveLength(1);
      await expect(openEventLog('redis://here')).rejects.toEqual(code('USAGE'));
      await expect(openEventLog('sqlite:')).rejects.toEqual(code('USAGE'));
      await expect(openEventLog('sqlite::memory:')).rejects.toEqual(code('USAGE'));
    });
  });

  it('refuses an append over 64 MiB, which would block for long', async () => {
    const log = await open();
    await log.createTopic('t', { partitions: 1 });
    const value = Buffer.alloc(33 * 1024 * 1024);
    await expect(
      log.append(
        't',
        numbered(2, () => ({ value })),
      ),
    ).rejects.toEqual(code('USAGE'));
    expect(await valuesOf(log.read('t', all))).toEqual([]);
  });

  it('drops the older records of a compacted topic', async () => {
    const log = await open();
    await log.createTopic('t', { partitions: 1, compacted: true });
    for (let round = 0; round < 3; round++)
      await log.append(
        't',
        numbered(50, (i) => ({ key: `k${i % 5}` })),
      );
    const offsets: number[] = [];
    for await (const { records } of log.read('t', all)) offsets.push(...records.map(({ offset }) => offset));
    expect(offsets).toEqual([145, 146, 147, 148, 149]);
    expect(await log.offsets('t')).toEqual([{ partition: 0, earliest: 145, latest: 150 }]);
  });
});
