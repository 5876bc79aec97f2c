import { createHash } from 'node:crypto';
import type { HeldBack } from '@cardan/shared';

/** Whether a vehicle stays out of a training. The same for everybody who asks, in whatever order vehicles come. */
export function isHeldBack(vehicle: string, { seed, part }: HeldBack): boolean {
  return place(vehicle, seed) < part;
}

/** The smallest part from `part` on that holds back at least `vehiclesMin` of these vehicles. */
export function partFor(
  vehicles: readonly string[],
  seed: number,
  part: number,
  vehiclesMin: number,
): number {
  const places = vehicles.map((vehicle) => place(vehicle, seed)).sort((a, b) => a - b);
  const last = places[Math.min(vehiclesMin, places.length) - 1] ?? 0;
  // Just over it, in steps that a manifest shows well.
  return Math.min(1, Math.max(part, Math.floor(last * 1000 + 1) / 1000));
}

/** 0 ≤ number < 1. */
function place(vehicle: string, seed: number): number {
  return createHash('sha256').update(`${seed} ${vehicle}`).digest().readUIntBE(0, 6) / 2 ** 48;
}
