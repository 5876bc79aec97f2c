import { describe, expect, it } from 'vitest';
import { DenStream, type DenStreamState, type MicroCluster } from '../../src/learner/den-stream.ts';
import { HalfSpaceTrees, type HalfSpaceTreesState } from '../../src/learner/half-space-trees.ts';
import {
  SequentialKMeans,
  type SequentialKMeansOptions,
  type SequentialKMeansState,
} from '../../src/learner/sequential-k-means.ts';
import { SeededRandom } from '../../src/trainer/seeded-random.ts';
import { blobRows, CONTRACT_WIDTH as width, learnerContract } from './learner-contract.ts';

const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);

const kMeans = (options: Partial<SequentialKMeansOptions> = {}) =>
  new SequentialKMeans({ width, clusters: 3, halfLife: 200, seedRows: 100, seed: 7, ...options });
learnerContract('sequential k-means', {
  make: () => kMeans(),
  load: (state: SequentialKMeansState) => SequentialKMeans.from(state),
  broken: (state) => ({ ...state, weights: [...state.weights, 1] }),
  other: () => kMeans({ clusters: 4 }),
  mass: (learner) => sum(learner.clusters.weights),
});

const trees = (seed = 1) => new HalfSpaceTrees({ width, trees: 10, height: 5, windowRows: 100, seed });
learnerContract('half-space trees', {
  make: () => trees(),
  load: (state: HalfSpaceTreesState) => HalfSpaceTrees.from(state),
  broken: (state) => ({ ...state, leaves: state.leaves.slice(1) }),
  other: () => trees(2),
  mass: (learner) => learner.state().referenceRows + learner.state().rows,
});

const density = (epsilon = 0.5) => new DenStream({ width, epsilon, halfLife: 300, mu: 10, beta: 0.3 });
/** Of all micro-clusters, as of the newest row. */
function densityMass({ options, rows, potential, outliers }: DenStreamState): number {
  return sum(
    [...potential, ...outliers].map(
      ({ weight, updated }) => weight * 2 ** ((updated - rows) / options.halfLife),
    ),
  );
}
learnerContract('DenStream', {
  make: () => density(),
  load: (state: DenStreamState) => DenStream.from(state),
  broken: (state) => ({ ...state, options: { ...state.options, width: width + 1 } }),
  other: () => density(0.6),
  mass: (learner) => densityMass(learner.state()),
});

describe('sequential k-means', () => {
  it('without a half-life keeps the mean of the rows of each cluster (MacQueen)', () => {
    const learner = SequentialKMeans.from({
      options: { width: 1, clusters: 2, halfLife: null, seedRows: 2, seed: 1 },
      waiting: [],
      centers: [0, 10],
      weights: [0, 0],
    });
    for (const value of [1, 2, 3, 8, 9]) learner.learn(Float64Array.of(value));
    expect([...learner.clusters.centers]).toEqual([2, 8.5]);
    expect([...learner.clusters.weights]).toEqual([3, 2]);
  });

  it('follows a cluster that moves; without a half-life it stays behind', () => {
    const run = (halfLife: number | null) => {
      const learner = kMeans({ halfLife, clusters: 1, seedRows: 10 });
      const random = new SeededRandom(1);
      for (let i = 0; i < 5000; i++) learner.learn(new Float64Array(width).fill(i / 1000 + random.normal()));
      return learner.clusters.centers[0]!;
    };
    expect(run(100)).toBeGreaterThan(4.5);
    expect(run(null)).toBeLessThan(3);
  });

  it('does not forget a rare cluster while others have rows', () => {
    const learner = kMeans({ clusters: 2, halfLife: 10, seedRows: 20 });
    const at = (value: number) => new Float64Array(width).fill(value);
    for (let i = 0; i < 20; i++) learner.learn(at(i % 2 === 0 ? 0 : 100));
    for (let i = 0; i < 1000; i++) learner.learn(at(0));
    const rare = learner.learn(at(90));
    expect(learner.clusters.centers[rare * width]).toBeGreaterThan(98);
  });

  it('finds planted blobs from the first rows, under any seed', () => {
    for (let seed = 0; seed < 20; seed++) {
      const learner = kMeans({ seed });
      for (const row of blobRows(400, 1)) learner.learn(row);
      const { centers } = learner.clusters;
      for (let blob = 0; blob < 3; blob++) {
        const c = learner.assign(
          Float64Array.from({ length: width }, (_, i) => 2 * Math.cos(blob * 2.1 + i)),
        );
        for (let i = 0; i < width; i++)
          expect(Math.abs(centers[c * width + i]! - 2 * Math.cos(blob * 2.1 + i))).toBeLessThan(0.15);
      }
    }
  });

  it('partitions that learned apart merge to the clusters of all rows', () => {
    const rows = blobRows(3000, 11);
    const whole = kMeans({ halfLife: null });
    const parts = [0, 1, 2].map(() => kMeans({ halfLife: null }));
    for (const [i, row] of rows.entries()) {
      whole.learn(row);
      parts[i % 3]!.learn(row);
    }
    const [first, ...others] = parts;
    for (const other of others) first!.merge(other);
    expect(sum(first!.clusters.weights)).toBe(3000);
    const { centers } = first!.clusters;
    for (const row of rows.slice(0, 200)) {
      const [a, b] = [whole.assign(row), first!.assign(row)];
      for (let i = 0; i < width; i++)
        expect(centers[b * width + i]).toBeCloseTo(whole.clusters.centers[a * width + i]!, 1);
    }
  });
});

describe('half-space trees', () => {
  it('score rows higher where none were before', () => {
    const learner = new HalfSpaceTrees({ width });
    for (const row of blobRows(1000, 1)) learner.learn(row);
    const usual = blobRows(100, 2).map((row) => learner.score(row));
    const far = learner.score(new Float64Array(width).fill(3.5));
    expect(far).toBeGreaterThan(Math.max(...usual));
  });

  it('merged references score as one that saw the rows of both', () => {
    const [a, b, both] = [trees(), trees(), new HalfSpaceTrees({ ...trees().options, windowRows: 200 })];
    const rows = blobRows(200, 3);
    for (const [i, row] of rows.entries()) {
      (i % 2 === 0 ? a : b).learn(row);
      both.learn(row);
    }
    a.merge(b);
    for (const row of blobRows(50, 4)) expect(a.score(row)).toBe(both.score(row));
  });
});

describe('DenStream', () => {
  it('keeps weight, center and radius as its definition says, also far from the origin', () => {
    for (const shift of [0, 1e6]) {
      const learner = density();
      const oracle = new BruteForce();
      for (const row of blobRows(900, 5)) {
        const moved = row.map((value) => value + shift);
        expect(learner.learn(moved)).toBe(oracle.learn(moved));
      }
      const { potential, outliers, rows } = learner.state();
      const fade = ({ weight, spread, updated, center }: MicroCluster) => {
        const left = 2 ** ((updated - rows) / 300);
        return { center, weight: weight * left, radius: Math.sqrt(spread / weight) };
      };
      const expected = [...oracle.potential, ...oracle.outliers].map((members) => oracle.describe(members));
      const found = [...potential, ...outliers].map(fade);
      expect(found).toHaveLength(expected.length);
      for (const [i, { center, weight, radius }] of expected.entries()) {
        expect(found[i]!.weight).toBeCloseTo(weight, 9);
        expect(found[i]!.radius).toBeCloseTo(radius, 6);
        for (let j = 0; j < width; j++) expect(found[i]!.center[j]).toBeCloseTo(center[j]!, 6);
      }
    }
  });

  it('finds planted blobs, and rows that are in none', () => {
    for (const shift of [0, 1e5]) {
      const learner = density();
      for (const row of blobRows(1500, 6)) learner.learn(row.map((value) => value + shift));
      const at = (blob: number) =>
        learner.assign(Float64Array.from({ length: width }, (_, i) => shift + 2 * Math.cos(blob * 2.1 + i)));
      expect(new Set([at(0), at(1), at(2)])).toEqual(new Set([0, 1, 2]));
      expect(learner.learn(new Float64Array(width).fill(shift + 50))).toBe(1);
      expect(learner.assign(new Float64Array(width).fill(shift + 50))).toBe(-1);
    }
  });

  it('finds a cluster of any shape: two rings, one inside the other', () => {
    const learner = new DenStream({ width: 2, epsilon: 0.35, halfLife: 5000, mu: 5, beta: 0.5, reach: 4 });
    const random = new SeededRandom(1);
    const on = (radius: number, angle: number) =>
      Float64Array.of(radius * Math.cos(angle), radius * Math.sin(angle));
    for (let i = 0; i < 4000; i++) learner.learn(on(i % 2 === 0 ? 1 : 4, random.uniform() * 2 * Math.PI));
    const labels = (radius: number) =>
      new Set([0, 1, 2, 3, 4, 5].map((angle) => learner.assign(on(radius, angle))));
    expect(labels(1).size).toBe(1);
    expect(labels(4).size).toBe(1);
    expect(labels(1)).not.toEqual(labels(4));
  });

  it('forgets a cluster that gets no more rows, and stays bounded under noise', () => {
    const learner = new DenStream({
      width: 1,
      epsilon: 0.2,
      halfLife: 50,
      mu: 5,
      beta: 0.5,
      microClustersMax: 20,
    });
    for (let i = 0; i < 500; i++) learner.learn(Float64Array.of(0));
    for (let i = 0; i < 1000; i++) learner.learn(Float64Array.of(10));
    expect(learner.assign(Float64Array.of(0))).toBe(-1);
    expect(learner.assign(Float64Array.of(10))).toBe(0);
    const random = new SeededRandom(2);
    for (let i = 0; i < 2000; i++) learner.learn(Float64Array.of(random.uniform() * 1e6));
    const { potential, outliers, dropped } = learner.state();
    expect(potential.length + outliers.length).toBeLessThanOrEqual(20);
    expect(dropped).toBeGreaterThan(0);
  });
});

/** The paper's definitions 3.3 to 3.5 over all members of each micro-cluster, every time anew. */
class BruteForce {
  potential: { row: Float64Array; time: number }[][] = [];
  outliers: { row: Float64Array; time: number }[][] = [];
  private time = 0;
  private readonly period = Math.ceil(300 * Math.log2(3 / 2));

  learn(row: Float64Array): number {
    const member = { row, time: ++this.time };
    const outlier = this.join(member);
    if (this.time % this.period === 0) {
      this.potential = this.potential.filter((members) => this.describe(members).weight >= 3);
      this.outliers = this.outliers.filter((members) => {
        const age = this.time - members[0]!.time;
        const least = (2 ** (-(age + this.period) / 300) - 1) / (2 ** (-this.period / 300) - 1);
        return this.describe(members).weight >= least;
      });
    }
    return outlier;
  }

  describe(members: BruteForce['potential'][number]) {
    const weights = members.map(({ time }) => 2 ** ((time - this.time) / 300));
    const weight = sum(weights);
    const center = Array.from(
      { length: width },
      (_, i) => sum(members.map(({ row }, m) => weights[m]! * row[i]!)) / weight,
    );
    const squares = members.map(
      ({ row }, m) => weights[m]! * sum(row.map((value, i) => (value - center[i]!) ** 2)),
    );
    return { weight, center, radius: Math.sqrt(sum(squares) / weight) };
  }

  private join(member: { row: Float64Array; time: number }): number {
    for (const list of [this.potential, this.outliers]) {
      const distances = list.map((members) => {
        const before = members.filter(({ time }) => time < this.time);
        return Math.hypot(...this.describe(before).center.map((value, i) => value - member.row[i]!));
      });
      const members = list[distances.indexOf(Math.min(...distances))];
      if (members === undefined || this.describe([...members, member]).radius > 0.5) continue;
      members.push(member);
      if (list === this.potential) return 0;
      if (this.describe(members).weight <= 3) return 1;
      list.splice(list.indexOf(members), 1);
      this.potential.push(members);
      return 0;
    }
    this.outliers.push([member]);
    return 1;
  }
}
