import { SeededRandom } from '../trainer/seeded-random.ts';
import type { DrivingStates } from './driving-states.ts';
import { restore, standardise, type Scale } from './robust-scale.ts';
import { seedCenters, settleCenters, squaredDistance } from './weighted-k-means.ts';

/** Groups of vehicles that drive alike. Few, so that each can be looked at. */
const CLUSTERS = 3;
/** A vehicle of which less is known belongs to none yet: ten minutes. */
const WINDOWS_MIN = 9.5;
/** A vehicle goes to another cluster only when that is so much nearer (squared): on a border it would change for ever. */
const NEARER = 0.7;
const SEED = 1;

/** Clusters of a fleet. Plain JSON. */
export interface FleetClusters {
  /** Driving states: the mean of each signal, in its unit, and the windows that it stands for. */
  states: { center: number[]; windows: number }[];
  /** Groups of vehicles: share of time in each driving state, and how many vehicles. Empty while there are too few. */
  clusters: { shares: number[]; vehicles: number }[];
}

export interface ClusteredFleet extends FleetClusters {
  assigned: Map<string, { cluster: number; shares: number[] }>;
}

/**
 * The fleet's driving states and vehicle clusters from what its partitions have learned apart. Centers of all
 * partitions, weighted by their windows, are clustered again on a common scale; a vehicle is where its share of time
 * in these states is nearest to. Both begin at what they were before, so that numbers keep their meaning.
 * Undefined while no partition has centers.
 */
export function clusterFleet(
  partitions: readonly DrivingStates[],
  before: FleetClusters | undefined,
  assignedBefore: ReadonlyMap<string, number>,
): ClusteredFleet | undefined {
  const learned = partitions.flatMap((partition) => {
    const { clusters, vehicles } = partition;
    return clusters === undefined ? [] : [{ ...clusters, vehicles }];
  });
  const first = learned[0];
  if (first === undefined) return undefined;
  const width = first.scale.middle.length;
  const count = first.centers.length;
  const scale = meanScale(learned.map((part) => part.scale));
  const values = new Float64Array(learned.length * count * width);
  const weights = new Float64Array(learned.length * count);
  for (const [p, part] of learned.entries())
    for (const [c, center] of part.centers.entries()) {
      values.set(standardise(center, scale), (p * count + c) * width);
      weights[p * count + c] = part.weights[c]!;
    }
  const points = { values, weights, width };
  const centers =
    before === undefined
      ? seedCenters(points, count, new SeededRandom(SEED))
      : Float64Array.from(
          before.states.flatMap(({ center }) => [...standardise(Float64Array.from(center), scale)]),
        );
  const settled = settleCenters(points, centers);
  const states = Array.from(settled.weights, (windows, c) => ({
    center: [...restore(centers.subarray(c * width, (c + 1) * width), scale)],
    windows,
  }));
  const shares = new Map<string, number[]>();
  for (const [p, { vehicles }] of learned.entries())
    for (const [id, vehicle] of vehicles) {
      const windows = vehicle.shares.reduce((sum, share) => sum + share, 0);
      if (windows < WINDOWS_MIN) continue;
      const own = new Array<number>(count).fill(0);
      for (const [c, share] of vehicle.shares.entries())
        own[settled.assigned[p * count + c]!]! += share / windows;
      shares.set(id, own);
    }
  return { states, ...clusterVehicles(shares, before?.clusters ?? [], assignedBefore) };
}

function clusterVehicles(
  shares: ReadonlyMap<string, number[]>,
  before: FleetClusters['clusters'],
  assignedBefore: ReadonlyMap<string, number>,
): Pick<ClusteredFleet, 'clusters' | 'assigned'> {
  const assigned: ClusteredFleet['assigned'] = new Map();
  if (shares.size <= CLUSTERS) return { clusters: [], assigned };
  const width = [...shares.values()][0]!.length;
  // In the order of their names, so that it does not matter which came first.
  const ids = [...shares.keys()].sort();
  const points = {
    values: Float64Array.from(ids.flatMap((id) => shares.get(id)!)),
    weights: new Float64Array(ids.length).fill(1),
    width,
  };
  const centers =
    before.length === CLUSTERS
      ? Float64Array.from(before.flatMap((cluster) => cluster.shares))
      : seedCenters(points, CLUSTERS, new SeededRandom(SEED));
  const settled = settleCenters(points, centers);
  const vehicles = new Array<number>(CLUSTERS).fill(0);
  for (const [i, id] of ids.entries()) {
    const distance = (cluster: number) =>
      squaredDistance(points.values, i * width, centers, cluster * width, width);
    const nearest = settled.assigned[i]!;
    const old = assignedBefore.get(id);
    const stays = old !== undefined && old < CLUSTERS && distance(nearest) > NEARER * distance(old);
    const cluster = stays ? old : nearest;
    vehicles[cluster]!++;
    assigned.set(id, { cluster, shares: shares.get(id)! });
  }
  const clusters = vehicles.map((number, c) => ({
    shares: [...centers.subarray(c * width, (c + 1) * width)],
    vehicles: number,
  }));
  return { clusters, assigned };
}

function meanScale(scales: readonly Scale[]): Scale {
  const mean = (of: (scale: Scale) => number[]) =>
    of(scales[0]!).map((_, i) => scales.reduce((sum, scale) => sum + of(scale)[i]!, 0) / scales.length);
  return {
    middle: mean(({ middle }) => middle),
    spread: mean(({ spread }) => spread),
    weight: mean(({ weight }) => weight),
  };
}
