import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { parseRepairLine } from '../../src/trainer/repair-line.ts';
import { readRepairs, REPAIRS_TOPIC, type Repairs } from '../../src/trainer/repairs.ts';

const HEADER = 'vehicle,time,component,action,odometer_km,note';
const MARCH = Date.UTC(2026, 2, 1, 15, 30);

const parsed = (line: string) => parseRepairLine(Buffer.from(line));

describe('A line of a table of repairs', () => {
  it('is a repair', () => {
    expect(parsed('van-7,2026-03-01T16:30:00+01:00,coolant pump,replaced,123456,leaking')).toEqual({
      vehicle: 'van-7',
      time: MARCH,
      component: 'coolant pump',
      action: 'replaced',
      odometerKm: 123456,
      note: 'leaking',
    });
  });

  it('has quotes around fields with commas, quotes and line breaks (RFC 4180)', () => {
    const line = '"van-7",2026-03-01T15:30:00Z,"pump, ""coolant""",replaced,123456.5,"loud,\r\nthen quiet"';
    expect(parsed(line)).toMatchObject({
      component: 'pump, "coolant"',
      odometerKm: 123456.5,
      note: 'loud,\r\nthen quiet',
    });
  });

  it('may end with CRLF, hold any letters, and leave out what was not written down', () => {
    expect(parsed('van-7,2026-03-01T15:30:00Z,Kühlmittelpumpe,交換,,\r\n')).toMatchObject({
      component: 'Kühlmittelpumpe',
      action: '交換',
      odometerKm: null,
      note: '',
    });
  });

  it('of column names is passed over, as a spreadsheet writes it too; an empty one as well', () => {
    for (const line of [
      HEADER,
      `\uFEFF${HEADER}\r\n`,
      '"Vehicle","Time","Component","Action","Odometer_km","Note"',
    ])
      expect(parsed(line)).toBeUndefined();
    for (const line of ['', '\r', '  ']) expect(parsed(line)).toBeUndefined();
  });

  it.each([
    ['2026-03-01T15:30Z', MARCH],
    ['2026-03-01 15:30:00Z', MARCH],
    ['2026-03-01T15:30:00.250Z', MARCH + 250],
    ['2026-03-01T10:00:00-0530', MARCH],
    ['2026-03-01T16:30:00+01', MARCH],
    ['2026-03-02T00:30:00+09:00', MARCH],
  ])('takes the time %s', (text, time) => {
    expect(parsed(`van-7,${text},pump,replaced,1,`)?.time).toBe(time);
  });

  it.each([
    ['van-7;2026-03-01T15:30:00Z;pump;replaced;1;', /It has 1 fields; there must be 6: vehicle, time/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,1,a note, not in quotes', /It has 7 fields/],
    ['time,vehicle,component,action,odometer_km,note', /"vehicle" is no time/],
    ['van-7,2026-03-01T15:30:00,pump,replaced,1,', /no time with its zone. Write it as/],
    ['van-7,01.03.2026 15:30,pump,replaced,1,', /no time with its zone/],
    ['van-7,2026-02-29T15:30:00Z,pump,replaced,1,', /There is no such time/],
    ['van-7,2026-03-01T24:30:00Z,pump,replaced,1,', /There is no such time/],
    ['the van,2026-03-01T15:30:00Z,pump,replaced,1,', /cannot be a vehicle id/],
    [',2026-03-01T15:30:00Z,pump,replaced,1,', /cannot be a vehicle id/],
    ['van-7,2026-03-01T15:30:00Z,,replaced,1,', /names no component/],
    ['van-7,2026-03-01T15:30:00Z,pump, ,1,', /names no action/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,"123,456",', /"123,456" is no odometer in km/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,-5,', /no odometer/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,1e400,', /no odometer/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,1,"open', /not CSV: Quote Not Closed/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,1,an inch is 1"', /not CSV/],
    ['van-7,2026-03-01T15:30:00Z,pump,replaced,1,\nvan-8,', /It is 2 lines/],
    [`van-7,2026-03-01T15:30:00Z,pump,replaced,1,${'x'.repeat(65_536)}`, /at most 65536 are allowed/],
  ])('is bad: %s', (line, why) => {
    expect(() => parsed(line)).toThrow(why);
  });

  it('is bad in another encoding than UTF-8', () => {
    expect(() =>
      parseRepairLine(Buffer.from('van-7,2026-03-01T15:30:00Z,Kühler,ersetzt,1,', 'latin1')),
    ).toThrow(/not UTF-8/);
  });
});

describe('The repairs in the log', () => {
  let dir: string;
  let log: EventLog;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'repairs-'));
    log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  });
  afterEach(async () => {
    await log.close();
    rmSync(dir, { recursive: true });
  });

  /** Appends lines as Connect does: no key, and the time of the append. */
  const append = (...lines: (string | null)[]) =>
    log.append(
      REPAIRS_TOPIC,
      lines.map((line) => ({ key: null, value: line === null ? null : Buffer.from(line), timestamp: 1 })),
    );
  const read = async (repairsMax?: number): Promise<Repairs> =>
    readRepairs(log, {
      from: await log.resolve(REPAIRS_TOPIC, 'earliest'),
      to: await log.resolve(REPAIRS_TOPIC, 'latest'),
      ...(repairsMax === undefined ? {} : { repairsMax }),
    });
  const line = (vehicle: string, day: number, rest = 'pump,replaced,1,') =>
    `${vehicle},2026-03-${String(day).padStart(2, '0')}T12:00:00Z,${rest}`;
  const days = ({ vehicles }: Repairs) =>
    [...vehicles].map(([vehicle, repairs]) => [
      vehicle,
      repairs.map(({ time }) => new Date(time).getUTCDate()),
    ]);

  it('are there per vehicle, sorted by time', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 1 });
    await append(HEADER, line('van-7', 9), line('car-1', 5), line('van-7', 3), line('van-7', 4));
    const repairs = await read();
    expect(days(repairs)).toEqual([
      ['car-1', [5]],
      ['van-7', [3, 4, 9]],
    ]);
    expect(repairs).toMatchObject({
      repairs: 4,
      duplicatesDropped: 0,
      overMax: 0,
      badLines: 0,
      firstBadLines: [],
    });
  });

  it('are read up to pinned offsets only', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 1 });
    await append(HEADER, line('van-7', 1), line('van-7', 2));
    await append(line('van-7', 3));
    expect(days(await readRepairs(log, { from: { 0: 2 }, to: { 0: 3 } }))).toEqual([['van-7', [2]]]);
  });

  it('are there once when a file is read again, or written in another way', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 1 });
    const file = [HEADER, line('van-7', 1), line('van-7', 2)];
    await append(...file, ...file);
    await append('"van-7",2026-03-01T13:00:00+01:00,pump,replaced,1.0,\r');
    const repairs = await read();
    expect(days(repairs)).toEqual([['van-7', [1, 2]]]);
    expect(repairs).toMatchObject({ repairs: 2, duplicatesDropped: 3 });
  });

  it('are there when lines between them are bad: those are counted, with their places', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 1 });
    await append(
      HEADER,
      'nonsense',
      line('van-7', 1),
      null,
      line('van-7', 2, 'pump,replaced,far,'),
      line('van-7', 3),
    );
    const repairs = await read();
    expect(days(repairs)).toEqual([['van-7', [1, 3]]]);
    expect(repairs.badLines).toBe(2);
    expect(repairs.firstBadLines).toEqual([
      { partition: 0, offset: 1, reason: expect.stringContaining('It has 1 fields') as string },
      { partition: 0, offset: 4, reason: expect.stringContaining('"far" is no odometer') as string },
    ]);
  });

  it('keep the places of the first hundred bad lines, and count the rest', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 1 });
    await append(...Array.from({ length: 250 }, () => 'nonsense'), line('van-7', 1));
    const repairs = await read();
    expect(repairs).toMatchObject({ repairs: 1, badLines: 250 });
    expect(repairs.firstBadLines.map(({ offset }) => offset)).toEqual(
      Array.from({ length: 100 }, (_, i) => i),
    );
  });

  it('come from all partitions of a topic that has more than one, in the same order each time', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 3 });
    for (let day = 9; day > 0; day--)
      for (const key of ['a', 'b', 'c', 'd'])
        await log.append(REPAIRS_TOPIC, [
          { key, value: Buffer.from(line('van-7', day, `pump ${key},replaced,1,`)), timestamp: 1 },
        ]);
    const repairs = (await read()).vehicles.get('van-7')!;
    expect(repairs.map(({ time, component }) => `${new Date(time).getUTCDate()} ${component}`)).toEqual(
      Array.from({ length: 9 }, (_, i) => ['a', 'b', 'c', 'd'].map((key) => `${i + 1} pump ${key}`)).flat(),
    );
  });

  it('are the last ones of the log when there are too many, and the others are counted', async () => {
    await log.createTopic(REPAIRS_TOPIC, { partitions: 1 });
    await append(...[1, 2, 3, 4, 5].map((day) => line('van-7', day)));
    const repairs = await read(2);
    expect(days(repairs)).toEqual([['van-7', [4, 5]]]);
    expect(repairs).toMatchObject({ repairs: 2, overMax: 3 });
  });

  it('need the topic', async () => {
    await expect(readRepairs(log, { from: { 0: 0 }, to: { 0: 1 } })).rejects.toMatchObject({
      code: 'TOPIC_UNKNOWN',
    });
  });
});
