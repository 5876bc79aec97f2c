import { SeededRandom } from './seeded-random.ts';
import type { VehicleRows } from './training-data.ts';

/** Rows of one vehicle, or a part of them in succession. */
export type Span = Pick<VehicleRows, 'times' | 'values'>;

/** With fewer vehicles, those held back would say too little about the others. */
const VEHICLES_MIN = 8;

/**
 * Splits by vehicle, so that what is held back also tells how vehicles differ; where there are few, by time:
 * the last part of each. Never by row: neighbours are nearly the same, and the held-back ones would be known.
 */
export function split(
  vehicles: readonly VehicleRows[],
  heldBackPart: number,
  seed: number,
): { training: Span[]; heldBack: Span[] } {
  if (vehicles.length < VEHICLES_MIN) {
    const cut = ({ times }: VehicleRows) => Math.ceil(times.length * (1 - heldBackPart));
    return {
      training: vehicles.map((vehicle) => part(vehicle, 0, cut(vehicle))),
      heldBack: vehicles.map((vehicle) => part(vehicle, cut(vehicle), vehicle.times.length)),
    };
  }
  const order = Uint32Array.from(vehicles.keys());
  new SeededRandom(seed).shuffle(order);
  const held = new Set(order.subarray(0, Math.max(1, Math.round(vehicles.length * heldBackPart))));
  return {
    training: vehicles.filter((_, i) => !held.has(i)),
    heldBack: vehicles.filter((_, i) => held.has(i)),
  };
}

function part({ times, values }: VehicleRows, from: number, to: number): Span {
  const signals = times.length === 0 ? 0 : values.length / times.length;
  return { times: times.subarray(from, to), values: values.subarray(from * signals, to * signals) };
}
