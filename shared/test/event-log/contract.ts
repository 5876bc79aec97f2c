import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Batch, type EventLog, type LogRecord, type NewRecord } from '@cardan/shared/event-log';
import { partitionOf } from '../../src/event-log/murmur2.ts';
import { Consumer, Meeting } from './consumer.ts';

/** A log under test, and a second way into the same one, as another process would have it. */
export interface ContractSubject {
  log: EventLog;
  another(): Promise<EventLog>;
  /** Closes what is open and removes the log. */
  destroy(): Promise<void>;
}

const TIME = 1_700_000_000_000;

function record(value: string, rest: Partial<NewRecord> = {}): NewRecord {
  return { key: 'car', value: Buffer.from(value), timestamp: TIME, ...rest };
}

function numbered(count: number, rest: (i: number) => Partial<NewRecord> = () => ({})): NewRecord[] {
  return Array.from({ length: count }, (_, i) => record(String(i), rest(i)));
}

async function recordsOf(batches: AsyncIterable<Batch>): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for await (const batch of batches) records.push(...batch.records);
  return records;
}

async function valuesOf(batches: AsyncIterable<Batch>): Promise<string[]> {
  return (await recordsOf(batches)).map(({ value }) => String(value));
}

const all = { from: 'earliest', to: 'latest' } as const;
const code = (name: string) => expect.objectContaining({ name: 'CardanError', code: name }) as unknown;

/** What every adapter of the port promises. */
export function eventLogContract(name: string, subject: { open(): Promise<ContractSubject> }): void {
  describe(`${name} is an event log`, () => {
    let open: ContractSubject;
    let log: EventLog;
    let topic: string;
    let group: string;

    beforeEach(async () => {
      open = await subject.open();
      log = open.log;
      // Names of their own: the real engine keeps topics from test to test.
      topic = `topic-${randomUUID()}`;
      group = `group-${randomUUID()}`;
    });
    afterEach(() => open.destroy());

    describe('topics', () => {
      it('lists what was created', async () => {
        await log.createTopic(topic, { partitions: 3 });
        await log.createTopic(`${topic}.c`, { partitions: 1, compacted: true });
        expect(await log.topics()).toEqual(
          expect.arrayContaining([
            { topic, partitions: 3, compacted: false },
            { topic: `${topic}.c`, partitions: 1, compacted: true },
          ]),
        );
      });

      it('takes the same topic again, and refuses it with another config', async () => {
        await log.createTopic(topic, { partitions: 3 });
        await log.createTopic(topic, { partitions: 3, compacted: false });
        await (await open.another()).createTopic(topic, { partitions: 3 });
        await expect(log.createTopic(topic, { partitions: 4 })).rejects.toEqual(code('TOPIC_EXISTS'));
        await expect(log.createTopic(topic, { partitions: 3, compacted: true })).rejects.toEqual(
          code('TOPIC_EXISTS'),
        );
      });

      it.each(['', '.', '..', 'a b', 'ä', 'x'.repeat(250)])('refuses the name %j', async (bad) => {
        await expect(log.createTopic(bad, { partitions: 1 })).rejects.toEqual(code('USAGE'));
      });

      it.each([0, -1, 1.5, Number.NaN])('refuses %d partitions', async (partitions) => {
        await expect(log.createTopic(topic, { partitions })).rejects.toEqual(code('USAGE'));
      });

      it('says so when there is no such topic', async () => {
        await expect(log.append(topic, [record('x')])).rejects.toEqual(code('TOPIC_UNKNOWN'));
        await expect(recordsOf(log.read(topic, all))).rejects.toEqual(code('TOPIC_UNKNOWN'));
        await expect(recordsOf(log.subscribe(group, [topic]))).rejects.toEqual(code('TOPIC_UNKNOWN'));
        await expect(log.resolve(topic, 'latest')).rejects.toEqual(code('TOPIC_UNKNOWN'));
        await expect(log.offsets(topic)).rejects.toEqual(code('TOPIC_UNKNOWN'));
      });
    });

    describe('append', () => {
      it('keeps what it was given', async () => {
        await log.createTopic(topic, { partitions: 1 });
        const given: NewRecord[] = [
          {
            key: 'a',
            value: Buffer.from('text'),
            timestamp: TIME,
            headers: { ce_type: 'x', 'content-type': 'y' },
          },
          { key: null, value: null, timestamp: 0 },
          { key: '', value: Buffer.alloc(0), timestamp: TIME - 1, headers: {} },
          {
            key: 'schlüssel-🚗',
            value: Uint8Array.of(0, 255, 128),
            timestamp: TIME + 5,
            headers: { '': '' },
          },
        ];
        await log.append(topic, given);
        const kept = await recordsOf(log.read(topic, all));
        expect(kept).toEqual(
          given.map(({ key, value, timestamp, headers = {} }, offset) => ({
            offset,
            key,
            value: value === null ? null : Buffer.from(value),
            timestamp,
            headers,
          })),
        );
      });

      it('keeps a record of 5 MB, and the small ones around it', async () => {
        await log.createTopic(topic, { partitions: 1 });
        const large = Buffer.alloc(5 * 1024 * 1024, 'cardan');
        await log.append(topic, [record('before'), record('', { value: large }), record('after')]);
        const kept = await recordsOf(log.read(topic, all));
        expect(kept.map(({ value }) => value?.length)).toEqual([6, large.length, 5]);
        expect(kept[1]?.value?.equals(large)).toBe(true);
      });

      it('keeps any text in keys and headers', async () => {
        await log.createTopic(topic, { partitions: 1 });
        const text = fc.string({ unit: 'binary', maxLength: 40 });
        const headers = fc.dictionary(text, text, { maxKeys: 5, noNullPrototype: true });
        await fc.assert(
          fc.asyncProperty(
            fc.array(fc.tuple(text, headers), { minLength: 1, maxLength: 20 }),
            async (given) => {
              const from = await log.resolve(topic, 'latest');
              await log.append(
                topic,
                given.map(([key, headers]) => record('x', { key, headers })),
              );
              const kept = await recordsOf(log.read(topic, { from, to: 'latest' }));
              expect(kept.map(({ key, headers }) => [key, headers])).toEqual(given);
            },
          ),
          { numRuns: 30 },
        );
      });

      it('keeps a header that is named like a part of every object', async () => {
        await log.createTopic(topic, { partitions: 1 });
        const headers = JSON.parse('{"__proto__":"p","constructor":"c"}') as Record<string, string>;
        await log.append(topic, [record('x', { headers })]);
        const [kept] = await recordsOf(log.read(topic, all));
        expect(Object.entries(kept?.headers ?? {}).sort()).toEqual([
          ['__proto__', 'p'],
          ['constructor', 'c'],
        ]);
      });

      it('puts keys where Kafka puts them, and keeps their order', async () => {
        await log.createTopic(topic, { partitions: 6 });
        const keys = Array.from({ length: 40 }, (_, i) => `vehicle-${i}`);
        const sent = Array.from({ length: 400 }, (_, i) => record(String(i), { key: keys[i % 40] ?? '' }));
        // Nobody waits for the one before: the order is that of the calls.
        await Promise.all([0, 1, 2, 3].map((i) => log.append(topic, sent.slice(i * 100, (i + 1) * 100))));
        const perKey = new Map<string, number[]>();
        for await (const { partition, records } of log.read(topic, all))
          for (const { key, value } of records) {
            expect(partition).toBe(partitionOf(key ?? '', 6));
            perKey.set(key ?? '', [...(perKey.get(key ?? '') ?? []), Number(value)]);
          }
        expect(perKey.size).toBe(40);
        for (const values of perKey.values()) expect(values).toEqual([...values].sort((a, b) => a - b));
      });

      it('spreads records without a key over the partitions', async () => {
        await log.createTopic(topic, { partitions: 3 });
        for (let i = 0; i < 60; i++) await log.append(topic, [record(String(i), { key: null })]);
        const latest = (await log.offsets(topic)).map((partition) => partition.latest);
        expect(latest.reduce((a, b) => a + b)).toBe(60);
        expect(Math.min(...latest)).toBeGreaterThan(0);
      });

      it.each([
        ['a value that is not bytes', { value: 'text' as unknown as Buffer }],
        ['a timestamp with a fraction', { timestamp: TIME + 0.5 }],
        ['a timestamp that is none', { timestamp: Number.NaN }],
        ['a timestamp before 1970', { timestamp: -1 }],
        ['a key that is not Unicode', { key: '\ud800' }],
        ['a header that is not a string', { headers: { a: 1 as unknown as string } }],
      ])('appends none of the records when one has %s', async (_, bad) => {
        await log.createTopic(topic, { partitions: 1 });
        const append = log.append(topic, [record('good'), record('bad', bad), record('good')]);
        await expect(append).rejects.toEqual(code('USAGE'));
        expect(await log.offsets(topic)).toEqual([{ partition: 0, earliest: 0, latest: 0 }]);
      });

      it('takes an append at any moment after the one before', async () => {
        await log.createTopic(topic, { partitions: 1 });
        // The caller may go on so many turns after it was told: none of them is one in which nobody listens.
        for (let turns = 0; turns < 30; turns++) {
          await log.append(topic, [record(`${turns} a`)]);
          for (let turn = 0; turn < turns; turn++) await Promise.resolve();
          await log.append(topic, [record(`${turns} b`)]);
        }
        expect(await valuesOf(log.read(topic, all))).toHaveLength(60);
      });

      it('takes no records at all', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, []);
        expect(await recordsOf(log.read(topic, all))).toEqual([]);
      });

      it('is there for others once it has resolved, also after the log was closed', async () => {
        await log.createTopic(topic, { partitions: 2 });
        const other = await open.another();
        await log.append(topic, numbered(10));
        expect(await valuesOf(other.read(topic, all))).toHaveLength(10);
        const pending = log.append(topic, numbered(5));
        await log.close();
        await pending;
        expect(await valuesOf((await open.another()).read(topic, all))).toHaveLength(15);
      });
    });

    describe('read', () => {
      it('delivers full batches of at most recordsMax records, in order, with the end', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(25));
        const batches: Batch[] = [];
        for await (const batch of log.read(topic, { ...all, recordsMax: 10 })) batches.push(batch);
        expect(batches.map(({ records }) => records.length)).toEqual([10, 10, 5]);
        expect(batches.flatMap(({ records }) => records.map(({ offset }) => offset))).toEqual(
          Array.from({ length: 25 }, (_, i) => i),
        );
        for (const batch of batches) expect(batch).toMatchObject({ topic, partition: 0, endOffset: 25 });
      });

      it('keeps batches near 1 MiB, whatever the records', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(
          topic,
          numbered(50, () => ({ value: Buffer.alloc(100_000) })),
        );
        const sizes: number[] = [];
        for await (const { records } of log.read(topic, all)) sizes.push(records.length);
        expect(sizes.reduce((a, b) => a + b)).toBe(50);
        expect(Math.max(...sizes)).toBeLessThanOrEqual(11);
      });

      it('pins its end when it begins', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(5));
        const values: string[] = [];
        for await (const { records } of log.read(topic, { ...all, recordsMax: 1 })) {
          values.push(...records.map(({ value }) => String(value)));
          await log.append(topic, [record('later')]);
        }
        expect(values).toEqual(['0', '1', '2', '3', '4']);
      });

      it('reads nothing where there is nothing', async () => {
        await log.createTopic(topic, { partitions: 3 });
        expect(await recordsOf(log.read(topic, all))).toEqual([]);
        await log.append(topic, numbered(3));
        expect(await recordsOf(log.read(topic, { from: 'latest', to: 'latest' }))).toEqual([]);
        expect(await recordsOf(log.read(topic, { from: 'latest', to: 'earliest' }))).toEqual([]);
      });

      it('reads only the partitions that it is told', async () => {
        await log.createTopic(topic, { partitions: 4 });
        await log.append(
          topic,
          numbered(100, (i) => ({ key: `k${i}` })),
        );
        const seen = new Set<number>();
        for await (const { partition } of log.read(topic, { ...all, partitions: [1, 3] }))
          seen.add(partition);
        expect([...seen].sort()).toEqual([1, 3]);
        expect(await recordsOf(log.read(topic, { ...all, partitions: [] }))).toEqual([]);
        await expect(recordsOf(log.read(topic, { ...all, partitions: [4] }))).rejects.toEqual(code('USAGE'));
      });

      it('reads between offsets; a partition not named is read from its beginning, but not beyond an end', async () => {
        await log.createTopic(topic, { partitions: 2 });
        const keys = ['a', 'b', 'c', 'd', 'e', 'f'];
        const zero = keys.find((key) => partitionOf(key, 2) === 0) ?? '';
        const one = keys.find((key) => partitionOf(key, 2) === 1) ?? '';
        await log.append(
          topic,
          numbered(10, (i) => ({ key: i < 5 ? zero : one })),
        );
        const read = (options: Parameters<EventLog['read']>[1]) =>
          valuesOf(log.read(topic, options)).then((values) => values.sort());
        expect(await read({ from: { 0: 1, 1: 2 }, to: { 0: 3, 1: 4 } })).toEqual(['1', '2', '7', '8']);
        expect(await read({ from: { 0: 3 }, to: 'latest' })).toEqual(['3', '4', '5', '6', '7', '8', '9']);
        expect(await read({ from: 'earliest', to: { 1: 2 } })).toEqual(['5', '6']);
        expect(await read({ from: { 0: 5, 1: 5 }, to: 'latest' })).toEqual([]);
      });

      it.each([{ 0: 6 }, { 0: -1 }, { 0: 1.5 }, { 0: Number.NaN }])(
        'refuses the offset %j',
        async (offsets) => {
          await log.createTopic(topic, { partitions: 1 });
          await log.append(topic, numbered(5));
          await expect(recordsOf(log.read(topic, { from: offsets, to: 'latest' }))).rejects.toEqual(
            code('OFFSET_OUT_OF_RANGE'),
          );
          await expect(recordsOf(log.read(topic, { from: 'earliest', to: offsets }))).rejects.toEqual(
            code('OFFSET_OUT_OF_RANGE'),
          );
          await expect(log.resolve(topic, offsets)).rejects.toEqual(code('OFFSET_OUT_OF_RANGE'));
        },
      );

      it('finds the first record that is not before a time, though late ones stand behind newer ones', async () => {
        await log.createTopic(topic, { partitions: 1 });
        const times = [10, 20, 15, 40, 5, 30, 50, 45];
        await log.append(
          topic,
          numbered(8, (i) => ({ timestamp: TIME + (times[i] ?? 0) })),
        );
        for (let t = 0; t <= 60; t++) {
          const first = times.findIndex((time) => time >= t);
          expect(await log.resolve(topic, new Date(TIME + t))).toEqual({ 0: first < 0 ? 8 : first });
        }
        const late = await valuesOf(log.read(topic, { from: new Date(TIME + 16), to: new Date(TIME + 50) }));
        expect(late).toEqual(['1', '2', '3', '4', '5']);
        await expect(log.resolve(topic, new Date(Number.NaN))).rejects.toEqual(code('USAGE'));
      });

      it('resolves earliest, latest and offsets for every partition', async () => {
        await log.createTopic(topic, { partitions: 2 });
        await log.append(
          topic,
          numbered(50, (i) => ({ key: `k${i}` })),
        );
        const [zero, one] = await log.offsets(topic);
        expect((zero?.latest ?? 0) + (one?.latest ?? 0)).toBe(50);
        expect(await log.resolve(topic, 'earliest')).toEqual({ 0: 0, 1: 0 });
        expect(await log.resolve(topic, 'latest')).toEqual({ 0: zero?.latest, 1: one?.latest });
        expect(await log.resolve(topic, { 1: 7 })).toEqual({ 0: 0, 1: 7 });
      });

      it('follows what is appended here and elsewhere, until it is aborted', async () => {
        await log.createTopic(topic, { partitions: 3 });
        const other = await open.another();
        await log.append(topic, numbered(3));
        const abort = new AbortController();
        const values: string[] = [];
        let turn = 0;
        for await (const { records } of log.read(topic, { from: 'earliest', signal: abort.signal })) {
          values.push(...records.map(({ value }) => String(value)));
          if (values.length < 3 + turn) continue;
          if (turn === 6) abort.abort();
          else await [log, other][turn % 2]?.append(topic, [record(`tail ${turn}`, { key: `k${turn}` })]);
          turn++;
        }
        expect(values).toEqual(['0', '1', '2', ...Array.from({ length: 6 }, (_, i) => `tail ${i}`)]);
      });

      it('ends quietly when it is aborted: before it begins, while it waits', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(1));
        const before = AbortSignal.abort();
        expect(await recordsOf(log.read(topic, { from: 'earliest', signal: before }))).toEqual([]);
        const abort = new AbortController();
        const batches = log.read(topic, { from: 'earliest', signal: abort.signal })[Symbol.asyncIterator]();
        expect((await batches.next()).done).toBe(false);
        const waiting = batches.next();
        abort.abort();
        expect((await waiting).done).toBe(true);
      });

      it('reads many at once, each at its own pace', async () => {
        await log.createTopic(topic, { partitions: 2 });
        await log.append(
          topic,
          numbered(300, (i) => ({ key: `k${i}` })),
        );
        const reads = [1, 7, 50, 1000].map((recordsMax) => valuesOf(log.read(topic, { ...all, recordsMax })));
        for (const values of await Promise.all(reads)) expect(new Set(values).size).toBe(300);
      });

      it.each([0, -1, 1.5])('refuses batches of %d records', async (recordsMax) => {
        await log.createTopic(topic, { partitions: 1 });
        await expect(recordsOf(log.read(topic, { ...all, recordsMax }))).rejects.toEqual(code('USAGE'));
      });
    });

    describe('a compacted topic', () => {
      it('keeps the newest record of a key, with its offset', async () => {
        await log.createTopic(topic, { partitions: 1, compacted: true });
        await log.append(topic, [
          record('a1', { key: 'a' }),
          record('b1', { key: 'b' }),
          record('a2', { key: 'a' }),
        ]);
        await log.append(topic, [record('c1', { key: 'c' }), record('', { key: 'b', value: null })]);
        const newest = new Map<string | null, string | null>();
        for (const { key, value } of await recordsOf(log.read(topic, all)))
          newest.set(key, value === null ? null : String(value));
        expect(Object.fromEntries(newest)).toEqual({ a: 'a2', c: 'c1', b: null });
        expect((await log.offsets(topic))[0]?.latest).toBe(5);
        await expect(log.append(topic, [record('x', { key: null })])).rejects.toEqual(code('USAGE'));
      });

      it('is read from any offset that it has had', async () => {
        await log.createTopic(topic, { partitions: 1, compacted: true });
        for (let i = 0; i < 20; i++) await log.append(topic, [record(`v${i}`, { key: `k${i % 2}` })]);
        for (const from of [0, 1, 10, 17]) {
          const values = await valuesOf(log.read(topic, { from: { 0: from }, to: 'latest' }));
          expect(values.slice(-2)).toEqual(['v18', 'v19']);
        }
      });
    });

    describe('a group', () => {
      const meeting = new Meeting();

      it('goes on where it has committed', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(10));
        const seen: string[] = [];
        for await (const { records } of log.subscribe(group, [topic], { recordsMax: 4 })) {
          seen.push(...records.map(({ value }) => String(value)));
          if (seen.length === 8) break; // asked for a batch once: 4 records are committed
        }
        expect(await log.lag(group)).toEqual([{ topic, partition: 0, committed: 4, latest: 10, lag: 6 }]);
        const next = new Consumer(await open.another(), group, [topic], meeting);
        await meeting.until(() => next.values.length === 6);
        await next.stop();
        expect(next.values).toEqual(['4', '5', '6', '7', '8', '9']);
        expect(await log.lag(group)).toEqual([{ topic, partition: 0, committed: 10, latest: 10, lag: 0 }]);
        expect(await log.groups()).toContain(group);
      });

      it('is given again what it had not finished', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(3));
        for (let attempt = 0; attempt < 3; attempt++)
          for await (const { records } of log.subscribe(group, [topic])) {
            expect(records.map(({ value }) => String(value))).toEqual(['0', '1', '2']);
            break; // as a consumer that fails
          }
        const failing = async () => {
          for await (const { records } of log.subscribe(group, [topic]))
            throw new Error(`the consumer failed on ${records.length} records`);
        };
        await expect(failing()).rejects.toThrow('the consumer failed on 3 records');
        expect((await log.lag(group))[0]).toMatchObject({ committed: 0, lag: 3 });
      });

      it('begins at the end when told so, and then misses nothing', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, [record('old')]);
        const abort = new AbortController();
        const options = { from: 'latest', signal: abort.signal } as const;
        const first = log.subscribe(group, [topic], options)[Symbol.asyncIterator]();
        const pending = first.next();
        // It has joined as soon as its group has a place in the partition.
        while ((await log.lag(group)).length === 0) await nextTurn();
        abort.abort();
        expect((await pending).done).toBe(true);
        await log.append(topic, [record('new')]);
        const again = new Consumer(log, group, [topic], meeting, { from: 'latest' });
        await meeting.until(() => again.values.length > 0);
        await again.stop();
        expect(again.values).toEqual(['new']);
      });

      it('commits the batch in hand when it is aborted', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(6));
        const abort = new AbortController();
        const options = { recordsMax: 2, signal: abort.signal };
        for await (const { records } of log.subscribe(group, [topic], options)) {
          expect(records).toHaveLength(2);
          abort.abort();
        }
        expect((await log.lag(group))[0]).toMatchObject({ committed: 2, lag: 4 });
      });

      it('is independent of other groups', async () => {
        await log.createTopic(topic, { partitions: 2 });
        await log.append(topic, numbered(5));
        const consumers = ['x', 'y'].map((name) => new Consumer(log, group + name, [topic], meeting));
        await meeting.until(() => consumers.every(({ values }) => values.length === 5));
        await Promise.all(consumers.map((consumer) => consumer.stop()));
      });

      it('can be one that reads without members and notes how far it has got', async () => {
        await log.createTopic(topic, { partitions: 2 });
        await log.append(
          topic,
          numbered(20, (i) => ({ key: `k${i}` })),
        );
        const end = await log.resolve(topic, 'latest');
        await log.commit(group, topic, { 0: 1 });
        expect(await log.lag(group)).toEqual([
          { topic, partition: 0, committed: 1, latest: end[0], lag: end[0]! - 1 },
        ]);
        await log.commit(group, topic, end);
        expect((await log.lag(group)).map(({ lag }) => lag)).toEqual([0, 0]);
        expect(await log.groups()).toContain(group);
        await log.append(topic, [record('x', { key: 'k0' })]);
        const next = new Consumer(log, group, [topic], meeting);
        await meeting.until(() => next.values.length === 1);
        await expect(log.commit(group, topic, { 0: 1 })).rejects.toEqual(code('USAGE'));
        await next.stop();
        expect(next.values).toEqual(['x']);
        await expect(log.commit(group, `${topic}.none`, { 0: 1 })).rejects.toEqual(code('TOPIC_UNKNOWN'));
        await expect(log.commit(group, topic, { 2: 1 })).rejects.toEqual(code('USAGE'));
        await expect(log.commit(group, topic, { 0: 999 })).rejects.toEqual(code('OFFSET_OUT_OF_RANGE'));
      });

      it('reads several topics', async () => {
        const topics = [`${topic}.a`, `${topic}.b`];
        for (const name of topics) {
          await log.createTopic(name, { partitions: 2 });
          await log.append(name, [record(name)]);
        }
        const consumer = new Consumer(log, group, topics, meeting);
        await meeting.until(() => consumer.values.length === 2);
        await consumer.stop();
        expect(consumer.values.sort()).toEqual(topics);
        expect(new Set((await log.lag(group)).map((partition) => partition.topic))).toEqual(new Set(topics));
      });

      it('shares the partitions among its members, and loses nothing when one joins or leaves', async () => {
        const partitions = 4;
        await log.createTopic(topic, { partitions });
        const keys = Array.from({ length: 40 }, (_, i) => `k${i}`);
        const other = await open.another();
        let sent = 0;
        /** Appends to every partition until `settled`, each time until everything has arrived. */
        const feed = async (members: Consumer[], settled: () => boolean) => {
          for (let round = 0; round < 300; round++) {
            for (const { partitions } of members) partitions.clear();
            await log.append(
              topic,
              keys.map((key) => record(String(sent++), { key })),
            );
            await meeting.until(() => new Set([...first.values, ...second.values]).size === sent);
            if (settled()) return;
          }
          expect.unreachable('the group did not settle');
        };
        const first = new Consumer(log, group, [topic], meeting);
        let second = { values: [] as string[], partitions: new Set<number>() } as Consumer;
        await feed([first], () => first.partitions.size === partitions);

        second = new Consumer(other, group, [topic], meeting);
        await feed([first, second], () => first.partitions.size === 2 && second.partitions.size === 2);

        await first.stop();
        await feed([second], () => second.partitions.size === partitions);
        await second.stop();
        const seen = [...first.values, ...second.values];
        expect(new Set(seen).size).toBe(sent);
        // Nobody died, so nothing was delivered twice.
        expect(seen).toHaveLength(sent);
        expect((await log.lag(group)).map(({ lag }) => lag)).toEqual([0, 0, 0, 0]);
      });

      it('lets more members than partitions wait for their turn', async () => {
        await log.createTopic(topic, { partitions: 1 });
        const members = [log, log, await open.another()].map(
          (each) => new Consumer(each, group, [topic], meeting),
        );
        const count = () => members.reduce((sum, { values }) => sum + values.length, 0);
        await log.append(topic, numbered(5));
        await meeting.until(() => count() === 5);
        await Promise.all(members.map((member) => member.stop()));
        expect(count()).toBe(5);
      });

      it('knows nothing of a group that never was', async () => {
        expect(await log.lag(group)).toEqual([]);
        expect(await log.groups()).not.toContain(group);
        await log.createTopic(topic, { partitions: 1 });
        await expect(recordsOf(log.subscribe('', [topic]))).rejects.toEqual(code('USAGE'));
        await expect(recordsOf(log.subscribe(group, []))).rejects.toEqual(code('USAGE'));
      });
    });

    describe('close', () => {
      it('ends what is under way with LOG_CLOSED, and refuses the rest', async () => {
        await log.createTopic(topic, { partitions: 1 });
        await log.append(topic, numbered(4));
        const tail = log.read(topic, { from: 'latest' })[Symbol.asyncIterator]().next();
        const tailing = expect(tail).rejects.toEqual(code('LOG_CLOSED'));
        const bounded = log.read(topic, { ...all, recordsMax: 1 })[Symbol.asyncIterator]();
        await bounded.next();
        const member = log.subscribe(group, [topic], { recordsMax: 1 })[Symbol.asyncIterator]();
        await member.next();
        await log.close();
        await log.close();
        await tailing;
        await expect(bounded.next()).rejects.toEqual(code('LOG_CLOSED'));
        await expect(member.next()).rejects.toEqual(code('LOG_CLOSED'));
        await expect(log.append(topic, [record('x')])).rejects.toEqual(code('LOG_CLOSED'));
        await expect(log.topics()).rejects.toEqual(code('LOG_CLOSED'));
        await expect(log.createTopic(topic, { partitions: 1 })).rejects.toEqual(code('LOG_CLOSED'));
        await expect(recordsOf(log.read(topic, all))).rejects.toEqual(code('LOG_CLOSED'));
        await expect(recordsOf(log.subscribe(group, [topic]))).rejects.toEqual(code('LOG_CLOSED'));
        // The batch that was in hand had not been committed.
        expect((await (await open.another()).lag(group))[0]).toMatchObject({ committed: 0, lag: 4 });
      });
    });
  });
}
