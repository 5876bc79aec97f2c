import type { Campaign, VehicleSelector } from './campaign.ts';

/** What a vehicle knows of itself. */
export interface VehicleIdentity {
  id: string;
  attributes?: Readonly<Record<string, string>>;
}

/** Whether a campaign is for this vehicle. */
export function isForVehicle({ vehicles }: Campaign, vehicle: VehicleIdentity): boolean {
  if (!isForVehicleId(vehicles, vehicle.id)) return false;
  const own = vehicle.attributes ?? {};
  return Object.entries(vehicles.attributes).every(
    ([name, value]) => Object.hasOwn(own, name) && own[name] === value,
  );
}

/** Whether it may be for the vehicle with this id; its attributes are known in the car only. */
export function isForVehicleId({ ids }: VehicleSelector, vehicle: string): boolean {
  return ids === undefined || ids.some((glob) => globFits(glob, vehicle));
}

/**
 * `*` is any number of characters, `?` is one. Goes back to the last `*` only, so the time is bounded by the
 * product of the lengths; a regular expression made from the glob can take exponentially long.
 */
export function globFits(glob: string, text: string): boolean {
  let g = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    if (g < glob.length && glob[g] === '*') {
      star = g++;
      resume = t;
    } else if (g < glob.length && (glob[g] === '?' || glob[g] === text[t])) {
      g++;
      t++;
    } else if (star >= 0) {
      g = star + 1;
      t = ++resume;
    } else return false;
  }
  while (glob[g] === '*') g++;
  return g === glob.length;
}
