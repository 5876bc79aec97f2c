import { describe, expect, it } from 'vitest';
import { readCampaign } from '@cardan/shared';
import { Collector, type CollectorOptions } from '../../src/campaign/collector.ts';

const SIGNALS = [
  { name: 'Vehicle.Speed', unit: 'km/h' },
  { name: 'Temp', unit: 'degC' },
];
const COLUMNS = new Map([
  ['Vehicle.Speed', 0],
  ['Speed', 0],
  ['Temp', 1],
]);

const BASE = { schema: 1, name: 'A campaign', version: '1', vehicles: 'all', signals: ['Speed', 'Temp'] };
const every = (id: string, periodMs: number, more = {}) =>
  readCampaign({ ...BASE, id, collection: { type: 'time', periodMs }, ...more });
const when = (id: string, condition: string, collection = {}, more = {}) =>
  readCampaign({ ...BASE, id, collection: { type: 'condition', when: condition, ...collection }, ...more });

/** A collector whose clock is at `clock.now`, and all that it gave. */
function collector(options: Partial<CollectorOptions> = {}) {
  const rows: [string, number, number[]][] = [];
  const frames: [string, number][] = [];
  const triggers: [string, number, boolean][] = [];
  const clock = { now: 0 };
  const made = new Collector({
    signals: SIGNALS,
    column: (name) => COLUMNS.get(name),
    staleMs: 5000,
    memoryBytes: 1e6,
    now: () => clock.now,
    onRow: ({ id }, time, values) => rows.push([id, time, [...values]]),
    onFrame: ({ id }, { time }) => frames.push([id, time]),
    onTrigger: ({ id }, { time, prolongs }) => triggers.push([id, time, prolongs]),
    ...options,
  });
  const speed = (time: number, value: number) => {
    made.set(0, value, time);
    made.sample(time);
  };
  const temp = (time: number, value: number) => {
    made.set(1, value, time);
    made.sample(time);
  };
  const frame = (time: number, id: number, extended = false) =>
    made.frame({ time, id, extended, fd: false, data: Uint8Array.of(1) });
  const times = (id: string) => rows.filter(([from]) => from === id).map(([, time]) => time);
  const counts = (id: string) => made.status().find(({ campaign }) => campaign.id === id)!.counts;
  return { made, rows, frames, triggers, clock, speed, temp, frame, times, counts };
}

describe('A campaign by time', () => {
  it('gives a row per period with the last values before it, however many campaigns run beside it', () => {
    const { made, rows, speed, temp } = collector();
    made.replace([every('fast', 100), every('slow', 200, { signals: ['Temp'] })]);
    speed(10, 1);
    temp(20, 50);
    speed(110, 2);
    speed(210, 3);
    made.sample(310); // a frame without any of the signals: time goes on
    expect(rows).toEqual([
      ['fast', 100, [1, 50]],
      ['fast', 200, [2, 50]],
      ['slow', 200, [50]],
      ['fast', 300, [3, 50]],
    ]);
  });

  it('names its columns, and says which signals the car does not have', () => {
    const { made, rows, speed } = collector();
    made.replace([
      every('a', 100, { signals: [{ name: 'Speed', as: 'v' }, 'Missing', { name: 'Speed', as: 'w' }] }),
    ]);
    const [status] = made.status();
    expect(status!.signalSet.signals).toEqual([
      { name: 'v', unit: 'km/h' },
      { name: 'Missing', unit: '' },
      { name: 'w', unit: 'km/h' },
    ]);
    expect(status!.unknownSignals).toEqual(['Missing']);
    speed(10, 7);
    speed(110, 8);
    expect(rows).toEqual([['a', 100, [7, NaN, 7]]]);
  });
});

describe('A campaign by condition', () => {
  it('takes rows at full rate from before to after the trigger, each once', () => {
    const { made, times, speed, triggers } = collector();
    made.replace([when('a', 'Speed > 50', { beforeMs: 300, afterMs: 200 })]);
    for (let time = 0; time <= 2000; time += 100) speed(time, time === 1000 || time === 1100 ? 60 : 10);
    expect(triggers).toEqual([['a', 1000, false]]);
    expect(times('a')).toEqual([700, 800, 900, 1000, 1100, 1200]);
  });

  it('prolongs the rows when it triggers again within them, and repeats none', () => {
    const { made, times, speed, triggers } = collector();
    made.replace([when('a', 'Speed > 50', { beforeMs: 500, afterMs: 300 })]);
    for (let time = 0; time <= 2000; time += 100) speed(time, time === 1000 || time === 1200 ? 60 : 10);
    expect(triggers).toEqual([
      ['a', 1000, false],
      ['a', 1200, true],
    ]);
    expect(times('a')).toEqual([500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400, 1500]);
  });

  it('triggers with every sample or at the rising edge, and keeps the minimum interval', () => {
    const { made, times, speed, counts } = collector();
    made.replace([
      when('edge', 'Speed > 50'),
      when('always', 'Speed > 50', { trigger: 'always' }),
      when('thinned', 'Speed > 50', { trigger: 'always', minIntervalMs: 300 }),
      when('rare', 'Speed > 50', { minIntervalMs: 500 }),
    ]);
    const fast = new Set([100, 200, 300, 400, 500, 700, 900]);
    for (let time = 0; time <= 1000; time += 100) speed(time, fast.has(time) ? 60 : 10);
    expect(times('edge')).toEqual([100, 700, 900]);
    expect(times('always')).toEqual([...fast]);
    expect(times('thinned')).toEqual([100, 400, 700]);
    expect(times('rare')).toEqual([100, 700]);
    expect(counts('rare')).toMatchObject({ triggers: 2, triggersTooSoon: 1, rows: 2 });
    expect(counts('thinned').triggersTooSoon).toBe(0);
  });

  it('does not take a value for present that is too old', () => {
    const { made, rows, speed, temp } = collector();
    made.replace([when('a', 'Temp > 90 and Speed > 0', { trigger: 'always' })]);
    temp(0, 95);
    speed(5000, 1);
    speed(5001, 1);
    expect(rows).toEqual([['a', 5000, [1, 95]]]);
  });

  it('keeps to its memory, and counts the rows that it had to let go', () => {
    const { made, times, speed, counts } = collector({ memoryBytes: 64 * 16 });
    made.replace([when('a', 'Speed > 50', { beforeMs: 10_000 })]);
    for (let time = 0; time < 100; time++) speed(time, 10);
    speed(100, 60);
    expect(times('a')).toEqual(Array.from({ length: 33 }, (_, i) => 68 + i));
    expect(counts('a').rowsOverwritten).toBe(68);
    made.replace([]);
    expect(made.memoryFree).toBe(64 * 16);
  });

  it('starts over when time goes back', () => {
    const { made, times, speed } = collector();
    made.replace([when('a', 'max(Speed, 10s) > 50', { beforeMs: 5000, trigger: 'always' })]);
    speed(100_000, 60);
    speed(5000, 10);
    speed(5100, 10);
    speed(5050, 60); // a little out of order, as with two buses
    expect(times('a')).toEqual([100_000, 5000, 5100, 5100]);
  });
});

describe('Raw frames', () => {
  it('are taken by id, up to so many a second, and what is over it is counted', () => {
    const { made, frames, frame, counts } = collector();
    made.replace([every('a', 1000, { rawFrames: { ids: ['100', '00000200'], maxPerSecond: 2 } })]);
    for (const time of [0, 1, 2, 3, 1000]) frame(time, 0x100);
    frame(1001, 0x200);
    frame(1002, 0x200, true);
    frame(1003, 0x300);
    expect(frames.map(([, time]) => time)).toEqual([0, 1, 1000, 1002]);
    expect(counts('a')).toMatchObject({ frames: 4, framesOverLimit: 2 });
  });

  it('of a condition are taken from the trigger to the end of its rows', () => {
    const { made, frames, frame, speed } = collector();
    made.replace([
      when('a', 'Speed > 50', { afterMs: 100 }, { rawFrames: { ids: ['100'], maxPerSecond: 9 } }),
    ]);
    for (const [time, value] of [
      [0, 10],
      [50, 60],
      [100, 10],
      [150, 10],
      [151, 10],
    ] as const) {
      speed(time, value);
      frame(time, 0x100);
    }
    expect(frames.map(([, time]) => time)).toEqual([50, 100, 150]);
  });
});

describe('Start and expiry', () => {
  it('go by the clock, not by the frames', () => {
    const { made, times, speed, clock, counts } = collector();
    const start = new Date(1000).toISOString();
    const expiry = new Date(2000).toISOString();
    made.replace([when('a', 'Speed > 0', { trigger: 'always', beforeMs: 100 }, { start, expiry })]);
    const phases: string[] = [];
    for (const [at, now] of [0, 999, 1000, 1999, 2000].entries()) {
      clock.now = now;
      speed(500_000 + at, 1);
      phases.push(made.status()[0]!.phase);
    }
    expect(phases).toEqual(['waiting', 'waiting', 'active', 'active', 'expired']);
    expect(times('a')).toEqual([500_002, 500_003]);
    expect(counts('a').rows).toBe(2);
    expect(made.memoryFree).toBe(1e6);
  });
});

describe('Replacing campaigns', () => {
  it('leaves the state of those that stay as it is', () => {
    const { made, times, speed } = collector();
    const stays = () => when('stays', 'rising(Speed > 50)', { beforeMs: 200 });
    made.replace([stays(), every('goes', 100)]);
    speed(0, 10);
    speed(100, 10);
    made.replace([when('comes', 'Speed > 50'), stays()]);
    speed(200, 60);
    expect(times('stays')).toEqual([0, 100, 200]);
    expect(times('comes')).toEqual([200]);
    expect(made.status().map(({ campaign }) => campaign.id)).toEqual(['comes', 'stays']);
  });

  it('begins a new version anew, with the counts of the old one', () => {
    const { made, times, speed, counts } = collector();
    made.replace([when('a', 'Speed > 50', { beforeMs: 500 })]);
    speed(0, 60);
    speed(100, 10);
    made.replace([when('a', 'Speed > 40', { beforeMs: 500 }, { version: '2' })]);
    speed(200, 60);
    expect(times('a')).toEqual([0, 200]);
    expect(counts('a')).toMatchObject({ rows: 2, triggers: 2 });
  });

  it('refuses the same id twice and too many, and goes on with what it had', () => {
    const { made, times, speed } = collector();
    made.replace([when('a', 'Speed > 50')]);
    expect(() => made.replace([every('b', 100), every('b', 200)])).toThrow(
      expect.objectContaining({ code: 'CAMPAIGN_INVALID' }),
    );
    expect(() => made.replace(Array.from({ length: 65 }, (_, i) => every(`c${i}`, 100)))).toThrow(
      /at most 64/,
    );
    speed(0, 60);
    expect(times('a')).toEqual([0]);
  });
});

describe('The same frames', () => {
  it('give the same rows in one collector and in several, with one campaign each', () => {
    const campaigns = [
      every('a', 70),
      when('b', 'avg(Speed, 300ms) > 30 and Temp < 80', { beforeMs: 100, afterMs: 50 }),
      when('c', 'hysteresis(Temp, 70, 60)', { trigger: 'always', minIntervalMs: 90 }),
    ];
    const drive = (run: ReturnType<typeof collector>) => {
      for (let i = 0; i < 3000; i++) {
        if (i % 3 === 0) run.temp(i * 7, 65 + 20 * Math.sin(i / 40));
        else run.speed(i * 7, 30 + 30 * Math.sin(i / 25));
      }
      return run.rows;
    };
    const together = collector();
    together.made.replace(campaigns);
    const all = drive(together);
    for (const campaign of campaigns) {
      const alone = collector();
      alone.made.replace([campaign]);
      const rows = drive(alone);
      expect(rows.length).toBeGreaterThan(20);
      expect(all.filter(([id]) => id === campaign.id)).toEqual(rows);
    }
  });
});
