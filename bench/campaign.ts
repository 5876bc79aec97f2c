/**
 * What one sample costs in the car with five campaigns: a frame with four of twenty signals, windows, edges and
 * pre-trigger rings. And the same without campaigns, to see what is theirs. One JSON line per figure.
 *
 *   node --import tsx bench/campaign.ts
 */
import { Collector, readCampaign } from '../agent/src/campaign/index.ts';
import { median, printFigure } from './parts/figure.ts';

const SAMPLES = 400_000;
const ROUNDS = 5;
const SIGNALS = Array.from({ length: 20 }, (_, i) => ({ name: `s${i}`, unit: '' }));
/** 4,000 frames a second. */
const GAP_MS = 0.25;

const base = {
  schema: 1,
  name: 'Bench',
  version: '1',
  vehicles: 'all',
  signals: SIGNALS.map(({ name }) => name),
};
const condition = (id: string, when: string) =>
  readCampaign({
    ...base,
    id,
    collection: { type: 'condition', when, beforeMs: 2000, afterMs: 1000, minIntervalMs: 30_000 },
  });
const campaigns = [
  readCampaign({ ...base, id: 'second', collection: { type: 'time', periodMs: 1000 } }),
  readCampaign({ ...base, id: 'tenth', collection: { type: 'time', periodMs: 100 } }),
  condition('level', 's0 > 0.999 and s1 < 0.5 or s2 == 7'),
  condition('windows', 'max(s4, 1s) - min(s4, 1s) > 1.9999 and avg(s5, 2s) > 0.1'),
  condition('edges', 'rising(hysteresis(abs(s8), 0.9999, 0.1)) and not isnan(s9)'),
];

measure('campaign_sample_5', campaigns);
measure('campaign_sample_0', []);

function measure(bench: string, running: typeof campaigns): void {
  let rows = 0;
  const collector = new Collector({
    signals: SIGNALS,
    column: (name) => SIGNALS.findIndex((signal) => signal.name === name),
    staleMs: 5000,
    memoryBytes: 16 * 1024 * 1024,
    now: Date.now,
    onRow: () => rows++,
  });
  collector.replace(running);
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
  const values = Float64Array.from({ length: 4096 }, random);
  let sample = 0;
  const round = () => {
    const cpu = process.cpuUsage();
    const begun = performance.now();
    for (let i = 0; i < SAMPLES; i++) {
      const time = ++sample * GAP_MS;
      const first = (sample % 5) * 4;
      for (let column = first; column < first + 4; column++)
        collector.set(column, values[(sample + column) & 4095]!, time);
      collector.sample(time);
    }
    const ms = performance.now() - begun;
    const { user, system } = process.cpuUsage(cpu);
    return { value: (1000 * ms) / SAMPLES, cpu_us_per_item: (user + system) / SAMPLES };
  };
  round();
  const figure = median(Array.from({ length: ROUNDS }, round), ({ value }) => value);
  printFigure({ bench, ...figure, unit: 'us/sample', rows_per_1000_samples: (1000 * rows) / sample });
}
