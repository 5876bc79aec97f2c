import { describe, expect, it } from 'vitest';
import type { OnlineLearner } from '../../src/learner/online-learner.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';

export const CONTRACT_WIDTH = 3;

/** Rows near one of three places, far from each other. */
export function blobRows(count: number, seed: number): Float64Array[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: count }, () => {
    const blob = Math.floor(random.uniform() * 3);
    return Float64Array.from(
      { length: CONTRACT_WIDTH },
      (_, i) => 2 * Math.cos(blob * 2.1 + i) + 0.2 * random.normal(),
    );
  });
}

export interface LearnerCase<L extends OnlineLearner<S>, S> {
  make: () => L;
  load: (state: S) => L;
  /** A state whose parts do not fit together. */
  broken: (state: S) => S;
  /** With another option than `make`. */
  other: () => L;
  /** How much it has learned: adds up when states are merged. */
  mass: (learner: L) => number;
}

/** What every online learner promises. */
export function learnerContract<L extends OnlineLearner<S>, S>(name: string, of: LearnerCase<L, S>): void {
  const learned = (rows: readonly Float64Array[]) => {
    const learner = of.make();
    const said = rows.map((row) => learner.learn(row));
    return { learner, said };
  };
  const json = (learner: L) => JSON.stringify(learner.state());

  describe(`${name}, as every learner`, () => {
    it('says finite numbers, also of values that are not', () => {
      const rows = blobRows(600, 1);
      rows[50]![1] = Number.NaN;
      rows[500]![0] = Number.NaN;
      const { learner, said } = learned(rows);
      expect(said.every(Number.isFinite)).toBe(true);
      expect(json(learner)).not.toContain('null,null');
      expect(Number.isFinite(of.mass(learner))).toBe(true);
    });

    it('learns the same from the same rows', () => {
      const [a, b] = [learned(blobRows(700, 2)), learned(blobRows(700, 2))];
      expect(a.said).toEqual(b.said);
      expect(json(a.learner)).toBe(json(b.learner));
    });

    it('goes on with the same bits from a saved state, wherever it was stopped', () => {
      const rows = blobRows(700, 3);
      const whole = learned(rows);
      for (const stop of [0, 1, 99, 100, 101, 333, 699]) {
        const before = learned(rows.slice(0, stop)).learner;
        const after = of.load(JSON.parse(json(before)) as S);
        const said = rows.slice(stop).map((row) => after.learn(row));
        expect(said).toEqual(whole.said.slice(stop));
        expect(json(after)).toBe(json(whole.learner));
      }
    });

    it('refuses a row, a state and a partner of another shape', () => {
      const { learner } = learned(blobRows(300, 4));
      expect(() => learner.learn(new Float64Array(CONTRACT_WIDTH - 1))).toThrow(RangeError);
      expect(() => learner.learn(new Float64Array(2 * CONTRACT_WIDTH), CONTRACT_WIDTH + 1)).toThrow(
        RangeError,
      );
      expect(() => learner.merge(of.other())).toThrow(RangeError);
      expect(() => of.load(of.broken(learner.state()))).toThrow(RangeError);
    });

    it('merges into what both have learned, and goes on', () => {
      const a = learned(blobRows(500, 5)).learner;
      const b = learned(blobRows(400, 6)).learner;
      const partner = json(b);
      const sum = of.mass(a) + of.mass(b);
      a.merge(b);
      expect(of.mass(a)).toBeCloseTo(sum, 6);
      expect(json(b)).toBe(partner);
      const again = of.load(JSON.parse(json(a)) as S);
      for (const row of blobRows(300, 7)) expect(again.learn(row)).toBe(a.learn(row));
    });

    it('merged with one that knows nothing, is what it was', () => {
      const { learner } = learned(blobRows(500, 8));
      const before = of.mass(learner);
      learner.merge(of.make());
      expect(of.mass(learner)).toBeCloseTo(before, 9);
    });
  });
}
