import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Collector, isForVehicle, parseCampaign, type Campaign } from '../../src/campaign/index.ts';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const doc = read('docs/campaigns.md');
const documents = [...doc.matchAll(/^```json\n(.*?)^```$/gms)].map(([, json]) => json!);
const campaigns = new Map(documents.map((text) => [parseCampaign(text).id, parseCampaign(text)]));

const NAMES = ['Vehicle.Speed', 'EngineSpeed', 'CoolantTemperature', 'BrakePressure'];
const MARCH = Date.UTC(2026, 2, 1);

/** One campaign of the doc, over a drive of a minute: `at` gives all values ten times a second. */
function drive(campaign: Campaign, at: (seconds: number) => number[], now = MARCH) {
  const rows: [number, number[]][] = [];
  const triggers: number[] = [];
  const frames: number[] = [];
  const collector = new Collector({
    signals: NAMES.map((name) => ({ name, unit: '' })),
    column: (name) => (NAMES.includes(name) ? NAMES.indexOf(name) : undefined),
    staleMs: 5000,
    memoryBytes: 1e6,
    now: () => now,
    onRow: (_, time, values) => rows.push([(time - MARCH) / 1000, [...values]]),
    onFrame: (_, { time }) => frames.push((time - MARCH) / 1000),
    onTrigger: (_, { time }) => triggers.push((time - MARCH) / 1000),
  });
  collector.replace([campaign]);
  for (let tenth = 0; tenth < 600; tenth++) {
    const time = MARCH + tenth * 100;
    at(tenth / 10).forEach((value, column) => collector.set(column, value, time));
    collector.sample(time);
    collector.frame({ time, id: 0x1a0, extended: false, fd: false, data: Uint8Array.of(1, 2) });
  }
  return { rows, triggers, frames, status: collector.status()[0]! };
}

describe('The examples of docs/campaigns.md', () => {
  it('are the files in agent/examples', () => {
    expect([...campaigns.keys()]).toEqual(['every-ten-seconds', 'coolant-hot', 'hard-braking']);
    for (const document of documents)
      expect(JSON.parse(document)).toEqual(
        JSON.parse(read(`agent/examples/${parseCampaign(document).id}.campaign.json`)),
      );
  });

  it('every-ten-seconds gives five rows in a minute, under the new names', () => {
    const { rows, status } = drive(campaigns.get('every-ten-seconds')!, (s) => [s, 2000 + s, 90, 0]);
    expect(rows.map(([seconds]) => seconds)).toEqual([10, 20, 30, 40, 50]);
    expect(rows[0]![1]).toEqual([Math.fround(9.9), Math.fround(2009.9)]);
    expect(status.signalSet.signals.map(({ name }) => name)).toEqual([
      'Vehicle.Speed',
      'Vehicle.Powertrain.CombustionEngine.Speed',
    ]);
  });

  it('coolant-hot gives ten seconds around one trigger, in the cars and the year that it names', () => {
    const campaign = campaigns.get('coolant-hot')!;
    // From 20 s on it is hot: three quarters of the last five seconds must be so for a mean of over 110.
    const hot = (s: number) => [80, 2000, s >= 20 && s < 40 ? 120 : 80, 0];
    const { rows, triggers } = drive(campaign, hot);
    expect(triggers).toEqual([23.7]);
    expect(rows[0]![0]).toBe(18.7);
    expect(rows.at(-1)![0]).toBe(28.7);
    expect(rows).toHaveLength(101);
    expect(drive(campaign, (s) => [80, 400, hot(s)[2]!, 0]).triggers).toEqual([]);
    expect(drive(campaign, hot, Date.UTC(2027, 0, 1)).triggers).toEqual([]);
    expect(isForVehicle(campaign, { id: 'van-3', attributes: { engine: 'diesel' } })).toBe(true);
    expect(isForVehicle(campaign, { id: 'van-3', attributes: { engine: 'electric' } })).toBe(false);
  });

  it('hard-braking gives the rows and the frames of the brake controller', () => {
    const speed = (s: number) => (s < 30 ? 100 : Math.max(0, 100 - 30 * (s - 30)));
    const { rows, triggers, frames } = drive(campaigns.get('hard-braking')!, (s) => [speed(s), 2000, 90, 0]);
    expect(triggers[0]).toBe(30.9);
    expect(triggers.length).toBeGreaterThan(1);
    expect(rows[0]![0]).toBe(29.9);
    expect(rows.at(-1)![0]).toBeCloseTo(triggers.at(-1)! + 2, 6);
    expect(frames).toEqual(rows.map(([seconds]) => seconds).filter((seconds) => seconds >= 30.9));
  });
});

describe('The grammar in docs/campaigns.md', () => {
  it('is that above the parser', () => {
    const grammar = /^```\n(or .*?)^```$/ms.exec(doc)![1]!.trim().split('\n');
    const comment = read('shared/src/campaign/expression.ts').replaceAll(/^ \* {3}/gm, '');
    expect(comment).toContain(grammar.join('\n'));
  });
});
