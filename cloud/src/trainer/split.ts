import { SeededRandom } from './seeded-random.ts';
import type { VehicleRows } from './training-data.ts';

/** Rows of one vehicle in succession. */
export type Span = Pick<VehicleRows, 'times' | 'values'>;

/** Two vehicles differ more than either says of itself: they are split by time. */
const VEHICLES_MIN = 3;

/**
 * Splits into parts that are held back in turn: by vehicle, so that what is held back also tells how vehicles
 * differ; by time with one or two vehicles. Never by row: neighbours are nearly the same, so a row whose
 * neighbours are in training is as good as known.
 */
export function split(vehicles: readonly VehicleRows[], parts: number, seed: number): VehicleRows[][] {
  if (vehicles.length < VEHICLES_MIN)
    return Array.from({ length: parts }, (_, i) =>
      vehicles.map((vehicle) => cut(vehicle, i / parts, (i + 1) / parts)),
    );
  const order = Uint32Array.from(vehicles.keys());
  new SeededRandom(seed).shuffle(order);
  return Array.from({ length: Math.min(parts, vehicles.length) }, (_, i) =>
    [...order.filter((_, at) => at % parts === i)].sort((a, b) => a - b).map((at) => vehicles[at]!),
  );
}

/** The rows from one share of a vehicle's rows to another (0..1). */
function cut({ vehicle, times, values }: VehicleRows, from: number, to: number): VehicleRows {
  const signals = times.length === 0 ? 0 : values.length / times.length;
  const begin = Math.floor(times.length * from);
  const end = Math.floor(times.length * to);
  return {
    vehicle,
    times: times.subarray(begin, end),
    values: values.subarray(begin * signals, end * signals),
  };
}
