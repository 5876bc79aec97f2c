import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cloudEvent, encodeTelemetry, eventToRecord, LOG_TOPICS, signalSet } from '@cardan/shared';
import { SqliteEventLog, type EventLog } from '@cardan/shared/event-log';
import { readFailures, type Failure, type FlagSource } from '../../src/trainer/failure-flags.ts';
import { offsetRanges } from '../../src/trainer/log-span.ts';
import { askedInputs, STREAM_SETTINGS } from '../../src/trainer/stream-settings.ts';

const MINUTE = 60_000;
/** As the cars of the article send it. */
const CAR_SENSOR: FlagSource = {
  topic: 'car-sensor',
  flag: 'failure_occurred',
  vehicle: 'car',
  time: 'time',
};
let dir: string;
let log: EventLog;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'flags-'));
  log = await SqliteEventLog.open({ path: join(dir, 'log.db') });
  for (const [topic, config] of Object.entries(LOG_TOPICS)) await log.createTopic(topic, config);
  await log.createTopic('car-sensor', { partitions: 2 });
});
afterEach(async () => {
  await log.close();
  rmSync(dir, { recursive: true });
});

const append = (...rows: (object | string)[]) =>
  log.append(
    'car-sensor',
    rows.map((row, i) => ({
      key: `car${i % 2}`,
      value: Buffer.from(typeof row === 'string' ? row : JSON.stringify(row)),
      timestamp: 7 * MINUTE,
    })),
  );
async function read(source = CAR_SENSOR): Promise<Record<string, Failure[]>> {
  const { topic } = source;
  const ranges = offsetRanges(await log.resolve(topic, 'earliest'), await log.resolve(topic, 'latest'));
  return Object.fromEntries(await readFailures(log, source, ranges));
}

describe('The failure flag of rows in a topic', () => {
  const row = (car: string, minute: number, failure_occurred: unknown) => ({
    car,
    time: minute * 60,
    speed: 12.5,
    failure_occurred,
  });

  it('makes one failure of flags close to each other, in whatever order they come', async () => {
    await append(
      ...[30, 10, 61, 300, 12].map((minute) => row('car1', minute, 'true')),
      row('car1', 11, 'false'),
      row('car2', 5, 'false'),
      row('car3', 5, 'true'),
    );
    expect(await read()).toEqual({
      car1: [
        { time: 10 * MINUTE, until: 61 * MINUTE },
        { time: 300 * MINUTE, until: 300 * MINUTE },
      ],
      car3: [{ time: 5 * MINUTE, until: 5 * MINUTE }],
    });
  });

  it.each([
    [true, 600],
    ['True', 1_772_379_000_000],
    [1, '600'],
    ['1', '1970-01-01T00:10:00Z'],
    ['true', '1970-01-01T01:10:00+01:00'],
  ])('may be %j, at %j', async (failure_occurred, time) => {
    await append({ car: 'car1', time, failure_occurred });
    const [failure] = (await read()).car1!;
    expect(failure!.time).toBe(typeof time === 'number' && time > 1e6 ? time : 10 * MINUTE);
  });

  it('may leave vehicle and time to the record', async () => {
    await append({ failed: true });
    expect(await read({ topic: 'car-sensor', flag: 'failed' })).toEqual({
      car0: [{ time: 7 * MINUTE, until: 7 * MINUTE }],
    });
  });

  it('passes over what is no such row, and says what the first one lacks when there is none', async () => {
    const bad = [
      '{',
      '[]',
      { car: 'car1', time: 1 },
      row('the car', 1, true),
      { ...row('car1', 1, true), time: 'noon' },
    ];
    await append(...bad);
    await expect(read()).rejects.toThrow(
      /no row of the topic car-sensor says .* \(failure_occurred\): the record 0 of/,
    );
    await append(row('car1', 1, true));
    expect(Object.keys(await read())).toEqual(['car1']);
  });

  it.each([
    [{ time: 1 }, 'has undefined as "failure_occurred", which must be true or false'],
    [row('the car', 1, true), 'has "the car" as "car", which must be a vehicle'],
    [{ car: 'car1', time: 'noon', failure_occurred: true }, 'has "noon" as "time", which must be seconds'],
    [
      { car: 'car1', time: '2026-13-01T00:00:00Z', failure_occurred: true },
      'has "2026-13-01T00:00:00Z" as "time"',
    ],
    [
      { car: 'car1', time: '2026-02-30T00:00:00Z', failure_occurred: true },
      'has "2026-02-30T00:00:00Z" as "time"',
    ],
    ['1,2', 'is no JSON'],
  ])('says of %j that it %s', async (value, why) => {
    await append(value);
    await expect(read()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(why) as string,
    });
  });
});

describe('The failure flag among the signals of telemetry', () => {
  const SET = signalSet(['a', 'failed', 'b'].map((name) => ({ name, unit: '' })));
  const OTHER = signalSet([{ name: 'a', unit: '' }]);

  it('is read by its name, from the sets that have it', async () => {
    for (const set of [SET, OTHER]) {
      const event = cloudEvent('io.cardan.signal-set', { source: '/vehicles/v1', id: set.id, time: 0 }, set);
      await log.append('signal-sets', [eventToRecord(set.id, event)]);
    }
    const batch = (set: typeof SET, values: number[]) => ({
      key: 'v1',
      timestamp: 0,
      value: encodeTelemetry({
        signalSet: set.id,
        epoch: 1,
        firstSequence: 1,
        times: Float64Array.from({ length: values.length / set.signals.length }, (_, row) => row * MINUTE),
        values: Float32Array.from(values),
        scores: new Float32Array(0),
        modelName: '',
        modelVersion: '',
      }),
    });
    const rows = [1, 0, 1, 1, 1, 1, 1, 1, 1, 1, Number.NaN, 1, 1, 0, 1];
    await log.append('telemetry', [batch(SET, rows), batch(OTHER, [1, 1])]);
    expect(await read({ topic: 'telemetry', flag: 'failed' })).toEqual({
      v1: [{ time: MINUTE, until: 2 * MINUTE }],
    });
    await expect(read({ topic: 'telemetry', flag: 'faild' })).rejects.toThrow('has no signal "faild"');
  });

  it('is never an input of the network', () => {
    const asked = (inputs: string[], leftOut?: string) =>
      askedInputs(
        { ...STREAM_SETTINGS, inputs: inputs.map((signal) => ({ signal, statistic: 'mean' })) },
        SET,
        leftOut,
      )?.map(({ signal }) => signal);
    expect(asked([], 'failed')).toEqual([0, 2]);
    expect(asked([], 'elsewhere')).toBeUndefined();
    expect(asked(['b'], 'failed')).toEqual([2]);
    expect(() => asked(['b', 'failed'], 'failed')).toThrow('"failed" is the label');
  });
});
