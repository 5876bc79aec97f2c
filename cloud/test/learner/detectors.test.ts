import { describe, expect, it } from 'vitest';
import { Adwin } from '../../src/learner/adwin.ts';
import { PageHinkley } from '../../src/learner/page-hinkley.ts';
import { populationStability, Psi } from '../../src/learner/psi.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

interface Detector {
  update(value: number): boolean;
  state(): unknown;
}

/** Values around 0, then around 2. */
function stream(seed: number): number[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: 2000 }, (_, i) => (i < 1000 ? 0 : 2) + random.normal());
}

const DETECTORS: [string, () => Detector, (state: never) => Detector][] = [
  ['ADWIN', () => new Adwin(), (state) => Adwin.from(state)],
  ['ADWIN at every value', () => new Adwin({ clock: 1 }), (state) => Adwin.from(state)],
  ['Page-Hinkley', () => new PageHinkley({ delta: 0.2 }), (state) => PageHinkley.from(state)],
  ['PSI', () => new Psi({ referenceValues: 500, windowValues: 250 }), (state) => Psi.from(state)],
];

describe.each(DETECTORS)('%s', (_name, make, load) => {
  const found = (detector: Detector, values: readonly number[]) =>
    values.flatMap((value, i) => (detector.update(value) ? [i] : []));

  it('tells a change soon after it, and not before', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const [first] = found(make(), stream(seed));
      expect(first).toBeGreaterThan(999);
      expect(first).toBeLessThan(1260);
    }
  });

  it('passes over what is not finite', () => {
    const [a, b] = [make(), make()];
    for (const value of stream(3)) {
      expect(a.update(value)).toBe(b.update(value));
      expect([Number.NaN, Number.POSITIVE_INFINITY].map((other) => a.update(other))).toEqual([false, false]);
    }
    expect(a.state()).toEqual(b.state());
  });

  it('goes on with the same bits from a saved state, wherever it was stopped', () => {
    const values = stream(4);
    const whole = make();
    const all = found(whole, values);
    for (const stop of [0, 1, 31, 32, 33, 500, 777, 1100, 1999]) {
      const before = make();
      found(before, values.slice(0, stop));
      const after = load(JSON.parse(JSON.stringify(before.state())) as never);
      const rest = found(after, values.slice(stop)).map((i) => i + stop);
      expect(rest).toEqual(all.filter((i) => i >= stop));
      expect(JSON.stringify(after.state())).toBe(JSON.stringify(whole.state()));
    }
  });
});

describe('ADWIN', () => {
  it('keeps the window long while nothing changes, and short after a change', () => {
    const adwin = new Adwin();
    const random = new SeededRandom(1);
    for (let i = 0; i < 100_000; i++) expect(adwin.update(random.normal())).toBe(false);
    expect(adwin.width).toBe(100_000);
    for (let i = 0; i < 1000; i++) adwin.update(5 + random.normal());
    expect(adwin.width).toBeLessThan(1100);
    expect(adwin.mean).toBeCloseTo(5, 0);
  });

  it('takes columns of blocks as it takes values one by one', () => {
    const [columns, values] = [new Adwin(), new Adwin()];
    const numbers = stream(9);
    numbers[77] = Number.NaN;
    let [changes, expected] = [0, 0];
    for (let from = 0, rows = 1; from < numbers.length; from += rows, rows = (rows % 50) + 7) {
      const part = numbers.slice(from, from + rows);
      const block = Float64Array.from(part.flatMap((value) => [0, value, 1]));
      changes += columns.updateColumn(block, 3, 1);
      for (const value of part) if (values.update(value)) expected++;
    }
    expect(changes).toBe(expected);
    expect(changes).toBeGreaterThan(0);
    expect(columns.state()).toEqual(values.state());
  });

  // Whoever asks for the state has all values put into buckets, and the next look goes through all of them.
  it.each([{}, { clock: 7, bucketsMax: 2 }, { clock: 1, delta: 0.1 }, { delta: 0.3, sideMin: 1 }])(
    'decides without a look as it does by one: %j',
    (options) => {
      const random = new SeededRandom(11);
      const [adwin, looking] = [new Adwin(options), new Adwin(options)];
      let [changes, mean] = [0, 0];
      for (let i = 0; i < 20_000; i++) {
        if (random.uniform() < 0.002) mean = 3 * random.normal();
        const value = mean + random.normal() ** (i % 5000 < 2500 ? 1 : 3);
        const changed = adwin.update(value);
        expect(looking.update(value)).toBe(changed);
        expect(looking.width).toBe(adwin.width);
        if (changed) changes++;
        looking.state();
      }
      expect(changes).toBeGreaterThan(5);
      expect(adwin.state()).toEqual(looking.state());
    },
  );

  it('refuses options that make no sense', () => {
    expect(() => new Adwin({ delta: 0 })).toThrow(RangeError);
    expect(() => new Adwin({ clock: 0 })).toThrow(RangeError);
    expect(() => new Adwin({ bucketsMax: 1 })).toThrow(RangeError);
    expect(() => new PageHinkley({ threshold: -1 })).toThrow(RangeError);
    expect(() => new Psi({ bins: 1 })).toThrow(RangeError);
  });
});

describe('population stability index', () => {
  it('is the sum of (q − p) ln (q / p)', () => {
    // Half a value is added to each bin.
    const [p, q] = [
      [50.5 / 101, 50.5 / 101],
      [80.5 / 101, 20.5 / 101],
    ];
    const expected = p.reduce((sum, part, i) => sum + (q[i]! - part) * Math.log(q[i]! / part), 0);
    expect(populationStability([50, 50], [80, 20])).toBeCloseTo(expected, 12);
    expect(populationStability([10, 30], [10, 30])).toBe(0);
  });

  it('sees a change of shape with the same mean, which ADWIN does not', () => {
    const [psi, adwin] = [new Psi({ windowValues: 500 }), new Adwin()];
    const random = new SeededRandom(5);
    let [byPsi, byAdwin] = [0, 0];
    for (let i = 0; i < 4000; i++) {
      const value = (i < 2000 ? 1 : 2) * random.normal();
      if (psi.update(value)) byPsi++;
      if (adwin.update(value)) byAdwin++;
    }
    expect(byPsi).toBe(4);
    expect(byAdwin).toBe(0);
  });

  it('histograms of partitions add up to the histogram of all', () => {
    const reference = new Psi({ referenceValues: 100, windowValues: 1000 });
    const random = new SeededRandom(6);
    for (let i = 0; i < 100; i++) reference.update(random.normal());
    const [a, b, whole] = [0, 1, 2].map(() => Psi.from(reference.state()));
    for (let i = 0; i < 600; i++) {
      const value = random.normal();
      (i % 2 === 0 ? a! : b!).update(value);
      whole!.update(value);
    }
    a!.merge(b!);
    expect(a!.state()).toEqual(whole!.state());
    expect(() => a!.merge(new Psi())).toThrow(RangeError);
  });

  it('does not mind a signal that is always the same', () => {
    const psi = new Psi({ referenceValues: 50, windowValues: 50 });
    for (let i = 0; i < 150; i++) expect(psi.update(7)).toBe(false);
    expect(psi.index).toBe(0);
  });
});
